"""The workers of a run on a cluster that notes what it is asked for; tests/integration has the real one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from support.datasets_in_a_store import make_dataset

from jobs.worker.config import WorkerConfig
from jobs.worker_groups import ray_train
from jobs.worker_groups.capacity import NodeRoom, NoRoom, room_for
from jobs.worker_groups.ray_cluster import PREPARED_MODULES, RayCluster
from jobs.worker_groups.ray_train import RAY_DATA_ACTORS, READERS_A_WORKER, WorkerGroup
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store

MakeSpec = Callable[..., TrainSpec]


class Cluster(RayCluster):
    """Has two nodes of 2 CPUs once it is connected."""

    there: ClassVar[list[dict[str, float]]] = [{"CPU": 2.0}, {"CPU": 2.0}]
    taken = 0.0
    """CPUs of each node that others hold."""
    asked: tuple[int, Sequence[str], int] | None = None
    wanted: list[tuple[int, dict[str, float]]]
    more: list[tuple[int, dict[str, float]]]
    holds = True
    """Whether room that is asked for is held at once."""

    @property
    def is_connected(self) -> bool:
        return self.asked is not None

    def connect(self, cpus: int, modules: Sequence[str] = PREPARED_MODULES, helpers: int = 0) -> None:
        assert not self.is_connected
        self.asked = (cpus, modules, helpers)

    def nodes(self) -> list[NodeRoom]:
        return [NodeRoom(node, {**node, "CPU": node["CPU"] - self.taken}) for node in self.there]

    def ask_for(self, workers: int, each: Mapping[str, float]) -> None:
        self.wanted.append((workers, dict(each)))

    def ask_for_more(self, workers: int, each: Mapping[str, float]) -> None:
        self.more.append((workers, dict(each)))

    def held(self, seconds: float = 0.0) -> int:
        room = sum(room_for(node.free, self.wanted[-1][1]) for node in self.nodes()) if self.wanted and self.holds else 0
        return self.wanted[-1][0] if room and self.wanted[-1][0] <= room else 0


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster(Settings.load(store=str(tmp_path / "store")), local=True)
    made.wanted, made.more = [], []
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
    cluster.local = False
    group = WorkerGroup(cluster, make_spec(workers="3-8", worker={"cpus": 2, "memory": "1GB"}, input="memory"))
    for _ in range(2):
        with pytest.raises(NoRoom) as raised:
            group.size()
        assert raised.value.waiting == "2 of 4 workers have room"
        assert cluster.wanted[-1] == (4, {"CPU": 2.0, "memory": 1e9})
    cluster.there = [*cluster.there, {"CPU": 4.0, "memory": 4e9}]  # type: ignore[misc]
    assert (group.size(), cluster.wanted[-1][0]) == (4, 4)


def test_what_others_hold_is_no_room_and_is_said(cluster: Cluster, make_spec: MakeSpec) -> None:
    cluster.local, cluster.taken = False, 1.5
    group = WorkerGroup(cluster, make_spec(workers=4, worker={"cpus": 1}, input="memory"))
    with pytest.raises(NoRoom, match=r"holds 4 CPUs .* others hold 3 of 4 CPUs: room for 0 workers") as raised:
        group.size()
    assert raised.value.waiting == "0 of 4 workers have room; others hold 3 of 4 CPUs"
    assert (group.room(), cluster.wanted) == (0, [(4, {"CPU": 1.0})])
    cluster.taken = 0.0
    assert (group.size(), group.room()) == (4, 4)


def test_room_that_another_run_takes_before_it_is_held_is_waited_for(cluster: Cluster, make_spec: MakeSpec) -> None:
    cluster.local, cluster.holds = False, False
    group = WorkerGroup(cluster, make_spec(workers="1-4", worker={"cpus": 1}, input="memory"))
    with pytest.raises(NoRoom, match="room for 4 workers"):
        group.size()
    cluster.taken = 1.0
    with pytest.raises(NoRoom, match="room for 2 workers"):
        group.size()
    cluster.holds = True
    assert (group.size(), [count for count, _ in cluster.wanted]) == (2, [4, 2])


def test_a_distributed_trial_leaves_what_the_process_that_waits_for_it_takes(cluster: Cluster, make_spec: MakeSpec) -> None:
    cluster.local, cluster.there = False, [{"CPU": 1.99}, {"CPU": 2.0}]  # type: ignore[misc]
    group = WorkerGroup(cluster, make_spec(workers=4, worker={"cpus": 1}, input="memory"), spared_cpus=0.01)
    assert (group.size(), cluster.wanted) == (4, [(4, {"CPU": 0.99})])


@pytest.mark.parametrize(
    ("asks", "workers", "asked"),
    [(True, 1, [(3, {"CPU": 1.0})]), (True, 4, []), (False, 1, [])],
    ids=["its own cluster", "with all workers", "a shared cluster"],
)
def test_a_run_in_a_cluster_of_its_own_asks_for_the_others_while_it_trains_with_fewer(
    cluster: Cluster, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, asks: bool, workers: int, asked: list[object]
) -> None:
    monkeypatch.setattr(ray_train, "RayAttempt", lambda *_: None)
    cluster.local, cluster.settings = False, cluster.settings.model_copy(update={"ask_for_more": asks})
    WorkerGroup(cluster, make_spec(workers="1-4", worker={"cpus": 1})).start(
        WorkerConfig("a-run", {}, 1, "nonce", workers, 1.0, "token", "/somewhere", {})
    )
    assert cluster.more == asked
