"""What the control groups of Linux, versions 1 and 2, allow this process: a container's quota of processors and its memory.

A limit of any group above the process's own holds too, so the least one counts. Within a container the groups' own paths (in
/proc/self/cgroup) may be those outside of it and not be there: then the mount itself is the container's group.
"""

import math
from collections.abc import Iterator
from pathlib import Path

UNLIMITED = 1 << 60
"""Version 1 says the largest number of pages where there is no limit; who has that much has none (assumed)."""

_PROCESSORS = (("", ("cpu.max",)), ("cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")))
_MEMORY = (("", ("memory.max",)), ("memory", ("memory.limit_in_bytes",)))
"""The controller in version 1 (none: version 2) and the files that hold its limit."""


def processor_limit(root: Path = Path("/")) -> int:
    """Processors that the quota allows, rounded up, as Ray counts them; `root` holds `proc` and `sys`."""
    # No quota is `max` in version 2 and -1 in version 1.
    quotas = (words for words in _words(root, _PROCESSORS) if words[0] not in ("max", "-1"))
    return min([UNLIMITED, *(max(1, math.ceil(int(quota) / int(period))) for quota, period in quotas)])


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes of memory that the groups allow; `root` holds `proc` and `sys`."""
    return min([UNLIMITED, *(int(words[0]) for words in _words(root, _MEMORY) if words[0] != "max")])


def _words(root: Path, places: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[list[str]]:
    """The words of each limit that is set, of the process's own group and those above it."""
    own = _own_groups(root)
    for controller, names in places:
        for mount in _mounts(root, controller):
            group = own.get(controller, "/").strip("/")
            for folder in (mount / group, *(mount / parent for parent in Path(group).parents), mount):
                try:
                    words = [word for name in names for word in (folder / name).read_text(encoding="ascii").split()]
                    [int(word) for word in words if word != "max"]
                except (OSError, ValueError):
                    continue
                if words:
                    yield words


def _mounts(root: Path, controller: str) -> list[Path]:
    """Where the hierarchy of a controller may be mounted; some systems have that of version 2 beside those of version 1."""
    groups = root / "sys/fs/cgroup"
    if not controller:
        return [groups, groups / "unified"]
    return [groups / controller] if controller != "cpu" else [groups / "cpu", groups / "cpu,cpuacct"]


def _own_groups(root: Path) -> dict[str, str]:
    """The group of this process by controller; that of version 2 under the empty name."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return {controller: path for _, controllers, path in rows for controller in controllers.split(",")}
