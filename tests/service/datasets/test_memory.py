import pytest

from service.datasets import Feature, Manifest
from service.datasets.memory import MEMORY_SHARE, is_streamed, memory_of_a_worker
from service.specs.train import TrainSpec

ROWS = 1000


def manifest(embedded: bool = False) -> Manifest:
    features = (Feature("image", "uint8", (10, 10, 1), 255.0),)
    return Manifest("pictures", "1", features, ("a", "b"), {"train": ROWS - 100, "test": 100}, (), embedded=embedded)


def spec(way: str, memory: int | None = None) -> TrainSpec:
    worker = {"memory": memory} if memory else {}
    return TrainSpec.model_validate({"model": "dense", "dataset": "pictures", "epochs": 1, "input": way, "worker": worker})


@pytest.mark.parametrize(("spare", "streamed"), [(-1, True), (0, False), (1, False)])
def test_data_larger_than_its_share_of_a_workers_memory_is_streamed(spare: int, streamed: bool) -> None:
    share = ROWS * manifest().example_bytes + spare
    assert is_streamed(spec("auto", int(share / MEMORY_SHARE)), manifest(), neighbours=1) is streamed


def test_a_spec_that_forces_a_way_gets_it() -> None:
    assert is_streamed(spec("stream", 10**12), manifest(), neighbours=1)
    assert not is_streamed(spec("memory", 1), manifest(), neighbours=1)
    assert not is_streamed(spec("stream"), manifest(embedded=True), neighbours=1)


def test_neighbours_share_what_is_free() -> None:
    assert memory_of_a_worker(1000) <= memory_of_a_worker(1) // 500
