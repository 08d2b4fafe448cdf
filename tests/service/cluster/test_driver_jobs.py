import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.random_jobs import JOBS

from service.cluster.base import Job
from service.cluster.driver_jobs import DRIVERS, SUPERVISOR, argv, driver_job, packed, unpacked
from service.settings import Settings
from service.submission import detached
from service.user_folder import python


@given(JOBS)
def test_a_supervisor_reads_its_job_and_starts_the_driver_of_that(job: Job) -> None:
    words = argv(job, "python", job.store_url, str(job.folder))
    assert words[:3] == ("python", "-P", "-m")
    assert words[3] == (SUPERVISOR if job.supervised else DRIVERS[job.kind])
    if not job.supervised:
        return
    read = detached.parser().parse_args(words[4:])
    settings = Settings.load(store=job.store_url)
    again = driver_job(settings, read.kind, read.run, read.store, Path(read.folder), read.resume, read.spec_changes)
    assert (again.kind, again.run_id, again.store_url, again.folder) == (job.kind, job.run_id, job.store_url, job.folder)
    assert (again.resume, again.spec_changes, read.retries) == (job.resume, job.spec_changes, job.retries)
    # Behind the module, a driver has its supervisor's words but for those that are the supervisor's own.
    assert argv(again, "python", read.store, read.folder)[4:] == words[8:]


def test_the_supervisor_is_there() -> None:
    done = subprocess.run([*python(SUPERVISOR), "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@given(st.text())
def test_what_is_packed_is_one_word_for_every_shell_and_comes_back(text: str) -> None:
    word = packed(text)
    assert all(letter.isalnum() or letter in "-_=" for letter in word)
    assert unpacked(word) == text


@given(st.text(max_size=40))
def test_what_was_not_packed_is_refused(word: str) -> None:
    try:
        unpacked(word)
    except ValueError:
        return
    assert packed(unpacked(word)).rstrip("=") or word
