"""Whole runs whose examples are streamed: the same as from memory, also when they are killed."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import s3_servers
from datasets_in_a_store import flip_a_byte
from desk import Desk, assert_same_end, kill

from service.datasets import find_dataset

pytestmark = pytest.mark.slow

SPLITS = {"train": 1500, "test": 301}
SETTINGS = ("-s", "dataset=pictures", "-s", "steps=100", "-s", "augment=[{name: flip}]")


def import_pictures(desk: Desk, tmp_path: Path) -> None:
    """Put the dataset `pictures` into the desk's store."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, rows in SPLITS.items():
        arrays[f"x_{split}"] = generator.integers(0, 256, (rows, 8, 8, 1), dtype=np.uint8)
        arrays[f"y_{split}"] = generator.integers(0, 10, rows)
    np.savez(tmp_path / "pictures.npz", **arrays)
    done = desk.delayline("data", "import", "pictures", "--from", str(tmp_path / "pictures.npz"), "--format", "npz")
    assert done.code == 0, done.err


@pytest.fixture
def pictures(desk: Desk, tmp_path: Path) -> Desk:
    """A desk whose store holds a dataset of pictures."""
    import_pictures(desk, tmp_path)
    return desk


def test_a_streamed_run_that_is_killed_ends_bit_for_bit_like_one_from_memory(pictures: Desk) -> None:
    desk = pictures
    done = desk.delayline("train", "run.yaml", *SETTINGS, "-s", "input=memory", "--name", "calm", "--json")
    assert done.code == 0, done.err
    process = desk.start("train", "run.yaml", *SETTINGS, "-s", "input=stream", "--name", "killed", "--json")
    run = desk.wait_for_step("killed", 40)
    kill([psutil.Process(run["attempts"][-1]["workers"][-1]["pid"])])
    done = desk.end_of(process)
    assert done.code == 0, done.err
    assert len(done.document["attempts"]) == 2
    events = [row["event"] for row in done.document["events"]]
    assert events.count("streaming") == 2
    assert_same_end(desk, "killed", desk)


def test_data_larger_than_the_workers_memory_allows_is_streamed_out_of_a_bucket(
    desk: Desk, tmp_path: Path, seaweedfs: s3_servers.S3Server
) -> None:
    desk.store_url = f"s3://{seaweedfs.bucket()}/lab?endpoint_override={seaweedfs.endpoint}"
    desk.environment |= seaweedfs.environment
    import_pictures(desk, tmp_path)
    size = sum(SPLITS.values()) * 8 * 8
    runs = {}
    for name, memory in (("held", 3 * size), ("streamed", size)):
        done = desk.delayline("train", "run.yaml", *SETTINGS, "-s", f"worker.memory={memory}", "--name", name, "--json")
        assert done.code == 0, done.err
        runs[name] = done.document
    events = {name: [row["event"] for row in run["events"]] for name, run in runs.items()}
    assert ("streaming" in events["held"], "streaming" in events["streamed"]) == (False, True)
    assert runs["held"]["metrics"] == runs["streamed"]["metrics"]


def test_a_damaged_shard_ends_a_streamed_run_as_a_fault_of_the_store(pictures: Desk) -> None:
    key = find_dataset(pictures.store, "pictures").shards[0].key
    flip_a_byte(pictures.store, key)
    done = pictures.delayline(
        "train", "run.yaml", *SETTINGS, "-s", "input=stream", "--workers", "1", "--name", "damaged", "--json"
    )
    assert done.code == 5, done.err
    assert key in done.err
    assert "Traceback" not in done.err
