import pytest

from service.cli.results import result_line
from service.records.answers import Run

RUN = {"id": "a", "kind": "train", "store": "s", "started": None, "finished": None}


@pytest.mark.parametrize(
    ("task", "guesses"), [("bit-memory", "  (guesses 0.5000)"), ("bit_memory", "  (guesses 0.5000)"), ("classification", "")]
)
def test_the_result_of_bits_says_what_guesses_reach(task: str, guesses: str) -> None:
    metrics = {"test_loss": 0.25, "test_accuracy": 0.9876, "accuracy": 1.0}
    run = Run.model_construct(**RUN, state="succeeded", metrics=metrics, spec={"task": task})
    assert result_line(run) == f"run a succeeded: test_accuracy 0.9876  test_loss 0.2500{guesses}  (store s)"


def test_a_run_without_a_test_has_no_figures() -> None:
    run = Run.model_construct(**RUN, state="cancelled", metrics={}, spec={"task": "bit-memory"})
    assert result_line(run) == "run a cancelled  (store s)"
