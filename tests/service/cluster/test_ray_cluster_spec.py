"""The room of a RayCluster, by its specification."""

from typing import Any

import pytest

from service.cluster.nodes import check_room
from service.cluster.ray_cluster_spec import nodes_of, quantity
from service.errors import InvalidInput
from service.specs.parts import Resources


def group(replicas: int, told: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    return {
        "replicas": replicas,
        "rayStartParams": told,
        "template": {"spec": {"containers": [{"resources": {"limits": limits}}]}},
    }


def test_the_room_of_a_cluster_of_fixed_size_is_read_from_its_specification() -> None:
    spec = {
        "headGroupSpec": group(1, {"num-cpus": "0"}, {"cpu": "2"}),
        "workerGroupSpecs": [
            group(2, {"num-cpus": "1"}, {"cpu": "1", "memory": "3Gi"}),
            group(1, {}, {"cpu": "1500m", "nvidia.com/gpu": "1"}),
        ],
    }
    nodes = nodes_of(spec)
    assert [(node.cpus, node.gpus) for node in nodes] == [(0, 0), (1, 0), (1, 0), (1.5, 1)]
    check_room(nodes, 3, Resources(), "it")
    with pytest.raises(InvalidInput, match="use --workers 3"):
        check_room(nodes, 4, Resources(), "it")


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), ("2", 2.0), ("3Gi", 3 * 2**30), ("1.5G", 1.5e9), ("odd", 0.0)])
def test_quantities_become_numbers(text: str, number: float) -> None:
    assert quantity(text) == number
