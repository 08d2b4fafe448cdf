import json
from pathlib import Path

import pytest
from support.plans import plan_for, spec_of

from service.errors import InvalidInput
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.base import Store


def test_a_plan_writes_nothing_and_says_everything(local_store: Store, tmp_path: Path) -> None:
    document = plan_for(local_store, tmp_path, "steps=30").document()
    assert not list(local_store.objects(""))
    assert {"id", "spec", "resources", "cluster", "store", "dataset"} <= set(document)
    assert set(TrainSpec.model_fields) == set(document["spec"])
    assert document["resources"]["cpus"] == 0.02
    json.dumps(document, allow_nan=False)


def test_a_plan_without_a_name_makes_one(local_store: Store, tmp_path: Path) -> None:
    assert plan_for(local_store, tmp_path, run_id=None).run_id.startswith("cnn-digits-")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("early_stopping={metric: loss}", "evaluate.validation=0"), "use -s evaluate.validation=0.1"),
        (("early_stopping={metric: accuracy, goal: 0.9}", "evaluate.validation=0"), "use -s evaluate.validation=0.1"),
        (("early_stopping={metric: val_f1}",), "use val_loss, val_accuracy, loss, accuracy"),
        (("early_stopping={metric: test_loss}",), "no evaluation reports"),
        (("early_stopping={metric: learning_rate}",), "no evaluation reports"),
    ],
)
def test_a_stop_that_could_never_come_is_refused_but_for_a_run_that_exists(
    local_store: Store, tmp_path: Path, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        plan_for(local_store, tmp_path, *overrides)
    RunRecord(local_store, "a-run").claim(spec_of(*overrides))
    assert plan_for(local_store, tmp_path, *overrides).spec == spec_of(*overrides)


def test_a_bad_run_id_is_refused(local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run id"):
        plan_for(local_store, tmp_path, run_id="../up")


def test_more_workers_than_processors_are_refused(local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="this machine has"):
        plan_for(local_store, tmp_path, "worker.cpus=4000")
    with pytest.raises(InvalidInput, match=r"worker\.gpus=0"):
        plan_for(local_store, tmp_path, "workers=64", "worker.gpus=1")
