"""What all tests share: settings of Hypothesis, and fixtures with real S3 servers and stores on them."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from support import chromium, s3_servers

from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

# The time that an example takes is that of the machine, which other tests share. In CI the examples are always the same, so that what failed
# there fails here with CI=1 too.
hypothesis.settings.register_profile("delayline", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("delayline")

REQUIRED = ("DELAYLINE_REQUIRE_MINIO", "DELAYLINE_REQUIRE_CHROMIUM", "DELAYLINE_REQUIRE_KUBERNETES")
"""Set in CI: a test fails that would be skipped for want of these."""


LONGEST_FIRST = {
    "slow": (
        "test_sweeps.py", "test_ray_jobs.py", "test_survival.py", "test_training.py", "test_sweep_schedulers.py", "test_transfer.py",
        "test_leaving_nodes.py", "test_shared_cluster.py", "test_asks_for_more.py", "test_stack.py", "test_any_workers.py",
        "test_streaming.py", "test_main_job.py", "test_failures.py", "test_s3_outages.py", "test_group.py", "test_liveness.py",
    ),
    "fast": (
        "vectorized/test_group.py", "test_browser.py", "test_any_workers.py", "test_stack.py", "test_trainer.py", "test_contract.py",
        "models/test_recurrent.py", "test_replica.py", "sweep/test_page.py", "test_training_loop.py", "test_architecture.py",
        "reports/test_page.py", "cli/test_report.py", "test_export_check.py", "test_outer_loop.py", "test_axes.py", "jobs/test_report.py",
        "test_supervisor.py", "test_cleanup.py", "test_interrupts.py", "test_context.py", "test_plain_pickle.py", "test_parquet.py",
    ),
}  # fmt: skip
"""The files whose tests take longest, as measured on 2 cores: what begins last is short, so that both processes end together."""


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist take the files in their order here; by itself it takes those with the most tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    first = LONGEST_FIRST["slow" if config.option.markexpr == "slow" else "fast"]

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((number for number, name in enumerate(first) if path.endswith(f"/{name}")), len(first))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What tests write need not survive a power cut."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings or credentials of the person who runs it."""
    for name in list(os.environ):
        if name.startswith(("DELAYLINE_", "AWS_")) and name not in REQUIRED:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """A store in a folder of the test's own."""
    return open_store(Settings.load(store=str(tmp_path / "store")))


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    """A SeaweedFS server for the whole test run."""
    with s3_servers.running(s3_servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs"))) as server:
        yield server


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    """A MinIO server for the whole test run; where there is none its tests are skipped, in CI they fail."""
    binary = s3_servers.minio_binary()
    if binary is None:
        why = "MinIO is not on the PATH and not built: run `just minio` (it needs Go)"
        if os.environ.get("DELAYLINE_REQUIRE_MINIO"):
            pytest.fail(why)
        pytest.skip(why)
    with s3_servers.running(s3_servers.minio(tmp_path_factory.mktemp("minio"), binary)) as server:
        yield server


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """A page of a real Chromium; where there is none its tests are skipped, in CI they fail."""
    binary = chromium.find()
    if binary is None:
        why = "there is no Chromium on the PATH: install it, on Debian by `apt-get install chromium`"
        if os.environ.get("DELAYLINE_REQUIRE_CHROMIUM", "DELAYLINE_REQUIRE_KUBERNETES"):
            pytest.fail(why)
        pytest.skip(why)
    with chromium.browser(binary, tmp_path_factory.mktemp("chromium")) as page:
        yield page
