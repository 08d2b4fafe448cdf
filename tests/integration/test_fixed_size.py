"""A cluster with Ray's second monitor, which every pod of KubeRay has: it says in its log alone that nobody adds nodes."""

import time

import pytest
from pydantic import SecretStr
from support import ray_clusters

from service.cluster.jobs_api import JobsApi

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_cluster_without_an_autoscaler_has_a_fixed_size() -> None:
    with ray_clusters.running_pods(2, RAY_enable_autoscaler_v2="1", RAY_NODE_TYPE_NAME="workers") as cluster:
        api = JobsApi(cluster.url, SecretStr(cluster.token))
        end = time.monotonic() + 60
        while not api.has_fixed_size():
            assert time.monotonic() < end
            time.sleep(0.5)
