"""Limits of control groups, read from trees as machines and containers showed them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.control_groups import UNLIMITED, memory_limit, processor_limit

Tree = Callable[[dict[str, str]], Path]

# A pod of 1 CPU and 3 GiB: the groups' paths are the node's, and the mounts show the container's own group.
POD_V1 = {
    "proc/self/cgroup": "5:memory:/kubepods/burstable/pod1/c1\n2:cpuacct:/kubepods/burstable/pod1/c1\n1:cpu:/kubepods/burstable/pod1/c1\n0::/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 << 30}\n",
}
POD_V2 = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/memory.max": f"{3 << 30}\n",
}
# A slice of systemd above the session's own scope holds the quota.
SLICE_V2 = {
    "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
    "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max": "400000 100000\n",
    "sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user.slice/user-1000.slice/memory.max": f"{8 << 30}\n",
    "sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/memory.max": "max\n",
}
# A batch system's job on version 1, with the controllers mounted together.
JOB_V1 = {
    "proc/self/cgroup": "3:cpu,cpuacct:/slurm/job_7\n2:memory:/slurm/job_7/step_0\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "250000\n",
    "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": f"{16 << 30}\n",
    "sys/fs/cgroup/memory/slurm/job_7/step_0/memory.limit_in_bytes": f"{12 << 30}\n",
}
# Both versions at once: the controllers are version 1's, and version 2 stands under `unified`.
HYBRID = {
    "proc/self/cgroup": "1:cpu:/\n0::/\n",
    "sys/fs/cgroup/unified/cgroup.procs": "1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "processors", "memory"),
    [
        pytest.param(POD_V1, 1, 3 << 30, id="pod, version 1"),
        pytest.param(POD_V2, 2, 3 << 30, id="pod, version 2"),
        pytest.param(SLICE_V2, 4, 8 << 30, id="slice, version 2"),
        pytest.param(JOB_V1, 3, 12 << 30, id="batch job, version 1"),
        pytest.param(HYBRID, UNLIMITED, UNLIMITED, id="both versions, no limit"),
        pytest.param({}, UNLIMITED, UNLIMITED, id="no control groups"),
        pytest.param({"sys/fs/cgroup/cpu.max": "much\n", "sys/fs/cgroup/memory.max": ""}, UNLIMITED, UNLIMITED, id="not numbers"),
        pytest.param({"sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1, UNLIMITED, id="a twentieth of a processor"),
    ],
)
def test_the_least_limit_of_the_own_group_and_those_above_holds(
    files: dict[str, str], processors: int, memory: int, tree: Tree
) -> None:
    root = tree(files)
    assert processor_limit(root) == processors
    assert memory_limit(root) == memory
