"""What a member of a group borrows, and what is its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.artifacts.checkpoints import Snapshot
from jobs.training.restore import restore
from jobs.training.trainer import prepare
from jobs.training.variables import copy_model, copy_variables
from jobs.vectorized.member import Member, beside
from jobs.vectorized.member_attempt import MemberAttempt
from jobs.worker.config import WorkerConfig
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store

RUN = {
    "model": "simple-rnn",
    "model_params": {"units": 4},
    "dataset": "bits",
    "dataset_params": {"delay": 2, "length": 6, "sequences": 40},
    "task": "bit-memory",
    "steps": 20,
    "batch": 8,
}


@pytest.fixture
def members(local_store: Store, tmp_path: Path) -> Iterator[list[Member]]:
    """Two runs in target space, of other seeds."""
    made = []
    for seed in (1, 2):
        spec = TrainSpec.model_validate({**RUN, "seed": seed, "space": {"name": "target", "realisation": 6}})
        RunRecord(local_store, f"member-{seed}").claim(spec)
        config = WorkerConfig(f"member-{seed}", spec.model_dump(), 1, "", 1, 1.0, "token", str(tmp_path), {})
        made.append(Member(MemberAttempt(config), Settings.load(store=local_store.url), local_store))
    yield made
    for member in made:
        member.end()


def test_members_borrow_one_replica_and_each_has_a_space_of_its_own(members: list[Member]) -> None:
    first, second = members
    like = prepare(first.spec, first.place, first.record, first.fence, lambda *_: contextlib.nullcontext())
    context = beside(like, second)
    assert context.replica is like.replica
    assert context.space is not like.space
    like.space.begin()
    before = copy_variables(like.space.kept)
    context.space.begin()
    after = copy_variables(like.space.kept)
    assert all((array == after[name]).all() for name, array in before.items())
    assert not all((array == after[name]).all() for name, array in copy_variables(context.space.kept).items())


def test_a_checkpoint_is_put_into_the_members_own_space(members: list[Member]) -> None:
    first, second = members
    like = prepare(first.spec, first.place, first.record, first.fence, lambda *_: contextlib.nullcontext())
    context = beside(like, second)
    replica = context.replica
    like.space.begin()
    before = copy_variables(like.space.kept)
    wanted = {name: array + 1 for name, array in before.items()}
    model, optimizer = copy_model(replica.model), copy_variables(replica.optimizer.variables)
    snapshot = Snapshot(step=1, epoch=1, model=model, optimizer=optimizer, history=[], position={}, space=wanted)
    restore(replica.model, replica.optimizer, context.space, snapshot)
    assert all((array == wanted[name]).all() for name, array in copy_variables(context.space.kept).items())
    assert all((array == before[name]).all() for name, array in copy_variables(like.space.kept).items())
