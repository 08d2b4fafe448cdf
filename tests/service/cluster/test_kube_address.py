import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.kube_address import LONGEST_NAMESPACE, LONGEST_RAY_CLUSTER, KubeAddress
from service.errors import InvalidInput

NAMESPACES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
RAY_CLUSTERS = st.from_regex(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", fullmatch=True)
CONTEXTS = st.text(min_size=1).filter(lambda name: name.isprintable() and "\N{REPLACEMENT CHARACTER}" not in name)
ADDRESSES = st.builds(KubeAddress, NAMESPACES, st.none() | RAY_CLUSTERS, st.none() | CONTEXTS)


@given(ADDRESSES)
def test_an_address_is_read_back_from_its_url(address: KubeAddress) -> None:
    assert KubeAddress.parse(address.url) == address


@given(st.text() | st.text().map(lambda text: f"kube://{text}") | st.text().map(lambda text: f"kube://team/{text}"))
def test_any_text_is_an_address_or_one_sentence(text: str) -> None:
    try:
        address = KubeAddress.parse(text)
    except InvalidInput as error:
        assert str(error).startswith("The cluster '") or str(error).startswith('The cluster "')
        assert str(error).endswith(": write kube://NAMESPACE[/RAYCLUSTER][?context=NAME], such as kube://team.")
        assert str(error).isprintable()
    else:
        assert KubeAddress.parse(address.url) == address


def test_contexts_as_clouds_name_them() -> None:
    for name in ("arn:aws:eks:eu-west-1:123:cluster/lab", "gke_project_europe-west1_lab", "kubernetes-admin@lab"):
        assert KubeAddress.parse(f"kube://team/shared?context={name}") == KubeAddress("team", "shared", name)
    assert KubeAddress.parse("kube://team?context=my%20lab%26co").context == "my lab&co"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("team", "it does not begin with kube://"),
        ("KUBE://team", "it does not begin with kube://"),
        ("kube://", "the namespace has no name"),
        ("kube:///shared", "the namespace has no name"),
        ("kube://Team", "the namespace must be at most 63 lower-case letters"),
        ("kube://team_a", "the namespace must be at most 63"),
        ("kube://team\n", "the namespace must be at most 63"),
        (f"kube://{'a' * (LONGEST_NAMESPACE + 1)}", "the namespace must be at most 63"),
        ("kube://team/", "the RayCluster has no name"),
        ("kube://team/1shared", "the RayCluster must be at most 53"),
        ("kube://team/a/b", "the RayCluster must be at most 53"),
        (f"kube://team/{'a' * (LONGEST_RAY_CLUSTER + 1)}", "the RayCluster must be at most 53"),
        ("kube://team?", "only context=NAME may follow"),
        ("kube://team?pool=gpu", "only context=NAME may follow"),
        ("kube://team?context", "only context=NAME may follow"),
        ("kube://team?context=", "the context's name is empty"),
        ("kube://team?context=a%0Ab", "holds characters that no name has"),
        ("kube://team?context=a&context=b", "nothing may follow the context's name"),
        ("kube://team?context=a#b", "nothing may follow the context's name"),
    ],
)
def test_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        KubeAddress.parse(text)
    assert why in str(raised.value)
