"""How a run was submitted, as the store keeps it: made from a spec, summed up for lists, read with the keys of today."""

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue, ValidationError

from service.records.stored_document import fitted
from service.records.submission_schemas import Origin, SubmissionDocument, Summary
from service.records.sweep_schemas import Bases
from service.storage.json_documents import Document, to_bytes

if TYPE_CHECKING:
    from service.specs.sweep import SweepSpec
    from service.specs.train import TrainSpec


def new_submission(spec: "TrainSpec | SweepSpec", origin: Origin) -> SubmissionDocument:
    """The document of a spec that is submitted now, or again with the nonce and the time of its first submission."""
    from service.specs.sweep import SweepSpec

    kind = "sweep" if isinstance(spec, SweepSpec) else "train"
    known = {name: getattr(origin, name) for name in origin.model_fields_set}
    # Of a run that is submitted anew its first submission may stand there.
    return SubmissionDocument.model_validate({"submitted": time.time(), **known, "kind": kind, "spec": spec.document()})


def deletion_mark() -> bytes:
    """What stands in the place of a run's spec while the rest of the run is deleted."""
    return to_bytes({"kind": "deleted", "deleted": time.time()})


def is_deleted(spec: bytes | None) -> bool:
    """Whether the bytes of a spec.json are a deletion mark."""
    try:
        return spec is not None and len(spec) < 1000 and json.loads(spec).get("kind") == "deleted"
    except (ValueError, AttributeError):
        return False


def run_summary(submission: SubmissionDocument, key: str = "spec.json") -> Summary:
    """What a list of runs shows of a submission; raise Damaged, which names the `key`, where there is no such spec in it."""
    spec = submission.spec
    shown = {name: spec.get(name) for name in ("model", "dataset", "workers")}
    if submission.is_sweep:
        bases = [each.values for each in fitted(Bases, spec, key).base]
        shown |= {name: ", ".join(dict.fromkeys(str(base.get(name)) for base in bases)) for name in ("model", "dataset")}
    trial = {"sweep": submission.sweep} if submission.sweep is not None else {}
    summary = {"kind": submission.kind, **shown, "submitted": submission.submitted, "tags": spec.get("tags") or [], **trial}
    return fitted(Summary, summary, key)


def as_of_today(stored: Mapping[str, JsonValue], kind: "type[TrainSpec | SweepSpec]") -> Document:
    """A stored spec with the keys that this version added, at their defaults."""
    try:
        return kind.model_validate(stored).document()
    except ValidationError:
        return dict(stored)
