"""`--cluster kube://NAMESPACE`: what was cancelled goes on, code of the user's own, sweeps, and a token that expires."""

import time
from pathlib import Path
from typing import Any

import pytest
from support.kube import Namespace
from support.kube_runs import CALM, guest_config
from support.workspace import Workspace, assert_same_end

pytestmark = [pytest.mark.kubernetes_long, pytest.mark.timeout(3000)]

SWEEP = """
base: run.yaml
space:
  optimizer.learning_rate.initial: {grid: [0.001, 0.003]}
"""
SHORTEST_TOKEN_SECONDS = 600
"""Of a service account's token, as the API server gives it."""
LEEWAY_SECONDS = 90
"""For which it may still be taken (derived: the API server allows a minute for clocks that differ, and keeps an answer for 10 s)."""


@pytest.fixture(scope="module")
def token_that_expires(shared: Namespace) -> tuple[str, float]:
    """A token, and when it does, by the monotonic clock."""
    shared.kubectl("create", "serviceaccount", "guest")
    made = time.monotonic()
    return shared.kubectl(
        "create", "token", "guest", f"--duration={SHORTEST_TOKEN_SECONDS}s"
    ).strip(), made + SHORTEST_TOKEN_SECONDS


@pytest.fixture(autouse=True)
def early(token_that_expires: tuple[str, float]) -> None:
    """The token is made first, so that it expires during the other tests."""


def uid_of(namespace: Namespace, run: str) -> Any:
    return namespace.get("rayjob", run)["metadata"]["uid"]


def test_resume_deletes_the_rayjob_that_ended_and_goes_on(user: Workspace, shared: Namespace, calm_here: Workspace) -> None:
    where = ("--name", "resumed", "--cluster", f"kube://{shared.name}")
    assert user.delayline("train", *CALM, *where, "--detach").code == 0
    user.wait_for("resumed", lambda run: run["checkpoints"][-1]["step"] >= 200, seconds=900)
    before = uid_of(shared, "resumed")
    assert "is cancelled" in user.delayline("runs", "cancel", "resumed", "--cluster", f"kube://{shared.name}").out
    without = user.delayline("train", *CALM, *where)
    assert without.code == 2 and "--resume" in without.err, without.err
    assert uid_of(shared, "resumed") == before
    done = user.delayline("train", *where, "--resume", "--json")
    assert done.code == 0, done.err + shared.told()
    assert uid_of(shared, "resumed") != before
    assert len(done.document["attempts"]) == 2
    assert_same_end(user, "resumed", calm_here)


def test_code_of_the_users_own_travels_through_the_store(user: Workspace, shared: Namespace) -> None:
    user.fill()
    done = user.delayline("train", "run.yaml", "--name", "own-code", "--cluster", f"kube://{shared.name}", "--json")
    assert done.code == 0, done.err + shared.told()
    assert done.document["state"] == "succeeded"
    (package,) = user.store.objects("packages/")
    assert package.key.endswith(".zip")
    (user.folder / "nets.py").write_text("def build(input_shape, classes):\n    return 1 / (classes - 10)\n")
    changed = ("-s", "callbacks=[]", "--name", "own-mistake", "--cluster", f"kube://{shared.name}")
    failed = user.delayline("train", "run.yaml", *changed)
    assert failed.code == 3 and "division by zero" in failed.err.splitlines()[-1], failed.err
    assert "exit code 3" in shared.get("rayjob", "own-mistake")["status"]["message"]


def test_a_sweep_has_one_rayjob(user: Workspace, shared: Namespace) -> None:
    (user.folder / "sweep.yaml").write_text(SWEEP)
    command = ("sweep", "sweep.yaml", "-s", "base.steps=40", "--name", "wide", "--cluster", f"kube://{shared.name}", "--json")
    done = user.delayline(*command)
    assert done.code == 0, done.err + shared.told()
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 2
    assert shared.get("rayjob", "wide")["metadata"]["labels"]["delayline.io/kind"] == "sweep"
    again = user.delayline(*command)
    assert again.code == 0 and again.document["trials"] == done.document["trials"]


def test_a_token_that_has_expired_is_said(
    user: Workspace, shared: Namespace, token_that_expires: tuple[str, float], tmp_path: Path
) -> None:
    token, expires = token_that_expires
    time.sleep(max(0.0, expires + LEEWAY_SECONDS - time.monotonic()))
    user.environment["KUBECONFIG"] = str(guest_config(shared.cluster, tmp_path, token))
    done = user.delayline("train", *CALM, "--name", "guest", "--detach", "--cluster", f"kube://{shared.name}")
    assert done.code == 2 and "may have expired" in done.err, done.err
    assert token not in done.err
