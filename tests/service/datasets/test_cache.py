"""The node's cache: filled once by many processes, checked, and emptied by age, never under a reader."""

import itertools
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.datasets.cache import Cache, Fill, Piece
from service.errors import Damaged, DelaylineError, InfrastructureFailure

MIB = 1024**2
PLENTY = 100 * MIB


def filler(value: int, calls: list[int] | None = None, size: int = 1000) -> Fill:
    """Writes one array of `size` bytes."""

    def fill(folder: Path) -> None:
        if calls is not None:
            calls.append(value)
        np.save(folder / "a.npy", np.full(size, value, np.uint8))

    return fill


def never(_: Path) -> None:
    raise AssertionError("filled again")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "datasets"


def entries(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("*/entry.json")}


def test_an_entry_is_filled_once_and_mapped_read_only(folder: Path) -> None:
    calls: list[int] = []
    first = Cache(folder, PLENTY).columns("d1", filler(7, calls))
    again = Cache(folder, PLENTY).columns("d1", never)
    assert calls == [7] and isinstance(again["a"], np.memmap) and again["a"].tolist() == [7] * 1000
    for columns in (first, again):
        with pytest.raises(ValueError, match="read-only"):
            columns["a"][0] = 1


def test_entries_of_other_digests_are_apart(folder: Path) -> None:
    cache = Cache(folder, PLENTY)
    assert cache.columns("d1", filler(1))["a"][0] == 1 and cache.columns("d2", filler(2))["a"][0] == 2


def test_an_empty_array_and_a_single_value_come_back(folder: Path) -> None:
    def fill(target: Path) -> None:
        np.save(target / "none.npy", np.zeros((3, 0), np.float32))

    assert Cache(folder, PLENTY).columns("d", fill)["none"].shape == (3, 0)


PROCESS = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    import numpy as np
    from service.datasets.cache import Cache

    folder, log = Path(sys.argv[1]), Path(sys.argv[2])

    def fill(target):
        with log.open("a") as file:
            file.write("filled\\n")
        time.sleep(0.5)
        np.save(target / "a.npy", np.arange(100_000))

    print("ready", flush=True)
    sys.stdin.readline()
    view = Cache(folder, 2**30).columns("d", fill)["a"][10:].reshape(-1)
    print(int(view.sum()), flush=True)
    sys.stdin.readline()
