"""How many workers fit: the nodes of a cluster, and what each of them has."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from service.control_groups import UNLIMITED
from service.errors import InfrastructureFailure
from service.machine import this_machine
from service.specs.parts import Resources
from service.specs.train import TrainSpec

DRIVER_CPUS = 0.01
"""Of the process that waits for a distributed trial's workers: Ray takes no less, and 1 by itself (its issue 54305)."""
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


def nodes_of_cluster() -> list[dict[str, float]]:
    """What each node of the cluster has that answers and stays: Ray itself takes up to 20 s to notice that one is gone."""
    import ray

    leaving = draining_nodes()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving and _answers(node)]


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


def room_for(node: Mapping[str, float], worker: Resources) -> int:
    """How many workers fit on a node, of which Ray gives the resources."""
    room = int((node.get("CPU", 0.0) + 1e-6) / worker.cpus)
    if worker.gpus:
        room = min(room, int(node.get("GPU", 0.0) // worker.gpus))
    return min(room, int(node.get("memory", UNLIMITED) // worker.memory)) if worker.memory else room


def resources_of_worker(worker: Resources, spared_cpus: float = 0.0) -> dict[str, float]:
    """What a worker takes of a cluster's node, by Ray's names; `spared_cpus` are left to the process that waits for it."""
    taken = {"CPU": max(DRIVER_CPUS, worker.cpus - spared_cpus)}
    if worker.gpus:
        taken["GPU"] = worker.gpus
    if worker.memory:
        taken["memory"] = float(worker.memory)
    return taken


def fitting_workers(spec: TrainSpec, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many workers these nodes hold, of the numbers that the spec allows; raise NoRoom where they hold too few."""
    each = spec.worker
    room = sum(room_for(node, each) for node in nodes)
    for count in spec.worker_counts:
        if count <= room:
            return count
    cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    memory = f", {each.memory // 10**6}MB" if each.memory else ""
    raise NoRoom(
        f"The cluster holds {cpus:g} CPUs and {gpus:g} GPUs on {len(nodes)} nodes, room for {room} workers "
        f"of {each.cpus:g} CPUs{memory} and {each.gpus:g} GPUs; the run needs at least {spec.workers[0]}.",
        waiting=f"{room} of {spec.worker_counts[-1]} workers have room",
    )
