import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.specs.expressions import LONGEST, Expression, worked_out

NAMES = {"dataset_params.delay": 20, "batch": 64, "optimizer.learning_rate": 0.25}

leaves = st.one_of(st.integers(0, 99).map(str), st.floats(0.1, 9).map(repr), st.sampled_from(sorted(NAMES)))
expressions = st.recursive(
    leaves, lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)  # fmt: skip


@given(expressions.filter(lambda text: len(text) <= LONGEST))
def test_gives_what_python_gives(text: str) -> None:
    python = text
    for name, value in NAMES.items():
        python = python.replace(name, repr(value))
    try:
        wanted = eval(python, {"__builtins__": {}})  # the reference: arithmetic that this test made
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="cannot be worked out"):
            Expression.parse(text).evaluate(NAMES)
        return
    result = Expression.parse(text).evaluate(NAMES)
    assert result == wanted
    assert type(result) is type(wanted)


def test_names_what_it_needs() -> None:
    expression = Expression.parse("dataset_params.delay + 3 * (batch - -2) ** 2")
    assert expression.names == {"dataset_params.delay", "batch"}
    assert expression.evaluate({"dataset_params.delay": 20, "batch": 1}) == 47


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os') + 1", "delay + 'a'", "f(1)", "a[0]", "[1, 2]", "1 if 2 else 3", "lambda: 1", "a == 1", "a and b", "a.b().c",
        "1 +", "", "True", "1j", "(" * 5000, "1+" * 5000 + "1", "f'{a}'", "a := 1", "~1", "a @ b",
    ],
)  # fmt: skip
def test_refuses_all_but_arithmetic(text: str) -> None:
    with pytest.raises(ValueError, match=r"arithmetic|at most"):
        Expression.parse(text)


@pytest.mark.parametrize(
    "text", ["9**9**9", "2**65", "10.0**64 * 10.0**64 * 10.0**64 * 10.0**64 * 10.0**64", "batch / 0", "batch % 0"]
)
def test_refuses_what_grows_without_end_or_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"worked out|no finite"):
        Expression.parse(text).evaluate(NAMES)


@pytest.mark.parametrize(
    "text", ["(0-8) ** 0.5", "(0-8) ** 0.5 % 1", "((0-8) ** 0.5) // 2", "-((0-8) ** 0.5)", "9 ** (0-8) ** 0.5"]
)
def test_the_root_of_a_negative_number_is_refused_wherever_it_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be worked out: \(-8\) \*\* 0.5 is no real number"):
        Expression.parse(text).evaluate(NAMES)


@pytest.mark.parametrize(("values", "words"), [({}, "needs 'delay'"), ({"delay": "a"}, "not a number"), ({"delay": True}, "not a number")])  # fmt: skip
def test_says_what_it_lacks(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Expression.parse("delay + 1").evaluate(values)


def test_infinity_is_no_value() -> None:
    with pytest.raises(ValueError, match="worked out"):
        Expression.parse("a * 1").evaluate({"a": math.inf})


@given(st.recursive(st.integers() | st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner)))
def test_what_holds_no_expression_stays(value: object) -> None:
    assert worked_out(value, {}) == value


def test_works_out_expressions_wherever_they_are() -> None:
    asked = {"name": "adam", "rates": [{"expression": "batch / 8"}, 1], "rate": {"initial": {"expression": "-batch"}}}
    assert worked_out(asked, NAMES) == {"name": "adam", "rates": [8.0, 1], "rate": {"initial": -64}}
    with pytest.raises(ValueError, match="is a mapping of its own, without initial"):
        worked_out({"rate": {"expression": "1", "initial": 2}}, NAMES)
