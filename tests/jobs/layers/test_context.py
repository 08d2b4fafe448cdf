"""Files of networks made by hand, saved when their layers were in jobs/models/context.py; tests/jobs/models/test_recurrent.py has the layers."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import jobs.layers.context  # noqa: F401

SAVED = Path(__file__).parents[2] / "data" / "networks_by_hand"


@pytest.mark.parametrize("name", ["elman", "jordan"])
def test_a_file_from_before_the_move_opens_and_answers_alike(name: str) -> None:
    with np.load(SAVED / "answers.npz") as answers:
        model = keras.saving.load_model(SAVED / f"{name}.keras", compile=False, safe_mode=True)
        np.testing.assert_allclose(model(answers["x"]), answers[name], rtol=1e-5, atol=1e-6)


def test_without_the_registration_it_does_not_open() -> None:
    code = f"import keras; keras.saving.load_model({str(SAVED / 'elman.keras')!r}, compile=False)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "delayline" in done.stderr
