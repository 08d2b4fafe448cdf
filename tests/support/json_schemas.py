"""Holds what a command printed with `--json` against the schema that `delayline schema` gives."""

import functools
import json
from collections.abc import Sequence

import jsonschema

from service.records.command_answers import json_schema

NAMES = {
    ("runs", "list"): "runs",
    ("runs", "show"): "run",
    ("runs", "watch"): "run",
    ("runs", "cancel"): "run",
    ("data", "list"): "datasets",
    ("data", "show"): "dataset",
    ("data", "import"): "dataset",
    ("data", "verify"): "verified",
    ("runs", "note"): "note",
    ("runs", "logs"): "logs",
    ("runs", "prune"): "pruned",
    ("runs", "report"): "report",
    ("runs", "compare"): "comparison",
}

ONE_SCHEMA = {"doctor": "doctor", "predict": "predictions", "export": "export"}


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """The check of one schema."""
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def check_output(arguments: Sequence[str], out: str) -> None:
    """Raise ValidationError where a command's JSON is not as its schema says; what has no schema is not looked at."""
    command, *rest = arguments
    name = NAMES.get((command, *rest[:1]))
    if command in ("train", "sweep"):
        name = "plan" if "--dry-run" in arguments else "run"
    elif command == "recipes":
        name = "recipe" if any(not word.startswith("-") for word in rest) else "recipes"
    elif command in ONE_SCHEMA:
        name = ONE_SCHEMA[command]
    if name is not None and "--json" in arguments and out.strip():
        validator(name).validate(json.loads(out))
