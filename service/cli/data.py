"""`delayline data import|list|show|verify`: datasets in the store."""

import sys
import time
from typing import Annotated

import typer

from service.cli.completion import dataset_names, known_dataset_names
from service.cli.console import is_live, local_time, print_json, print_table, say
from service.cli.options import AsJson, StoreUrl
from service.datasets import Feature, Manifest, find_dataset, list_datasets
from service.errors import Damaged
from service.records.command_answers import VerifiedDataset
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.words import size

app = typer.Typer(
    rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Import, list, show and verify datasets."
)

LINE_SECONDS = 5.0
MOST_COLUMNS = 40
"""Of a feature that `data show` names."""
Dataset = Annotated[str, typer.Argument(metavar="NAME", help="A dataset's name, or name@version.", autocompletion=dataset_names)]


NewName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="What the dataset is to be called; mnist, fashion-mnist, cifar10 and cifar100 are known.",
        autocompletion=known_dataset_names,
    ),
]
Source = Annotated[
    str | None, typer.Option("--from", metavar="DIR|URL", help="Where the original files are; a known dataset has an address.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="cifar, csv, idx, images, npz or parquet (also Hugging Face's folders)."),
]
Features = Annotated[str | None, typer.Option("--features", metavar="A,B", help="The columns that are features, in this order.")]
OneHot = Annotated[
    list[str] | None,
    typer.Option("--one-hot", metavar="COLUMN", help="A column of texts that becomes a 0 or 1 for each text; may be repeated."),
]
Ground = Annotated[
    str | None,
    typer.Option("--ground", metavar="COLOUR", help="What transparent pictures are laid over: white, the default, or black."),
]


@app.command("import")
def import_(
    name: NewName,
    source: Source = None,
    format_name: Format = None,
    features: Features = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="The column that holds the labels.")] = None,
    one_hot: OneHot = None,
    ground: Ground = None,
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="Let features hold NaN and infinity.")] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Import a dataset from its original files: whole or not at all, and again without harm."""
    from service.datasets import import_dataset
    from service.datasets.choices import Choices

    choices = Choices(_names(features) if features is not None else None, label, tuple(one_hot or ()), ground, allow_nan)
    began = time.monotonic()
    with _Progress(name) as progress:
        manifest = import_dataset(_open(store), name, source, format_name, progress.report, choices)
    rows = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    say(
        f"{manifest.name}@{manifest.version}: {rows} examples, {len(manifest.classes)} classes, {size(manifest.bytes)} in {time.monotonic() - began:.1f} s"
    )
    for note in manifest.notes:
        say(f"  {note}")
    if as_json:
        print_json(manifest.document())


@app.command("list")
def list_(store: StoreUrl = None, as_json: AsJson = False) -> None:
    """List all datasets, the newest version of each first."""
    found = list_datasets(_open(store))
    if as_json:
        print_json([{key: value for key, value in manifest.document().items() if key != "shards"} for manifest in found])
        return
    print_table(("name", "version", "examples", "of", "classes", "size", "imported"), [_row(manifest) for manifest in found])


@app.command()
def show(name: Dataset, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show what a dataset holds."""
    manifest = find_dataset(_open(store), name)
    if as_json:
        print_json(manifest.document())
        return
    print(f"{manifest.name}@{manifest.version}")
    for split, count in manifest.splits.items():
        print(f"  {split}: {count} examples in {sum(shard.split == split for shard in manifest.shards)} shards")
    for feature in manifest.features:
        print(f"  {feature.name}: {feature.dtype} {'x'.join(map(str, feature.shape)) or 'one number'}, {_range(feature)}")
        if feature.columns:
            more = (
                f" and {len(feature.columns) - MOST_COLUMNS} more (--json has all)" if len(feature.columns) > MOST_COLUMNS else ""
            )
            print(f"    in this order: {', '.join(feature.columns[:MOST_COLUMNS])}{more}")
    print(f"  classes: {', '.join(manifest.classes[:20])}{' …' if len(manifest.classes) > 20 else ''}")
    print(f"  source: {manifest.source}")
    for note in manifest.notes:
        print(f"  {note}")


@app.command()
def verify(name: Dataset, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Read every byte of a dataset and compare it with its checksum."""
    from service.datasets import verify_dataset

    opened = _open(store)
    manifest = find_dataset(opened, name)
    with _Progress(name) as progress:
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            progress.report("verifying", done, manifest.bytes)

        problems = verify_dataset(opened, manifest, report)
    if as_json:
        found = VerifiedDataset(
            name=manifest.name, version=manifest.version, shards=len(manifest.shards), problems=tuple(problems)
        )
        print_json(found.document())
    if problems:
        more = f" ({len(problems) - 1} more shards are damaged)" if len(problems) > 1 else ""
        raise Damaged(problems[0] + more)
    say(
        f"{manifest.name}@{manifest.version}: {len(manifest.shards)} shards, {size(manifest.bytes)}, every byte as it was imported"
    )


def _open(store: str | None) -> Store:
    return open_store(Settings.load(store=store))


def _range(feature: Feature) -> str:
    if feature.scale == 1:
        return "which a model gets as it is"
    return f"0 to {feature.scale:g}, which a model gets as 0 to 1 (as stored with scale: false)"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _row(manifest: Manifest) -> list[str]:
    shapes = " ".join("x".join(map(str, feature.shape)) or "1" for feature in manifest.features)
    rows = " + ".join(str(count) for count in manifest.splits.values())
    when = "with Delayline" if manifest.embedded else local_time(manifest.imported)
    return [manifest.name, manifest.version, rows, shapes, str(len(manifest.classes)), size(manifest.bytes), when]


class _Progress:
    """One line that is written over on a terminal; elsewhere a line every few seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._terminal = is_live(sys.stderr)
        self._told = time.monotonic()
        self._phase = ""

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._phase:
            print(file=sys.stderr)

    def report(self, phase: str, done: int, total: int) -> None:
        """Say how many bytes of a phase are done."""
        now = time.monotonic()
        if phase == self._phase and done < total and now - self._told < (0.1 if self._terminal else LINE_SECONDS):
            return
        if phase == self._phase and not self._terminal and now - self._told < LINE_SECONDS:
            return
        self._phase, self._told = phase, now
        share = f" of {size(total)} ({min(100, 100 * done // total)}%)" if total else ""
        line = f"{self._name}: {phase} {size(done)}{share}"
        if self._terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            say(line)
