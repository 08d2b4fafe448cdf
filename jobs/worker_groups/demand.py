"""Tells Ray for what resources a run waits, so that its autoscaler adds the nodes; also from none."""

from collections.abc import Mapping
from typing import Any


class Demand:
    """A placement group that waits for room: Ray drops it when this process ends, and another run's replaces it never.

    What `ray.autoscaler.sdk.request_resources` asks for is one thing for a whole cluster: of two runs the later one would be heard.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._asked: tuple[int, dict[str, float]] | None = None

    def ask(self, workers: int, each: Mapping[str, float]) -> None:
        """Ask for room for so many workers of these resources each; the same again changes nothing."""
        from ray.util.placement_group import placement_group

        if self._asked == (workers, dict(each)):
            return
        self.withdraw()
        self._group, self._asked = placement_group([dict(each)] * workers, strategy="PACK"), (workers, dict(each))

    def withdraw(self) -> None:
        """Ask for nothing any more; what was reserved meanwhile is free again."""
        from ray.util.placement_group import remove_placement_group

        group, self._group, self._asked = self._group, None, None
        if group is not None:
            remove_placement_group(group)
