"""`delayline runs prune`: delete runs that are over, once it was seen which."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.completion import states as known_states
from service.cli.console import local_time, print_json, print_table, say
from service.cli.options import AsJson, StoreUrl
from service.errors import Cancelled, InvalidInput, StoreError
from service.runs.prune import PRUNABLE, Candidate, choose, delete, old_packages, old_uploads
from service.settings import Settings
from service.specs.quantities import parse_duration
from service.storage import open_store
from service.storage.base import ObjectInfo, Store, Unfinished
from service.words import size

if TYPE_CHECKING:
    from service.records.command_answers import Pruned


def prune(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Those that ended so long ago, such as 7d or 12h.")
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state", metavar="STATE", help=f"Those in this state alone: {', '.join(PRUNABLE)}.", autocompletion=known_states
        ),
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", min=0, help="Keep the newest N (of these states).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Delete runs that are over; what would go is shown first. A run that lives is never touched.

    Uploads in parts that were killed more than a day ago, which no listing shows, are dropped as well, and users' code that was sent
    to a cluster more than a day ago and that no run refers to.
    """
    opened = open_store(Settings.load(store=store))
    found = choose(opened, states or (), _seconds(older_than), keep_last)
    uploads = _old_uploads(opened)
    if not as_json:
        _show(found, uploads)
    sure = bool(found or uploads) and (yes or _confirmed(found, uploads))
    refused = _delete(opened, found) if sure else {}
    # After the runs, whose code goes with them. What nobody can use is deleted without a question.
    packages = old_packages(opened) if yes or sure else []
    for package in packages:
        opened.delete(package.key)
    for upload in uploads if sure else []:
        opened.forget(upload)
    gone = [each for each in found if sure and each.run_id not in refused]
    if as_json:
        print_json(_answer(found, gone if sure else None, refused, packages, uploads).document())
    elif sure:
        say(f"deleted {_count(gone, uploads)}")
        if packages:
            say(f"and the code of runs that are gone: {len(packages)} packages, {size(sum(each.size for each in packages))}")
    elif found or uploads:
        say(f"nothing was deleted; add --yes to delete {_count(found, uploads)}")


def _answer(
    found: list[Candidate],
    gone: list[Candidate] | None,
    refused: dict[str, str],
    packages: list[ObjectInfo],
    uploads: list[Unfinished],
) -> "Pruned":
    """What `--json` prints; `gone` is None where nothing was to be deleted."""
    from service.records.command_answers import Pruned, PrunedPackages, PrunedRun, PrunedUploads

    rows = [
        PrunedRun(
            id=each.run_id,
            state=each.state,
            model=each.model,
            dataset=each.dataset,
            last=each.last,
            objects=each.objects,
            bytes=each.bytes,
            deleted=each in (gone or ()),
            refused=refused.get(each.run_id),
        )
        for each in found
    ]
    return Pruned(
        runs=tuple(rows),
        deleted=len(gone or ()),
        bytes=sum(each.bytes for each in (found if gone is None else gone)),
        packages=PrunedPackages(deleted=len(packages), bytes=sum(each.size for each in packages)),
        uploads=PrunedUploads(
            found=len(uploads),
            dropped=0 if gone is None else len(uploads),
            bytes=sum(each.bytes for each in uploads),
        ),
    )


def _old_uploads(store: Store) -> list[Unfinished]:
    """What killed writers left; a store that does not tell is no reason to keep runs."""
    try:
        return old_uploads(store)
    except StoreError as error:
        say(f"Uploads that were killed could not be looked for: {error}")
        return []


def _seconds(age: str | None) -> float | None:
    if age is None:
        return None
    try:
        return float(parse_duration(age))
    except (TypeError, ValueError):
        raise InvalidInput(f"--older-than {age[:40]!r} is not a length of time: write 7d, 12h, 30m or 90s.") from None


def _show(found: list[Candidate], uploads: list[Unfinished]) -> None:
    if uploads:
        say(f"{_uploads(uploads)} killed more than a day ago.")
    if not found:
        if not uploads:
            say("There is nothing to delete.")
        return
    rows = [
        [
            each.run_id,
            each.state,
            each.model or "",
            each.dataset or "",
            local_time(each.last),
            str(each.objects),
            size(each.bytes),
        ]
        for each in found
    ]
    print_table(["RUN", "STATE", "MODEL", "DATASET", "ENDED", "OBJECTS", "SIZE"], rows)


def _confirmed(found: list[Candidate], uploads: list[Unfinished]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"Delete {_count(found, uploads)}? This cannot be undone. [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _delete(store: Store, found: list[Candidate]) -> dict[str, str]:
    """Delete one after the other; return why some stay."""
    refused = {}
    for number, each in enumerate(found, 1):
        try:
            delete(store, each.run_id)
            say(f"{number}/{len(found)} {each.run_id} deleted")
        except InvalidInput as error:
            refused[each.run_id] = str(error)
            say(str(error))
        except KeyboardInterrupt:
            raise Cancelled(f"Stopped at {each.run_id}: the same command deletes the rest.") from None
    return refused


def _count(runs: list[Candidate], uploads: list[Unfinished]) -> str:
    text = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {size(sum(each.bytes for each in runs))}"
    return f"{text}, and {_uploads(uploads)}" if uploads else text


def _uploads(uploads: list[Unfinished]) -> str:
    return (
        f"{len(uploads)} unfinished {'upload' if len(uploads) == 1 else 'uploads'}, {size(sum(each.bytes for each in uploads))}"
    )
