"""Manifests as YAML that Kubernetes reads as it was meant: its parser takes more words for truth values and numbers than PyYAML's."""

import re
from typing import Any

import yaml

_READ_OTHERWISE = re.compile(r"[yYnN]|[-+]?(0[boxBOX][0-9a-fA-F_]+|[0-9_]*\.?[0-9_]*([eE][-+]?[0-9]+)?)")
"""What go-yaml takes for a truth value or a number, such as `y`, `1e3` and `0o7`, and PyYAML would write without quotes."""


class Dumper(yaml.SafeDumper):
    """Quotes each text that another parser could read as something else, and repeats what occurs twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if _READ_OTHERWISE.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _text)


def dump(document: Any, width: int = 150) -> str:
    """A document, in the order of its keys."""
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, width=width)
