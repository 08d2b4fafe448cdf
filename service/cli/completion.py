"""What the shell offers behind a command: recipes, runs and datasets, where they are at hand at once."""

import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 1.0
"""Seconds that a person waits for a store when pressing Tab; then nothing is offered (assumed)."""


def recipe_names(incomplete: str) -> list[str]:
    """The recipes that begin so."""
    from service import recipes

    return [name for name in recipes.names() if name.startswith(incomplete)]


def run_ids(ctx: Any, incomplete: str) -> list[str]:
    """The runs of the store, that of --store where it stands on the line, that begin so."""

    def find(store: Any) -> list[str]:
        from service.storage.paths import RUNS

        return list(store.list_folders(RUNS))

    return _in_store(ctx, incomplete, find)


def dataset_names(ctx: Any, incomplete: str) -> list[str]:
    """The datasets that ship with Delayline and those of the store."""

    def find(store: Any) -> list[str]:
        from service.datasets.catalogue import EMBEDDED
        from service.specs.generated import BITS
        from service.storage.paths import DATASETS

        return sorted({*EMBEDDED, BITS, *store.list_folders(DATASETS)})

    return _in_store(ctx, incomplete, find)


def known_dataset_names(incomplete: str) -> list[str]:
    """The datasets that can be imported by their name alone."""
    from service.datasets.known import KNOWN

    return [name for name in KNOWN if name.startswith(incomplete)]


def export_formats(incomplete: str) -> list[str]:
    """The formats that begin so."""
    from service.specs.choices import EXPORT_FORMATS

    return [name for name in EXPORT_FORMATS if name.startswith(incomplete)]


def states(incomplete: str) -> list[str]:
    """The states of runs that can be deleted."""
    from service.runs.prune import PRUNABLE

    return [name for name in PRUNABLE if name.startswith(incomplete)]


def all_states(incomplete: str) -> list[str]:
    """The states of runs that begin so."""
    from service.runs.choice import STATES

    return [name for name in STATES if name.startswith(incomplete)]


def _in_store(ctx: Any, incomplete: str, find: Callable[[Any], list[str]]) -> list[str]:
    """What `find` gives; nothing when the store is slow, away or refuses: a line that is typed is no place for errors."""
    found: list[str] = []

    def look() -> None:
        from service.settings import Settings
        from service.storage import open_store

        try:
            found.extend(find(open_store(Settings.load(store=ctx.params.get("store")), PATIENCE)))
        except Exception:
            return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return [name for name in list(found) if name.startswith(incomplete)]
