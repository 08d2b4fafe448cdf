"""Write the JSON Schema that manifests are held against without a cluster, from KubeRay's own CRD on standard input.

    kubectl get crd rayjobs.ray.io -o yaml | python tests/tools/refresh_kuberay_schema.py 1.6.2

Texts are left out, equal parts stand once, and a field that the CRD does not know is refused: 36 kB of 1.35 MB.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

SCHEMA = Path(__file__).parents[1] / "data" / "kuberay_rayjob.schema.json"
SHARED_FROM = 150
"""Characters from which a part that appears twice stands once."""
BOUNDS = {"int32": 2**31, "int64": 2**63}
ANYTHING = "x-kubernetes-preserve-unknown-fields"
TEXTS = ("description", "default", "format")


def main() -> None:
    """Write it."""
    crd = yaml.load(sys.stdin, Loader=yaml.CSafeLoader)
    version = next(each for each in crd["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    del schema["properties"]["status"]
    schema["properties"]["metadata"] = {"type": "object"}
    schema = {"title": f"RayJob of KubeRay {sys.argv[1]}", **shared(schema)}
    SCHEMA.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{SCHEMA.stat().st_size} bytes")


def strict(schema: Any) -> Any:
    """A part of an OpenAPI schema without texts, as JSON Schema that takes no field but those it names."""
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if key not in TEXTS and not key.startswith("x-")}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = strict(found[key])
    if "properties" in found:
        found["properties"] = {name: strict(value) for name, value in found["properties"].items()}
        if not schema.get(ANYTHING):
            found.setdefault("additionalProperties", False)
    if found.get("type") == "integer" and (bound := BOUNDS.get(schema.get("format", ""))):
        found.setdefault("minimum", -bound)
        found.setdefault("maximum", bound - 1)
    return found


def shared(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema with the objects that appear more than once in `$defs`."""
    counts: Counter[str] = Counter(json.dumps(part, sort_keys=True) for part in objects(schema))
    names = {text: f"d{number}" for number, text in enumerate(text for text in sorted(counts) if counts[text] > 1)}
    definitions: dict[str, Any] = {}

    def replaced(part: Any, top: bool = False) -> Any:
        if isinstance(part, list):
            return [replaced(each) for each in part]
        if not isinstance(part, dict):
            return part
        name = None if top else names.get(json.dumps(part, sort_keys=True))
        if name is None:
            return {key: replaced(value) for key, value in part.items()}
        if name not in definitions:
            definitions[name] = {key: replaced(value) for key, value in part.items()}
        return {"$ref": f"#/$defs/{name}"}

    return {**replaced(schema, top=True), "$defs": definitions}


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every part that describes an object and is long enough to be shared, itself included."""
    if isinstance(schema, list):
        return [found for each in schema for found in objects(each)]
    if not isinstance(schema, dict):
        return []
    inner = [found for value in schema.values() for found in objects(value)]
    whole = schema.get("type") == "object" and "properties" in schema and len(json.dumps(schema)) > SHARED_FROM
    return [schema, *inner] if whole else inner


if __name__ == "__main__":
    main()
