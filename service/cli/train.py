"""`delayline train`: plan a run, submit it, stay with it."""

from pathlib import Path

import typer

from service.cli.options import AsJson, InsecureToken, StoreUrl
from service.cli.submission import Changes, ClusterUrl, Detach, DryRun, Name, Request, Resume, Spec, Workers, carry_out
from service.cluster.base import Cluster
from service.settings import Settings
from service.storage.base import Store
from service.submission.plan import Plan, plan

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def train(
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
    """Train a network on any number of workers, and stay with the run until its end; without SPEC that is cnn-digits.

    Ctrl-C saves a checkpoint and cancels the run; Ctrl-C again stops it at once.
    """
    request = Request("train", spec, changes or [], workers, name, resume)

    def make(settings: Settings, opened: Store, place: Cluster, folder: Path) -> Plan:
        chosen, stem = request.train_spec(opened, folder)
        return plan(
            chosen, settings, opened, place, stem=stem, folder=folder, run_id=name, resume=resume, command=request.command
        )

    carry_out(make, store, cluster, insecure_token, detach=detach, dry_run=dry_run, as_json=as_json)
