"""Ray's files where its sockets' paths are short enough."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from service import ray_folder
from service.cluster.local_ray import LocalRay
from service.errors import InvalidInput
from service.ray_folder import LONGEST_SOCKET, fits, short_ray_folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose path is short, as tests' own are not."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TMPDIR", raising=False)
    return Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))


def test_rays_own_folder_is_kept_where_it_fits(short: Path) -> None:
    assert short_ray_folder(None) is None
    assert short_ray_folder(str(short)) is None
    assert LocalRay(short).description == "Ray on this machine"


def test_a_path_fits_exactly_where_the_system_binds_a_socket(short: Path) -> None:
    for length in range(LONGEST_SOCKET - 4, LONGEST_SOCKET + 4):
        name = "x" * (length - len(str(short)) - len("/" + ray_folder.SOCKET) - 1)
        path = short / name / ray_folder.SOCKET
        assert len(str(path)) == length
        (short / name / path.parent.relative_to(short / name)).mkdir(parents=True)
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
            bound = True
        except OSError:
            bound = False
        assert fits(short / name) == bound


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_long_folder_is_replaced_by_a_short_one_of_this_users_own(
    short: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = short / "net" / "cluster/people/somebody/slurm_jobdir/1355700/tmp.t0016"
    long.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(long))
    wanted = str(long) if name == "RAY_TMPDIR" else None
    found = short_ray_folder(wanted, [short / "absent", short])
    assert found == short / f"delayline-{os.getuid()}" / "ray" and fits(found)
    assert oct(found.parent.stat().st_mode)[-3:] == "700"
    assert short_ray_folder(wanted, [short]) == found
    description = LocalRay(short, ray_tmpdir=wanted).description
    assert f"would be too long in {long}" in description


def test_a_folder_that_somebody_else_has_laid_is_not_taken(short: Path) -> None:
    home = short / f"delayline-{os.getuid()}"
    home.symlink_to(short / "elsewhere")
    with pytest.raises(InvalidInput, match=r"cannot keep its sockets in /x{90}/ray, .* 91 bytes: set RAY_TMPDIR .* \d+ at most"):
        short_ray_folder("/" + "x" * 90, [short])
