"""One worker in a thread of this process; tests/jobs/training and tests/jobs/vectorized train with it."""

import pytest

from jobs.training.hooks import Hooks
from jobs.worker.config import WorkerConfig
from jobs.worker_groups import in_process as module
from jobs.worker_groups.in_process import InProcess
from service.errors import UserFailure

CONFIG = WorkerConfig("a-run", {}, 1, "nonce", 1, 1.0, "token", "/somewhere", {})


def test_it_is_rank_0_of_one_with_the_hooks_of_its_starter(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(module, "run_worker", lambda *given: seen.extend(given))
    hooks = Hooks(lambda row: False)
    with InProcess(hooks) as group:
        assert (group.size(), group.is_alive()) == (1, True)
        attempt = group.start(CONFIG)
        assert attempt.wait(20)
    assert (seen, attempt.error) == ([CONFIG, 0, hooks], None)


@pytest.mark.parametrize("error", [UserFailure("mine"), KeyboardInterrupt()])
def test_what_ends_the_worker_is_the_attempts_error(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "run_worker", fails)
    attempt = InProcess().start(CONFIG)
    assert attempt.wait(20)
    assert attempt.error is error
