"""The connections that a run really has, against the NetworkPolicy that is shipped; this cluster's network need not enforce it."""

import ipaddress
import time
from dataclasses import dataclass

import pytest
import yaml
from support import kube_runs
from support.kube import Document, Namespace
from support.kube_images import ROOT
from support.kube_runs import CALM, wait_for_step
from support.kube_stores import KubeStore
from support.workspace import Workspace

pytestmark = [pytest.mark.kubernetes_long, pytest.mark.timeout(2400)]

LOOKS = 10
LISTENS, GONE = 10, (2, 7)
"""Of the states of a socket in /proc/net/tcp: it listens; it asks in vain, or is closed."""
MANAGED = {"app.kubernetes.io/managed-by": "delayline"}


@dataclass(frozen=True)
class Peer:
    """Who has an address: a pod of a namespace by its labels, or somebody else."""

    labels: frozenset[tuple[str, str]] = frozenset()
    own_namespace: bool = False
    is_pod: bool = False


@dataclass(frozen=True)
class Connection:
    """Seen from a pod of the run: who is at the other end, and at which port of whose."""

    kind: str
    peer: Peer
    port: int


def allows(policy: Document, seen: Connection) -> bool:
    """Whether a rule of the policy lets a TCP connection pass."""
    rules, side = (policy["spec"]["ingress"], "from") if seen.kind == "ingress" else (policy["spec"]["egress"], "to")
    return any(_has_port(rule, seen.port) and _has_peer(rule.get(side), seen.peer) for rule in rules)


def _has_port(rule: Document, port: int) -> bool:
    return "ports" not in rule or any(each["protocol"] == "TCP" and each["port"] == port for each in rule["ports"])


def _has_peer(peers: list[Document] | None, peer: Peer) -> bool:
    if peers is None:
        return True
    return peer.is_pod and any(
        set(each["podSelector"]["matchLabels"].items()) <= peer.labels and (peer.own_namespace or "namespaceSelector" in each)
        for each in peers
    )


def sockets(namespace: Namespace, pod: Document) -> list[tuple[str, int, str, int, int]]:
    """Of a pod: the addresses and ports of both ends, and the state."""
    container = pod["spec"]["containers"][0]["name"]
    done = namespace.run("exec", pod["metadata"]["name"], "-c", container, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    rows = [line.split() for line in done.stdout.splitlines() if ":" in line.split()[0]]
    return [(*_end(row[1]), *_end(row[2]), int(row[3], 16)) for row in rows]


def _end(text: str) -> tuple[str, int]:
    """The address, of four bytes in the machine's order, or mapped into the last four of sixteen, and the port."""
    address, _, port = text.partition(":")
    return str(ipaddress.IPv4Address(bytes.fromhex(address[-8:])[::-1])), int(port, 16)


def behind_services(namespace: Namespace) -> dict[tuple[str, int], tuple[str, int]]:
    """Where the addresses of Services lead: a policy is asked about what is behind them."""
    found = {}
    slices = {
        each["metadata"]["labels"].get("kubernetes.io/service-name"): each
        for each in namespace.cluster.get("endpointslices", "-A")
    }
    for service in namespace.cluster.get("services", "-A"):
        address, ends = service["spec"].get("clusterIP"), slices.get(service["metadata"]["name"])
        if address in (None, "None") or not ends or not ends.get("endpoints"):
            continue
        named = {port.get("name") or "": port["port"] for port in ends["ports"] or ()}
        for port in service["spec"]["ports"]:
            there = named.get(port.get("name") or "", port["port"])
            found[(address, port["port"])] = (ends["endpoints"][0]["addresses"][0], there)
    return found


def peers(namespace: Namespace) -> dict[str, Peer]:
    return {
        pod["status"]["podIP"]: Peer(
            frozenset(pod["metadata"].get("labels", {}).items()), pod["metadata"]["namespace"] == namespace.name, True
        )
        for pod in namespace.cluster.get("pods", "-A")
        if pod["status"].get("podIP") and not pod["spec"].get("hostNetwork")
    }


def connections(namespace: Namespace, run: str) -> tuple[set[int], set[Connection]]:
    """The ports that a run's pods listen at, and their connections with others, those that are just over included."""
    services, known = behind_services(namespace), peers(namespace)
    listening, found = set(), set()
    for pod in namespace.pods(f"delayline.io/run={run}"):
        own = pod["status"].get("podIP")
        all_of_it = sockets(namespace, pod)
        ports = {port for _, port, _, _, state in all_of_it if state == LISTENS}
        listening |= ports
        for address, port, other, there, state in all_of_it:
            if state == LISTENS or state in GONE or address != own or other == own:
                continue
            if port in ports:
                found.add(Connection("ingress", known.get(other, Peer()), port))
            else:
                end, there = services.get((other, there), (other, there))
                found.add(Connection("egress", known.get(end, Peer()), there))
    return listening, found


def test_the_policy_lets_pass_what_an_elastic_run_uses_and_nobody_else(
    shared: Namespace, store: KubeStore, image: str, outside: Workspace, request: pytest.FixtureRequest
) -> None:
    (policy,) = yaml.safe_load_all((ROOT / "k8s" / "kuberay" / "networkpolicy.yaml").read_text())
    shared.apply([policy])
    command = (*CALM, "--workers", "2-3", "-s", "epochs=400")
    job = kube_runs.apply(shared, kube_runs.plan(shared, "connected", store, image, *command, workers=(2, 3)))
    request.addfinalizer(lambda: kube_runs.remove(job))
    wait_for_step(outside, job, 100)
    listening, seen = set(), set()
    for _ in range(LOOKS):
        ports, found = connections(shared, "connected")
        listening, seen = listening | ports, seen | found
        time.sleep(2)
    print(f"ports that its pods listen at: {sorted(listening)}")
    for each in sorted({(each.kind, dict(each.peer.labels).get("app.kubernetes.io/name", "-"), each.port) for each in seen}):
        print(*each)
    # Probes come from the node, which is no pod and which no policy shuts out.
    asked = [each for each in seen if each.kind == "egress" or each.peer.is_pod]
    assert [each for each in asked if not allows(policy, each)] == []
    assert any(each.port == 8333 for each in asked), "the store"
    assert any(each.port in (443, 6443) for each in asked), "the API server"
    assert any(each.peer.labels >= set(MANAGED.items()) and each.port not in (6379, 8265) for each in asked), "Ray and the ring"
    stranger = Peer(frozenset({("app.kubernetes.io/name", "store")}), True, True)
    assert not any(allows(policy, Connection("ingress", stranger, port)) for port in listening)
