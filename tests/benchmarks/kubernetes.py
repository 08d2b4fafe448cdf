"""What Kubernetes costs: start-up, step time, a lost pod and a worker's memory in pods, against processes on this machine.

The cluster is the one that KUBECONFIG names, on whose one node nothing else runs; its node should be this machine, for what runs beside it is
the same command without `--cluster`. Both use one store in the cluster.

usage: uv run python tests/benchmarks/kubernetes.py [shared] [rayjob] [steps] [pod] [memory] [--rounds 3]
"""

import argparse
import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from common import delayline, find_test_modules, heading, make_noise, median_ratio

find_test_modules()

from support import kube, kube_images, kube_runs, kube_stores  # noqa: E402
from support.kube import Namespace  # noqa: E402

WORKERS, CPUS = 2, 0.6
MNIST = 60_000
"""Training images of the dataset that stands for MNIST: the same shapes and number, other content."""
STEPS, SKIPPED = 300, 100
"""Steps of a run that measures the time of one; the first ones, which build graphs, do not count."""
PEAKS = ("/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes")
WAIT = 900


@dataclass(frozen=True)
class Bench:
    """A namespace with a store, and the same store as this machine reaches it."""

    namespace: Namespace
    store: str
    environment: dict[str, str]
    image: str

    @property
    def address(self) -> str:
        return f"kube://{self.namespace.name}"

    def train(self, cluster: str | None, *settings: str, detach: bool = False) -> tuple[str, float, Any]:
        """Train; the run's id, when the command began, and the run's document (None where it is detached)."""
        name = f"bench-{time.time_ns() % 10**12}"
        changes = [part for setting in (f"worker.cpus={CPUS}", *settings) for part in ("-s", setting)]
        where = ["--cluster", cluster] if cluster else []
        began = time.time()
        document = delayline(
            "train", "cnn-mnist", *changes, "--workers", str(WORKERS), "--name", name, *where, *(["--detach"] if detach else ["--json"]),
            store=self.store, environment=self.environment,
        )  # fmt: skip
        return name, began, None if detach else document

    def show(self, run: str) -> Any:
        return delayline("runs", "show", run, "--json", store=self.store, environment=self.environment)

    def remove(self, run: str) -> None:
        """Delete a RayJob and wait until its pods have left the node."""
        self.namespace.kubectl("delete", "rayjob", run, "--wait=false")
        wanted = f"delayline.io/run={run}"
        self.namespace.wait_for("its pods' end", lambda: not self.namespace.get("pods", "-l", wanted), 180)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A namespace of the cluster with a store and the dataset; it is deleted in the end."""
    cluster = kube.found()
    image = kube_images.delayline(cluster)
    with tempfile.TemporaryDirectory() as scratch:
        weed = kube_images.seaweedfs(cluster, Path(scratch) / "image")
        namespace = Namespace.make(cluster, "bench")
        try:
            with kube_stores.running(namespace, "seaweedfs", weed, image) as store:
                namespace.apply([kube_runs.config_map(store, image)])
                environment = {**store.environment, "KUBECONFIG": str(cluster.kubeconfig), "DELAYLINE_CACHE": scratch}
                make_noise(store.url, MNIST, environment)
                yield Bench(namespace, store.url, environment, image)
        finally:
            namespace.delete()
            namespace.wait_until_gone()


@contextlib.contextmanager
def ray_cluster(bench: Bench) -> Iterator[str]:
    """A shared RayCluster that is up; its address."""
    namespace = bench.namespace
    defaults = kube_stores.KubeStore("seaweedfs", f"http://store:{kube_stores.PORTS['seaweedfs']}", "", "", "")
    namespace.apply([kube_runs.shared_ray_cluster(namespace, "shared", defaults, bench.image)])

    def is_up() -> bool:
        conditions = namespace.get("raycluster", "shared").get("status", {}).get("conditions", [])
        return any(each["type"] == "RayClusterProvisioned" and each["status"] == "True" for each in conditions)

    namespace.wait_for("the RayCluster", is_up, WAIT)
    yield f"{bench.address}/shared"
    namespace.kubectl("delete", "raycluster", "shared", "--wait=false")
    namespace.wait_for("the end of its pods", lambda: not namespace.get("pods", "-l", "ray.io/cluster=shared"), 180)


def first_step(bench: Bench, cluster: str | None) -> float:
    """Seconds from the command to the end of the first step."""
    run, began, document = bench.train(
        cluster, "dataset=noise", "training_examples=5000", "steps=2", "log_every=1", "evaluate.validation=0"
    )
    if cluster:
        bench.remove(run)
    return float(document["history"][0]["time"] - began)


def seconds_a_step(bench: Bench, cluster: str | None) -> float:
    """The median time of a step between rows of metrics, once all is warm; milliseconds."""
    run, _, document = bench.train(cluster, "dataset=noise", f"steps={STEPS}", "log_every=20", "evaluate.validation=0")
    if cluster:
        bench.remove(run)
    rows = [(row["step"], row["time"]) for row in document["history"] if row["step"] >= SKIPPED]
    between = [(later - sooner) / (last - first) for (first, sooner), (last, later) in itertools.pairwise(rows) if last > first]
    return 1000 * statistics.median(between)


def lost_pod(bench: Bench, rounds: int) -> None:
    """Print the seconds from a worker pod's deletion to training on, and those that the new pod took to be ready."""
    ratios = []
    for number in range(rounds):
        run, _, _ = bench.train(
            bench.address, "dataset=noise", "steps=2000", "log_every=5", "checkpoint.every_steps=50", detach=True
        )
        wait_for(lambda run=run: bench.show(run)["step"] > 100)
        worker = f"delayline.io/run={run},ray.io/node-type=worker"
        old = {pod["metadata"]["name"] for pod in bench.namespace.pods(worker)}
        bench.namespace.delete_pods(worker, count=1)
        deleted = time.time()
        document = wait_for(lambda run=run: trains_again(bench.show(run)))
        goes_on = next(row["time"] for row in document["history"] if row["time"] > document["attempts"][-1]["started"]) - deleted
        (new,) = [pod for pod in bench.namespace.pods(worker) if pod["metadata"]["name"] not in old]
        ready = next(each for each in new["status"]["conditions"] if each["type"] == "Ready")
        starts = seconds_of(ready["lastTransitionTime"]) - seconds_of(new["metadata"]["creationTimestamp"])
        print(
            f"  round {number + 1}: trains on {goes_on:.1f} s after the deletion, the new pod took {starts:.0f} s to be ready",
            flush=True,
        )
        ratios.append(goes_on / starts)
        bench.remove(run)
    print(f"median ratio {statistics.median(ratios):.3f}", flush=True)


