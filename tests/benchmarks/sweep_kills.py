"""One sweep whose driver, Ray or whole process tree is killed with SIGKILL again and again, against the same sweep left alone.

usage: uv run python tests/benchmarks/sweep_kills.py [--kills 10] [--trials 16] [--seed 0]
Both must end with the same table: each trial's values, state and metrics, to the last bit. No trial that had ended may have another
attempt, none may be missing, and no step of a run may stand twice in its history. When the command itself is killed it is
given again with --resume, as a user would.
"""

import argparse
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from common import delayline, find_test_modules, heading, scratch_store

EARLY, SOON = 0.3, 8.0
"""This share of the kills comes within so many seconds of a start, which takes about 6 s (measured); the others when the trials have
done a random part of their steps."""
LAST = 0.95
"""The part of all steps before which the last kill comes."""
LIMIT = 1800
VICTIMS = {
    "everything": lambda command: True,
    "the driver": lambda command: "jobs.sweep" in command,
    "Ray's servers": lambda command: "raylet" in command or "gcs_server" in command,
    "the trials' processes": lambda command: command.startswith("ray::"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    heading(f"{options.kills} kills in a sweep of {options.trials} trials of lenet5-digits")
    store = scratch_store()
    path = Path(store).parent / f"{Path(store).name}.yaml"
    rates = [round(0.0005 * 1.5**number, 6) for number in range(options.trials // 2)]
    space = {"optimizer.learning_rate.initial": {"grid": rates}}
    path.write_text(yaml.safe_dump({"base": {"recipe": "lenet5-digits", "worker": {"cpus": 1}}, "space": space, "seeds": 2}))
    began = time.monotonic()
    calm = delayline("sweep", str(path), "--name", "calm", "--json", store=store)
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    ended = disturbed(path, store, moments(options.kills, steps_done(calm), random.Random(options.seed)))
    print(f"with {options.kills} kills: {time.monotonic() - began:.0f} s", flush=True)
    killed = delayline("runs", "show", "killed", "--json", store=store)
    same = result(killed) == result(calm)
    again = [trial["id"] for trial in killed["trials"] if ended.get(trial["id"], trial["attempts"]) != trial["attempts"]]
    twice = [trial["id"] for trial in killed["trials"] if steps_twice(trial["id"], store)]
    attempts = sum(len(trial["attempts"]) for trial in killed["trials"])
    print(f"same table: {'yes' if same else 'NO'}; {len(killed['trials'])} of {len(calm['trials'])} trials, {attempts} attempts")
    print(f"ended trials that ran again: {', '.join(again) or 'none'}; runs with a step twice: {', '.join(twice) or 'none'}")
    raise SystemExit(0 if same and not again and not twice else 1)


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the start, or when the trials have done so many steps; `choice` says what."""

    choice: float
    seconds: float | None = None
    steps: int = 0


def moments(count: int, total: int, draw: random.Random) -> list[Moment]:
    """Random moments in a sweep of `total` steps, in their order."""
    early = [draw.random() < EARLY for _ in range(count)]
    steps = iter(sorted(int(draw.uniform(0, LAST) * total) for _ in range(count)))
    return [Moment(draw.random(), draw.uniform(0, SOON)) if soon else Moment(draw.random(), steps=next(steps)) for soon in early]


def disturbed(path: Path, store: str, kills: list[Moment]) -> dict[str, Any]:
    """Run the sweep `killed` to its end through the kills; return the attempts of the trials that had ended at each."""
    find_test_modules()
    from support.workspace import command_of, family, kill

    ended: dict[str, Any] = {}
    process = start(path, store, resume=False)
    for number, moment in enumerate(kills, 1):
        wait_for(moment, process, store)
        # While Ray starts there is less to kill.
        found = {name: [one for one in family(process.pid) if chosen(command_of(one))] for name, chosen in VICTIMS.items()}
        names = [name for name, victims in found.items() if victims]
        name = names[int(moment.choice * len(names))]
        kill(found[name])
        trials = shown(store)
        ended |= {trial["id"]: trial["attempts"] for trial in trials if trial["state"] == "succeeded"}
        print(f"  kill {number}: {name}, {len(found[name])} processes; {len(ended)} trials had ended", flush=True)
        time.sleep(1)
        if process.poll() is not None:
            process = start(path, store, resume=True)
    process.wait(timeout=LIMIT)
    if process.returncode != 0:
        raise SystemExit(f"the sweep ended with {process.returncode}")
    return ended


def start(path: Path, store: str, resume: bool) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "service.cli.main", "sweep", str(path), "--name", "killed", "--store", store]
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, *(["--resume"] if resume else [])], stdin=quiet, stdout=quiet, stderr=quiet)


def wait_for(moment: Moment, process: "subprocess.Popen[bytes]", store: str) -> None:
    end = time.monotonic() + (LIMIT if moment.seconds is None else moment.seconds)
    while time.monotonic() < end and process.poll() is None:
        if moment.seconds is None and steps_done({"trials": shown(store)}) >= moment.steps:
            break
        time.sleep(0.2)
    if process.poll() is not None:
        raise SystemExit(f"the sweep ended before its last kill, with {process.returncode}")


def steps_done(document: Any) -> int:
    return sum(trial["step"] or 0 for trial in document["trials"])


def shown(store: str) -> list[Any]:
    """The trials of the sweep as they stand; none before there is a sweep."""
    from service.records.run_record import RunRecord
    from service.settings import Settings
    from service.storage import open_store
    from service.sweeps.trials import trial_rows

    record = RunRecord(open_store(Settings.load(store=store)), "killed")
    return trial_rows(record.store, record.trials())


def result(document: Any) -> list[Any]:
    """What a sweep found, without times."""
    return [(trial["number"], trial["params"], trial["seed"], trial["state"], trial["metrics"]) for trial in document["trials"]]


def steps_twice(run: str, store: str) -> bool:
    steps = [row["step"] for row in delayline("runs", "show", run, "--json", store=store)["history"]]
    return steps != sorted(set(steps))


if __name__ == "__main__":
    main()
