"""What a run's documents say of its test examples class by class: of today's runs by pairs of classes, of earlier ones as a matrix."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from service.records.run_record import Document

MOST_LISTED = 200
"""Classes of a table (assumed: two or three screens)."""
LONGEST_NAME = 60
"""Characters of a class's name in a table."""
Pair = tuple[int, int]


@dataclass(frozen=True)
class ClassCounts:
    """Of one class: how many examples it has, how many of these are right, and how many were predicted as it."""

    examples: int = 0
    right: int = 0
    taken: int = 0

    @property
    def recall(self) -> float | None:
        return self.right / self.examples if self.examples else None

    @property
    def precision(self) -> float | None:
        return self.right / self.taken if self.taken else None


@dataclass(frozen=True)
class Judged:
    """`classes`: how many there are; `digest` is the same for the same names; `rows` has the classes that occur.

    `pairs` counts examples by true and predicted class; None where an earlier version did not keep them.
    """

    classes: int
    digest: str
    names: dict[int, str]
    rows: dict[int, ClassCounts]
    pairs: dict[Pair, int] | None
    confused: list[tuple[Pair, int]]
    """The mistakes that were made most often."""

    def name(self, number: int) -> str:
        """A class's name."""
        return self.names.get(number, str(number))

    def row(self, number: int) -> ClassCounts:
        """A class's counts."""
        return self.rows.get(number, ClassCounts())

    @property
    def right(self) -> int:
        return sum(row.right for row in self.rows.values())

    @cached_property
    def most_confused(self) -> list[int]:
        """The classes with mistakes, those first that have most, as true or as predicted class."""
        wrong: dict[int, int] = defaultdict(int)
        for (true, predicted), count in (self.pairs or {}).items():
            if true != predicted:
                wrong[true] += count
                wrong[predicted] += count
        return sorted(wrong, key=lambda number: (-wrong[number], number))

    def matrix(self, numbers: list[int]) -> NDArray[np.int64]:
        """Counts of these classes: a row for each true class, a column for each predicted one."""
        place = {number: index for index, number in enumerate(numbers)}
        counts = np.zeros((len(numbers), len(numbers)), np.int64)
        for (true, predicted), count in (self.pairs or {}).items():
            if true in place and predicted in place:
                counts[place[true], place[predicted]] = count
        return counts


def judged(results: Document, most: int = 15) -> Judged | None:
    """None where the run's examples belong to no classes, or nothing was found out about them."""
    if "pairs" in results:
        found = {(int(true), int(predicted)): int(count) for true, predicted, count in results["pairs"]}
        names = {int(number): str(name) for number, name in results.get("names", {}).items()}
        names |= dict(enumerate(results.get("classes", [])))
        return Judged(results["class_count"], results["classes_sha256"], names, _rows(found), found, _confused(found, most))
    return _of_earlier(results) if "by_class" in results else None


def _of_earlier(results: Document) -> Judged:
    classes = list(results["classes"])
    rows = {
        number: ClassCounts(row["examples"], row["right"], row["taken"])
        for number, row in enumerate(results["by_class"])
        if row["examples"] or row["taken"]
    }
    found = None
    if results["confusion"] is not None:
        matrix = np.array(results["confusion"])
        found = {(int(true), int(predicted)): int(matrix[true, predicted]) for true, predicted in np.argwhere(matrix)}
    confused = [((pair["true"], pair["predicted"]), pair["count"]) for pair in results["confused"]]
    digest = hashlib.sha256(json.dumps(classes).encode()).hexdigest()
    return Judged(len(classes), digest, dict(enumerate(classes)), rows, found, confused)


def _rows(pairs: dict[Pair, int]) -> dict[int, ClassCounts]:
    examples: dict[int, int] = defaultdict(int)
    taken: dict[int, int] = defaultdict(int)
    for (true, predicted), count in pairs.items():
        examples[true] += count
        taken[predicted] += count
    numbers = sorted({*examples, *taken})
    return {number: ClassCounts(examples[number], pairs.get((number, number), 0), taken[number]) for number in numbers}


def _confused(pairs: dict[Pair, int], most: int) -> list[tuple[Pair, int]]:
    wrong = [(pair, count) for pair, count in pairs.items() if pair[0] != pair[1]]
    return sorted(wrong, key=lambda each: (-each[1], each[0]))[:most]
