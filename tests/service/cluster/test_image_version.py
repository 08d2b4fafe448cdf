"""Images of other versions."""

from importlib import metadata

import pytest

from service.cluster.cluster_defaults import ClusterDefaults
from service.cluster.image_version import check_version
from service.errors import InvalidInput


def test_an_image_of_another_minor_version_is_refused_with_both() -> None:
    own = metadata.version("delayline")
    for image in (f"kube.local/delayline:{own}-cpu", "kube.local/delayline:test", "registry:5000/delayline@sha256:1.2.3"):
        check_version(image, ClusterDefaults())
    with pytest.raises(InvalidInput, match=f"9.9.1.*{own}"):
        check_version(None, ClusterDefaults(image="kube.local/delayline:9.9.1-cpu"))
