"""How many workers fit: on this machine, on the nodes of a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.sweeps.tune import side_by_side
from jobs.worker_groups.capacity import NodeRoom, fitting_workers, local_node
from service import machine
from service.errors import InfrastructureFailure
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]


def whole(node: dict[str, float]) -> NodeRoom:
    """A node of which nobody holds anything."""
    return NodeRoom(node, node)


@pytest.fixture
def one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container of 1 CPU and 1 GB on a machine of 64 cores."""
    groups = tmp_path / "sys" / "fs" / "cgroup"
    groups.mkdir(parents=True)
    (groups / "cpu.max").write_text("100000 100000\n")
    (groups / "memory.max").write_text(f"{10**9}\n")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))


@pytest.mark.usefixtures("one_core")
def test_workers_and_trials_are_as_many_as_a_containers_quota_allows(make_spec: MakeSpec) -> None:
    elastic = make_spec(workers="1-8", worker={"cpus": 1})
    assert fitting_workers(elastic, [whole(local_node())]) == 1
    assert side_by_side(make_spec(worker={"cpus": 1}), [local_node()]) == 1
    assert side_by_side(make_spec(worker={"cpus": 0.01, "memory": "300MB"}), [local_node()]) == 3


@pytest.mark.usefixtures("one_core")
def test_a_run_that_needs_more_than_the_quota_is_refused_with_what_there_is(make_spec: MakeSpec) -> None:
    with pytest.raises(InfrastructureFailure, match="holds 1 CPUs and 0 GPUs on 1 nodes: room for 1 workers"):
        fitting_workers(make_spec(workers=2, worker={"cpus": 1}), [whole(local_node())])


@pytest.mark.parametrize(
    ("workers", "worker", "nodes", "count"),
    [
        ("2-8", {"cpus": 1}, [{"CPU": 3.0}, {"CPU": 2.0}], 4),
        ("2-8", {"cpus": 2}, [{"CPU": 3.0}, {"CPU": 2.0}], 2),
        ("1-4", {"cpus": 1, "gpus": 1}, [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], 2),
        ("1-4", {"cpus": 1, "memory": "4GB"}, [{"CPU": 8.0, "memory": 9e9}, {"CPU": 8.0, "memory": 3e9}], 2),
    ],
)
def test_an_elastic_run_has_as_many_workers_as_there_is_room_for_and_share_a_batch_evenly(
    make_spec: MakeSpec, workers: str, worker: dict[str, Any], nodes: list[dict[str, float]], count: int
) -> None:
    assert fitting_workers(make_spec(workers=workers, worker=worker), [whole(node) for node in nodes]) == count
