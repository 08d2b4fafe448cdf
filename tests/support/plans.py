"""Plans of small runs of the embedded digits, for tests of what comes before a driver."""

from pathlib import Path
from typing import Any

from service import recipes
from service.cluster.local_ray import LocalRay
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.submission.plan import Plan, Request, plan


def spec_of(*overrides: str) -> TrainSpec:
    """The spec of cnn-digits with changes."""
    return recipes.resolve("cnn-digits", ["worker.cpus=0.01", *overrides], None, Path())[0]


def plan_for(store: Store, folder: Path, *overrides: str, **options: Any) -> Plan:
    """The plan of such a run with the id a-run; `options` are those of a Request."""
    settings = Settings.load(store=store.url)
    request = Request(spec_of(*overrides), **{"stem": "cnn-digits", "folder": folder, "run_id": "a-run", **options})
    return plan(request, settings, store, LocalRay(folder))
