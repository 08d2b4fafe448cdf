"""The log files of a run's processes."""

import re
from dataclasses import dataclass

from service.errors import UnknownName
from service.records.run_record import RunRecord
from service.storage.base import ObjectInfo, Store
from service.storage.paths import LOG_PART, number_of

_LOG_NAME = re.compile(r"[^/]+/(?:rank-(\d+)|driver)(?:\.(\d+))?\.log\Z")


@dataclass(frozen=True)
class Log:
    """What one process of an attempt printed; `rank` is None for the driver."""

    attempt: int
    rank: int | None
    text: str


@dataclass(frozen=True)
class LogPart:
    """One object of a log, in the order of attempts, ranks (the driver's, None, first) and parts."""

    attempt: int
    rank: int | None
    number: int
    info: ObjectInfo


def log_parts(store: Store, root: str, nonce: str) -> list[LogPart]:
    """All parts of all logs below `root`; those of a worker follow each other by `LOG_PART` bytes."""
    found = []
    for info in store.objects(root):
        name = info.key[len(root) :]
        match, attempt = _LOG_NAME.fullmatch(name), number_of(name, nonce)
        if match is not None and attempt is not None:
            found.append(LogPart(attempt, int(match[1]) if match[1] else None, int(match[2] or 0), info))
    return sorted(found, key=lambda part: (part.attempt, -1 if part.rank is None else part.rank, part.number))


def logs(store: Store, run_id: str, attempt: int | None = None, rank: int | None = None) -> list[Log]:
    """The logs of an attempt (None: the latest that has any), of all its ranks or of one; raise UnknownName."""
    record = RunRecord(store, run_id)
    record.submission()
    found = log_parts(store, record.paths.logs, record.nonce)
    attempts = sorted({part.attempt for part in found})
    if not attempts:
        raise UnknownName(f"The run {run_id!r} has no logs yet; `delayline runs show {run_id}` says how it stands.")
    wanted = attempts[-1] if attempt is None else attempt
    chosen = [part for part in found if part.attempt == wanted and (rank is None or part.rank == rank)]
    if not chosen:
        which = f"attempt {wanted}" + (f", rank {rank}" if rank is not None else "")
        raise UnknownName(f"The run {run_id!r} has no log of {which}; there are attempts {', '.join(map(str, attempts))}.")
    data = store.read_many([part.info.key for part in chosen])
    texts: dict[int | None, bytes] = {}
    for part in chosen:
        begun = texts.setdefault(part.rank, _left_out(part.number))
        texts[part.rank] = begun + data.get(part.info.key, b"")
    return [Log(wanted, number, text.decode(errors="replace")) for number, text in texts.items()]


def _left_out(parts: int) -> bytes:
    """What stands in the place of parts that are no longer kept."""
    return f"[the first {parts * LOG_PART:,} bytes are no longer kept]\n".encode() if parts else b""
