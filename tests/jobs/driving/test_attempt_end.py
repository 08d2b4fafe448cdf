"""How an attempt ended, by what its workers left in the store or what Ray says of them."""

import pytest
from support.played_workers import Play, Unhurried, fails, is_lost, reasons, saves, succeeds

from jobs.driving.attempt_end import describe
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.storage.json_documents import to_bytes


class Lost(Exception):
    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__("many words\nof Ray")
        self.worker_failures = failures


@pytest.mark.parametrize(("kind", "code"), [("user", 3), ("invalid", 2), ("store", 5), ("lease", 4)])
def test_what_another_attempt_would_not_mend_ends_the_run_at_once(
    play: Play, record: RunRecord, stops: Unhurried, kind: str, code: int
) -> None:
    got, stage = play(fails((kind, code)))
    state = record.state()
    assert (got, state.state, state.exit_code) == (code, "failed", code)
    assert (len(stage.configs), stops.pauses) == (1, [])
    assert state.error.document() == {
        "kind": kind,
        "exit_code": code,
        "message": f"{kind} of 0",
        "rank": 0,
        "traceback": "nets.py",
    }


def test_a_store_that_refuses_for_a_moment_is_tried_again_once_it_has_worked(play: Play, record: RunRecord) -> None:
    def refused(record: RunRecord, number: int) -> BaseException:
        document = {"kind": "store", "exit_code": 5, "message": "no credentials", "rank": 0, "traceback": "", "passing": True}
        record.store.write(record.paths.failure(record.label(number), 0), to_bytes(document))
        return RuntimeError("Ray's own words")

    code, stage = play(refused, succeeds)
    assert (code, len(stage.configs), record.state().error.kind) == (5, 1, "store")
    record.write_state(StateDocument(state="queued", attempts=[], error=None))
    code, stage = play(saves(10, refused), succeeds)
    assert (code, len(stage.configs)) == (0, 2)


def test_of_several_failures_the_cause_counts_not_what_the_others_saw_of_it(play: Play, record: RunRecord) -> None:
    code, stage = play(fails(("infrastructure", 4), ("user", 3), ("infrastructure", 4)))
    assert (code, len(stage.configs)) == (3, 1)
    assert record.state().error.rank == 1


def test_failures_of_earlier_attempts_are_not_the_latests(play: Play, record: RunRecord) -> None:
    code, _ = play(fails(("infrastructure", 4)), is_lost, retries=1)
    assert code == 4
    assert "a node went away" in reasons(record)[1]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Lost({2: RuntimeError("The actor died.\nmore"), 0: RuntimeError("")}), "Worker 0, 2 was lost: The actor died."),
        (Lost({1: RuntimeError("")}), "Worker 1 was lost: Lost"),
        (Lost({}), "Ray could not run the workers: many words"),
        (ValueError(), "Ray could not run the workers: ValueError"),
    ],
)
def test_rays_errors_are_one_sentence(error: BaseException, sentence: str) -> None:
    assert describe(error) == sentence
