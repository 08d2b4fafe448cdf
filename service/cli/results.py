"""How a run or a sweep ended, in one line."""

from service.cli.console import figures
from service.cli.sweep_display import parameters, several_bases
from service.records.run_record import Document
from service.specs.generated import CHANCE_OF_BITS, is_bits_task
from service.words import clock


def result_line(run: Document) -> str:
    """How a finished run or sweep ended, in one line."""
    metrics = run["metrics"]
    if run["kind"] == "sweep":
        return _sweep_line(run)
    tested = [name for name in metrics if name.startswith("test_")]
    tests = [name for name in ("test_accuracy", "test_loss") if name in tested]
    tests += [name for name in tested if name not in tests]
    parts = [f"run {run['id']} {run['state']}"]
    if run.get("started") and run.get("finished"):
        parts[0] += f" in {clock(run['finished'] - run['started'])}"
    parts += [figures(metrics, tests)] if tests else []
    if is_bits_task(run.get("spec", {}).get("task", "")) and "test_accuracy" in tests:
        parts[-1] += f"  (guesses {CHANCE_OF_BITS:.4f})"
    return f"{': '.join(parts)}  (store {run['store']})"


def _sweep_line(sweep: Document) -> str:
    took = f" in {clock(sweep['finished'] - sweep['started'])}" if sweep.get("started") and sweep.get("finished") else ""
    best = sweep.get("best")
    words = [f"sweep {sweep['id']} {sweep['state']}{took}"]
    if best:
        spread = f" ± {best['spread']:.4f}" if best.get("spread") is not None else ""
        values = parameters(best, several_bases(sweep["trials"])) or best["base"]
        words.append(f"best {best['metric']} {best['mean']:.4f}{spread} with {values}, trial {best['trial']}")
    return f"{': '.join(words)}  (store {sweep['store']})"
