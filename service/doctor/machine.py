"""Python, packages and GPUs of this machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from service.doctor.findings import Check, Finding, failed, ok
from service.installed import distribution
from service.machine import this_machine

DISTRIBUTION = "delayline"
DRIVER_SECONDS = 5.0
_DRIVER = Path("/proc/driver/nvidia/version")


def machine_checks() -> list[Check]:
    """The checks of what is installed here."""
    return [("Python", _python), ("packages", _packages), ("GPUs", _gpus)]


def _python() -> Finding:
    wanted = SpecifierSet(metadata.metadata(DISTRIBUTION)["Requires-Python"] or "")
    here = platform.python_version()
    if not wanted.contains(here, prereleases=True):
        return failed(f"Python {here} is not among {wanted}: make the environment anew with one of these.")
    return ok(here)


def _packages() -> Finding:
    """Each package that Delayline names, at a version that it accepts."""
    wrong, shown = [], []
    for text in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = distribution(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found.version, prereleases=True):
            wrong.append(f"{found.name} is {found.version}, not {requirement.specifier}")
        if any(specifier.operator == "==" for specifier in requirement.specifier):
            # The one line names the few whose version is exact.
            shown.append(f"{found.name} {found.version}")
    if wrong:
        return failed(f"{'; '.join(wrong)}: run `uv sync`, or `pip install delayline` anew.")
    return ok(", ".join(shown))


def _gpus() -> Finding:
    count = this_machine().gpus
    if count == 0:
        return ok("none on this machine: workers use its processors")
    try:
        metadata.version("nvidia-cudnn-cu12")
    except metadata.PackageNotFoundError:
        return failed(f"There are {count} GPUs, but no CUDA libraries for TensorFlow: run `uv sync --extra gpu`.")
    query = ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        driver = _DRIVER.read_text(encoding="ascii", errors="replace").splitlines()[:1] if _DRIVER.exists() else []
        return failed(
            f"There are {count} GPUs, but nvidia-smi does not answer ({''.join(driver)[:100] or 'no driver'}): mend the driver."
        )
    return ok("; ".join(f"{line} free" for line in done.stdout.splitlines()))
