"""The command and the spec that repeat a run."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.reports.facts import gather
from jobs.reports.repeat import repeat_command, spec_text
from service import recipes
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec

WriteRun = Callable[..., RunRecord]


def resolved(command: str, folder: Path) -> dict[str, Any]:
    """The spec that a `delayline train` command asks for."""
    words = shlex.split(command)
    assert words[:2] == ["delayline", "train"]
    overrides = [words[index + 1] for index, word in enumerate(words) if word == "-s"]
    return recipes.resolve(words[2], overrides, None, folder)[0].document()


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("cnn-digits", []),
        ("cnn-digits", ["epochs=3", "workers=1-4"]),
        ("cnn-mnist", ["model_params={}", "optimizer=sgd", "seed=7"]),
        ("cnn-mnist", ["steps=50", "epochs=null"]),
        ("cnn-mnist", ["seed=1", "epochs=2", "batch=64", "log_every=5", "retries=0", "workers=2", "label_smoothing=0.1"]),
    ],
)  # fmt: skip
def test_the_command_repeats_the_very_spec(write_run: WriteRun, tmp_path: Path, recipe: str, changes: list[str]) -> None:
    spec, _ = recipes.resolve(recipe, changes, None, tmp_path)
    record = RunRecord(write_run("other").store, "a-run")
    version = "uci-1998" if spec.dataset == "digits" else "v1"
    record.claim(TrainSpec.model_validate(spec.document()), Origin(recipe=recipe, dataset_version=version, command=[]))
    facts = gather(record)
    (tmp_path / "a-run.yaml").write_text(spec_text(facts))
    wanted = {**spec.document(), "dataset": "digits" if spec.dataset == "digits" else f"{spec.dataset}@v1"}
    assert resolved(repeat_command(facts), tmp_path) == wanted
    assert TrainSpec.model_validate(yaml.safe_load(spec_text(facts))).document() == wanted
