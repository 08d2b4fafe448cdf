import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kuberay_schema import validator

from service.cluster.cluster_defaults import CONFIG_MAP, KEY, ClusterDefaults, Pool

FOLDER = Path(__file__).parents[2] / "k8s" / "kuberay"
SAMPLES = ("raycluster.yaml", "rayjob.cpu.yaml", "rayjob.elastic.yaml", "rayjob.gpu-spot.yaml", "rayjob.kueue.yaml")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def defaults_text() -> str:
    (config_map,) = documents("delayline-defaults.yaml")
    assert config_map["metadata"]["name"] == CONFIG_MAP and set(config_map["data"]) == {KEY}
    return str(config_map["data"][KEY])


def test_the_samples_are_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("samples", FOLDER / "samples.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.samples()
    assert sorted(written) == sorted(SAMPLES)
    assert [name for name, text in written.items() if (FOLDER / name).read_text() != text] == [], "run k8s/kuberay/samples.py"


@pytest.mark.parametrize("name", SAMPLES)
def test_kuberay_has_every_field_of_a_sample(name: str) -> None:
    (document,) = documents(name)
    validator(document["kind"]).validate(document)
    assert "namespace" not in document["metadata"]


def test_the_defaults_are_valid_also_with_all_that_is_commented_out() -> None:
    ClusterDefaults.parse(defaults_text(), "the sample")
    whole = re.sub(r"^( *)# ([a-z0-9_]+: )", r"\1\2", defaults_text(), flags=re.MULTILINE)
    defaults = ClusterDefaults.parse(whole, "the sample")
    assert defaults.model_fields_set == set(ClusterDefaults.model_fields)
    given = {field for pool in defaults.pools.values() for field in pool.model_fields_set}
    assert set(Pool.model_fields) - given == {"labels", "annotations"}


def test_the_comments_name_the_defaults() -> None:
    stated = ClusterDefaults.parse(defaults_text(), "the sample")
    for field in ("head", "submitter", "ttl_seconds", "resubmissions"):
        assert getattr(stated, field) == getattr(ClusterDefaults(), field), field


def test_the_rights_name_what_they_are_for() -> None:
    roles = {each["metadata"]["name"]: each["rules"] for each in documents("rbac.yaml") if each["kind"] == "Role"}
    assert roles["delayline-driver"] == []
    for rule in roles["delayline-submitter"]:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert not {"secrets", "pods/exec", "serviceaccounts"} & set(rule["resources"])
