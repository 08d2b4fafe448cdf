"""What the nodes of a Ray cluster have for workers, and whether they are this machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import psutil

from service.control_groups import UNLIMITED
from service.errors import InvalidInput
from service.machine import megabytes
from service.specs.parts import Resources


@dataclass(frozen=True)
class Node:
    """Address, processors, GPUs and bytes of memory, as Ray counts them."""

    address: str
    cpus: float
    gpus: float
    memory: float = float(UNLIMITED)

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Node":
        """A node as the dashboard lists it."""
        total = document.get("resources_total") or {}
        memory = float(total.get("memory", UNLIMITED))
        return cls(str(document.get("node_ip", "")), float(total.get("CPU", 0)), float(total.get("GPU", 0)), memory)

    def room(self, worker: Resources) -> int:
        """How many workers of these resources each fit."""
        most = math.floor(self.cpus / worker.cpus + 1e-6)
        if worker.gpus:
            most = min(most, int(self.gpus // worker.gpus))
        return min(most, int(self.memory // worker.memory)) if worker.memory else most


def check_room(nodes: Sequence[Node], workers: int, worker: Resources, where: str) -> None:
    """Raise InvalidInput, with the remedy, unless `workers` of these resources each fit on the nodes."""
    cpus, gpus, memory = worker.cpus, worker.gpus, worker.memory
    room = sum(node.room(worker) for node in nodes)
    if workers <= room:
        return
    verb = "need" if workers > 1 else "needs"
    has = f"{where} has {_amount(nodes)} on {_count(len(nodes), 'node')}"
    if gpus and sum(int(node.gpus // gpus) for node in nodes) < workers:
        need, remedy = _count(workers * gpus, "GPU"), "-s worker.gpus=0"
    elif memory and sum(int(node.memory // memory) for node in nodes) < workers:
        sizes = ", ".join(sorted({megabytes(int(node.memory)) for node in nodes}))
        need, has = f"{megabytes(memory)} of memory each", f"the nodes of {where} have {sizes}"
        remedy = "a smaller worker.memory"
    else:
        need, remedy = f"{workers * cpus:g} CPUs, whole workers on each node", f"-s worker.cpus={_share(nodes, workers):g}"
    fewer = f"--workers {room} or " if room else ""
    raise InvalidInput(f"{_count(workers, 'worker')} {verb} {need}; {has}: use {fewer}{remedy}.")


def _share(nodes: Sequence[Node], workers: int) -> float:
    """The most CPUs, in hundredths, of which so many workers fit."""
    shares = {node.cpus / count for node in nodes for count in range(1, workers + 1)}
    fitting = [share for share in shares if share > 0 and sum(node.room(Resources(cpus=share)) for node in nodes) >= workers]
    return max(math.floor(max(fitting, default=0.0) * 100 + 1e-6) / 100, 0.01)


def _amount(nodes: Sequence[Node]) -> str:
    return f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes):g} GPUs"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means the machine that reads it."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def all_here(nodes: Sequence[Node]) -> bool:
    """Whether every node is this machine."""
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return all(is_loopback(node.address) or node.address in own for node in nodes)
