"""Which runs are deleted, and that nothing is half there wherever a deletion is interrupted; in a folder and in SeaweedFS."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from support import s3_servers

from service import runs
from service.errors import InvalidInput, StoreError, UnknownName
from service.names import new_run_id
from service.records import user_package
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin
from service.records.submissions import is_deleted, run_summary
from service.runs import prune
from service.runs.prune import STILL_SECONDS, choose, delete, old_packages, old_uploads
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import ObjectInfo, Store

DAY = 86400.0
SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)
Make = Callable[..., RunRecord]


@pytest.fixture(params=["local", "seaweedfs"])
def store(request: pytest.FixtureRequest, local_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "local":
        return local_store
    server: s3_servers.S3Server = request.getfixturevalue("seaweedfs")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(Settings.load(store=f"s3://{server.bucket()}/some/prefix"))


@pytest.fixture
def make(store: Store, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a run that ended `days` ago, with an object in each of a run's folders."""
    ages: dict[str, float] = {}
    listed = store.objects

    def aged(prefix: str) -> Iterator[ObjectInfo]:
        # No server lets anybody else say when an object was written.
        for info in listed(prefix):
            yield replace(info, modified=info.modified - ages.get(info.key.split("/")[1], 0.0))

    monkeypatch.setattr(store, "objects", aged)

    def run(name: str, state: str = "succeeded", days: float = 0.0, **changes: Any) -> RunRecord:
        record = RunRecord(store, name)
        assert record.claim(SPEC, Origin(recipe="cnn-digits"))
        ages[name] = days * DAY
        ended = time.time() - days * DAY
        summary = run_summary(record.submission()).changed(submitted=ended - 60)
        document = {"attempts": [], "error": None, "metrics": {}, "finished": ended, "summary": summary}
        record.write_state(StateDocument.model_validate({**document, "state": state, **changes}))
        for key in (
            f"{record.paths.checkpoints}0000000003-{record.label(1)}/manifest.json",
            record.paths.log(record.label(1), 0),
            record.paths.model,
            record.paths.metrics,
        ):
            store.write(key, b"0123456789")
        return record

    return run


def names(store: Store, *arguments: Any, **options: Any) -> list[str]:
    return [each.run_id for each in choose(store, *arguments, **options)]


def test_runs_are_chosen_by_age_state_and_how_many_are_kept(store: Store, make: Make) -> None:
    make("new", days=1)
    make("old", days=9)
    make("failed-new", "failed", days=2)
    make("failed-old", "failed", days=20)
    assert names(store, older_than=7 * DAY) == ["old", "failed-old"]
    assert names(store, ["failed"]) == ["failed-new", "failed-old"]
    assert names(store, ["failed"], 7 * DAY) == ["failed-old"]
    assert names(store, keep_last=3) == ["failed-old"]
    assert names(store, ["failed", "succeeded"], keep_last=1, older_than=5 * DAY) == ["old", "failed-old"]
    assert names(store, ["failed"], keep_last=1) == ["failed-old"]
    assert names(store, ["cancelled"]) == []


def test_sizes_are_those_of_all_objects(store: Store, make: Make) -> None:
    record = make("one", days=1)
    (found,) = choose(store, keep_last=0)
    sizes = [info.size for info in store.objects(record.paths.root)]
    assert (found.objects, found.bytes) == (len(sizes), sum(sizes)) and found.bytes > 40


def test_a_run_that_lives_is_never_chosen_nor_deleted(store: Store, make: Make) -> None:
    make("queued", "queued", finished=None)
    living = make("living", "running", finished=None)
    assert Lease(living).acquire()
    assert names(store, keep_last=0) == []
    before = {info.key for info in store.objects("runs/")}
    with pytest.raises(InvalidInput, match="'living' lives"):
        delete(store, "living")
    assert {info.key for info in store.objects("runs/")} == before
    assert runs.show(store, "living").state == "running"


def test_a_run_that_was_resumed_since_it_was_chosen_stays(store: Store, make: Make) -> None:
    resumed = make("resumed", "failed", days=9)
    assert names(store, ["failed"]) == ["resumed"]
    assert Lease(resumed).acquire()
    with pytest.raises(InvalidInput, match="lives"):
        delete(store, "resumed")
    assert store.exists(resumed.paths.model)


def test_a_lost_run_is_as_old_as_its_last_change(store: Store, make: Make) -> None:
    lost = make("lost", "running", finished=None)
    document = lost.submission()
    store.write(lost.paths.spec, b'{"format": 1, "kind": "train", "spec": {}, "submitted": 5.0}')
    assert document.submitted > 5.0
    assert names(store, ["lost"]) == ["lost"]
    assert names(store, ["lost"], older_than=DAY) == []
    assert names(store, ["lost"], older_than=DAY, now=time.time() + 2 * DAY) == ["lost"]


def test_a_damaged_run_goes_only_when_asked_for_and_still(store: Store, make: Make) -> None:
    damaged = make("damaged")
    store.write(damaged.paths.state, b"{}")
    store.write(damaged.paths.lease, b"no json")
    later = time.time() + STILL_SECONDS + 5
    assert names(store, keep_last=0, now=later) == []
    assert names(store, ["damaged"]) == []
    assert names(store, ["damaged"], now=later) == ["damaged"]
    delete(store, "damaged")
    assert list(store.objects("runs/")) == []


