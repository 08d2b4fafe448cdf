"""The rules that hold for the whole tree: lint, format, types, layers, entry points, start-up."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.worker_groups.ray_cluster import PREPARED_MODULES
from service.cli.main import COMMANDS
from service.cluster.driver_jobs import DRIVERS, SUPERVISOR

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "service", "jobs", "k8s", "tests"],
        ["ruff", "format", "--check", "service", "jobs", "k8s", "tests"],
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


def test_every_job_that_a_process_starts_has_an_entry_point() -> None:
    started = re.compile(r'(?:"-m",|\bpython\()\s*"((?:jobs|service)\.[a-z_.]+)"')
    named = {name for path in modules("service", "jobs") for name in started.findall(path.read_text())}
    verbs = {verb for path in modules("service") for verb in re.findall(r'run_job\(\w+, "([a-z_]+)"', path.read_text())}
    named |= {f"jobs.{verb}" for verb in verbs} | {*DRIVERS.values(), SUPERVISOR}
    assert {"jobs.train", "jobs.sweep", "jobs.export", "jobs.predict", "jobs.report", "jobs.worker.watchdog", SUPERVISOR} <= named
    for name in named:
        spec = importlib.util.find_spec(name)
        assert spec and spec.origin, f"{name} does not exist"
        functions = {node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert "main" in functions, f"{name} has no main()"


def named_in_strings(path: Path) -> set[str]:
    """The modules of ours that stand in a file's strings: as what is run, imported before it is wanted, or looked up in a table."""
    texts = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text.rstrip(".") for text in texts if re.fullmatch(r"(jobs|service)(\.[a-z_0-9]+)+\.?", text)}


def exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_every_module_that_a_string_names_is_there() -> None:
    named = {name: path for path in modules("service", "jobs") for name in named_in_strings(path)}
    # A worker's prepared modules, a command's, and a process's: a wrong one would start slowly or not at all.
    assert {*PREPARED_MODULES, *(module for module, _ in COMMANDS.values()), *DRIVERS.values(), "jobs.sweeps.trial"} <= set(named)
    assert {name: path for name, path in named.items() if not exists(name)} == {}
    assert not exists("jobs.worker.nothing") and not exists("jobs.nothing.at_all")


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


def test_the_insides_of_ray_are_leant_on_in_one_folder() -> None:
    private = re.compile(r"^\s*(?:from|import) ray\.(?:\S*\.)?_\w+", re.MULTILINE)
    users = {path.relative_to(ROOT) for path in modules("service", "jobs") if private.search(path.read_text())}
    elsewhere = {path.as_posix() for path in users if path.parent != Path("jobs/worker_groups")}
    # A callback of Ray Data has no public base, and datasets are below what knows of Ray.
    assert elsewhere == {"jobs/datasets/ordered_reads.py"}
    assert Path("jobs/worker_groups/lean_ray.py") in users


def test_no_product_code_is_a_mock() -> None:
    assert not [path for path in modules("service", "jobs") if "unittest" in path.read_text()]


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
