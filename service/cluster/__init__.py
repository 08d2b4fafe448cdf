"""Where drivers run: this machine, a Ray cluster behind its Jobs API, or Kubernetes with KubeRay. The seam for clusters is `base`."""

from service.cluster.base import Cluster
from service.cluster.local_ray import LocalRay
from service.errors import InvalidInput
from service.settings import Settings

__all__ = ["open_cluster"]


def open_cluster(settings: Settings) -> Cluster:
    """The cluster that the settings name; raise InvalidInput for one that this version cannot reach."""
    if settings.cluster is None:
        return LocalRay(settings.cache / "drivers", settings.ray_address, settings.ray_tmpdir)
    if settings.cluster.startswith(("http://", "https://")):
        from service.cluster.jobs_api import JobsApi
        from service.cluster.ray_jobs import RayJobs

        return RayJobs(JobsApi(settings.cluster, settings.cluster_token(), settings), settings)
    if settings.cluster.startswith("kube://"):
        from service.cluster.kuberay import KubeRay

        return KubeRay.of(settings)
    raise InvalidInput(
        f"The cluster {settings.cluster[:100]!r} is not valid: leave --cluster out, or give http(s)://HOST:8265 or kube://NAMESPACE."
    )
