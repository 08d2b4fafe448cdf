"""One worker in a thread of this process, which has imported TensorFlow."""

import threading
from typing import Self

from jobs.training.hooks import NO_HOOKS, Hooks
from jobs.worker.config import WorkerConfig
from jobs.worker.process import run_worker
from jobs.worker_groups.base import Attempt, Leaving


class InProcess:
    """One worker in a thread of this process, which has imported TensorFlow: how a trial runs in a warm process."""

    wait_limit = 0.0

    def __init__(self, hooks: Hooks = NO_HOOKS) -> None:
        self._hooks = hooks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to leave."""

    def size(self) -> int:
        """Always one."""
        return 1

    def room(self) -> int:
        """None comes."""
        return 0

    def start(self, config: WorkerConfig) -> Attempt:
        """Train in a thread."""
        return InProcessAttempt(config, self._hooks)

    def is_alive(self) -> bool:
        """As long as anybody can ask."""
        return True

    def leaving(self) -> Leaving:
        """This process's node leaves with its driver."""
        return Leaving()


class InProcessAttempt:
    """The one worker's attempt."""

    def __init__(self, config: WorkerConfig, hooks: Hooks = NO_HOOKS) -> None:
        self._hooks = hooks
        self.error: BaseException | None = None
        self._config = config
        self._done = threading.Event()
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether it ended, after waiting at most so long."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        try:
            run_worker(self._config, 0, self._hooks)
        except BaseException as error:
            self.error = error
        finally:
            self._done.set()
