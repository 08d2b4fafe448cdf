"""From original files to a dataset in the store: checked whole, then written in parallel, the manifest last."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.buffers import Buffers
from service.datasets.catalogue import EMBEDDED
from service.datasets.choices import NONE, Choices
from service.datasets.download import fetch_known, fetch_url, shown
from service.datasets.formats import format_names, reader, taken_choices
from service.datasets.known import KNOWN
from service.datasets.load import verify_dataset
from service.datasets.manifest import Feature, Manifest, Shard
from service.datasets.raw import RawDataset
from service.datasets.shards import encode_into, encoded_bytes, rows_per_shard
from service.datasets.values import check_values
from service.errors import Damaged, DelaylineError, InvalidInput, NotFound, StoreError, StoreUnreachable
from service.names import check_label
from service.scratch import ScratchFolder
from service.specs.generated import BITS
from service.storage.base import Store
from service.storage.json_documents import Document, from_bytes, to_bytes
from service.storage.paths import DATASETS, DatasetPaths

WRITERS = 4
"""Shards that are encoded and on their way at a time."""
HASHED_AT_ONCE = 16 * 1024**2
ABANDONED_SECONDS = 24 * 3600.0

Report = Callable[[str, int, int], None]
"""Called with the phase (`reading`, `writing`), the bytes done in it and the bytes in all (0: unknown)."""


@dataclass
class _Progress:
    report: Report
    phase: str
    total: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self.done += count
            self.report(self.phase, self.done, self.total)


def import_dataset(
    store: Store,
    name: str,
    source: str | None,
    format_name: str | None = None,
    report: Report = lambda *_: None,
    choices: Choices = NONE,
) -> Manifest:
    """Import a dataset from a folder, a file or an address; without `source`, a known one from its public address.

    The version is a digest of the content: importing the same again writes nothing. Raise InvalidInput for what is
    asked wrongly, BadData for what the files hold.
    """
    check_label(name, "The dataset name")
    if name in EMBEDDED or name == BITS:
        raise InvalidInput(f"{name!r} comes with Delayline and needs no import: choose another name.")
    kind = _format(name, source, format_name)
    choices.check_taken(kind, taken_choices(kind))
    with ScratchFolder("import") as scratch:
        path = _locate(name, source, Path(scratch), _Progress(report, "fetching"))
        try:
            raw = reader(kind)(path, _Progress(report, "reading"), choices)
        except OSError as error:
            raise InvalidInput(
                f"{error.filename or path} cannot be read ({error.strerror or error}): correct --from or the file's permissions."
            ) from error
    if name in KNOWN and kind == KNOWN[name].format and raw.classes is None:
        raw.classes = KNOWN[name].classes
    raw.complete_weights()
    features, classes = raw.check()
    check_values(raw, features, classes, choices.allow_nan)
    origin = "its public address" if source is None else shown(source) if "://" in source else source
    return _write(store, name, raw, features, classes, origin, report)


def _format(name: str, source: str | None, format_name: str | None) -> str:
    if format_name is not None:
        reader(format_name)
        return format_name
    if name in KNOWN:
        return KNOWN[name].format
    raise InvalidInput(
        f"{name!r} is no known dataset ({', '.join(sorted(KNOWN))}): add --format, one of {', '.join(format_names())}."
    )


def _locate(name: str, source: str | None, scratch: Path, progress: Callable[[int], None]) -> Path:
    if source is None:
        if name not in KNOWN:
            raise InvalidInput(f"{name!r} has no public address: give its files with --from FOLDER.")
        return fetch_known(name, KNOWN[name], scratch, progress)
    try:
        path = fetch_url(source, scratch, progress) if "://" in source else Path(source).expanduser()
        if not path.exists():
            raise InvalidInput(f"There is no folder or file {path}: correct --from.")
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"--from {source[:100]!r} cannot be read ({reason}): give a folder or file that exists.") from error
    return path


def _write(
    store: Store, name: str, raw: RawDataset, features: tuple[Feature, ...], classes: tuple[str, ...], source: str, report: Report
) -> Manifest:
    paths = DatasetPaths(name, _digest(raw, features, classes))
    existing = _existing(store, paths, raw)
    if existing is not None:
        return existing
    _sweep(store, name, paths.version)
    try:
        shards = _write_shards(store, paths, raw, features, report)
        if {shard.key for shard in shards} - {info.key for info in store.objects(paths.root)}:
            raise StoreError(f"Another import of {name} failed in {store.url} and deleted shards of this one: import it again.")
        rows = {split: len(part.labels) for split, part in raw.splits.items()}
        manifest = Manifest(
            name, paths.version, features, classes, rows, shards, source, time.time(), notes=tuple(raw.notes), ground=raw.ground
        )
        store.write(paths.manifest, to_bytes(manifest.document()))
    except StoreUnreachable:
        # What is there now cannot be deleted; a later import sweeps it.
        raise
    except BaseException:
        with contextlib.suppress(DelaylineError):
            if not store.exists(paths.manifest):
                store.delete_prefix(paths.root)
        raise
    return manifest


def _write_shards(
    store: Store, paths: DatasetPaths, raw: RawDataset, features: tuple[Feature, ...], report: Report
) -> tuple[Shard, ...]:
    """Encode and write all examples, a few shards at a time."""
    size = sum(array.nbytes for split in raw.splits.values() for array in (*split.columns.values(), split.labels))
    progress = _Progress(report, "writing", size)
    per_shard = rows_per_shard(features)
    buffers = Buffers(encoded_bytes(features, per_shard))
    jobs = [
        (split, index, -(-len(part.labels) // per_shard), first)
        for split, part in raw.splits.items()
        for index, first in enumerate(range(0, len(part.labels), per_shard))
    ]

    def write(job: tuple[str, int, int, int]) -> Shard:
        split, index, count, first = job
        part = raw.splits[split]
        columns = {key: array[first : first + per_shard] for key, array in part.columns.items()}
        labels = part.labels[first : first + per_shard].astype(np.int32)
        with buffers.take() as room:
            data = encode_into(room, features, columns, labels)
            key = paths.shard(split, index, count)
            store.write_large(key, data)
            sha256 = hashlib.sha256(data).hexdigest()
            progress(len(data))
            return Shard(split, key, len(labels), len(data), sha256)

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="shards") as pool:
        return tuple(pool.map(write, jobs))


def _existing(store: Store, paths: DatasetPaths, raw: RawDataset) -> Manifest | None:
    """The same content, imported before; made the newest version again if it is not."""
    try:
        manifest = Manifest.from_document(from_bytes(store.read(paths.manifest), paths.manifest), paths.manifest)
    except (NotFound, Damaged):
        return None
    # Every byte, so that a second import mends what was damaged since the first.
    if verify_dataset(store, manifest):
        return None
    others = [version for version in store.list_folders(f"{DATASETS}{paths.name}/") if version != paths.version]
    if others or (tuple(raw.notes), raw.ground) != (manifest.notes, manifest.ground):
        manifest = Manifest(**{**vars(manifest), "imported": time.time(), "notes": tuple(raw.notes), "ground": raw.ground})
        store.write(paths.manifest, to_bytes(manifest.document()))
    return manifest


def _sweep(store: Store, name: str, version: str) -> None:
    """Delete what imports that crashed left: folders without a manifest in which nothing was written for a day."""
    for other in store.list_folders(f"{DATASETS}{name}/"):
        try:
            root = DatasetPaths(name, other).root
        except InvalidInput:
            continue
        objects = list(store.objects(root))
        newest = max((info.modified for info in objects), default=0.0)
        if (
            other != version
            and not any(info.key.endswith("/manifest.json") for info in objects)
            and store.now() - newest > ABANDONED_SECONDS
        ):
            store.delete_prefix(root)


def _described(feature: Feature) -> Document:
    """What a digest holds of a feature: of one without names what it held before there were any."""
    names = {"columns": feature.columns, "one_hot": feature.one_hot}
    plain = {"name": feature.name, "dtype": feature.dtype, "shape": feature.shape, "scale": feature.scale}
    return {**plain, **{key: value for key, value in names.items() if value}}


def _digest(raw: RawDataset, features: tuple[Feature, ...], classes: tuple[str, ...]) -> str:
    """Twelve hex digits of a digest over everything that training sees; blocks are hashed side by side."""
    arrays: list[NDArray[Any]] = []
    for split in sorted(raw.splits):
        part = raw.splits[split]
        arrays += [np.ascontiguousarray(part.columns[feature.name]) for feature in features]
        arrays.append(np.ascontiguousarray(part.labels.astype(np.int32)))
    views = [array.reshape(-1).view(np.uint8) for array in arrays]
    blocks = [view[first : first + HASHED_AT_ONCE] for view in views for first in range(0, len(view), HASHED_AT_ONCE)]
    head = json.dumps(
        [
            list(map(_described, features)),
            classes,
            {split: len(part.labels) for split, part in raw.splits.items()},
            # Decides about pictures to come, even where none of these is transparent. White is what went without saying before.
            *(["black"] if raw.ground == "black" else []),
        ]
    )
    with ThreadPoolExecutor(2) as pool:
        digests = list(pool.map(lambda block: hashlib.sha256(block).digest(), blocks))
    return hashlib.sha256(head.encode() + b"".join(digests)).hexdigest()[:12]
