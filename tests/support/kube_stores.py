"""A store in a namespace of a test, from the manifests of k8s/minio, and the way to it from this machine."""

import base64
import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.kube import Document, Namespace
from support.kube_images import ROOT
from support.port_forwards import forwarded

MANIFESTS = ROOT / "k8s" / "minio"
PORTS = {"seaweedfs": 8333, "minio": 9000}
READY_SECONDS = 180
SECRET = "store-credentials"
BUCKET = "lab"
HOST_FOLDER = Path("/var/lib/delayline-tests")


@dataclass(frozen=True)
class KubeStore:
    """A store that pods reach as `endpoint`, and this machine as `outside`."""

    kind: str
    endpoint: str
    outside: str
    access_key: str
    secret_key: str

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/course"

    @property
    def environment(self) -> dict[str, str]:
        """For a client on this machine."""
        return {
            "DELAYLINE_S3_ENDPOINT": self.outside,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def running(namespace: Namespace, kind: str, image: str, delayline: str, persistent: bool = False) -> Iterator[KubeStore]:
    """The store of `k8s/minio/<kind>.yaml` with its bucket. `persistent`: it outlives its pod, where that can be had."""
    secret = subprocess.run(["sh", MANIFESTS / "secret.sh"], capture_output=True, text=True, check=True).stdout
    namespace.kubectl("create", "-f", "-", given=secret)
    documents = [_with_image(document, image) for document in read(kind)]
    if not _has_storage_class(namespace):
        if persistent and namespace.cluster.is_here:
            _volume(namespace)
        else:
            _without_claim(documents)
    namespace.apply([*documents, *(_with_image(document, delayline) for document in read("bucket"))])
    namespace.wait_for("the bucket", lambda: _bucket_is_made(namespace), READY_SECONDS)
    keys = {name: base64.b64decode(value).decode() for name, value in namespace.get("secret", SECRET)["data"].items()}
    port = PORTS[kind]
    with forwarded(namespace, "svc/store", port) as local:
        yield KubeStore(
            kind, f"http://store:{port}", f"http://127.0.0.1:{local}", keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]
        )


def read(name: str) -> list[Document]:
    """The documents of a manifest."""
    return list(yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text(encoding="utf-8")))


def _bucket_is_made(namespace: Namespace) -> bool:
    status = namespace.get("job", "store-bucket")["status"]
    assert not status.get("failed", 0) >= 6, namespace.told()
    return bool(status.get("succeeded"))


def _with_image(document: Document, image: str) -> Document:
    """The manifest with the image of the tests: that which it names is not to be had without a registry."""
    for container in document["spec"].get("template", {}).get("spec", {}).get("containers", ()):
        container["image"] = image
    return document


def _has_storage_class(namespace: Namespace) -> bool:
    default = "storageclass.kubernetes.io/is-default-class"
    classes: list[dict[str, Any]] = namespace.get("storageclasses")
    return any(each["metadata"].get("annotations", {}).get(default) == "true" for each in classes)


def _without_claim(documents: list[Document]) -> None:
    for document in documents:
        if document["spec"].pop("volumeClaimTemplates", None):
            document["spec"]["template"]["spec"]["volumes"].append({"name": "data", "emptyDir": {}})


def _volume(namespace: Namespace) -> None:
    """A volume for the claim `data-store-0`: a folder of this machine, which is the node."""
    name, folder = f"{namespace.name}-store", HOST_FOLDER / namespace.name
    folder.mkdir(parents=True)
    os.chown(folder, 1000, 1000)
    namespace.volumes.append((name, folder))
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "hostPath": {"path": str(folder), "type": "Directory"},
        "claimRef": {"namespace": namespace.name, "name": "data-store-0"},
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    namespace.cluster.kubectl("create", "-f", "-", given=yaml.safe_dump(volume))
