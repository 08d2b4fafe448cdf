"""The lease while its holder works."""

import pytest
from support.played_workers import Play, StillRunning

from jobs.driving import heartbeat
from service.records.run_record import RunRecord
from service.storage.json_documents import to_bytes


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_lease_ends_the_process(play: Play, record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []

    def ended(code: int) -> None:
        exits.append(code)
        raise SystemExit

    monkeypatch.setattr(heartbeat.os, "_exit", ended)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.02)

    def another_takes_over(record: RunRecord, number: int) -> None:
        if record.lease().token != "other":
            record.store.write(record.paths.lease, to_bytes({**record.lease().document(), "token": "other"}))
        if not exits:
            raise StillRunning

    play(another_takes_over)
    assert exits == [4]
    assert record.lease().token == "other"


def test_the_heartbeat_is_renewed_while_the_run_is_driven(play: Play, record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.02)
    beats: set[float] = set()

    def act(record: RunRecord, number: int) -> None:
        beats.add(record.lease().heartbeat)
        if len(beats) < 4:
            raise StillRunning

    assert play(act)[0] == 0
    assert record.lease().released
