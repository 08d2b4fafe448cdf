"""The constants at the head of each task's file say what the task does: a plan goes by them alone."""

from pathlib import Path

import pytest

import jobs.tasks
from jobs.tasks.registry import task_for
from service.registry import tasks
from service.specs.train import TrainSpec


def test_each_file_with_a_make_function_declares_its_metrics() -> None:
    files = sorted(path for folder in jobs.tasks.__path__ for path in Path(folder).glob("[!_]*.py"))
    assert [path.stem.replace("_", "-") for path in files if "\ndef make(" in path.read_text()] == list(tasks())


@pytest.mark.parametrize("name", tasks())
def test_the_metrics_and_the_steps_are_the_tasks_own(name: str) -> None:
    data = {"dataset": tasks()[name].dataset or "digits"}
    made = task_for(TrainSpec.model_validate({"model": "lstm", "epochs": 1, "task": name, **data}))
    assert (made.metric_names, made.every_step) == (tasks()[name].metrics, tasks()[name].every_step)
