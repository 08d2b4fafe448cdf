import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.cluster_defaults import ClusterDefaults, Pool, Toleration, amount
from service.errors import InvalidInput

EVERYTHING = """
image: registry.example.com/delayline:0.1.0-cpu
image_pull_policy: Always
image_pull_secrets: [registry]
store: s3://lab/course
s3_endpoint: http://minio.storage.svc:9000/
client_store: s3://lab/course
client_s3_endpoint: https://minio.example.com
credentials_secret: store-credentials
service_account: trainer
ca_secret: company-ca
ca_key: bundle.pem
http_proxy: http://proxy.example.com:3128
https_proxy: http://proxy.example.com:3128
no_proxy: example.com,10.0.0.0/8
priority_class: batch
queue: team
labels: {team: vision, cost: 7}
annotations: {example.com/contact: ada@example.com}
head: {cpu: 1, memory: 2Gi, memory_limit: 4Gi}
head_pool: steady
submitter: {cpu: 20m, memory: 128Mi}
cpu_share: 0.5
ttl_seconds: 0
active_deadline: 86400
pre_running_deadline: 1800
resubmissions: 3
pools:
  steady: {}
  gpu:
    node_selector: {cloud.google.com/gke-accelerator: nvidia-l4}
    tolerations:
    - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
    - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
    gpu_resource: nvidia.com/gpu
    spot: true
    priority_class: low
    queue: gpus
    image: registry.example.com/delayline:0.1.0-gpu
    runtime_class: nvidia
    max_workers: 8
    labels: {team: vision}
    annotations: {karpenter.sh/do-not-disrupt: "true"}
"""


def sentence(text: str) -> str:
    with pytest.raises(InvalidInput) as raised:
        ClusterDefaults.parse(text, "namespace team")
    message = str(raised.value)
    assert message.startswith("The key defaults.yaml of the ConfigMap delayline-defaults (namespace team) ")
    return message


def test_reads_every_field() -> None:
    defaults = ClusterDefaults.parse(EVERYTHING, "namespace team")
    assert defaults.model_fields_set == set(ClusterDefaults.model_fields)
    assert defaults.pools["gpu"].model_fields_set == set(Pool.model_fields)
    assert defaults.head.cpu == "1" and defaults.labels["cost"] == "7"
    assert defaults.s3_endpoint == "http://minio.storage.svc:9000"
    assert defaults.pools["gpu"].tolerations[1].document() == {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 30,
    }


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}"])
def test_needs_nothing(text: str) -> None:
    assert ClusterDefaults.parse(text, "namespace team") == ClusterDefaults()


def test_finds_a_pool_or_lists_those_there_are() -> None:
    defaults = ClusterDefaults.parse(EVERYTHING, "namespace team")
    assert defaults.pool("gpu").spot
    with pytest.raises(InvalidInput) as raised:
        defaults.pool("gpus")
    assert str(raised.value) == (
        "There is no pool 'gpus' (did you mean 'gpu'?): the ConfigMap delayline-defaults defines gpu, steady; "
        "give --pool one of these, or leave it out."
    )
    with pytest.raises(InvalidInput, match="defines none"):
        ClusterDefaults().pool("gpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imge: x", "there is no field 'imge' (did you mean 'image'?)"),
        ("pools: {gpu: {sopt: true}}", "there is no field 'pools.gpu.sopt' (did you mean 'spot'?)"),
        ("head: {cpu: 0, memory: 1Gi}", "head.cpu: a quantity of Kubernetes is above 0"),
        ("head: {cpu: 1, memory: 1 GB}", "head.memory: a quantity of Kubernetes"),
        ("head: {cpu: 1, memory: 4Gi, memory_limit: 4G}", "head: memory asks for 4Gi, above its memory_limit of 4G"),
        ("head: {cpu: 1}", "head.memory: field required"),
        ("image: a b", "image: an image is a reference without spaces"),
        ("image_pull_policy: Sometimes", "image_pull_policy: input should be 'Always', 'IfNotPresent' or 'Never'"),
        ("store: /data/store", "store: pods and clients share no folder"),
        ("store: s3://UPPER/x", "store: The store"),
        ("store: s3://key:word@bucket/x", "holds credentials"),
        ("s3_endpoint: minio:9000", "s3_endpoint: The S3 endpoint"),
        ("s3_endpoint: http://127.0.0.1:9000", "is a pod's own loopback"),
        ("store: s3://lab/course?endpoint_override=http://localhost:9000", "is a pod's own loopback"),
        ("https_proxy: http://ada:secret@proxy:3128", "https_proxy: a proxy's URL may hold no credentials"),
        ("http_proxy: proxy:3128", "http_proxy: a proxy is written as http://HOST:PORT"),
        ("credentials_secret: Store_Credentials", "credentials_secret: a name in Kubernetes has lower-case letters"),
        ("labels: {ray.io/cluster: x}", "labels.ray.io/cluster: 'ray.io/cluster' is set by KubeRay or Delayline"),
        ("labels: {team: a b}", "labels.team: a label's value has at most 63"),
        ("head_pool: steady", "head_pool is 'steady', but the pools are none"),
        ("pools: {gpu: {tolerations: [{operator: Exists, value: x}]}}", "pools.gpu.tolerations.0: a toleration with operator Exists"),
        ("pools: {gpu: {tolerations: [{value: x}]}}", "a toleration without a key has operator Exists"),
        ("pools: {gpu: {tolerations: [{key: x, tolerationSeconds: 3}]}}", "tolerationSeconds goes with the effect NoExecute alone"),
        ("ttl_seconds: -1", "ttl_seconds: input should be greater than or equal to 0"),
        ("active_deadline: 0", "active_deadline: input should be greater than or equal to 1"),
        ("- image", "holds no mapping"),
        ("image: [", "is not valid YAML at line 1"),
        ("image: x\nimage: y", "the key 'image' appears twice"),
    ],
)  # fmt: skip
def test_says_which_field_is_wrong(text: str, words: str) -> None:
    assert words in sentence(text)


@given(st.text() | st.dictionaries(st.sampled_from(sorted(ClusterDefaults.model_fields)), st.text(max_size=20)).map(str))
def test_any_text_is_defaults_or_one_sentence(text: str) -> None:
    try:
        ClusterDefaults.parse(text, "namespace team")
    except InvalidInput as error:
        assert str(error).startswith("The key defaults.yaml of the ConfigMap delayline-defaults (namespace team) ")


def test_a_proxy_with_a_password_is_not_repeated() -> None:
    assert "hunter2" not in sentence("https_proxy: http://ada:hunter2@proxy:3128")
    assert "hunter2" not in sentence("store: s3://ada:hunter2@lab/course")


def test_a_toleration_of_everything() -> None:
    assert Toleration(operator="Exists").document() == {"operator": "Exists"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", 0.5),
        ("2", 2),
        ("1.5", 1.5),
        ("1536Mi", 1536 * 2**20),
        ("3G", 3e9),
        ("2e9", 2e9),
        ("1E3", 1e3),
        ("1E", 1e18),
        ("1Ei", 2**60),
    ],
)
def test_a_quantity_as_a_number(text: str, number: float) -> None:
    assert amount(text) == number
    with pytest.raises(ValueError, match="no quantity"):
        amount(f"{text} cores")
