import psutil
import pytest

from service.cluster.nodes import Node, all_here, check_room, is_loopback
from service.errors import InvalidInput
from service.specs.parts import Resources

GB = 10**9
TWO = [Node("10.0.0.1", 4, 1, 4 * GB), Node("10.0.0.2", 2, 0, 2 * GB)]


@pytest.mark.parametrize(("workers", "cpus", "gpus"), [(6, 1, 0), (3, 2, 0), (1, 4, 1), (12, 0.5, 0), (1, 0.1, 1)])
def test_accepts_what_fits(workers: int, cpus: float, gpus: int) -> None:
    check_room(TWO, workers, Resources(cpus=cpus, gpus=gpus), "the cluster")


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "words"),
    [
        (7, 1, 0, "7 workers need 7 CPUs, whole workers on each node; the cluster has 6 CPUs and 1 GPUs on 2 nodes: use --workers 6"),
        (2, 3, 0, "use --workers 1 or -s worker.cpus=2."),
        (1, 5, 0, "1 worker needs 5 CPUs, whole workers on each node; the cluster has 6 CPUs and 1 GPUs on 2 nodes: use -s worker.cpus=4."),
        (2, 1, 1, "2 workers need 2 GPUs; the cluster has 6 CPUs and 1 GPUs on 2 nodes: use --workers 1 or -s worker.gpus=0."),
    ],
)  # fmt: skip
def test_refuses_what_does_not_and_says_what_would(workers: int, cpus: float, gpus: int, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_room(TWO, workers, Resources(cpus=cpus, gpus=gpus), "the cluster")
    assert words in str(raised.value)


def test_counts_memory_node_by_node() -> None:
    check_room(TWO, 3, Resources(memory=2 * GB), "the cluster")
    with pytest.raises(InvalidInput) as raised:
        check_room(TWO, 2, Resources(memory=3 * GB), "the cluster")
    assert str(raised.value) == (
        "2 workers need 3000MB of memory each; the nodes of the cluster have 2000MB, 4000MB: "
        "use --workers 1 or a smaller worker.memory."
    )


@pytest.mark.parametrize("workers", range(1, 14))
def test_the_share_that_is_advised_fits(workers: int) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_room(TWO, workers, Resources(cpus=100), "the cluster")
    advised = float(str(raised.value).rpartition("worker.cpus=")[2].rstrip("."))
    check_room(TWO, workers, Resources(cpus=advised), "the cluster")


def test_a_node_as_the_dashboard_lists_it() -> None:
    listed = {"node_ip": "10.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 4e9, "GPU": 1.0}}
    assert Node.of(listed) == TWO[0]
    assert Node.of({"node_ip": "10.0.0.3", "resources_total": {}}) == Node("10.0.0.3", 0, 0)


def test_knows_which_nodes_are_this_machine() -> None:
    own = next(address.address for addresses in psutil.net_if_addrs().values() for address in addresses)
    assert all_here([Node("127.0.0.1", 1, 0), Node(own, 1, 0)])
    assert not all_here([Node("127.0.0.1", 1, 0), Node("203.0.113.7", 1, 0)])


@pytest.mark.parametrize(("host", "here"), [("127.0.0.1", True), ("LOCALHOST", True), ("::1", True), ("10.0.0.1", False), ("head", False)])  # fmt: skip
def test_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here
