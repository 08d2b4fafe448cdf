"""Reports: one HTML page for a run, for a sweep, or for several runs side by side, made from what the store holds. No TensorFlow."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jobs.reports.facts import gather, is_sweep
from service.errors import Conflict
from service.records.run_record import RunRecord
from service.storage.base import Store

TRIES = 3
"""Of a page that others make at the same time (assumed); the last of them is as good as this one's."""

__all__ = ["compare", "report", "write_report"]


def report(record: RunRecord) -> str:
    """The page of a run or a sweep, finished or not; raise UnknownName."""
    if is_sweep(record):
        from jobs.reports.sweep.facts import gather_sweep
        from jobs.reports.sweep.page import render_sweep

        with _quiet():
            return render_sweep(gather_sweep(record))
    from jobs.reports.page import render

    with _quiet():
        return render(gather(record))


def write_report(record: RunRecord) -> str:
    """Make the page of a run or a sweep, keep it in the store, and return it."""
    for _ in range(TRIES):
        # A page that somebody else made meanwhile may show more than this one: then it is made anew.
        version = record.store.version_of(record.paths.report)
        page = report(record)
        try:
            record.store.write(record.paths.report, page.encode(), if_absent=version is None, if_version=version)
            break
        except Conflict:
            continue
    return page


def compare(store: Store, run_ids: Sequence[str]) -> str:
    """The page of several runs side by side, a sweep by its best trial; raise InvalidInput or UnknownName."""
    from jobs.reports.comparison import check_ids, render_comparison
    from jobs.reports.stand_ins import stand_ins

    check_ids(run_ids)
    chosen = stand_ins(store, run_ids)
    with _quiet():
        return render_comparison([gather(RunRecord(store, run_id)) for run_id in chosen], chosen)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without matplotlib's remarks on fonts: the browser has its own."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)
