"""Placement groups of a run: Ray's autoscaler sees for what it waits, also from none, and nobody takes what it was given.

What `ray.autoscaler.sdk.request_resources` asks for is one thing for a whole cluster: of two runs the later one would be heard. Ray
drops a placement group when the process that made it ends.
"""

import time
from collections.abc import Mapping
from typing import Any

LOOK_SECONDS = 0.1
"""Between looks at a placement group that is to be ready (derived: a node gives back what an ended worker held within 0.2 s, measured)."""

Resources = Mapping[str, float]


class Demand:
    """Room for all workers of the next attempt together: it waits until there is some, and is held until the attempt has it."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        """Of all placement groups that were made here; what they hold is the run's own."""
        self._group: Any = None
        self._asked: tuple[int, dict[str, float]] | None = None
        self._more: list[Any] = []

    def ask(self, workers: int, each: Resources) -> None:
        """Ask for room for so many workers of these resources each; the same again changes nothing. No more are asked for beside."""
        self.ask_for_more(0, each)
        if self._asked == (workers, dict(each)):
            return
        remove(self.take())
        self._group, self._asked = self._made(workers, each), (workers, dict(each))

    def ask_for_more(self, workers: int, each: Resources) -> None:
        """Ask for room for so many workers beside those that train; each has a group of its own, which holds it as soon as it comes."""
        more, self._more = self._more, []
        for group in more:
            remove(group)
        self._more = [self._made(1, each) for _ in range(workers)]

    def ready(self, seconds: float = 0.0) -> int:
        """How many workers have room held for them, after waiting at most so long for it; 0 without."""
        from ray.util.placement_group import placement_group_table

        deadline = time.monotonic() + seconds
        while self._group is not None and self._asked is not None:
            if placement_group_table(self._group).get("state") == "CREATED":
                return self._asked[0]
            if time.monotonic() >= deadline:
                break
            time.sleep(LOOK_SECONDS)
        return 0

    def take(self) -> Any:
        """Give what is held to an attempt, which removes it; None where nothing was asked for."""
        group = self._group
        self._group = self._asked = None
        return group

    def withdraw(self) -> None:
        """Ask for nothing any more; what was held meanwhile is free again."""
        remove(self.take())
        self.ask_for_more(0, {})

    def _made(self, workers: int, each: Resources) -> Any:
        from ray.util.placement_group import placement_group

        group = placement_group([dict(each)] * workers, strategy="PACK")
        self.ids.add(group.id.hex())
        return group


def remove(group: Any) -> None:
    """End a placement group, also one that is gone; None is none."""
    if group is None:
        return
    from ray.util.placement_group import remove_placement_group

    remove_placement_group(group)
