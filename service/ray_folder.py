"""Where Ray on this machine keeps its files: a socket's path has few bytes, and batch systems give folders with long ones."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from service.errors import InvalidInput

LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a Unix socket's path, its end not counted (sockaddr_un: 104 on macOS, 108 on Linux)."""
SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest that Ray makes below its own folder, by a process of the highest number that Linux has."""
SHORT = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 -- a folder of this user's own is made there


def default_ray_folder(ray_tmpdir: str | None) -> Path:
    """Where Ray would keep its files without a setting: below RAY_TMPDIR, on Linux TMPDIR, else /tmp."""
    parent = ray_tmpdir or (tempfile.gettempdir() if sys.platform.startswith("linux") else "/tmp")  # noqa: S108 -- as Ray does
    return Path(parent).absolute() / "ray"


def fits(folder: Path) -> bool:
    """Whether Ray's sockets have paths that the system takes."""
    return len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET


def short_ray_folder(ray_tmpdir: str | None, parents: Iterable[Path] = SHORT) -> Path | None:
    """A folder of this user's own for Ray where its default one has too long a path, else None; raise InvalidInput where none can be had."""
    default = default_ray_folder(ray_tmpdir)
    if fits(default):
        return None
    for parent in parents:
        home = parent / f"delayline-{os.getuid()}"
        if fits(home / "ray") and _is_own(home):
            return home / "ray"
    room = LONGEST_SOCKET - len(SOCKET) - len("/ray/")
    raise InvalidInput(
        f"Ray cannot keep its sockets in {default}, whose path has {len(os.fsencode(default.parent))} bytes: "
        f"set RAY_TMPDIR to a folder whose path has {room} at most."
    )


def _is_own(home: Path) -> bool:
    """Make the folder, or see that it is this user's: another one could put sockets of their own there."""
    with suppress(OSError):
        with suppress(FileExistsError):
            home.mkdir(mode=0o700)
        status = home.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and os.access(home, os.W_OK)
    return False
