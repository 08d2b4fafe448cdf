"""KubeRay's own schema of a RayJob, and of the RayCluster in it, for manifests that are looked at without a cluster."""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).parents[1] / "data" / "kuberay_rayjob.schema.json"


@functools.cache
def validator(kind: str = "RayJob") -> jsonschema.Draft202012Validator:
    """Of one kind's manifests."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    if kind == "RayCluster":
        properties = {**schema["properties"], "spec": schema["properties"]["spec"]["properties"]["rayClusterSpec"]}
        schema = {**schema, "properties": properties}
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
