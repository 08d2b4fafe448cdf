"""What the nodes of a RayCluster of KubeRay have, by its specification."""

import re
from typing import Any

from service.cluster.nodes import Node

Document = dict[str, Any]


def nodes_of(spec: Document) -> list[Node]:
    """What the pods of a RayCluster of fixed size have for workers, by its specification."""
    groups = [({"replicas": 1}, spec.get("headGroupSpec") or {}), *((each, each) for each in spec.get("workerGroupSpecs") or [])]
    return [node_of(group) for scale, group in groups for _ in range(int(scale.get("replicas") or 0))]


def node_of(group: Document) -> Node:
    """What each pod of a group has: as `ray start` is told, else as its first container is limited."""
    told = group.get("rayStartParams") or {}
    containers = (((group.get("template") or {}).get("spec") or {}).get("containers")) or [{}]
    resources = containers[0].get("resources") or {}
    limits = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    gpus = next((value for key, value in limits.items() if key.endswith("/gpu")), 0)
    return Node(
        "",
        float(told.get("num-cpus", quantity(limits.get("cpu", 0)))),
        float(told.get("num-gpus", quantity(gpus))),
        float(told.get("memory", quantity(limits["memory"]) if "memory" in limits else Node.memory)),
    )


def quantity(value: object) -> float:
    """A quantity of Kubernetes as a number: `500m`, `2`, `3Gi`."""
    found = re.fullmatch(r"([0-9.]+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", str(value))
    if found is None:
        return 0.0
    factors = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(found[1]) * factors.get(found[2] or "", 1.0)
