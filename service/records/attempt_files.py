"""What a run's attempts wrote under keys that name the attempt: events, the analysis, TensorBoard's files."""

from service.records.schemas import Event
from service.records.stored_document import read_documents
from service.storage.base import Store
from service.storage.paths import number_of


class EventFiles:
    """The files of events below `root`, each of which is read again only once it has grown."""

    def __init__(self, store: Store, root: str) -> None:
        self._store = store
        self._root = root
        self._read: dict[str, tuple[int, list[Event]]] = {}
        """Of each file: its bytes and its rows."""

    def rows(self, nonce: str) -> list[Event]:
        """What the run of this nonce says that happened, by time."""
        sizes = {info.key: info.size for info in self._store.objects(self._root)}
        there = [key for key in sizes if number_of(key[len(self._root) :], nonce) is not None]
        changed = [key for key in there if self._read.get(key, (-1, []))[0] != sizes[key]]
        found = self._store.read_many(changed)
        self._read |= {key: (len(found[key]), read_documents(Event, found[key], key)) for key in changed if key in found}
        rows = [row for key in there if key in self._read for row in self._read[key][1]]
        return sorted(rows, key=lambda row: row.time)


def newest_by_name(store: Store, root: str, nonce: str) -> dict[str, str]:
    """The key of each file below `root` by its name, as the newest attempt that has it wrote it.

    A run of the first format has them without an attempt in the key.
    """
    found: dict[str, tuple[int, str]] = {}
    for info in store.objects(root):
        folder, _, name = info.key[len(root) :].rpartition("/")
        number = number_of(folder, nonce) if folder else 0
        if number is not None and number >= found.get(name, (0, ""))[0]:
            found[name] = (number, info.key)
    return {name: key for name, (_, key) in found.items()}


def of_newest_attempt(store: Store, root: str, nonce: str) -> list[str]:
    """The keys of all files below `root` that the newest attempt that has any wrote."""
    found: dict[int, list[str]] = {}
    for info in store.objects(root):
        folder = info.key[len(root) :].rpartition("/")[0]
        number = number_of(folder, nonce) if folder else 0
        if number is not None:
            found.setdefault(number, []).append(info.key)
    return found[max(found)] if found else []
