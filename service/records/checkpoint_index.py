"""Which checkpoints of a run count: an index that the attempt at work owns, so that an attempt that is over takes nothing away.

Each attempt saves into folders of its own. A checkpoint counts once the index names it, and is deleted only after the index
has ceased to. The index is a shared document: an attempt whose successor has taken it over cannot write it any more.
A run of the first format has no index; each of its folders with a manifest counts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from service.errors import LeaseLost, NotFound
from service.records.checkpoint_schemas import CheckpointIndexDocument, KeptCheckpoint
from service.records.stored_document import fitted
from service.storage.base import Store
from service.storage.json_documents import Document, from_bytes
from service.storage.paths import RunPaths, number_of
from service.storage.shared_document import SharedDocument

MANIFEST = "manifest.json"
"""Written last: a folder without it holds no checkpoint."""


class SavedCheckpoint(NamedTuple):
    """A checkpoint that a run can resume from; `path` is the key of its folder in the store."""

    step: int
    path: str


@dataclass(frozen=True)
class Kept:
    """One checkpoint: its step, its folder's name below the run's checkpoints, and how good it is where that is known."""

    step: int
    folder: str
    score: float | None = None

    @property
    def label(self) -> str:
        """That of the attempt that saved it; empty in a run of the first format."""
        return self.folder.partition("-")[2]

    def document(self) -> KeptCheckpoint:
        """As the index has it."""
        return KeptCheckpoint(step=self.step, folder=self.folder, score=self.score)


def kept_checkpoints(store: Store, paths: RunPaths, nonce: str) -> list[Kept]:
    """The checkpoints that count, by step, for whoever only reads."""
    try:
        document = from_bytes(store.read(paths.checkpoint_index), paths.checkpoint_index)
    except NotFound:
        document = {}
    if document and (not nonce or document.get("nonce", nonce) == nonce):
        return _named(document, paths.checkpoint_index)
    return _newest_of_each(_complete(store, paths, nonce))


class CheckpointIndex:
    """The index, for one attempt. `label`: the attempt's, empty for whoever only reads; `check_claim` raises LeaseLost once the run's id is another run's."""

    def __init__(self, store: Store, paths: RunPaths, nonce: str, label: str, check_claim: Callable[[], None]) -> None:
        self._store = store
        self._paths = paths
        self._nonce = nonce
        self._label = label
        self._check_claim = check_claim
        self._document = SharedDocument(store, paths.checkpoint_index, nonce)
        self._kept: list[Kept] | None = None

    def found(self) -> list[Kept]:
        """The checkpoints that the run can resume from, by step: those of the index, and what its owner completed and could not note."""
        # Not by this attempt's own document: what others wrote meanwhile must not look as if it had been seen.
        return self._found(SharedDocument(self._store, self._paths.checkpoint_index, self._nonce).read())

    def take(self, choose: Callable[[list[Kept]], list[Kept]]) -> list[Kept]:
        """Make the index this attempt's, with what `choose` keeps of those that were found; raise LeaseLost where a later attempt has it."""
        chosen: list[Kept] = []

        def change(document: Document) -> Document:
            nonlocal chosen
            if not document:
                # An index of another run that has the id now counts as absent, and must not be replaced.
                self._check_claim()
            if self._number(str(document.get("owner", ""))) > self._number(self._label):
                raise LeaseLost(f"Another attempt took over the run {self._paths.run_id}; this one stops.")
            chosen = choose(self._found(document))
            return self._as_document(chosen)

        self._kept = None
        self._document.update(change)
        self._kept = chosen
        return list(chosen)

    def kept(self) -> list[Kept]:
        """Those of the index, which is this attempt's by then."""
        return list(self._kept) if self._kept is not None else self.take(lambda found: found)

    def replace(self, kept: Iterable[Kept]) -> None:
        """Write the index anew; raise LeaseLost where another attempt has taken it."""
        wanted = sorted(kept, key=lambda each: each.step)
        self._document.write(self._as_document(wanted))
        self._kept = wanted

    def new_folder(self, step: int) -> str:
        """The name of a folder for a checkpoint of this attempt that no checkpoint of the index has."""
        taken, name, count = {each.folder for each in self.kept()}, f"{step:010d}-{self._label}", 1
        while (folder := name if count == 1 else f"{name}-{count}") in taken:
            count += 1
        return folder

    def left_over(self) -> list[str]:
        """Folders of attempts up to this one that the index does not name; those of attempts after it are none of its business."""
        kept, own = {each.folder for each in self.kept()}, self._number(self._label)
        names = [name for name in self._store.list_folders(self._paths.checkpoints) if name not in kept]
        return [name for name in names if (number := _attempt_of(name, self._nonce)) is not None and number <= own]

    def _found(self, document: Document) -> list[Kept]:
        if not document:
            return _newest_of_each(_complete(self._store, self._paths, self._nonce))
        named, owner = _named(document, self._paths.checkpoint_index), str(document.get("owner", ""))
        newest = max((each.step for each in named), default=-1)
        whole = _complete(self._store, self._paths, self._nonce)
        unnoted = [each for each in whole if each.step > newest and (each.label == owner or each.label.startswith(f"{owner}-"))]
        return sorted([*named, *_newest_of_each(unnoted)], key=lambda each: each.step)

    def _as_document(self, kept: list[Kept]) -> Document:
        return CheckpointIndexDocument(owner=self._label, checkpoints=tuple(each.document() for each in kept)).document()

    def _number(self, label: str) -> int:
        return number_of(label, self._nonce) or 0


def _named(document: Document, key: str) -> list[Kept]:
    """The checkpoints of the index; raise Damaged where it is not as it is written."""
    return [Kept(each.step, each.folder, each.score) for each in fitted(CheckpointIndexDocument, document, key).checkpoints]


def _complete(store: Store, paths: RunPaths, nonce: str) -> list[Kept]:
    """Every folder of this run with a manifest."""
    names = [info.key[len(paths.checkpoints) :].split("/") for info in store.objects(paths.checkpoints)]
    folders = [name[0] for name in names if len(name) == 2 and name[1] == MANIFEST]
    return [
        Kept(int(name.partition("-")[0]), name) for name in folders if _attempt_of(name, nonce) is not None and _has_step(name)
    ]


def _newest_of_each(kept: list[Kept]) -> list[Kept]:
    """By step, each once: by the latest attempt."""
    found = {each.step: each for each in sorted(kept, key=lambda each: each.folder)}
    return [found[step] for step in sorted(found)]


def _has_step(folder: str) -> bool:
    return folder.partition("-")[0].isdigit()


def _attempt_of(folder: str, nonce: str) -> int | None:
    """The number of the attempt that made a folder; 0 for one of the first format and for what no attempt makes, None for another run's."""
    step, separator, label = folder.partition("-")
    return number_of(label, nonce) if step.isdigit() and separator else 0
