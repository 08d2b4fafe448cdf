"""Tells Ray Train's workers of each other, without importing TensorFlow in the driver or the controller."""

import json
import os
import socket
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

from jobs.worker.peers import PEERS_VARIABLE


class RingConfig(BackendConfig):
    """Ray's TensorflowConfig, less its import of TensorFlow."""

    @property
    def backend_cls(self) -> type["RingBackend"]:
        return RingBackend

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TENSORFLOW


class RingBackend(Backend):
    """Sets TF_CONFIG in every worker, and who the others are."""

    def on_start(self, worker_group: Any, backend_config: RingConfig) -> None:
        members = worker_group.execute(_introduce)
        ray.get([worker_group.execute_single_async(rank, _join, members, rank) for rank in range(len(members))], timeout=60)


def _introduce() -> dict[str, Any]:
    address, port = get_address_and_port()
    return {
        "address": f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "node": ray.get_runtime_context().get_node_id(),
    }


def _join(members: list[dict[str, Any]], rank: int) -> None:
    cluster = {"worker": [member["address"] for member in members]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
    known = [{"rank": index, **{name: member[name] for name in ("host", "pid", "node")}} for index, member in enumerate(members)]
    os.environ[PEERS_VARIABLE] = json.dumps(known)
