"""Classifies a worker's failure, and writes it to its log and to the store."""

import contextlib
import sys
import time
import traceback
from collections.abc import Callable

from jobs.log_lines import say
from service.errors import (
    CredentialsRefused,
    DelaylineError,
    Stalled,
    StoreError,
    StoreUnreachable,
)
from service.records.run_record import Document, RunRecord, to_bytes


def report_failure(
    record: RunRecord, attempt: int, rank: int, error: BaseException, tell: Callable[[str], None] | None = None
) -> DelaylineError:
    """Write why this worker ended to its log and to the store, and return the error as one of Delayline's.

    `tell` writes a line of the log, where the log is not this process's output.
    """
    known = classify(error)
    details = getattr(known, "user_traceback", "") or "".join(traceback.format_exception(error))
    # Where the disk is full there is no log, but there is the store.
    with contextlib.suppress(OSError):
        if tell is None:
            print(details, file=sys.stderr, flush=True)
        else:
            tell(details)
        (tell or say)(f"failed: {known}")
    document: Document = {
        **known.document(),
        "traceback": details[-8000:],
        "rank": rank,
        "time": time.time(),
        **({"stalled": True} if isinstance(known, Stalled) else {}),
        **({"passing": True} if isinstance(known, StoreUnreachable | CredentialsRefused) else {}),
    }
    try:
        record.store.write(record.paths.failure(record.label(attempt), rank), to_bytes(document))
    except StoreError as refused:
        with contextlib.suppress(OSError):
            (tell or say)(f"the failure could not be written to the store: {refused}")
    return known


def classify(error: BaseException) -> DelaylineError:
    """Turn an exception into one of Delayline's errors: its own as they are, TensorFlow's by meaning, others by their stack."""
    if isinstance(error, DelaylineError):
        return error
    from jobs.worker.tensorflow_failures import classify_exception

    return classify_exception(error)
