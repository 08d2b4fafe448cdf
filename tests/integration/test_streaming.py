"""Whole runs whose examples are streamed: the same as from memory, also when they are killed."""

from pathlib import Path

import numpy as np
import psutil
import pytest
from support import s3_servers
from support.datasets_in_a_store import flip_a_byte
from support.workspace import Workspace, assert_same_end, kill

from service.datasets import find_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPLITS = {"train": 1500, "test": 301}
SETTINGS = ("-s", "dataset=pictures", "-s", "steps=80", "-s", "augment=[{name: flip}]")


def import_pictures(workspace: Workspace, tmp_path: Path) -> None:
    """Put the dataset `pictures` into the workspace's store."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, rows in SPLITS.items():
        arrays[f"x_{split}"] = generator.integers(0, 256, (rows, 8, 8, 1), dtype=np.uint8)
        arrays[f"y_{split}"] = generator.integers(0, 10, rows)
    np.savez(tmp_path / "pictures.npz", **arrays)
    done = workspace.delayline("data", "import", "pictures", "--from", str(tmp_path / "pictures.npz"), "--format", "npz")
    assert done.code == 0, done.err


def test_data_larger_than_the_workers_memory_are_streamed_and_a_killed_run_ends_bit_for_bit_like_one_from_memory(
    workspace: Workspace, tmp_path: Path, seaweedfs: s3_servers.S3Server
) -> None:
    """Out of a bucket."""
    workspace.store_url = f"s3://{seaweedfs.bucket()}/lab?endpoint_override={seaweedfs.endpoint}"
    workspace.environment |= seaweedfs.environment
    import_pictures(workspace, tmp_path)
    size = sum(SPLITS.values()) * 8 * 8
    calm = workspace.delayline("train", "run.yaml", *SETTINGS, "-s", f"worker.memory={3 * size}", "--name", "calm", "--json")
    assert calm.code == 0, calm.err
    process = workspace.start("train", "run.yaml", *SETTINGS, "-s", f"worker.memory={size}", "--name", "killed", "--json")
    run = workspace.wait_for_step("killed", 20)
    kill([psutil.Process(run["attempts"][-1]["workers"][-1]["pid"])])
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    assert len(done.document["attempts"]) == 2
    counts = [[row["event"] for row in run["events"]].count("streaming") for run in (calm.document, done.document)]
    assert counts == [0, 2]
    assert_same_end(workspace, "killed", workspace)


def test_a_damaged_shard_ends_a_streamed_run_as_a_fault_of_the_store(workspace: Workspace, tmp_path: Path) -> None:
    import_pictures(workspace, tmp_path)
    key = find_dataset(workspace.store, "pictures").shards[0].key
    flip_a_byte(workspace.store, key)
    done = workspace.delayline(
        "train", "run.yaml", *SETTINGS, "-s", "input=stream", "--workers", "1", "--name", "damaged", "--json"
    )
    assert done.code == 5, done.err
    assert key in done.err
    assert "Traceback" not in done.err
