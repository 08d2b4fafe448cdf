"""How a run or a sweep ended, in one line."""

from service.cli.console import figures
from service.cli.sweep_display import parameters, several_bases
from service.records.answers import Run
from service.specs.generated import CHANCE_OF_BITS, is_bits_task
from service.words import clock


def result_line(run: Run) -> str:
    """How a finished run or sweep ended, in one line."""
    metrics = run.metrics
    if run.kind == "sweep":
        return _sweep_line(run)
    tested = [name for name in metrics if name.startswith("test_")]
    first = [name for name in ("test_accuracy", "test_loss") if name in tested]
    tests = [*first, *(name for name in tested if name not in first)]
    parts = [f"run {run.id} {run.state}"]
    parts[0] += _took(run)
    parts += [figures(metrics, tests)] if tests else []
    if is_bits_task(str(run.spec.get("task", ""))) and "test_accuracy" in tests:
        parts[-1] += f"  (guesses {CHANCE_OF_BITS:.4f})"
    return f"{': '.join(parts)}  (store {run.store})"


def _sweep_line(sweep: Run) -> str:
    best = sweep.best
    words = [f"sweep {sweep.id} {sweep.state}{_took(sweep)}"]
    if best:
        spread = f" ± {best.spread:.4f}" if best.spread is not None else ""
        values = parameters(best, several_bases(sweep.trials)) or best.base
        words.append(f"best {best.metric} {best.mean:.4f}{spread} with {values}, trial {best.trial}")
    return f"{': '.join(words)}  (store {sweep.store})"


def _took(run: Run) -> str:
    return f" in {clock(run.finished - run.started)}" if run.started and run.finished else ""
