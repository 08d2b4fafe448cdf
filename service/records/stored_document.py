"""What all models of the store's documents have in common, and how a document becomes one."""

import contextlib
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import Damaged
from service.storage.json_documents import FORMAT, from_bytes, rows_from_bytes


class StoredDocument(BaseModel):
    """A document of the store. Keys that a newer version writes are kept, for who writes the document again must not lose them; what
    an older one lacked has a default."""

    # Built at the first use: a command that reads no such document does not wait for it.
    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True, serialize_by_alias=True)

    def document(self) -> dict[str, Any]:
        """What was read or made, as JSON has it, the unknown keys included, and nothing that was not there."""
        return self.model_dump(mode="json", exclude_unset=True)

    def changed(self, **changes: Any) -> Self:
        """A copy with other values, which are checked; raise pydantic's ValidationError for one that does not fit."""
        kept = {name: getattr(self, name) for name in self.model_fields_set if name not in changes}
        return type(self).model_validate({**kept, **changes})

    def without(self, *names: str) -> Self:
        """A copy that lacks some values."""
        return type(self).model_validate({name: getattr(self, name) for name in self.model_fields_set if name not in names})


Stored = TypeVar("Stored", bound=StoredDocument)


def read_document(model: type[Stored], data: bytes, key: str) -> Stored:
    """The document in an object's bytes, with types; raise Damaged, which names its key and the field, where there is no such one."""
    # In one step, a fraction of what two take.
    if _is_plain(data):
        with contextlib.suppress(ValidationError):
            found = model.model_validate_json(data)
            if (found.model_extra or {}).get("format") == FORMAT:
                return found
    return fitted(model, from_bytes(data, key), key)


def read_documents(model: type[Stored], data: bytes, key: str) -> list[Stored]:
    """The rows in an object's bytes, with types, up to one that was cut off; raise Damaged as `read_document`."""
    if _is_plain(data):
        with contextlib.suppress(ValidationError):
            return [model.model_validate_json(line) for line in data.splitlines()]
    return [fitted(model, row, key) for row in rows_from_bytes(data)]


def _is_plain(data: bytes) -> bool:
    """Whether JSON has neither NaN nor infinity, which pydantic's parser reads and Delayline refuses."""
    return b"NaN" not in data and b"Infinity" not in data


def fitted(model: type[Stored], document: dict[str, Any], key: str) -> Stored:
    """The document with types; raise Damaged, which names its key and the field, where it does not fit."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "it"
        found = "is missing" if first["type"] == "missing" else f"is {str(first['input'])[:40]!r}: {first['msg']}"
        raise Damaged(
            f"The store's object {key} is not as Delayline writes it: {field} {found.rstrip('.')}; restore it or delete it."
        ) from error
