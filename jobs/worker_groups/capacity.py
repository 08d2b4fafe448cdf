"""How many workers fit: the nodes of a cluster, and what each of them has."""

import socket
from collections.abc import Mapping
from typing import Any

from service.control_groups import UNLIMITED
from service.machine import this_machine
from service.specs.train import Resources

DRIVER_CPUS = 0.01
"""Of the process that waits for a distributed trial's workers: Ray takes no less, and 1 by itself (its issue 54305)."""


NODE_SECONDS = 2.0
"""For a node to accept a connection (assumed: within one data centre it takes milliseconds)."""


def local_node() -> dict[str, float]:
    """What this machine has for workers, as a container's quota allows, in the words of Ray's nodes."""
    machine = this_machine()
    return {"CPU": float(machine.cpus), "GPU": float(machine.gpus), "memory": float(machine.memory)}


def nodes_of_cluster() -> list[dict[str, float]]:
    """What each node of the cluster has that answers: Ray itself takes up to 20 s to notice that one is gone."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"] and _answers(node)]


def _answers(node: dict[str, Any]) -> bool:
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), NODE_SECONDS):
            return True
    except OSError:
        return False


def room_for(node: Mapping[str, float], worker: Resources) -> int:
    """How many workers fit on a node, of which Ray tells the resources."""
    room = int((node.get("CPU", 0.0) + 1e-6) / worker.cpus)
    if worker.gpus:
        room = min(room, int(node.get("GPU", 0.0) // worker.gpus))
    return min(room, int(node.get("memory", UNLIMITED) // worker.memory)) if worker.memory else room
