"""Which packages are installed, by the names under which Delayline requires them."""

from importlib import metadata

STAND_INS = {"tensorflow": ("tensorflow", "tensorflow-cpu")}
"""Distributions that hold the same modules as the required one: the image for CPUs has the second, a third of the first's size."""


def distribution(name: str) -> metadata.Distribution:
    """The installed distribution that fulfils a requirement of this name; raise `PackageNotFoundError` where there is none."""
    for candidate in STAND_INS.get(name, (name,)):
        try:
            return metadata.distribution(candidate)
        except metadata.PackageNotFoundError:
            continue
    raise metadata.PackageNotFoundError(name)
