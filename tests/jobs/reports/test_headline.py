"""A run's result in one line."""

from collections.abc import Callable

import pytest

from jobs.reports.facts import gather
from jobs.reports.headline import headline
from service.records.run_record import RunRecord

WriteRun = Callable[..., RunRecord]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("succeeded", "90.00% of 200 test examples of digits right (test loss 0.3100) after 10 epochs, 200 steps in 1 min 20 s by 2 workers."),
        ("failed", "Failed at step 200 of 200 (accuracy 97.46% in training): The loss became nan."),
        ("cancelled", "Cancelled at step 200 of 200 (accuracy 97.46% in training); `delayline train --resume --name a-run` resumes it."),
        ("running", "Lost at step 200 of 200"),
    ],
)  # fmt: skip
def test_the_result_in_one_line(write_run: WriteRun, state: str, words: str) -> None:
    error = {"kind": "user", "message": "The loss became nan.", "traceback": ""} if state == "failed" else None
    assert headline(gather(write_run(state=state, error=error))).startswith(words)
