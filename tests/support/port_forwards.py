"""Ports of services in a cluster, on this machine, for as long as a test wants them."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from support import s3_servers
from support.kube import Namespace

READY_SECONDS = 120


@contextlib.contextmanager
def forwarded(namespace: Namespace, target: str, port: int) -> Iterator[int]:
    """The local port that leads to `port` of a target such as svc/store; `kubectl port-forward` ends with its pod and is begun anew."""
    (local,) = s3_servers.free_ports(1)
    command = ["kubectl", "-n", namespace.name, "port-forward", target, f"{local}:{port}"]
    over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not over.is_set():
            process = subprocess.Popen(
                command, env=namespace.cluster.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            running[:] = [process]
            process.wait()
            over.wait(0.5)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        _wait(local)
        yield local
    finally:
        over.set()
        for process in running:
            process.terminate()
        thread.join(20)


def _wait(local: int) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local), 2):
            return
        assert time.monotonic() < end, f"the port {local} has led nowhere for {READY_SECONDS} s"
        time.sleep(0.2)
