"""What a container's control groups, of version 2 or 1, allow this process."""

import math
from pathlib import Path

UNLIMITED = 1 << 60
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def processor_limit() -> int:
    """Processors, rounded up, as Ray counts them."""
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return UNLIMITED


def memory_limit() -> int:
    """Bytes of memory."""
    for file in _MEMORY:
        try:
            return int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return UNLIMITED
