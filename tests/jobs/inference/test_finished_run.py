"""Where a finished run's model comes from: its file, its checkpoint, a user's own function."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from support.finished_runs import IMAGES, NETS, MakeSpec, finished, keep_checkpoint, keep_file, served, trained

from jobs.inference.exporting import export
from jobs.models.registry import build_model
from service.errors import UserFailure
from service.records.run_record import RunRecord

pytestmark = pytest.mark.usefixtures("in_the_users_folder")


@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_a_model_of_the_users_own_is_built_again_by_their_function(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path, from_checkpoint: bool
) -> None:
    (user_folder / "own_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="own_nets:build")
    finished(record, spec, user_folder)
    model = trained(spec, user_folder)
    if from_checkpoint:
        keep_checkpoint(record, spec, model, 7)
    else:
        keep_file(record, model, tmp_path)
    export(record, tmp_path / "new")
    np.testing.assert_allclose(served(tmp_path / "new"), np.asarray(model(IMAGES)), rtol=1e-5)


@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_a_users_function_that_makes_another_model_by_now_is_an_error(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path, from_checkpoint: bool
) -> None:
    (user_folder / "new_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="new_nets:build")
    finished(record, spec, user_folder)
    other = build_model(make_spec(model_params={"hidden": [5]}), (8, 8, 1), 10, None)
    if from_checkpoint:
        keep_checkpoint(record, spec, other, 7)
    else:
        keep_file(record, other, tmp_path)
    with pytest.raises(UserFailure, match="trained" if not from_checkpoint else "the model changed since the run began"):
        export(record, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("restore_best", "step"), [(True, 5), (False, 9)])
def test_without_a_file_the_checkpoint_that_the_run_ended_with_is_taken(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, restore_best: bool, step: int
) -> None:
    spec = make_spec(model_params={"hidden": []}, early_stopping={"restore_best": restore_best})
    finished(record, spec, tmp_path)
    models = {5: trained(spec, tmp_path, 5.0), 9: trained(spec, tmp_path, 9.0)}
    keep_checkpoint(record, spec, models[5], 5, 0.25)
    keep_checkpoint(record, spec, models[9], 9, 0.5)
    export(record, tmp_path / "new")
    np.testing.assert_allclose(served(tmp_path / "new"), np.asarray(models[step](IMAGES)), rtol=1e-4)
