import threading
from pathlib import Path

from service.file_locks import wait_for_lock


def test_a_lock_is_waited_for_and_given_up_after_so_long(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("a") as first, path.open("a") as second:
        assert wait_for_lock(first, 0.0)
        assert not wait_for_lock(second, 0.02, pause=0.01)
        threading.Timer(0.1, first.close).start()
        assert wait_for_lock(second, 30.0, pause=0.01)
