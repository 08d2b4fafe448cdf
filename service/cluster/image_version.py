"""Whether a cluster's image holds the Delayline that is installed here, by its tag."""

import re
from importlib import metadata

from service.cluster.cluster_defaults import ClusterDefaults
from service.errors import InvalidInput

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def check_version(image: str | None, defaults: ClusterDefaults) -> None:
    """Raise InvalidInput where the image's tag names another minor version of Delayline than this one."""
    image = image or defaults.image or ""
    own = metadata.version("delayline")
    found = _VERSION.search(image.partition("@")[0].rpartition("/")[2].partition(":")[2])
    if found is not None and found[0].split(".")[:2] != own.split(".")[:2]:
        raise InvalidInput(
            f"The cluster's image {image} holds Delayline {found[0]} and this is {own}: install delayline=={found[0]} here, or let "
            f"delayline-defaults name an image of {own}."
        )
