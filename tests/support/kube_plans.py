"""Plans of runs on Kubernetes, drawn by Hypothesis: any that `ray_job` takes."""

from typing import Any

from hypothesis import strategies as st

from service.cluster.cluster_defaults import ClusterDefaults, PodResources, Pool, Toleration
from service.cluster.ray_job_plan import LEAST_MEMORY, RayJobPlan
from service.specs.parts import Resources

RUN_IDS = st.from_regex(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", fullmatch=True)
NAMES = st.sampled_from(["a", "7", "batch", "low-priority", "x" * 63])
LABEL_VALUES = st.sampled_from(["", "a", "7", "true", "Nvidia-L4", "a_b.c", "x" * 63])
KEYS = st.sampled_from(["a", "Team", "example.com/team", "cloud.google.com/gke-accelerator", "x" * 63])
QUANTITIES = st.sampled_from(["250m", "1", "2", "1.5"])
SIZES = st.sampled_from(["512Mi", "1Gi", "3G", "2e9"])
TEXTS = st.text(st.characters(codec="utf-8", blacklist_categories=["Cc"]), max_size=20)
TOLERATIONS = st.builds(Toleration, key=KEYS, operator=st.just("Exists"), effect=st.none() | st.just("NoSchedule")) | st.builds(
    Toleration, key=KEYS, value=LABEL_VALUES, effect=st.just("NoExecute"), tolerationSeconds=st.none() | st.integers(0, 600)
)
POD_RESOURCES = st.builds(PodResources, cpu=QUANTITIES, memory=SIZES)
POOLS = st.builds(
    Pool,
    node_selector=st.dictionaries(KEYS, LABEL_VALUES, max_size=2),
    tolerations=st.lists(TOLERATIONS, max_size=2),
    gpu_resource=st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]),
    spot=st.booleans(),
    priority_class=st.none() | NAMES,
    image=st.none() | st.just("registry.example.com/delayline:gpu"),
    runtime_class=st.none() | NAMES,
    labels=st.dictionaries(KEYS, LABEL_VALUES, max_size=2),
    annotations=st.dictionaries(KEYS, TEXTS, max_size=2),
)


@st.composite
def defaults(draw: st.DrawFn) -> ClusterDefaults:
    """What a platform engineer may have set."""
    optional: dict[str, st.SearchStrategy[Any]] = {
        "image_pull_policy": st.sampled_from(["Always", "IfNotPresent", "Never"]),
        "image_pull_secrets": st.lists(NAMES, max_size=2),
        "store": st.just("s3://lab/course"),
        "s3_endpoint": st.just("http://minio.storage.svc:9000"),
        "credentials_secret": NAMES,
        "service_account": NAMES,
        "ca_secret": NAMES,
        "https_proxy": st.just("http://proxy.example.com:3128"),
        "no_proxy": st.just("example.com,10.0.0.0/8"),
        "priority_class": NAMES,
        "labels": st.dictionaries(KEYS, LABEL_VALUES, max_size=2),
        "annotations": st.dictionaries(KEYS, TEXTS, max_size=2),
        "head": POD_RESOURCES,
        "submitter": POD_RESOURCES,
        "ttl_seconds": st.integers(0, 2**31 - 1),
        "active_deadline": st.integers(1, 2**31 - 1),
        "pre_running_deadline": st.integers(1, 2**31 - 1),
        "resubmissions": st.integers(0, 1000),
    }
    pool = {"pools": {"steady": draw(POOLS)}, "head_pool": "steady"} if draw(st.booleans()) else {}
    return ClusterDefaults.model_validate(
        {"image": "registry.example.com/delayline:cpu", **draw(st.fixed_dictionaries({}, optional=optional)), **pool}
    )


@st.composite
def plans(draw: st.DrawFn) -> RayJobPlan:
    """A run with a Ray cluster of its own, fixed or elastic, or on a shared one."""
    fewest = draw(st.integers(1, 20))
    ray_cluster = draw(st.none() | st.just("shared"))
    return RayJobPlan(
        name=draw(RUN_IDS),
        namespace="team",
        command=tuple(draw(st.lists(TEXTS, min_size=1, max_size=5))),
        variables=draw(
            st.dictionaries(st.sampled_from(["DELAYLINE_WAIT_LIMIT", "PYTHONSAFEPATH"]), st.sampled_from(["1", "a=b c"]))
        ),
        workers=(fewest, draw(st.integers(fewest, 40))),
        worker=Resources(
            cpus=draw(st.floats(0.01, 4096)),
            gpus=draw(st.just(0.0) | st.floats(0.01, 1)),
            memory=draw(st.none() | st.integers(LEAST_MEMORY, 2**40)),
        ),
        defaults=draw(defaults()),
        pool=draw(st.none() | POOLS) if ray_cluster is None else None,
        ray_cluster=ray_cluster,
        owner=draw(st.none() | TEXTS),
        kind=draw(st.sampled_from(["train", "sweep"])),
    )
