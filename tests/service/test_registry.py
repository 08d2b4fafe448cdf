"""What the plan knows of models and tasks; tests/jobs/models and tests/jobs/tasks compare it with what they are."""

import sys
from pathlib import Path

import pytest

from service import registry


def test_models_and_tasks_are_known_without_importing_them() -> None:
    before = set(sys.modules)
    registry.models.cache_clear()
    registry.tasks.cache_clear()
    found = registry.models()
    assert {"cnn", "lenet5", "dense"} <= set(found)
    assert found["cnn"].parameters["dropout"] == 0.25
    assert "registry" not in found
    assert registry.tasks()["classification"].metrics == ("accuracy",)
    assert not any(name.startswith("jobs") for name in set(sys.modules) - before)


def test_a_name_with_underscores_is_the_same() -> None:
    assert registry.model_named("simple_rnn") is registry.model_named("simple-rnn") is not None
    assert registry.task_named("bit_memory") is registry.task_named("bit-memory") is not None
    assert registry.model_named("nets:build") is None


def test_a_file_is_read_as_far_as_its_first_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs" / "models").mkdir(parents=True)
    (tmp_path / "jobs" / "__init__.py").touch()
    (tmp_path / "jobs" / "models" / "wide_one.py").write_text(
        'import absent\nPARAMETERS = {"units": 3}\nSOLVABLE = True\nOTHER = absent.x\n\n\ndef build():\n    pass\n\n\nSTARTS = absent.y\n'
    )
    (tmp_path / "jobs" / "models" / "help.py").write_text("SOLVABLE = True\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: _Found([str(tmp_path / "jobs")]))
    assert dict(registry._declared("models", registry.Model)) == {"wide-one": registry.Model({"units": 3}, solvable=True)}


class _Found:
    """Where a package of another place lies."""

    def __init__(self, places: list[str]) -> None:
        self.submodule_search_locations = places
