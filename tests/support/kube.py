"""A real Kubernetes for tests: the cluster, a namespace of a test's own at the Pod Security level `restricted`, waiting with limits."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
Document = dict[str, Any]

ENSURE_SECONDS = 3000
"""For a cluster to be made where there is none (assumed: it may be built from its source)."""
ANSWER_SECONDS = 60
KINDS = "rayjobs,rayclusters,jobs,statefulsets,pods"
"""What a namespace's end deletes first, owners before what they own."""


@dataclass(frozen=True)
class Kube:
    """A cluster, reached by kubectl and a kubeconfig."""

    kubeconfig: Path
    path: str
    """PATH with kubectl on it."""

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": self.path}

    def run(
        self, *arguments: str, given: str | None = None, seconds: float = ANSWER_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """kubectl to its end, whatever comes of it."""
        command = ["kubectl", *arguments]
        return subprocess.run(
            command, env=self.environment, input=given, capture_output=True, text=True, timeout=seconds, check=False
        )

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = ANSWER_SECONDS) -> str:
        """What kubectl prints; fail where it fails."""
        done = self.run(*arguments, given=given, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """An object, or a list's items."""
        found = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found.get("items", found)

    @property
    def is_here(self) -> bool:
        """Whether its node is this machine, whose containerd stands beside the kubeconfig and whose folders its volumes may be."""
        return self.containerd.exists() and os.geteuid() == 0

    @property
    def containerd(self) -> Path:
        """The socket of the node's containerd, where the node is this machine."""
        return self.kubeconfig.parent / "containerd.sock"

    def lacks(self) -> str | None:
        """What keeps the tests from using it."""
        if shutil.which("kubectl", path=self.path) is None:
            return "there is no kubectl on the PATH"
        try:
            answer = self.run("get", "crd", "rayjobs.ray.io", "-o", "name", "--request-timeout=10s")
        except subprocess.TimeoutExpired:
            return f"the cluster of {self.kubeconfig} has not answered for {ANSWER_SECONDS} s"
        if answer.returncode:
            return f"the cluster of {self.kubeconfig} has no KubeRay operator, or does not answer: {answer.stderr.strip()[-300:]}"
        return None


def find() -> Kube | str:
    """The cluster that KUBECONFIG names, or that the folder DELAYLINE_KUBE makes; else why there is none.

    ~/.kube/config alone is not enough: nobody's own cluster is used unasked.
    """
    kubeconfig, folder = os.environ.get("KUBECONFIG"), os.environ.get("DELAYLINE_KUBE")
    if kubeconfig:
        found = Kube(Path(kubeconfig), os.environ["PATH"])
    elif folder:
        made = subprocess.run([Path(folder) / "ensure.sh"], capture_output=True, text=True, timeout=ENSURE_SECONDS, check=False)
        if made.returncode:
            return f"{folder}/ensure.sh ended with exit code {made.returncode}: {made.stderr.strip()[-500:]}"
        exports = made.stdout.strip().splitlines()[-1]
        shown = subprocess.run(
            ["bash", "-c", f'{exports}; printf "%s\\n%s" "$KUBECONFIG" "$PATH"'], capture_output=True, text=True, check=True
        )
        named, path = shown.stdout.split("\n")
        found = Kube(Path(named), path)
    else:
        return "no cluster: set KUBECONFIG, or DELAYLINE_KUBE to a folder whose ensure.sh makes one"
    return found.lacks() or found


def found() -> Kube:
    """The cluster of `find`; fail where there is none."""
    cluster = find()
    assert isinstance(cluster, Kube), cluster
    return cluster


def is_owned() -> bool:
    """Whether tests may disturb the cluster itself: its node, its operator, its API server."""
    return os.environ.get("DELAYLINE_TEST_OWNS_CLUSTER") == "1"


@dataclass
class Namespace:
    """A namespace of a test's own."""

    cluster: Kube
    name: str
    volumes: list[tuple[str, Path]] = field(default_factory=list)
    """PersistentVolumes that were made for it, each with its folder on this machine."""

    @classmethod
    def make(cls, cluster: Kube, purpose: str) -> "Namespace":
        """A new one, at the level `restricted`, with its service account there."""
        made = cls(cluster, f"test-{purpose}-{secrets.token_hex(3)}")
        labels = {"delayline.io/test": "true"} | {
            f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")
        }
        cluster.kubectl(
            "create", "-f", "-", given=yaml.safe_dump(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.name, "labels": labels}}
            ),
        )  # fmt: skip
        made.wait_for("service account", lambda: made.run("get", "serviceaccount", "default").returncode == 0, 60)
        return made

    def run(
        self, *arguments: str, given: str | None = None, seconds: float = ANSWER_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        return self.cluster.run("-n", self.name, *arguments, given=given, seconds=seconds)

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = ANSWER_SECONDS) -> str:
        return self.cluster.kubectl("-n", self.name, *arguments, given=given, seconds=seconds)

    def get(self, *arguments: str) -> Any:
        return self.cluster.get("-n", self.name, *arguments)

    def apply(self, documents: Iterable[Document]) -> None:
        """Apply manifests; a warning of the level `restricted` is a failure."""
        done = self.run("apply", "-f", "-", given=yaml.safe_dump_all(list(documents)))
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr

    def pods(self, selector: str) -> list[Document]:
        """The pods of a selector that nobody has deleted."""
        return [pod for pod in self.get("pods", "-l", selector) if "deletionTimestamp" not in pod["metadata"]]

    def wait_for(self, what: str, moment: Callable[[], T | None], seconds: float) -> T:
        """What `moment` gives as soon as it is true; fail after `seconds`, with all that the namespace can tell."""
        end = time.monotonic() + seconds
        while True:
            if found := moment():
                return found
            assert time.monotonic() < end, f"{what}: not in {seconds:.0f} s\n{self.told()}"
            time.sleep(0.5)

    def delete_pods(self, selector: str, grace: int = 0, count: int | None = None) -> list[str]:
        """Delete pods, or so many of them, without waiting for their end; their names."""
        names = [pod["metadata"]["name"] for pod in self.pods(selector)][:count]
        assert names, f"no pod of {selector}\n{self.told()}"
        force = ["--force"] if grace == 0 else []
        self.kubectl("delete", "pod", *names, f"--grace-period={grace}", *force, "--wait=false")
        return names

    def told(self) -> str:
        """Pods, RayJobs, RayClusters, events and the end of each log; nothing of Secrets."""
        parts = [
            self.run("get", "pods,rayjobs,rayclusters", "-o", "wide").stdout,
            self.run("get", "events", "--sort-by=.lastTimestamp").stdout[-6000:],
        ]
        for pod in self.get("pods"):
            name = pod["metadata"]["name"]
            for more in ((), ("--previous",)):
                log = self.run("logs", name, "--all-containers", "--tail=60", *more)
                parts += [f"== log of {name} {' '.join(more)}\n{log.stdout[-6000:]}"] if log.returncode == 0 else []
        return "\n".join(parts)

    def delete(self) -> None:
        """Delete all of it, pods at once; the rest goes in the background."""
        self.run("delete", KINDS, "--all", "--wait=false", "--grace-period=0", "--force")
        self.run("delete", "namespace", self.name, "--wait=false")
        for volume, _ in self.volumes:
            self.run("delete", "persistentvolume", volume, "--wait=false")

    def wait_until_gone(self, seconds: float = 180) -> None:
        """Fail where it is still there after `seconds`; then remove its volumes' folders."""
        end = time.monotonic() + seconds
        while self.cluster.run("get", "namespace", self.name).returncode == 0:
            assert time.monotonic() < end, f"the namespace {self.name} is still there after {seconds:.0f} s\n{self.told()}"
            time.sleep(1)
        for _, folder in self.volumes:
            shutil.rmtree(folder, ignore_errors=True)
