"""How many workers fit: the nodes of a cluster, and what each of them has."""

import socket
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from service.control_groups import UNLIMITED
from service.errors import InfrastructureFailure
from service.machine import megabytes, this_machine
from service.specs.parts import Resources
from service.specs.train import TrainSpec

DRIVER_CPUS = 0.01
"""Of the process that waits for a distributed trial's workers: Ray takes no less, and 1 by itself (its issue 54305)."""
KINDS = ("CPU", "GPU", "memory")
"""What workers take of a node, by Ray's names."""
NODE_SECONDS = 2.0
"""For a node to accept a connection (assumed: within one data centre it takes milliseconds)."""


class NoRoom(InfrastructureFailure):
    """The nodes hold too few workers; `waiting` says so to whoever waits for more."""

    def __init__(self, message: str, waiting: str) -> None:
        super().__init__(message)
        self.waiting = waiting


def local_node() -> dict[str, float]:
    """What this machine has for workers, as a container's quota allows, by the names that Ray's nodes use."""
    machine = this_machine()
    return {"CPU": float(machine.cpus), "GPU": float(machine.gpus), "memory": float(machine.memory)}


@dataclass(frozen=True)
class NodeRoom:
    """What a node of a cluster has for workers, by Ray's names."""

    total: Mapping[str, float]
    free: Mapping[str, float]
    """Of `total` what nobody holds but the run that asks."""


def nodes_of_cluster(own: Set[str] = frozenset()) -> list[NodeRoom]:
    """What each node of the cluster has that answers and stays: Ray itself takes up to 20 s to notice that one is gone.

    `own`: the ids of placement groups in which this process has its workers, or had them until a moment ago.
    """
    import ray
    from ray._private.state import state

    # In this order: what is given back meanwhile counts twice, and then has to be waited for; else a run would shrink for it.
    leaving, total, free = draining_nodes(), state.total_resources_per_node(), state.available_resources_per_node()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving and _answers(node)]
    return [
        NodeRoom(node["Resources"], _free(node["Resources"], free.get(node["NodeID"], {}), total.get(node["NodeID"], {}), own))
        for node in nodes
    ]


def _free(
    total: Mapping[str, float], free: Mapping[str, float], with_groups: Mapping[str, float], own: Set[str]
) -> dict[str, float]:
    """Ray takes what a placement group has of a node from what is free there, and counts it as a resource of the group's own."""
    held = {kind: sum(with_groups.get(f"{kind}_group_{group}", 0.0) for group in own) for kind in KINDS}
    return {kind: min(total[kind], free.get(kind, 0.0) + held[kind]) for kind in KINDS if kind in total}


def draining_nodes() -> frozenset[str]:
    """The ids of the nodes that are taken away: Ray was told, or a node's own Ray got SIGTERM. It starts nothing there any more."""
    from ray._private.state import state

    return frozenset(state.get_draining_nodes())


def _answers(node: dict[str, Any]) -> bool:
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), NODE_SECONDS):
            return True
    except OSError:
        return False


def room_for(node: Mapping[str, float], taken: Mapping[str, float]) -> int:
    """How many workers fit on a node of these resources, of which each takes `taken`."""
    return min(int((node.get(kind, UNLIMITED if kind == "memory" else 0.0) + 1e-6) / amount) for kind, amount in taken.items())


def resources_of_worker(worker: Resources, spared_cpus: float = 0.0) -> dict[str, float]:
    """What a worker takes of a cluster's node, by Ray's names; `spared_cpus` are left to the process that waits for it."""
    taken = {"CPU": max(DRIVER_CPUS, worker.cpus - spared_cpus)}
    if worker.gpus:
        taken["GPU"] = worker.gpus
    if worker.memory:
        taken["memory"] = float(worker.memory)
    return taken


def fitting_workers(spec: TrainSpec, nodes: Sequence[NodeRoom], spared_cpus: float = 0.0) -> int:
    """How many workers these nodes hold now, of the numbers that the spec allows; raise NoRoom where they hold too few."""
    taken = resources_of_worker(spec.worker, spared_cpus)
    room = sum(room_for(node.free, taken) for node in nodes)
    for count in spec.worker_counts:
        if count <= room:
            return count
    raise _no_room(spec, nodes, room, others=spec.worker_counts[-1] <= sum(room_for(node.total, taken) for node in nodes))


def _no_room(spec: TrainSpec, nodes: Sequence[NodeRoom], room: int, others: bool) -> NoRoom:
    """`others`: without what they hold there would be room."""
    each, fewest = spec.worker, spec.worker_counts[-1]
    total = {kind: sum(node.total.get(kind, 0.0) for node in nodes) for kind in KINDS}
    held = {kind: total[kind] - sum(node.free.get(kind, 0.0) for node in nodes) for kind in KINDS}
    said = ""
    if others:
        taken = [_of(kind, held[kind], total[kind]) for kind in resources_of_worker(each) if held[kind] > 1e-6]
        said = f"; others hold {' and '.join(taken)}"
    memory = f", {megabytes(each.memory)}" if each.memory else ""
    return NoRoom(
        f"The cluster holds {total['CPU']:g} CPUs and {total['GPU']:g} GPUs on {len(nodes)} nodes{said}: room for {room} workers "
        f"of {each.cpus:g} CPUs{memory} and {each.gpus:g} GPUs; the run needs at least {fewest}.",
        waiting=f"{room} of {fewest} workers have room{said}",
    )


def _of(kind: str, held: float, total: float) -> str:
    if kind == "memory":
        return f"{megabytes(int(held))} of {megabytes(int(total))} of memory"
    return f"{held:g} of {total:g} {kind}s"
