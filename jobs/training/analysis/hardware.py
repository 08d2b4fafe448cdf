"""What a worker runs on: versions, processor, memory, GPUs."""

import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psutil

from service.installed import distribution
from service.machine import this_machine
from service.records.run_record import Document

PACKAGES = ("delayline", "tensorflow", "keras", "ray", "numpy")


def versions() -> Document:
    """Of Python, of the packages that decide a run's figures, and of the operating system."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = distribution(package).version
        except PackageNotFoundError:
            continue
    return {**found, "system": f"{platform.system()} {platform.release()} {platform.machine()}"}


def hardware() -> Document:
    """This worker's machine: `host`, `processor`, `cores` that it may use, `memory` in bytes, `gpus` by name."""
    return {
        "host": socket.gethostname(),
        "processor": _processor(),
        "cores": this_machine().cpus,
        "memory": int(psutil.virtual_memory().total),
        "gpus": _gpus(),
    }


def missing_gpus(wanted: float) -> str | None:
    """What to say to a run whose workers were given GPUs of which TensorFlow sees none; None where all is well."""
    if not wanted or _gpus():
        return None
    return (
        f"each worker was given {wanted:g} GPUs and TensorFlow sees none: it trains on processors; install tensorflow[and-cuda], in pods use "
        f"the image's GPU variant"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine())


def _gpus() -> list[str]:
    # In a worker TensorFlow is there already; elsewhere it is not imported for this.
    if (tf := sys.modules.get("tensorflow")) is None:
        return []
    devices = tf.config.list_physical_devices("GPU")
    return [str(tf.config.experimental.get_device_details(device).get("device_name", device.name)) for device in devices]
