"""What the tests on a real Kubernetes share: the cluster, the images, a namespace and a store for each file."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import kube, kube_images, kube_runs, kube_stores
from support.kube import Kube, Namespace
from support.kube_runs import RayJob
from support.kube_stores import KubeStore
from support.workspace import Workspace


@pytest.fixture(scope="session")
def cluster() -> Kube:
    """The cluster that KUBECONFIG names, or DELAYLINE_KUBE makes; where there is none these tests are skipped, in CI they fail."""
    found = kube.find()
    if isinstance(found, str):
        if os.environ.get("DELAYLINE_REQUIRE_KUBERNETES"):
            pytest.fail(found)
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def owned(cluster: Kube) -> Kube:
    """The cluster, for tests that disturb more than a namespace of their own."""
    if not kube.is_owned():
        pytest.skip("this disturbs the cluster itself: set DELAYLINE_TEST_OWNS_CLUSTER=1 where nobody else uses it")
    return cluster


@pytest.fixture(scope="session")
def image(cluster: Kube) -> str:
    """This checkout's image, in the cluster."""
    return kube_images.delayline(cluster)


@pytest.fixture(scope="session")
def seaweedfs_image(cluster: Kube, tmp_path_factory: pytest.TempPathFactory) -> str:
    return kube_images.seaweedfs(cluster, tmp_path_factory.mktemp("seaweedfs-image"))


@pytest.fixture(scope="session")
def namespaces(cluster: Kube) -> Iterator[list[Namespace]]:
    """All that a session made; none is left behind."""
    made: list[Namespace] = []
    yield made
    for namespace in made:
        namespace.wait_until_gone()


@pytest.fixture
def namespace(cluster: Kube, namespaces: list[Namespace]) -> Iterator[Namespace]:
    """A namespace of the test's own."""
    made = Namespace.make(cluster, "one")
    namespaces.append(made)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def shared(cluster: Kube, namespaces: list[Namespace], request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace for the file."""
    made = Namespace.make(cluster, request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-"))
    namespaces.append(made)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def store(shared: Namespace, image: str, seaweedfs_image: str) -> Iterator[KubeStore]:
    """SeaweedFS in the file's namespace."""
    with kube_stores.running(shared, "seaweedfs", seaweedfs_image, image) as made:
        yield made


@pytest.fixture(scope="module")
def outside(store: KubeStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A client outside the cluster, which reaches the store through a port-forward."""
    folder: Path = tmp_path_factory.mktemp("outside")
    made = Workspace(folder, store.url, store.environment)
    yield made
    made.clean_up()


@pytest.fixture
def run(shared: Namespace, store: KubeStore, image: str) -> Iterator[Callable[..., RayJob]]:
    """Applies the RayJob of a run under a name; the run is CALM where no other is given."""
    made: list[RayJob] = []

    def apply(name: str, *command: str) -> RayJob:
        job = kube_runs.apply(shared, kube_runs.plan(shared, name, store, image, *(command or kube_runs.CALM)))
        made.append(job)
        return job

    yield apply
    for job in made:
        kube_runs.remove(job)


@pytest.fixture
def user(shared: Namespace, store: KubeStore, image: str, tmp_path: Path) -> Iterator[Workspace]:
    """A data scientist who has a kubeconfig and the store's credentials, and no store of their own named."""
    shared.apply([kube_runs.config_map(store, image)])
    credentials = {name: value for name, value in store.environment.items() if name != "DELAYLINE_S3_ENDPOINT"}
    environment = {**credentials, "KUBECONFIG": str(shared.cluster.kubeconfig), "DELAYLINE_STORE": ""}
    made = Workspace(tmp_path, f"{store.url}?endpoint_override={store.outside}", environment)
    yield made
    made.clean_up()
    # What a failed test left would take the next one's room.
    shared.kubectl("delete", "rayjob", "--all", "--wait=false")


@pytest.fixture(scope="session")
def calm_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The run `calm` on this machine, from which nobody took anything: in pods it has the same weights."""
    folder: Path = tmp_path_factory.mktemp("calm-here")
    made = Workspace(folder, str(folder / "store"))
    done = made.delayline("train", *kube_runs.CALM, "--name", "calm")
    assert done.code == 0, done.err
    yield made
    made.clean_up()
