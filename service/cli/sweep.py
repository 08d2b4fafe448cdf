"""`delayline sweep`: plan the trials of a search space, submit them, stay with them."""

from pathlib import Path

import typer

from service.cli.options import AsJson, InsecureToken, StoreUrl
from service.cli.submission import Changes, ClusterUrl, Detach, DryRun, Name, Request, Resume, Spec, Workers, carry_out
from service.cluster.base import Cluster
from service.settings import Settings
from service.storage.base import Store
from service.submission.plan import Plan
from service.submission.plan_sweep import plan_sweep

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def sweep(
    spec: Spec = None,
    changes: Changes = None,
    workers: Workers = None,
    name: Name = None,
    resume: Resume = False,
    store: StoreUrl = None,
    cluster: ClusterUrl = None,
    insecure_token: InsecureToken = False,
    detach: Detach = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a network at many points of a search space, and show the best; without SPEC that is sweep-digits.

    Ctrl-C lets the trials under way save a checkpoint and stops; Ctrl-C again stops at once. --resume goes on;
    with a larger budget or more trials, such as -s budget=4h, also with a sweep that came to its end.
    """
    request = Request("sweep", spec, changes or [], workers, name, resume)

    def make(settings: Settings, opened: Store, place: Cluster, folder: Path) -> Plan:
        chosen, stem = request.sweep_spec(opened, folder)
        return plan_sweep(
            chosen, settings, opened, place, stem=stem, folder=folder, run_id=name, resume=resume, command=request.command
        )

    carry_out(make, store, cluster, insecure_token, detach=detach, dry_run=dry_run, as_json=as_json)