def test_deletion_leaves_nothing_and_the_id_is_free(store: Store, make: Make) -> None:
    make("one")
    make("one-more")
    delete(store, "one")
    assert list(store.objects("runs/one/")) == []
    assert [row.id for row in runs.list_runs(store)] == ["one-more"]
    assert runs.show(store, "one-more").state == "succeeded"
    delete(store, "one")
    assert make("one").submission().recipe == "cnn-digits"


class Stops(Exception):
    """The process that deletes is killed here."""


@pytest.mark.parametrize("after", range(13))
def test_wherever_it_is_interrupted_the_run_is_whole_or_gone(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    record = make("one", "failed")
    whole = {info.key for info in store.objects(record.paths.root)}
    changes = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal changes
            if changes == after:
                raise Stops
            changes += 1
            return method(*arguments, **options)

        return call

    with monkeypatch.context() as patch, pytest.raises(Stops):
        for name in ("write", "delete", "delete_prefix"):
            patch.setattr(store, name, counted(getattr(store, name)))
        delete(store, "one")
        raise Stops  # not so many changes
    try:
        spec = store.read(record.paths.spec)
    except StoreError:
        assert list(store.objects(record.paths.root)) == []
        return
    if not is_deleted(spec):
        assert whole <= {info.key for info in store.objects(record.paths.root)}
        assert runs.show(store, "one").state == "failed"
        return
    # Gone for everybody, and nobody can take its id and resume from what is left.
    with pytest.raises(UnknownName, match="deleted"):
        runs.show(store, "one")
    assert not record.claim(SPEC)
    if not store.exists(record.paths.state):
        assert runs.list_runs(store) == []
    # A lease that a killed process held is that of nobody.
    store.delete(record.paths.lease)
    assert names(store, ["cancelled"]) == ["one"]
    delete(store, "one")
    assert list(store.objects("runs/")) == []


def test_the_same_for_many_runs(store: Store, make: Make) -> None:
    made = [make(new_run_id("many"), days=day).run_id for day in range(12)]
    kept = set(made[:4])
    for name in names(store, keep_last=4):
        delete(store, name)
    assert {row.id for row in runs.list_runs(store)} == kept


@pytest.mark.parametrize(
    ("states", "words"), [((), "Nothing says which"), (("running",), "'running' is not one"), (("x",), "use succeeded")]
)
def test_what_says_nothing_or_names_no_state_is_refused(local_store: Store, states: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose(local_store, states)


def test_who_may_only_read_deletes_nothing(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{seaweedfs.bucket()}"
    record = RunRecord(open_store(Settings.load(store=url)), "one")
    assert record.claim(SPEC)
    record.write_state(StateDocument(state="failed", attempts=[], error=None, finished=5.0))
    assert seaweedfs.read_only
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.read_only[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.read_only[1])
    reader = open_store(Settings.load(store=url))
    assert names(reader, ["failed"]) == ["one"]
    with pytest.raises(StoreError, match="right to"):
        delete(reader, "one")
    assert runs.show(reader, "one").state == "failed"


def test_trials_go_with_their_sweep_alone(store: Store, make: Make) -> None:
    base = {"name": "small", "values": SPEC.document()}
    sweep = SweepSpec.model_validate({"base": [base], "space": {"batch": {"grid": [8]}}})
    for name, state in (("young", "succeeded"), ("old", "failed")):
        record = RunRecord(store, name)
        assert record.claim(sweep)
        summary = run_summary(record.submission())
        record.write_state(StateDocument(state=state, attempts=[], error=None, metrics={}, finished=time.time(), summary=summary))
        trial = make(f"{name}-0000", "failed")
        trial.write_state(trial.state().changed(summary=trial.state().summary.changed(sweep=name)))
    assert names(store, ["failed"]) == ["old", "old-0000"]
    assert sorted(names(store, keep_last=1)) in (["old", "old-0000"], ["young", "young-0000"])
    for name in ("old", "old-0000"):
        delete(store, name)
    assert sorted(row.id for row in runs.list_runs(store)) == ["young", "young-0000"]


@pytest.mark.parametrize("name", ["seaweedfs", "minio"])
def test_uploads_that_were_killed_are_found_wherever_a_run_writes_in_parts(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server = request.getfixturevalue(name)
    for variable, value in server.environment.items():
        monkeypatch.setenv(variable, value)
    bucket = server.bucket()
    store = open_store(Settings.load(store=f"s3://{bucket}/p"))
    store.write("runs/one/spec.json", b"{}")
    store.write("runs/one/checkpoints/0000000010-0001/history.jsonl", b"")
    client = server.client()
    keys = ["p/runs/one/model.keras", "p/runs/one/checkpoints/0000000010-0001/optimizer.safetensors"]
    for key in [*keys, "other/runs/one/model.keras"]:
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=bytes(5 * 1024**2))
    assert old_uploads(store) == []
    monkeypatch.setattr(prune, "UPLOAD_SECONDS", -60.0)
    found = old_uploads(store)
    assert sorted(each.key for each in found) == sorted(key.removeprefix("p/") for key in keys)
    assert all(each.bytes == 5 * 1024**2 for each in found)


def test_code_that_no_run_refers_to_goes_a_day_after_it_was_sent(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a-run")
    first = user_package.keep(store, "a-run", b"first")
    second = user_package.keep(store, "a-run", b"second")
    assert old_packages(store) == []
    now = store.now()
    monkeypatch.setattr(store, "now", lambda: now + DAY + 60)
    keys = [user_package.key_of(each.removeprefix(user_package.REFERENCE)) for each in (first, second)]
    assert [info.key for info in old_packages(store)] == keys[:1]
    delete(store, "a-run")
    assert {info.key for info in old_packages(store)} == set(keys)
