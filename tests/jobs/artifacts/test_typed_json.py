"""Values come back from JSON with their types, bit for bit, and with what they share."""

import collections
import dataclasses
import datetime
import enum
import json
import math
import pathlib
import random
import struct
import types
import zoneinfo
from typing import Any, NamedTuple

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jobs.artifacts.typed_atoms import Unkept
from jobs.artifacts.typed_json import APART, DEPTH, Decoder, Encoder


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Record:
    name: Any
    others: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


class MyList(list):  # type: ignore[type-arg]
    pass


def through_json(value: Any) -> Any:
    encoder = Encoder()
    written = json.dumps(encoder.encode(value), allow_nan=False)
    return Decoder(arrays=encoder.arrays).decode(json.loads(written))


def same(one: Any, other: Any) -> bool:
    """Equal in type and every bit, all the way down; sets in any order, everything else in its own."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, np.ndarray):
        alike = one.dtype == other.dtype and one.shape == other.shape
        if one.dtype == object:
            return alike and all(same(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True))
        return bool(alike and one.tobytes() == other.tobytes() and one.flags.f_contiguous == other.flags.f_contiguous)
    if isinstance(one, str | bytes):
        return len(one) == len(other) and one == other
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        factory = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return factory and same(list(one.items()), list(other.items()))
    if isinstance(one, collections.deque):
        return one.maxlen == other.maxlen and same(list(one), list(other))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    if isinstance(one, types.SimpleNamespace):
        return same(vars(one), vars(other))
    if isinstance(one, random.Random):
        return one.getstate() == other.getstate()
    if isinstance(one, np.random.Generator):
        return repr(one.bit_generator.state) == repr(other.bit_generator.state)
    return bool(one == other)


ZONES = [None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=2), "CEST"), zoneinfo.ZoneInfo("Europe/Berlin")]
PLAIN = st.deferred(  # else Hypothesis writes each of its uses out, hundreds of megabytes of them
    lambda: (
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(10**5000, 10**5000 + 5)
        | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=()))
        | st.binary(max_size=20)
        | st.complex_numbers(allow_nan=False)
        | st.sampled_from([*Colour, *Rights, Rights.READ | Rights.WRITE, Rights(0)])
        | st.datetimes(timezones=st.sampled_from(ZONES))
        | st.dates()
        | st.times()
        | st.timedeltas()
        | st.decimals(allow_nan=False)
        | st.fractions()
        | st.uuids()
        | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 4))
        | st.sampled_from([pathlib.Path("a/b"), pathlib.PurePosixPath("/c"), ...])
    )
)
KEYS = st.deferred(
    lambda: (
        PLAIN
        | st.tuples(PLAIN, PLAIN)
        | st.frozensets(PLAIN, max_size=3)
        | st.builds(Point, PLAIN, PLAIN)
        | st.builds(Frozen, PLAIN)
    )
)
DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes(endianness="?")
    | hnp.unicode_string_dtypes(max_len=5)
    | hnp.byte_string_dtypes(max_len=5)
    | hnp.datetime64_dtypes()
    | hnp.timedelta64_dtypes()
    | hnp.array_dtypes(hnp.integer_dtypes() | hnp.floating_dtypes())
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_side=3, min_side=0)).map(
    lambda array: np.asfortranarray(array) if array.size % 2 else array
)
SCALARS = st.deferred(
    lambda: (
        KEYS
        | st.floats()
        | st.complex_numbers()
        | ARRAYS
        | hnp.arrays(hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.datetime64_dtypes(), ()).map(lambda array: array[()])
        | st.sampled_from([ml_dtypes.bfloat16(1.5), np.str_("a\0"), np.bytes_(b"a\0"), np.dtype("<f4"), np.float32("nan")])
        | st.sampled_from([math.sqrt, np.less, keras.ops.greater, max, slice(1, None, 2)])
        | st.integers().map(random.Random)
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4).map(collections.OrderedDict)
        | st.dictionaries(KEYS, inner, max_size=4).map(lambda items: collections.defaultdict(list, items))
        | st.lists(KEYS, max_size=4).map(collections.Counter)
        | st.builds(collections.deque, st.lists(inner, max_size=4), st.none() | st.integers(0, 5))
        | st.sets(KEYS, max_size=4)
        | st.builds(Record, inner, st.lists(inner, max_size=2))
        | st.builds(Point, inner, inner)
        | st.binary(max_size=9).map(bytearray)
        | st.dictionaries(st.sampled_from("abc"), inner).map(lambda items: types.SimpleNamespace(**items))
        | hnp.arrays(object, 2, elements=inner)
    ),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_any_nested_value_comes_back_with_its_types_and_every_bit(value: Any) -> None:
    assert same(through_json(value), value)


@pytest.mark.parametrize(
    "kind", [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64], ids=lambda k: k.__name__
)
def test_random_generators_continue_where_they_were(kind: Any) -> None:
    generator = np.random.Generator(kind(5))
    generator.normal(size=7)
    generator.integers(3, dtype=np.int8)
    generator.spawn(2)
    again = through_json(generator)
    assert again.normal(size=9).tobytes() == generator.normal(size=9).tobytes()
    assert again.integers(9, size=9, dtype=np.int8).tobytes() == generator.integers(9, size=9, dtype=np.int8).tobytes()
    (child,), (other,) = generator.spawn(1), again.spawn(1)
    assert child.random() == other.random()

    state = np.random.RandomState(kind(5))
    state.normal()
    again = through_json(state)
    assert again.normal(size=4).tobytes() == state.normal(size=4).tobytes()

    twister = random.Random(7)
    twister.gauss()
    again = through_json(twister)
    assert [again.gauss() for _ in range(5)] == [twister.gauss() for _ in range(5)]


def test_legacy_seeding_and_a_seed_sequence_come_back() -> None:
    state = np.random.RandomState(5)
    assert through_json(state).tomaxint(4).tolist() == state.tomaxint(4).tolist()
    seeds = np.random.SeedSequence([1, 2**70], spawn_key=(3,))
    seeds.spawn(2)
    again = through_json(seeds)
    assert again.generate_state(4).tolist() == seeds.generate_state(4).tolist()
    assert again.spawn(1)[0].spawn_key == seeds.spawn(1)[0].spawn_key


def test_what_stands_twice_is_one_again_and_what_holds_itself_does() -> None:
    rows: list[Any] = [1]
    generator = np.random.default_rng(3)
    record = Record("it", rows)
    record.others.append(record)
    array = np.zeros(3)
    value = {"rows": rows, "again": rows, "record": record, "one": generator, "two": (generator, array), "view": array}
    back = through_json(value)
    assert back["rows"] is back["again"] is back["record"].others
    assert back["rows"][1] is back["record"]
    assert back["one"] is back["two"][0]
    assert back["view"] is back["two"][1]
    two = np.random.Generator(generator.bit_generator)
    shared = through_json([generator, two])
    assert shared[0].bit_generator is shared[1].bit_generator


def test_equal_tuples_within_tuples_are_written_once() -> None:
    value: Any = ()
    for _ in range(60):
        value = (value, value)
    encoder = Encoder()
    assert len(json.dumps(encoder.encode(value))) < 5_000
    back = Decoder().decode(Encoder().encode(value))
    for _ in range(60):
        (back,) = {id(part): part for part in back}.values()
    assert back == ()


def test_large_arrays_stand_apart_and_views_are_kept_as_they_look() -> None:
    encoder = Encoder()
    value = {"small": np.zeros(3), "large": np.arange(APART, dtype=">i8").reshape(2, -1), "view": np.arange(APART)[::7]}
    encoded = encoder.encode(value)
    assert list(encoder.arrays) == ["0", "1"]
    assert len(json.dumps(encoded)) < 600
    back = Decoder(arrays=encoder.arrays).decode(encoded)
    assert all(same(back[name], value[name]) for name in ("small", "large"))
    assert back["view"].tolist() == value["view"].tolist()
    back["large"][0, 0] = 7  # may be written to


def unkept() -> dict[str, Any]:
    held: list[Any] = []
    inner = (held,)
    held.append(inner)
    deep: Any = 0
    for _ in range(DEPTH + 1):
        deep = [deep]

    @dataclasses.dataclass
    class Local:
        x: int

    return {
        "object": object(),
        "lambda": lambda: 0,
        "python generator": (i for i in range(3)),
        "subclass": MyList([1]),
        "cycle through a tuple": inner,
        "deep": deep,
        "local class": Local(1),
        "factory": collections.defaultdict(lambda: 1),
        "masked": np.ma.masked_array([1], [True]),
        "objects in fields": np.zeros(1, [("a", object)]),
        "text of any length": np.array(["a"], np.dtypes.StringDType()),
        "file": pathlib.Path(__file__).parent.stat(),
    }


@pytest.mark.parametrize("name", unkept())
def test_what_cannot_be_kept_is_reported_and_nothing_of_it_stays(name: str) -> None:
    value = unkept()[name]
    encoder = Encoder()
    shared = [1]
    first = encoder.encode(shared)
    with pytest.raises(Unkept):
        encoder.encode([np.zeros(APART), [2], value])
    assert encoder.arrays == {}
    decoder = Decoder()
    assert decoder.decode(first) == [1]
    assert decoder.decode(encoder.encode([[3], shared])) == [[3], [1]]


def test_what_can_no_longer_be_made_is_reported_and_the_next_value_is_right() -> None:
    encoder = Encoder()
    shared = [1]
    gone, kept = encoder.encode([Record("x"), shared]), encoder.encode([shared, [2]])
    gone["list"][0]["data class"][1] = "Nowhere"
    decoder = Decoder()
    with pytest.raises(Unkept, match=r"no class .*Nowhere"):
        decoder.decode(gone)
    assert kept == {"list": [{"same": 3}, {"list": [2]}]}
    with pytest.raises(Unkept, match="something that could not be made"):
        decoder.decode(kept)
    assert decoder.decode(encoder.encode([[4], 5])) == [[4], 5]


def test_classes_are_looked_up_and_never_imported(tmp_path: pathlib.Path) -> None:
    encoded = Encoder().encode(Record("x"))
    encoded["data class"][0] = "antigravity"
    with pytest.raises(Unkept, match=r"no class antigravity\.Record"):
        Decoder().decode(encoded)
    for tag, other in (("data class", "pathlib.Path"), ("enum", "subprocess.Popen")):
        module, name = other.split(".")
        with pytest.raises(Unkept, match="or it is of another kind"):
            Decoder().decode({tag: [module, name, "a", 1]})
