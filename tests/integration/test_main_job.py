"""The main job: the lecture's network, two workers, a MinIO bucket, killed half way, finished as if nothing had happened."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import s3_servers
from support.workspace import Workspace, family, figures, kill, tensors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KEYS = ["dataset=shapes", "epochs=2", "batch=64", "checkpoint.every_steps=10", "log_every=5", "worker.cpus=0.5"]
COMMAND = ["train", "cnn-mnist", *(part for key in KEYS for part in ("-s", key)), "--workers", "2", "--name", "main", "--json"]


def make_images(file: Path) -> None:
    """Ten noisy prototypes of MNIST's shape: a network learns them within an epoch."""
    generator = np.random.default_rng(0)
    prototypes = generator.integers(0, 256, (10, 28, 28, 1))
    arrays = {}
    for split, count in (("train", 1600), ("test", 200)):
        labels = np.arange(count) % 10
        noise = generator.normal(0, 60, (count, 28, 28, 1))
        arrays |= {f"x_{split}": np.clip(prototypes[labels] + noise, 0, 255).astype(np.uint8), f"y_{split}": labels}
    np.savez(file, **arrays)


def import_images(workspace: Workspace) -> None:
    make_images(workspace.folder / "shapes.npz")
    done = workspace.delayline("data", "import", "shapes", "--from", "shapes.npz", "--format", "npz")
    assert done.code == 0, done.err


@pytest.fixture
def bucket(tmp_path: Path, minio: s3_servers.S3Server) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path / "bucket", f"s3://{minio.bucket()}/lab", minio.environment)
    yield workspace
    workspace.clean_up()


def test_main_job(bucket: Workspace, workspace: Workspace) -> None:
    for place in (bucket, workspace):
        import_images(place)
    process = bucket.start(*COMMAND)
    bucket.wait_for_step("main", 10)
    kill(family(process.pid))
    process.wait()
    assert bucket.show("main")["state"] in ("lost", "running", "starting")
    done = bucket.delayline(*COMMAND)
    assert done.code == 0, done.err
    run = done.document
    assert run["state"] == "succeeded"
    assert [len(attempt["workers"]) for attempt in run["attempts"]] == [2, 2]
    assert run["metrics"]["test_accuracy"] > 0.95
    # As batch systems set it: Ray's sockets would have paths of more bytes than the system takes.
    workspace.environment["TMPDIR"] = str(workspace.folder / "somebody" / "slurm_jobdir" / "1355700" / "tmp.t0016")
    Path(workspace.environment["TMPDIR"]).mkdir(parents=True)
    told = workspace.delayline(*COMMAND)
    assert "its sockets' paths would be too long" in told.err
    undisturbed = told.document
    assert [figures(row) for row in run["history"]] == [figures(row) for row in undisturbed["history"]]
    ours, theirs = tensors(bucket, "main"), tensors(workspace, "main")
    assert [name for name in theirs if ours[name].tobytes() != theirs[name].tobytes()] == []
    assert bucket.delayline("export", "main", str(bucket.folder / "out")).code == 0
    secret = bucket.environment["AWS_SECRET_ACCESS_KEY"]
    for info in bucket.store.objects("runs/"):
        assert secret.encode() not in bucket.store.read(info.key), f"{info.key} holds the secret key"
    assert secret not in done.err + done.out
