"""Random bits and what is to be remembered of them, against plain Python; and how fresh ones are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.datasets.bits import IGNORED, bit_columns, draw_bits, targets
from jobs.datasets.load import Arrays, load_arrays
from jobs.datasets.reading import FreshColumns, open_reader
from jobs.training.batches import BatchFeeder, BatchPlan
from service.specs.generated import VARIANTS, BitSequences
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

SEEDS = st.integers(0, 2**31 - 1)


def reference(bits: list[int], delay: int, variant: str) -> list[int]:
    """One sequence; the adder by Python's own integers."""
    now, then = bits[delay:], bits[:-delay]
    if variant == "adder":
        one, other = (sum(bit << place for place, bit in enumerate(stream)) for stream in (now, then))
        answers = [(one + other) >> place & 1 for place in range(len(now))]
    else:
        answers = [then[step] if variant == "recall" else now[step] ^ then[step] for step in range(len(now))]
    return [IGNORED] * delay + answers


@given(seed=SEEDS, delay=st.integers(1, 12), more=st.integers(1, 40), variant=st.sampled_from(VARIANTS))
def test_targets_are_what_the_variant_says(seed: int, delay: int, more: int, variant: str) -> None:
    bits = draw_bits(5, delay + more, seed, "train")
    labels = targets(bits, delay, variant)
    assert labels.dtype == np.int32
    assert labels.tolist() == [reference(row, delay, variant) for row in bits.tolist()]


@given(seed=SEEDS, length=st.integers(1, 30), count=st.integers(1, 200), epoch=st.integers(0, 10**6))
def test_no_test_sequence_is_ever_a_training_sequence(seed: int, length: int, count: int, epoch: int) -> None:
    training, test = (draw_bits(count, length, seed, split, epoch) for split in ("train", "test"))
    assert not (training.sum(1) % 2).any() and (test.sum(1) % 2).all()
    assert not {row.tobytes() for row in training} & {row.tobytes() for row in test}


def test_bits_are_fair_and_differ_by_seed_split_and_epoch() -> None:
    drawn = {
        (seed, split, epoch): draw_bits(300, 70, seed, split, epoch)
        for seed in (0, 1)
        for split in ("train", "test")
        for epoch in (0, 1)
    }
    assert len({bits.tobytes() for bits in drawn.values()}) == len(drawn)
    for bits in drawn.values():
        # 5 standard deviations of 21,000 throws, and of 300 at each place.
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
        assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(bits))
        for lag in (1, 8, 64):
            assert abs((bits[:, lag:] == bits[:, :-lag]).mean() - 0.5) < 5 * 0.5 / np.sqrt(300 * (70 - lag))


def test_columns_are_minus_one_and_one() -> None:
    columns = bit_columns(BitSequences(delay=3, length=9, sequences=4), 7, "test")
    assert columns["bits"].shape == (4, 9, 1) and columns["bits"].dtype == np.float32
    assert set(np.unique(columns["bits"])) == {-1.0, 1.0}
    assert (columns["label"][:, 3:] == (columns["bits"][:, :-3, 0] > 0)).all() and (columns["label"][:, :3] == IGNORED).all()


def load(tmp_path: Path, seed: int = 3, **params: Any) -> Arrays:
    params = {"delay": 4, "length": 12, "sequences": 30, **params}
    spec = TrainSpec(model="lstm", dataset="bits", task="bit-memory", dataset_params=params, epochs=1, seed=seed)
    return load_arrays(spec, LocalStore(tmp_path / "no-store"), "philox-1", tmp_path / "cache", 10**6)


def test_nothing_is_read_or_written_for_generated_examples(tmp_path: Path) -> None:
    arrays = load(tmp_path)
    assert arrays.input_shape == (12, 1) and arrays.classes == ("0", "1") and not arrays.streamed
    assert arrays.train["bits"].shape == arrays.test["bits"].shape == (30, 12, 1)
    assert arrays.train_labels.shape == arrays.test_labels.shape == (30, 12)
    assert not list(tmp_path.iterdir())
    assert (load(tmp_path).train_labels == arrays.train_labels).all()
    assert not (load(tmp_path, seed=4).train_labels == arrays.train_labels).all()


def chunks(arrays: Arrays, plan: BatchPlan, first: int, counts: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    feeder = BatchFeeder(plan, arrays.train, arrays.train_labels, None)
    found = []
    for place, count in enumerate(counts):
        chunk = feeder.take(first, count)
        feeder.prepare(first + count, counts[place + 1] if place + 1 < len(counts) else 0)
        found += list(zip(chunk.features["bits"], chunk.labels, strict=True))
        first += count
    feeder.close()
    return found


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_that_resumes_elsewhere_sees_what_it_would_have_seen(tmp_path: Path, fresh: bool) -> None:
    arrays = load(tmp_path, fresh=fresh)
    plan = BatchPlan(np.arange(2, 30), 8, 3)
    assert plan.steps_per_epoch == 3
    whole = chunks(arrays, plan, 0, [3, 2, 1, 3, 3])
    for first in range(12):
        counts = [1] * (12 - first)
        for (x, y), (wanted_x, wanted_y) in zip(chunks(arrays, plan, first, counts), whole[first:], strict=True):
            assert (x == wanted_x).all() and (y == wanted_y).all()
    for step, (x, y) in enumerate(whole):
        rows = plan.indices(step, 1)[0]
        columns = bit_columns(BitSequences(4, 12, 30), 3, "train", step // 3 if fresh else 0)
        assert (x == columns["bits"][rows]).all() and (y == columns["label"][rows]).all()


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("workers", [2, 4])
def test_all_workers_together_see_what_one_sees(tmp_path: Path, fresh: bool, workers: int) -> None:
    arrays = load(tmp_path, fresh=fresh)
    one = chunks(arrays, BatchPlan(np.arange(30), 8, 3), 0, [3, 3])
    shares = [chunks(arrays, BatchPlan(np.arange(30), 8, 3, rank, workers), 0, [3, 3]) for rank in range(workers)]
    for step, (x, y) in enumerate(one):
        assert (np.concatenate([share[step][0] for share in shares]) == x).all()
        assert (np.concatenate([share[step][1] for share in shares]) == y).all()


def test_fresh_training_leaves_the_validation_sequences_as_they_are(tmp_path: Path) -> None:
    fixed, fresh = load(tmp_path), load(tmp_path, fresh=True)
    assert isinstance(fresh.train, FreshColumns)
    rows = np.array([3, 9, 4])
    reader = open_reader(fresh.train, fresh.train_labels, iter([rows]))
    assert (reader.take(rows)["bits"] == fixed.train["bits"][rows]).all()
    assert (fresh.test["bits"] == fixed.test["bits"]).all()