def trains_again(document: Any) -> Any:
    """The document once the second attempt has a row of metrics."""
    started = document["attempts"][-1]["started"]
    return document if len(document["attempts"]) > 1 and document["history"][-1]["time"] > started else None


def memory(bench: Bench) -> None:
    """Print the peak of each worker pod's control group after a run on all of MNIST."""
    with ray_cluster(bench) as cluster:
        run, _, _ = bench.train(cluster, "dataset=noise", "epochs=1")
        for pod in bench.namespace.pods("ray.io/cluster=shared"):
            name, kind = pod["metadata"]["name"], pod["metadata"]["labels"]["ray.io/node-type"]
            script = " || ".join(f"cat {file} 2>/dev/null" for file in PEAKS)
            peak = int(
                bench.namespace.kubectl("exec", name, "-c", pod["spec"]["containers"][0]["name"], "--", "sh", "-c", script)
            )
            print(f"  {kind}: {peak / 2**20:.0f} MiB", flush=True)
        bench.remove(run)


def wait_for(moment: Callable[[], Any]) -> Any:
    """What `moment` gives as soon as it is true; what it raises until then is not there yet."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        with contextlib.suppress(Exception, SystemExit):
            if found := moment():
                return found
        time.sleep(0.5)
    raise SystemExit(f"it did not come within {WAIT} s")


def seconds_of(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("figures", nargs="*", default=["shared", "rayjob", "steps", "pod", "memory"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("DELAYLINE_WAIT_LIMIT", str(WAIT))
    with bench() as made:
        if {"shared", "steps"} & set(options.figures):
            with ray_cluster(made) as cluster:
                if "shared" in options.figures:
                    heading("seconds from the command to the first step, a shared RayCluster that is up against this machine")
                    compare(made, first_step, cluster, options.rounds, "s")
                if "steps" in options.figures:
                    heading(f"a step of the lecture's MNIST CNN, {WORKERS} workers, in pods against processes")
                    compare(made, seconds_a_step, cluster, options.rounds, "ms")
        if "rayjob" in options.figures:
            heading("seconds from the command to the first step, a RayJob with its image present against this machine")
            compare(made, first_step, made.address, options.rounds, "s")
        if "pod" in options.figures:
            heading("a worker pod deleted with grace 0")
            lost_pod(made, options.rounds)
        if "memory" in options.figures:
            heading("peak of each pod's control group, MNIST")
            memory(made)


def compare(made: Bench, figure: Callable[[Bench, str | None], float], cluster: str, rounds: int, unit: str) -> None:
    figure(made, None)
    median_ratio(lambda: figure(made, cluster), lambda: figure(made, None), rounds, unit, ("in pods", "here"))


if __name__ == "__main__":
    main()
