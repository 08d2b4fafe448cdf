"""Numbers as people write them in specs: `2-8` workers, `1h30m`, `4GiB`."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

PositiveInt = Annotated[int, Field(ge=1, le=10**12, strict=True)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def parse_workers(value: Any) -> Any:
    """Turn `3`, `'3'`, `'2-8'` or `[2, 8]` into the pair (fewest, most)."""
    if isinstance(value, bool):
        raise ValueError("workers must be a number such as 2, or a range such as 2-8")
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", value)
        if not match:
            raise ValueError(f"workers must be a number such as 2, or a range such as 2-8, not {value[:40]!r}")
        return (int(match[1]), int(match[2] or match[1]))
    return value


def parse_duration(value: Any) -> Any:
    """Turn `90`, `'90s'`, `'30m'`, `'2h'` or `'1h30m'` into seconds."""
    if isinstance(value, str):
        parts = re.findall(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", value)
        if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
            raise ValueError(f"a duration must look like 90s, 30m, 2h or 1h30m, not {value[:40]!r}")
        return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    return value


def parse_size(value: Any) -> Any:
    """Turn `4GiB`, `800MB` or a number into bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]i?)?B?\s*", value)
        if not match:
            raise ValueError(f"a size must look like 800MB or 4GiB, not {value[:40]!r}")
        unit = match[2] or ""
        return int(float(match[1]) * (1024 if unit.endswith("i") else 1000) ** " KMGT".index(unit[:1] or " "))
    return value


def parse_patterns(value: Any) -> Any:
    """Turn `conv2d*` into the list of this one pattern."""
    return (value,) if isinstance(value, str) else value


OFF = "off"


def parse_stall_limit(value: Any) -> Any:
    """A duration, or `off`, which is also what YAML makes of `off`, `no` and `null`; raise ValueError."""
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in (OFF, "none", "null", "no", "")):
        return OFF
    seconds = parse_duration(value)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= 10 * 366 * 86400:
        raise ValueError(f"stall_limit must be a time of at least 1 s, such as 30m, or off, not {str(value)[:60]!r}")
    return float(seconds)


Workers = Annotated[tuple[int, int], BeforeValidator(parse_workers)]
Size = Annotated[int, Field(ge=1, le=2**60, strict=True), BeforeValidator(parse_size)]
Duration = Annotated[float, Field(gt=0, le=10 * 366 * 86400), BeforeValidator(parse_duration)]
StallLimit = Annotated[float | Literal["off"], BeforeValidator(parse_stall_limit)]
Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=100), BeforeValidator(parse_patterns)
]
