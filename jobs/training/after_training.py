"""After the training: whether only the analysis is left to do. Its failure may cost the report its pictures, never the run."""

from collections.abc import Sequence

from service.records.run_record import Document
from service.records.schemas import Attempt, ProgressDocument

TRAINED = "trained"
"""The phase in which test metrics and model are in the store, and the analysis is made."""
_OWN = ("attempt", "time", "workers", "nonce", "format", "revision")


def trained_progress(progress: ProgressDocument, attempts: Sequence[Attempt]) -> Document | None:
    """What the progress document said when the training was done, if that was in the newest of `attempts` that trained.

    `attempts`: those that count; a run that a person asks for again is tested and analysed anew.
    """
    training = [attempt.number for attempt in attempts if not attempt.analysis]
    if progress.phase != TRAINED or not training or progress.attempt < training[-1]:
        return None
    return {name: value for name, value in progress.document().items() if name not in _OWN}


def was_repeated(attempts: Sequence[Attempt]) -> bool:
    """Whether the newest attempt was one for the analysis alone."""
    return bool(attempts) and attempts[-1].analysis
