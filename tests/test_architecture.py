"""The rules that hold for the whole tree: lint, format, types, layers, entry points, start-up."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.cluster.driver_jobs import DRIVERS

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "service", "jobs", "tests"],
        ["ruff", "format", "--check", "service", "jobs", "tests"],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_the_tree_passes(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_every_job_that_service_starts_has_an_entry_point() -> None:
    named = {name for path in modules("service") for name in re.findall(r'"-m",\s*"(jobs\.[a-z_.]+)"', path.read_text())}
    verbs = {verb for path in modules("service") for verb in re.findall(r'run_job\(\w+, "([a-z_]+)"', path.read_text())}
    named |= {f"jobs.{verb}" for verb in verbs} | set(DRIVERS.values())
    assert {"jobs.train", "jobs.sweep", "jobs.export", "jobs.predict", "jobs.report"} <= named
    for name in named:
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin, f"{name} does not exist"
        functions = {node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert "main" in functions, f"{name} has no main()"


def test_packages_are_empty_of_imports() -> None:
    for name in ("service", "jobs"):
        assert not [
            node
            for node in ast.parse((ROOT / name / "__init__.py").read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]


def test_the_environment_is_read_in_settings_alone() -> None:
    readers = [
        path.relative_to(ROOT).as_posix() for path in modules("service") if re.search(r"os\.(environ|getenv)", path.read_text())
    ]
    assert readers == ["service/settings.py"]


def test_nothing_is_unpickled() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in modules("service", "jobs")
        if re.search(r"^\s*(import|from) (pickle|joblib|cloudpickle)", path.read_text(), re.MULTILINE)
    ]
    assert users == []


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from service.cli.main import run\n"
        "sys.argv = ['delayline', '--help']\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'tensorflow', 'keras', 'ray', 'boto3', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", modules("service", "jobs"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_is(path: Path) -> None:
    if path.stat().st_size:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_the_driver_imports_ray_only_after_it_has_set_rays_environment() -> None:
    code = "import sys, jobs.train; print({'ray', 'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr
