import pytest

from service.cli.results import result_line


@pytest.mark.parametrize(
    ("task", "guesses"), [("bit-memory", "  (guesses 0.5000)"), ("bit_memory", "  (guesses 0.5000)"), ("classification", "")]
)
def test_the_result_of_bits_says_what_guesses_reach(task: str, guesses: str) -> None:
    metrics = {"test_loss": 0.25, "test_accuracy": 0.9876, "accuracy": 1.0}
    run = {"id": "a", "kind": "train", "state": "succeeded", "metrics": metrics, "spec": {"task": task}, "store": "s"}
    assert result_line(run) == f"run a succeeded: test_accuracy 0.9876  test_loss 0.2500{guesses}  (store s)"


def test_a_run_without_a_test_has_no_figures() -> None:
    run = {"id": "a", "kind": "train", "state": "cancelled", "metrics": {}, "spec": {"task": "bit-memory"}, "store": "s"}
    assert result_line(run) == "run a cancelled  (store s)"
