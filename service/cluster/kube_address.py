"""A cluster of Kubernetes as a user names it: `kube://NAMESPACE[/RAYCLUSTER][?context=NAME]`."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote

from service.errors import InvalidInput

SCHEME = "kube://"
LONGEST_NAMESPACE = 63
"""Characters; Kubernetes' limit of a label."""
LONGEST_RAY_CLUSTER = 53
"""Characters; KubeRay's limit, for it makes the names of pods and Services of it."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_RAY_CLUSTER = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_FORM = "kube://NAMESPACE[/RAYCLUSTER][?context=NAME]"


@dataclass(frozen=True)
class KubeAddress:
    """A namespace, perhaps a Ray cluster in it that is shared, and perhaps a context of the kubeconfig."""

    namespace: str
    ray_cluster: str | None = None
    """None: each run has a Ray cluster of its own."""
    context: str | None = None
    """None: the kubeconfig's current one."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `kube://NAMESPACE[/RAYCLUSTER][?context=NAME]`, NAME with percent escapes; raise InvalidInput for anything else."""
        if not text.startswith(SCHEME):
            raise _invalid(text, f"it does not begin with {SCHEME}")
        path, question, query = text.removeprefix(SCHEME).partition("?")
        namespace, slash, ray_cluster = path.partition("/")
        if len(namespace) > LONGEST_NAMESPACE or not _NAMESPACE.fullmatch(namespace):
            raise _invalid(text, _rule("the namespace", namespace, LONGEST_NAMESPACE, "a letter or digit"))
        if slash and (len(ray_cluster) > LONGEST_RAY_CLUSTER or not _RAY_CLUSTER.fullmatch(ray_cluster)):
            raise _invalid(text, _rule("the RayCluster", ray_cluster, LONGEST_RAY_CLUSTER, "a letter"))
        return cls(namespace, ray_cluster if slash else None, _context(text, query) if question else None)

    @property
    def url(self) -> str:
        """As a user would type it; `parse` makes the same address of it."""
        cluster = f"/{self.ray_cluster}" if self.ray_cluster else ""
        context = f"?context={quote(self.context, safe='/:@')}" if self.context else ""
        return f"{SCHEME}{self.namespace}{cluster}{context}"


def _context(text: str, query: str) -> str:
    name, equals, value = query.partition("=")
    if name != "context" or not equals:
        raise _invalid(text, "only context=NAME may follow the question mark")
    if "&" in value or "#" in value:
        raise _invalid(text, "nothing may follow the context's name, in which & is written %26 and # is written %23")
    context = unquote(value)
    if not context or not context.isprintable() or "\N{REPLACEMENT CHARACTER}" in context:
        raise _invalid(text, "the context's name is empty or holds characters that no name has")
    return context


def _rule(what: str, name: str, longest: int, first: str) -> str:
    if not name:
        return f"{what} has no name"
    return f"{what} must be at most {longest} lower-case letters, digits and inner hyphens, with {first} first"


def _invalid(text: str, why: str) -> InvalidInput:
    shown = text if len(text) <= 100 else f"{text[:100]}…"
    return InvalidInput(f"The cluster {shown!r} is not valid, for {why}: write {_FORM}, such as kube://team.")