""")


def process(folder: Path, log: Path) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", PROCESS, str(folder), str(log)]
    started = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout and started.stdout.readline() == "ready\n"
    return started


def test_of_several_processes_one_fills(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ThreadPoolExecutor(3) as pool:
        processes = list(pool.map(lambda _: process(folder, log), range(3)))
    for one in processes:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    sums = [one.communicate("end\n", timeout=60)[0].strip() for one in processes]
    assert sums == [str(sum(range(10, 100_000)))] * 3 and log.read_text() == "filled\n"


def test_what_another_process_reads_is_not_dropped(folder: Path, tmp_path: Path) -> None:
    reader = process(folder, tmp_path / "log")
    assert reader.stdin and reader.stdout
    reader.stdin.write("go\n")
    reader.stdin.flush()
    assert reader.stdout.readline()
    Cache(folder, 2 * MIB).columns("other", filler(1, size=4 * MIB))
    assert entries(folder) == {"d", "other"}
    reader.communicate("end\n", timeout=60)
    Cache(folder, 2 * MIB).columns("third", filler(1))
    assert "d" not in entries(folder)


def test_a_process_that_dies_while_it_fills_hinders_nobody(folder: Path, tmp_path: Path) -> None:
    dies = process(folder, tmp_path / "log")
    assert dies.stdin
    dies.stdin.write("go\n")
    dies.stdin.flush()
    deadline = time.monotonic() + 30
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    dies.kill()
    dies.communicate(timeout=30)
    assert entries(folder) == set()
    began = time.monotonic()
    assert Cache(folder, PLENTY).columns("d", filler(3))["a"][0] == 3
    assert time.monotonic() - began < 5
    assert [path.name for path in folder.iterdir() if path.name.startswith(".partial")] == []


def test_of_several_threads_one_fills(folder: Path) -> None:
    calls: list[int] = []
    cache, barrier = Cache(folder, PLENTY), threading.Barrier(6)

    def one(_: int) -> int:
        barrier.wait(30)
        return int(cache.columns("d", filler(5, calls))["a"][0])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(6))) == [5] * 6
    assert calls == [5]


def test_the_entry_that_was_used_longest_ago_goes_first(folder: Path) -> None:
    for number in range(3):
        Cache(folder, PLENTY).columns(f"d{number}", filler(number, size=MIB))
        moment = time.time() - 1000 + number
        os.utime(folder / f"d{number}" / "entry.json", (moment, moment))
    Cache(folder, PLENTY).columns("d0", never)
    Cache(folder, 3 * MIB + MIB // 2).columns("d3", filler(3, size=MIB))
    assert entries(folder) == {"d0", "d2", "d3"}


def test_an_entry_in_use_is_never_dropped(folder: Path) -> None:
    holds = Cache(folder, PLENTY)
    held = holds.columns("old", filler(9, size=2 * MIB))
    Cache(folder, MIB).columns("new", filler(1, size=2 * MIB))
    assert entries(folder) == {"old", "new"} and int(held["a"].sum()) == 9 * 2 * MIB


def test_an_entry_larger_than_the_limit_is_kept_while_it_is_used(folder: Path) -> None:
    cache = Cache(folder, MIB)
    columns = cache.columns("large", filler(1, size=4 * MIB))
    assert len(columns["a"]) == 4 * MIB and entries(folder) == {"large"}


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "sums", "no sums", "extra folder"])
def test_a_damaged_entry_is_noticed_and_filled_again(folder: Path, damage: str) -> None:
    Cache(folder, PLENTY).columns("d", filler(1))
    path = folder / "d" / "a.npy"
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-100])
    elif damage == "flip":
        data[500] ^= 1
        path.write_bytes(data)
    elif damage == "delete":
        path.unlink()
    elif damage == "sums":
        (folder / "d" / "entry.json").write_text(json.dumps([1]))
    elif damage == "no sums":
        (folder / "d" / "entry.json").unlink()
    else:
        path.unlink()
        path.mkdir()
    calls: list[int] = []
    columns = Cache(folder, PLENTY).columns("d", filler(1, calls))
    assert calls == [1] and columns["a"].tolist() == [1] * 1000
    Cache(folder, PLENTY).columns("d", never)


@pytest.mark.parametrize("damage", ["flip", "longer", "shorter"])
@pytest.mark.parametrize("size", [1, 3 * MIB + 1])
def test_checksums_that_a_fill_returns_are_compared(folder: Path, damage: str, size: int) -> None:
    filled: list[int] = []

    def fill(target: Path) -> dict[str, list[Piece]]:
        filled.append(1)
        np.save(target / "a.npy", np.arange(size, dtype=np.uint8))
        data = (target / "a.npy").read_bytes()
        cuts = [0, 128, len(data) // 2, len(data)] if size > 1 else [0, len(data)]
        pieces = [(start, end - start, zlib.crc32(data[start:end])) for start, end in itertools.pairwise(cuts)]
        return {"a.npy": pieces[::-1]}

    for _ in range(2):
        columns = Cache(folder, PLENTY).columns("d", fill)
        assert filled == [1] and columns["a"].tolist() == np.arange(size, dtype=np.uint8).tolist()
    path = folder / "d" / "a.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= damage == "flip"
    path.write_bytes(data[:-1] if damage == "shorter" else data + b"x" if damage == "longer" else data)
    Cache(folder, PLENTY).columns("d", fill)
    assert filled == [1, 1]


def test_an_entry_whose_checksums_leave_something_out_is_filled_again(folder: Path) -> None:
    Cache(folder, PLENTY).columns("d", filler(1, size=3 * MIB))
    sums = json.loads((folder / "d" / "entry.json").read_text())
    del sums["a.npy"][1]
    (folder / "d" / "entry.json").write_text(json.dumps(sums))
    calls: list[int] = []
    Cache(folder, PLENTY).columns("d", filler(1, calls, size=3 * MIB))
    assert calls == [1]


def test_a_fill_that_fails_leaves_nothing_and_is_tried_again(folder: Path) -> None:
    def fails(target: Path) -> None:
        np.save(target / "a.npy", np.zeros(5))
        raise Damaged("The shard differs.")

    with pytest.raises(Damaged):
        Cache(folder, PLENTY).columns("d", fails)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []
    assert Cache(folder, PLENTY).columns("d", filler(2))["a"][0] == 2


def test_what_crashed_fills_left_is_cleaned_up(folder: Path) -> None:
    left = folder / ".partial-d-1-00"
    left.mkdir(parents=True)
    (left / "a.npy").write_bytes(bytes(MIB))
    os.utime(left, (time.time() - 2 * 86400,) * 2)
    Cache(folder, PLENTY).columns("d", filler(1))
    assert not left.exists()


def test_a_folder_that_cannot_be_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InfrastructureFailure, match="DELAYLINE_CACHE") as caught:
        Cache(tmp_path / "file" / "cache", PLENTY).columns("d", filler(1))
    assert isinstance(caught.value, DelaylineError) and "\n" not in str(caught.value)


def test_a_full_disk_is_an_error_and_leaves_nothing(folder: Path) -> None:
    def fails(target: Path) -> None:
        (target / "a.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InfrastructureFailure, match=r"No space left .*make room"):
        Cache(folder, PLENTY).columns("d", fails)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []


def test_entries_that_come_and_go_in_other_threads_disturb_nobody(tmp_path: Path) -> None:
    # One entry for each shard of a stream: many are filled and dropped at a time.
    def use(number: int) -> bytes:
        def fill(folder: Path) -> None:
            np.save(folder / "column-x.npy", np.full(100, number % 7))

        return Cache(tmp_path, 1000).columns(f"entry-{number % 40}", fill)["column-x"].tobytes()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(use, [number % 40 for number in range(400)]))
    assert found == [np.full(100, number % 40 % 7).tobytes() for number in range(400)]
