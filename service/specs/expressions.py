"""Arithmetic on the values of a spec, such as `dataset_params.delay + 3`: numbers, dotted keys, + - * / // % ** and brackets."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 200
LARGEST_POWER = 64
"""Of `**` (assumed: no hyperparameter needs more, and larger ones make numbers that fill the memory)."""

Number = int | float

_KEY = "expression"
"""`{expression: …}` in the place of a number."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `names` are the keys that it needs."""

    text: str
    names: frozenset[str]
    _tree: ast.expr

    @classmethod
    def parse(cls, text: str) -> "Expression":
        """Parse; raise ValueError, with the reason, for anything but arithmetic."""
        if len(text) > LONGEST:
            raise ValueError(f"an expression has at most {LONGEST} characters")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"{text[:60]!r} is no arithmetic such as dataset_params.delay + 3") from None
        return cls(text, frozenset(_names(tree, text)), tree)

    def evaluate(self, values: Mapping[str, Any]) -> Number:
        """The expression's value, an int where all operations keep to whole numbers; raise ValueError."""
        try:
            result = _evaluate(self._tree, values)
        except KeyError as error:
            raise ValueError(f"{self.text[:60]!r} needs {error.args[0]!r}, which has no value here") from None
        except ArithmeticError as error:
            raise ValueError(f"{self.text[:60]!r} cannot be worked out: {error}") from None
        if not math.isfinite(result):
            raise ValueError(f"{self.text[:60]!r} gives no finite number")
        return result


def worked_out(value: Any, known: Mapping[str, Any]) -> Any:
    """`value` with each `{expression: …}` within it as its number, by the dotted keys `known`; raise ValueError."""
    if isinstance(value, Mapping) and isinstance(value.get(_KEY), str):
        if len(value) > 1:
            raise ValueError(f"an expression is a mapping of its own, without {', '.join(sorted(set(value) - {_KEY}))[:60]}")
        return Expression.parse(value[_KEY]).evaluate(known)
    if isinstance(value, Mapping):
        return {key: worked_out(inner, known) for key, inner in value.items()}
    return [worked_out(inner, known) for inner in value] if isinstance(value, list | tuple) else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _names(node: ast.expr, text: str) -> set[str]:
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _names(node.left, text) | _names(node.right, text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return _names(node.operand, text)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return set()
    name = _dotted(node)
    if name is None:
        raise ValueError(f"{text[:60]!r} is more than arithmetic: use numbers, keys, + - * / // % ** and brackets")
    return {name}


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _evaluate(node: ast.expr, values: Mapping[str, Any]) -> Number:
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, values), _evaluate(node.right, values)
        if isinstance(node.op, ast.Pow) and abs(right) > LARGEST_POWER:
            raise OverflowError(f"a power above {LARGEST_POWER}")
        result: Number = _BINARY[type(node.op)](left, right)
        if isinstance(result, complex):
            raise ArithmeticError(f"({left:g}) ** {right:g} is no real number")
        if abs(result) > 1e300:
            raise OverflowError("too large a number")
        return result
    if isinstance(node, ast.UnaryOp):
        operand = _evaluate(node.operand, values)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.Constant):
        constant: Number = node.value  # type: ignore[assignment]
        return constant
    name = str(_dotted(node))
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name!r} is {str(value)[:40]!r}, not a number to work with")
    return value
