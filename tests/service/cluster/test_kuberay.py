"""What is told from KubeRay's documents; what the API server and the operator do is tested in tests/integration/kubernetes."""

from importlib import metadata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.cluster_defaults import ClusterDefaults
from service.cluster.driver_jobs import packed, unpacked
from service.cluster.kuberay import check_version, has_ended, nodes_of, outcome_of, quantity
from service.cluster.nodes import check_room
from service.errors import InvalidInput
from service.specs.parts import Resources


def ended(status: str, deployment: str, message: str = "", reason: str = "") -> dict[str, Any]:
    return {
        "metadata": {"name": "one"},
        "status": {"jobStatus": status, "jobDeploymentStatus": deployment, "message": message, "reason": reason},
    }


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        (ended("SUCCEEDED", "Complete", "Job finished successfully."), 0, ""),
        (
            ended(
                "FAILED", "Failed",
                "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\nError: epochs is -1.\n",
                "AppFailed",
            ),
            2, "epochs is -1.",
        ),
        (ended("FAILED", "Failed", "Job entrypoint command failed with exit code 130, last available logs", "AppFailed"), 130, "AppFailed"),
        (ended("", "Failed", "The RayJob has passed the activeDeadlineSeconds.", "DeadlineExceeded"), 4, "DeadlineExceeded"),
        (ended("", "Failed"), 4, "KubeRay says no more"),
    ],
)  # fmt: skip
def test_an_end_has_the_drivers_exit_code_and_its_sentence(document: dict[str, Any], code: int, words: str) -> None:
    found, said = outcome_of(document)
    assert found == code
    assert words in said


def test_a_rayjob_that_is_being_deleted_counts_as_ended() -> None:
    living = {"metadata": {"name": "one"}, "status": {"jobDeploymentStatus": "Running"}}
    assert not has_ended(living)
    assert not has_ended({"metadata": {"name": "one"}})
    assert has_ended({**living, "metadata": {"name": "one", "deletionTimestamp": "2026-11-29T16:00:00Z"}})


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


def test_an_image_of_another_minor_version_is_refused_with_both() -> None:
    own = metadata.version("delayline")
    for image in (f"kube.local/delayline:{own}-cpu", "kube.local/delayline:test", "registry:5000/delayline@sha256:1.2.3"):
        check_version(image, ClusterDefaults())
    with pytest.raises(InvalidInput, match=f"9.9.1.*{own}"):
        check_version(None, ClusterDefaults(image="kube.local/delayline:9.9.1-cpu"))


@given(st.text())
def test_what_is_packed_is_one_word_for_every_shell_and_comes_back(text: str) -> None:
    word = packed(text)
    assert all(letter.isalnum() or letter in "-_=" for letter in word)
    assert unpacked(word) == text


@given(st.text(max_size=40))
def test_what_was_not_packed_is_refused(word: str) -> None:
    try:
        unpacked(word)
    except ValueError:
        return
    assert packed(unpacked(word)).rstrip("=") or word
