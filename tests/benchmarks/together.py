"""32 trials of the bit memoriser that train together, against the same trials one after another in one warm process.

usage: uv run python tests/benchmarks/together.py [--recipe NAME] [--key KEY] [--values NUMBER…] [--seeds 8] [--set KEY=VALUE]…
The sweep has four rates or values of another key, each with so many seeds, a delay of 20 steps, and the recipe's epochs.
Measured is from the first trial's start to the last one's end, with all that a run writes; `together` as it comes, with a
group for each core, and in one process alone. The sweeps run one after another.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from common import delayline, heading, scratch_store, span, table

WAYS = {
    "one after another": ["together=never", "parallel=1"],
    "together in one process": ["together=auto", "parallel=1"],
    "together": ["together=auto"],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="bit-memory-rnn")
    parser.add_argument("--key", default="optimizer.learning_rate.initial")
    parser.add_argument("--values", type=float, nargs="+", default=[0.002, 0.005, 0.01, 0.02])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], help="a key of the sweep to change")
    options = parser.parse_args()
    heading(f"{len(options.values) * options.seeds} trials of {options.recipe}")
    store = scratch_store()
    file = write_sweep(Path(store), options.recipe, {options.key: {"grid": options.values}}, options.seeds)
    seconds = {}
    for way, settings in WAYS.items():
        seconds[way] = sweep_seconds(file, store, [*settings, *options.set])
        print(f"  {way}: {seconds[way]:.1f} s", flush=True)
    apart = seconds["one after another"]
    table(
        [("trials", "seconds", "times as fast"), *((way, f"{took:.1f}", f"{apart / took:.1f}") for way, took in seconds.items())]
    )


def write_sweep(folder: Path, recipe: str, space: dict[str, Any], seeds: int) -> Path:
    import yaml

    path = folder.parent / "together.yaml"
    path.write_text(yaml.safe_dump({"base": {"recipe": recipe}, "space": space, "seeds": seeds}))
    return path


def sweep_seconds(file: Path, store: str, settings: list[str]) -> float:
    """From the first start of a trial to the last one's end; raise SystemExit where one did not succeed."""
    changes = [part for setting in settings for part in ("-s", setting)]
    name = f"bench-{time.time_ns() % 10**12}"
    rows = delayline("sweep", str(file), *changes, "--name", name, "--json", store=store)["trials"]
    if {row["state"] for row in rows} != {"succeeded"}:
        raise SystemExit(f"not all trials of {name} succeeded")
    return span(rows)


if __name__ == "__main__":
    main()
