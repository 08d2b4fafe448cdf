"""READMEs and their neighbours name what there is: commands with their options, modules, targets, paths, links, specs."""

import re
from pathlib import Path

import pytest
from support.readmes import ROOT, Page, pages, problems
from support.typed_commands import commands_with_options

from service import recipes
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec

PAGES = pages()
MOST_LINES = 150

_MOVED = "a place of before a move"
_YOURS = "a reader's own file or folder"
_IN_A_STORE = "a key in a store"
NOT_HERE = {
    "CHANGELOG.md": {
        "jobs.session": _MOVED,
        "random.py": _YOURS,
        "types.py": _YOURS,
        "service.py": _YOURS,
        "packages/": _IN_A_STORE,
    },
    "service/cluster/README.md": {"packages/": _IN_A_STORE},
    "service/datasets/README.md": dict.fromkeys(("train/CLASS/", "test/CLASS/", "validation/CLASS/", "train/", "test/"), _YOURS),
    "service/recipes/README.md": {"service/recipes/NAME.yaml": _YOURS},
    "service/specs/README.md": {"random.py": _YOURS, "service.py": _YOURS},
    "tests/benchmarks/README.md": dict.fromkeys(("mnist/", "fashion-mnist/", "cifar-10-batches-py/"), _YOURS),
    "tests/data/README.md": {"jobs/models/context.py": _MOVED},
}
"""What pages name though the repository has it not, each with the reason."""


def name_of(page: Page) -> str:
    return str(page.path.relative_to(ROOT))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_what_there_is(page: Page) -> None:
    excused = NOT_HERE.get(name_of(page), {})
    found = problems(page)
    left = [problem for problem in found if problem.partition(":")[0] not in excused]
    assert not left, "\n".join(left)
    needless = [name for name in excused if not any(problem.startswith(f"{name}:") for problem in found)]
    assert needless == [], "excused without need"


def test_the_main_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= MOST_LINES


def test_every_command_and_option_has_a_line_in_some_page() -> None:
    everything = "\n".join(page.text for page in PAGES if page.path.name == "README.md")
    for command, options in commands_with_options():
        assert re.search(rf"\b(delayline )?{command}\b", everything), command
        for option in options:
            assert re.search(rf"{option}\b", everything), f"{command} {option}"


def test_every_recipe_model_benchmark_and_key_has_a_row() -> None:
    table = text("service/recipes/README.md")
    assert [name for name in recipes.names() if f"`{name}`" not in table] == []
    table = text("jobs/models/README.md")
    others = {"__init__", "registry"}
    models = [path.stem.replace("_", "-") for path in (ROOT / "jobs" / "models").glob("*.py") if path.stem not in others]
    assert [name for name in models if f"`{name}`" not in table] == []
    table = text("tests/benchmarks/README.md")
    assert [path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py") if path.stem not in table] == []
    for spec, page in ((TrainSpec, "service/specs/README.md"), (SweepSpec, "jobs/sweeps/README.md")):
        assert [key for key in spec.model_fields if f"`{key}`" not in text(page)] == [], page
    own = [f"DELAYLINE_{name.upper()}" for name, field in Settings.model_fields.items() if field.validation_alias is None]
    assert [name for name in own if f"`{name}" not in text("service/README.md")] == []


WRONG = {
    "```sh\nuv run delayline train --wrokers 2\n```": "No such option: --wrokers",
    "```console\n$ uv run delayline runs shwo first\n```": "there is no command shwo",
    "```console\n$ uv run delayline runs show\n```": "Missing argument 'RUN'",
    "```sh\nuv run delayline runs show first | delayline predict first --top many a.png\n```": "Input should be a valid integer",
    "```sh\nray job submit -- python -m jobs.train --nme main\n```": "unrecognized arguments: --nme",
    "`python -m jobs.trian`": "there is no module jobs.trian",
    "```sh\nkubectl apply -f k8s/minio/mini.yaml\n```": "there is no k8s/minio/mini.yaml",
    "`uv run just benchmrk`": "just has no target benchmrk",
    "`just benchmark step_tiem`": "there is no benchmark step_tiem",
    "`just benchmark step_time --ronds 2`": "has no option --ronds",
    "`runs list --tags a`": "No such option: --tags",
    "`--folow`": "no command has this option",
    "`DELAYLINE_STOER`": "nothing reads this variable",
    "`service.records.schema`": "there is no such module",
    "`service/cli/mian.py`": "there is no such path",
    "`jobs/sweep/`": "there is no such path",
    "```\njobs/   what runs\n  sweps/   sweeps\n```": "there is no such folder",
    "[the manual](service/READ.md)": "there is no service/READ.md",
    "![a picture](docs/reprot.png)": "there is no docs/reprot.png",
    "[codes](service/README.md#exit-code)": "there is no heading #exit-code",
    "[below](#blow)": "there is no heading #blow",
    "```yaml\nmodel: cnn\ndataset: digits\nepocks: 3\n```": "epocks",
    "```yaml\nbase: cnn-digits\nspace: {batch: {grd: [1]}}\nseeds: 1\n```": "grd",
    "```console\n$ uv run delayline train\n10:03:56 went on after the checkpoint at step 1335\n```": "nothing prints this",
    "```console\n$ uv run delayline train\nError: The spec is no good: use another.\n```": "spec is no good: use another.: nothing",
    "```python\ndef build(:\n```": "is no Python",
}


@pytest.mark.parametrize("written", WRONG, ids=list(WRONG.values()))
def test_a_wrong_name_is_found(written: str) -> None:
    found = problems(Page(ROOT / "PAGE.md", f"# A page\n\n{written}\n"))
    assert len(found) == 1
    assert WRONG[written] in found[0]


def test_headings_are_anchors_as_github_writes_them() -> None:
    page = Page(
        Path("PAGE.md"),
        "# Data: `--format csv`, and more\n## Runs\n## Runs\n```sh\n# no heading\n```\n### The keys, below `runs/<id>/`\n",
    )
    assert page.anchors() == {"data---format-csv-and-more", "runs", "runs-1", "the-keys-below-runsid"}
