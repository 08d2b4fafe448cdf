"""Which examples form each global batch, whatever the number of workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.datasets.layout import Layout
from jobs.training.batches import BatchFeeder, BatchPlan, choose_examples, permutation, split_validation
from service.errors import InvalidInput


@given(seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 10**6), count=st.integers(1, 300))
def test_a_permutation_holds_each_example_once_and_depends_on_seed_and_epoch_alone(seed: int, epoch: int, count: int) -> None:
    order = permutation(seed, epoch, count)
    assert sorted(order) == list(range(count))
    assert (order == permutation(seed, epoch, count)).all()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(permutation(seed, epoch, 50)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == len(orders)


@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 500), share=st.floats(0, 0.99))
def test_validation_and_training_examples_are_disjoint_and_all(seed: int, count: int, share: float) -> None:
    training, validation = split_validation(seed, count, share)
    assert sorted([*training, *validation]) == list(range(count))
    assert len(validation) == round(count * share)


@given(
    seed=st.integers(0, 2**31 - 1),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any),
    share=st.floats(0.0, 0.5),
    data=st.data(),
)
def test_a_number_of_examples_holds_each_class_in_proportion(
    seed: int, sizes: list[int], share: float, data: st.DataObject
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int32)
    rows, _ = split_validation(seed, len(labels), share)
    count = data.draw(st.integers(1, len(rows)))
    chosen = choose_examples(seed, rows, labels, count)
    assert len(chosen) == count
    assert sorted(set(chosen) & set(rows)) == chosen.tolist()
    for label in range(len(sizes)):
        there = np.count_nonzero(labels[rows] == label)
        assert abs(np.count_nonzero(labels[chosen] == label) - count * there / len(rows)) <= 1
    more = choose_examples(seed, rows, labels, data.draw(st.integers(count, len(rows))))
    assert set(chosen) <= set(more)
    assert (choose_examples(seed, rows, labels, count) == chosen).all()


def test_examples_with_a_label_at_each_step_are_chosen_without_classes() -> None:
    labels = np.zeros((200, 7), np.int32)
    few, many = (choose_examples(1, np.arange(10, 200), labels, count) for count in (20, 60))
    assert (len(few), len(many)) == (20, 60) and set(few) <= set(many) <= set(range(10, 200))


def test_other_seeds_choose_other_examples() -> None:
    labels = np.tile(np.arange(10, dtype=np.int32), 20)
    chosen = {tuple(choose_examples(seed, np.arange(200), labels, 50)) for seed in range(5)}
    assert len(chosen) == 5
    assert all(np.bincount(labels[list(rows)], minlength=10).tolist() == [5] * 10 for rows in chosen)


@given(
    seed=st.integers(0, 1000),
    workers=st.integers(1, 6),
    local=st.integers(1, 5),
    extra=st.integers(0, 40),
    start=st.integers(0, 30),
)
def test_the_slices_of_all_workers_make_the_batch_of_one(seed: int, workers: int, local: int, extra: int, start: int) -> None:
    batch = workers * local
    examples = np.arange(100, 100 + batch * 3 + extra)
    alone = BatchPlan(examples, batch, seed)
    step = start - start % alone.steps_per_epoch + min(start % alone.steps_per_epoch, alone.steps_per_epoch - 1)
    parts = [BatchPlan(examples, batch, seed, rank, workers).indices(step, 1) for rank in range(workers)]
    assert (np.concatenate(parts, axis=1) == alone.indices(step, 1)).all()


@given(count=st.integers(8, 60), batch=st.integers(1, 8), seed=st.integers(0, 50))
def test_an_epoch_uses_no_example_twice(count: int, batch: int, seed: int) -> None:
    plan = BatchPlan(np.arange(count), batch, seed)
    for epoch in (0, 3):
        used = plan.indices(epoch * plan.steps_per_epoch, plan.steps_per_epoch).reshape(-1)
        assert len(set(used)) == len(used) == plan.steps_per_epoch * batch


def test_a_batch_larger_than_the_data_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidInput, match="use a batch of at most 10"):
        BatchPlan(np.arange(10), 11, 0)


@pytest.mark.parametrize("cuts", [[6], [1, 1, 1, 1, 1, 1], [2, 4], [5, 1]])
def test_a_feeder_gives_the_same_batches_however_they_are_cut_into_chunks(cuts: list[int]) -> None:
    images = np.arange(60 * 4, dtype=np.uint8).reshape(60, 2, 2, 1)
    labels = np.arange(60, dtype=np.int32)
    plan = BatchPlan(np.arange(60), 10, seed=3)
    feeder = BatchFeeder(plan, {"image": images}, labels, None)
    got, step = [], 0
    for count in cuts:
        chunk = feeder.take(step, count)
        step += count
        feeder.prepare(step, 1 if step < 6 else 0)
        assert chunk.features["image"].shape == (count, 10, 2, 2, 1)
        assert (chunk.features["image"][..., 0, 0, 0] == images[chunk.labels][..., 0, 0, 0]).all()
        got.append(chunk.labels)
    feeder.close()
    assert (np.concatenate(got) == plan.indices(0, 6)).all()


def test_augmentation_sees_the_epoch_and_the_examples_own_numbers() -> None:
    seen = []

    class Recorder:
        def apply(self, images, epoch, examples):
            seen.append((epoch, list(examples)))
            return images

    plan = BatchPlan(np.arange(8), 4, seed=1)
    feeder = BatchFeeder(plan, {"image": np.zeros((8, 2, 2, 1), np.uint8)}, np.zeros(8, np.int32), Recorder())
    feeder.take(3, 1)
    feeder.close()
    assert seen == [(1, list(plan.indices(3, 1)[0]))]


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    window=st.integers(1, 60),
    share=st.floats(0, 0.5),
    seed=st.integers(0, 10**6),
    epoch=st.integers(0, 100),
)
def test_a_windowed_epoch_has_each_example_once_and_few_shards_at_a_time(
    sizes: list[int], window: int, share: float, seed: int, epoch: int
) -> None:
    layout = Layout(np.cumsum(sizes), window)
    examples, _ = split_validation(seed, sum(sizes), share)
    plan = BatchPlan(examples, 1, seed, layout=layout)
    order = plan.epoch_order(epoch)
    assert sorted(order) == list(examples)
    assert (order == plan.epoch_order(epoch)).all()
    if sum(sizes) <= window:
        assert (order == examples[permutation(seed, epoch, len(examples))]).all()
    # Each shard's examples come within one window, which holds an equal share of the shards.
    shard_of = np.searchsorted(layout.ends, order, side="right")
    most = -(-len(sizes) // layout.windows)
    rows = max(sizes) * most
    for shard in set(shard_of):
        places = np.flatnonzero(shard_of == shard)
        assert places[-1] - places[0] < rows
        assert len(set(shard_of[places[0] : places[-1] + 1])) <= most


def test_a_windowed_shuffle_brings_shards_from_everywhere_together_anew_each_epoch() -> None:
    layout = Layout(np.arange(1, 101) * 50, 1000)
    plan = BatchPlan(np.arange(5000), 100, seed=3, layout=layout)
    assert layout.windows == 5
    meetings = set()
    for epoch in range(4):
        for window in plan.epoch_order(epoch).reshape(5, 1000):
            shards = np.unique(window // 50)
            assert len(shards) == 20
            # Of the five fifths of the dataset, none is missing: chance would leave one out in 1 of 20 windows or so.
            meetings.add(tuple(shards))
            assert len(set(shards // 20)) >= 4
            # A batch has examples of most of the window's shards.
            assert len(set(window[:100] // 50)) >= 15
    assert len(meetings) == 20
