"""A worker's log."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from jobs.artifacts import logs
from jobs.artifacts.logs import LogShipper
from service import runs
from service.records.run_record import RunRecord
from service.runs import log_follower
from service.specs.train import TrainSpec
from service.storage.local import LocalStore
from service.storage.paths import LOG_PART

RECORD = "a-run"
CAPTURE = """
import os, sys
from pathlib import Path
from jobs.artifacts.logs import capture_output
capture_output(Path(sys.argv[1]))
print("from Python")
os.write(2, b"from C\\n")
os.system("echo from a child")
"""


def test_everything_that_a_process_prints_is_captured(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "worker.log"
    done = subprocess.run([sys.executable, "-c", CAPTURE, str(log)], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert set(log.read_text().splitlines()) == {"from Python", "from C", "from a child"}


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    made = RunRecord(LocalStore(tmp_path / "store"), RECORD)
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
    return made


def shipper(record: RunRecord, file: Path, monkeypatch: pytest.MonkeyPatch) -> LogShipper:
    """One that ships when it is asked to."""
    monkeypatch.setattr(LocalStore, "look_seconds", 1000.0)
    return LogShipper(record.store, partial(record.paths.log, record.label(1), 0), file)


def shown(record: RunRecord) -> str:
    return runs.logs(record.store, RECORD)[0].text


def test_a_log_is_copied_in_parts_and_each_byte_a_few_times(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, written = tmp_path / "log", list[int]()
    file.touch()
    write = record.store.write
    monkeypatch.setattr(record.store, "write", lambda key, data, **more: (written.append(len(data)), write(key, data, **more))[1])
    made = shipper(record, file, monkeypatch)
    text = ""
    for number in range(120):
        lines = "".join(f"line {number} {place}\n" for place in range(1500))
        text += lines
        with file.open("a") as log:
            log.write(lines)
        made.ship()
        made.ship()
    made.close()
    assert shown(record) == text
    assert len(text) > 8 * LOG_PART
    assert sum(written) <= len(text) + 120 * LOG_PART
    assert max(written) <= LOG_PART


def test_what_did_not_grow_is_not_copied(record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    file.write_text("a line\n")
    made = shipper(record, file, monkeypatch)
    made.ship()
    monkeypatch.setattr(record.store, "write", lambda *_, **__: pytest.fail("it was copied again"))
    made.ship()
    made.close()


def test_of_a_very_long_log_the_end_is_kept_and_the_rest_is_said(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LONGEST_LOG", 3 * LOG_PART)
    file = tmp_path / "log"
    file.write_bytes(b"")
    made = shipper(record, file, monkeypatch)
    followed = log_follower.FollowedLogs(record.store, RECORD, None, None)
    seen, whole = "", b""
    for number in range(7):
        data = b"".join(b"%07d\n" % place for place in range(number * 20_000, (number + 1) * 20_000))
        whole += data
        with file.open("ab") as log:
            log.write(data)
        made.ship()
        seen += "".join(lines.text for lines in followed.news(False))
    # All at once more than is kept.
    with file.open("ab") as log:
        log.write(bytes(5 * LOG_PART) + b"the end\n")
    made.close()
    assert seen.encode() == whole
    text = shown(record)
    assert text.startswith("[the first ") and "bytes are no longer kept]" in text.splitlines()[0]
    assert text.endswith("the end\n")
    kept = sum(info.size for info in record.store.objects(record.paths.logs))
    assert 2 * LOG_PART < kept <= 3 * LOG_PART
    (rest,) = followed.news(True)
    assert rest.skipped and rest.text.endswith("the end\n")


def test_another_process_continues_the_same_log(record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog copies the log of a worker that hangs."""
    file = tmp_path / "log"
    file.write_bytes(b"x" * (LOG_PART + 10) + b"\n")
    shipper(record, file, monkeypatch).close()
    with file.open("ab") as log:
        log.write(b"its last words\n")
    shipper(record, file, monkeypatch).close()
    assert shown(record) == file.read_text()
