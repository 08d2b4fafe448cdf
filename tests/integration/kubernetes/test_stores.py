"""The stores of k8s/minio, applied as they are in a namespace of the level `restricted`."""

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import kube_images, kube_stores, s3_servers
from support.kube import Kube, Namespace

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]


@pytest.fixture(params=["seaweedfs", "minio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(kind: str, cluster: Kube, tmp_path: Path) -> str:
    """The store's image."""
    found = (kube_images.seaweedfs if kind == "seaweedfs" else kube_images.minio)(cluster, tmp_path / "image")
    if found is None:
        pytest.skip("MinIO is not on the PATH and not built: run `just minio` (it needs Go)")
    return found


def test_a_store_keeps_what_it_is_given_and_answers_nobody_else(
    namespace: Namespace, kind: str, program: str, image: str
) -> None:
    with kube_stores.running(namespace, kind, program, image, persistent=True) as store:
        server = s3_servers.S3Server(kind, [], store.outside, store.access_key, store.secret_key, {}, Path())
        server.client().put_object(Bucket=kube_stores.BUCKET, Key="kept", Body=b"kept")
        for path in (f"/{kube_stores.BUCKET}/kept", f"/{kube_stores.BUCKET}", "/"):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(f"{store.outside}{path}", timeout=20)
        claims = namespace.get("persistentvolumeclaims")
        (before,) = namespace.delete_pods("app.kubernetes.io/name=store")
        assert before == "store-0"

        def kept() -> bool:
            try:
                return bool(server.client().get_object(Bucket=kube_stores.BUCKET, Key="kept")["Body"].read() == b"kept")
            except Exception:
                return False

        if claims:
            namespace.wait_for("what was kept, from the pod that followed", kept, 120)


def test_a_second_secret_is_refused(namespace: Namespace) -> None:
    """New credentials would lock out everybody who has the store's."""

    def make() -> "subprocess.CompletedProcess[str]":
        secret = subprocess.run(["sh", kube_stores.MANIFESTS / "secret.sh"], capture_output=True, text=True, check=True).stdout
        return namespace.run("create", "-f", "-", given=secret)

    assert make().returncode == 0
    before = namespace.get("secret", kube_stores.SECRET)["data"]
    assert "AlreadyExists" in make().stderr
    assert namespace.get("secret", kube_stores.SECRET)["data"] == before
    assert len(set(before.values())) == 2 and all(len(value) > 24 for value in before.values())
