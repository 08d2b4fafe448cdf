"""The workers of a run on a cluster that notes what it is asked for; tests/integration has the real one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from support.datasets_in_a_store import make_dataset

from jobs.worker_groups.capacity import NoRoom
from jobs.worker_groups.ray_cluster import PREPARED_MODULES, RayCluster
from jobs.worker_groups.ray_train import RAY_DATA_ACTORS, READERS_A_WORKER, WorkerGroup
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store

MakeSpec = Callable[..., TrainSpec]


class Cluster(RayCluster):
    """Has two nodes of 2 CPUs once it is connected."""

    there: ClassVar[list[dict[str, float]]] = [{"CPU": 2.0}, {"CPU": 2.0}]
    asked: tuple[int, Sequence[str], int] | None = None
    wanted: list[tuple[int, dict[str, float]]]

    @property
    def is_connected(self) -> bool:
        return self.asked is not None

    def connect(self, cpus: int, modules: Sequence[str] = PREPARED_MODULES, helpers: int = 0) -> None:
        assert not self.is_connected
        self.asked = (cpus, modules, helpers)

    def nodes(self) -> list[dict[str, float]]:
        return self.there

    def ask_for(self, workers: int, each: Mapping[str, float]) -> None:
        self.wanted.append((workers, dict(each)))

    def ask_no_more(self) -> None:
        self.wanted.clear()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster(Settings.load(store=str(tmp_path / "store")), local=True)
    made.wanted = []
    return made


def test_a_group_connects_once_and_then_counts(cluster: Cluster, make_spec: MakeSpec) -> None:
    group = WorkerGroup(cluster, make_spec(workers="1-8", worker={"cpus": 1}, input="memory"))
    assert [group.size(), group.size()] == [4, 4]
    assert cluster.asked == (8, PREPARED_MODULES, 0)


@pytest.mark.parametrize("local", [True, False])
def test_processes_of_ray_data_on_this_machine_do_not_import_what_workers_do(
    cluster: Cluster, make_spec: MakeSpec, local: bool
) -> None:
    cluster.local = local
    make_dataset(open_store(cluster.settings), "d", [30, 20])
    WorkerGroup(cluster, make_spec(dataset="d", workers=2, worker={"cpus": 1}, input="stream")).size()
    helpers = 2 * READERS_A_WORKER + RAY_DATA_ACTORS
    assert cluster.asked == ((2, (), helpers) if local else (2, PREPARED_MODULES, 0))


def test_a_group_without_room_asks_for_the_fewest_workers_until_there_is(cluster: Cluster, make_spec: MakeSpec) -> None:
    group = WorkerGroup(cluster, make_spec(workers="3-8", worker={"cpus": 2, "memory": "1GB"}, input="memory"))
    for _ in range(2):
        with pytest.raises(NoRoom) as raised:
            group.size()
        assert raised.value.waiting == "2 of 4 workers have room"
        assert cluster.wanted[-1] == (4, {"CPU": 2.0, "memory": 1e9})
    cluster.there = [*cluster.there, {"CPU": 4.0, "memory": 4e9}]  # type: ignore[misc]
    assert (group.size(), cluster.wanted) == (4, [])
