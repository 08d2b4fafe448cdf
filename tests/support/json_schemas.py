"""Holds what a command printed with `--json` against the schema that `delayline schema` gives."""

import functools
import json
from collections.abc import Sequence

import jsonschema

from service.records.answers import json_schema

NAMES = {
    ("runs", "list"): "runs",
    ("runs", "show"): "run",
    ("runs", "watch"): "run",
    ("runs", "cancel"): "run",
    ("data", "list"): "datasets",
    ("data", "show"): "dataset",
    ("data", "import"): "dataset",
}


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """The check of one schema."""
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_output(arguments: Sequence[str], out: str) -> None:
    """Raise ValidationError where a command's JSON is not as its schema says; what has no schema is not looked at."""
    name = NAMES.get(tuple(arguments[:2]))
    if arguments[0] in ("train", "sweep"):
        name = "plan" if "--dry-run" in arguments else "run"
    if name is not None and "--json" in arguments and out.strip():
        validator(name).validate(json.loads(out))
