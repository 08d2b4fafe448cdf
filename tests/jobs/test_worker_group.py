"""What surrounds Ray; tests/integration runs it whole."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["jobs.train", "jobs.sweep"])
def test_a_driver_does_not_import_ray_before_rays_environment_is_set(module: str) -> None:
    # Ray reads most of RAY_ENVIRONMENT when it is imported: under `uv run` it would else make an environment for each process.
    code = f"import sys, {module}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
