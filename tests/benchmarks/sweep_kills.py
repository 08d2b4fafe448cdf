"""One sweep whose driver, Ray or whole process tree is killed with SIGKILL again and again, against the same sweep left alone.

usage: uv run python tests/benchmarks/sweep_kills.py [--kills 10] [--trials 16] [--seed 0]
Both must end with the same table: each trial's values, state and metrics, to the last bit. No trial that had ended may have another
attempt, none may be missing, and no step of a run may stand twice in its history. When the command itself is killed it is
given again with --resume, as a user would.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml
from common import delayline, heading, scratch_store

SHORTEST = 2.0
"""Seconds from one kill to the next; at most twice the undisturbed sweep's time over the number of kills."""
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
    took = time.monotonic() - began
    print(f"undisturbed: {took:.0f} s", flush=True)
    began = time.monotonic()
    ended = disturbed(path, store, options.kills, 2 * took / options.kills, random.Random(options.seed))
    print(f"with {options.kills} kills: {time.monotonic() - began:.0f} s", flush=True)
    killed = delayline("runs", "show", "killed", "--json", store=store)
    same = result(killed) == result(calm)
    again = [trial["id"] for trial in killed["trials"] if ended.get(trial["id"], trial["attempts"]) != trial["attempts"]]
    twice = [trial["id"] for trial in killed["trials"] if steps_twice(trial["id"], store)]
    attempts = sum(len(trial["attempts"]) for trial in killed["trials"])
    print(f"same table: {'yes' if same else 'NO'}; {len(killed['trials'])} of {len(calm['trials'])} trials, {attempts} attempts")
    print(f"ended trials that ran again: {', '.join(again) or 'none'}; runs with a step twice: {', '.join(twice) or 'none'}")
    raise SystemExit(0 if same and not again and not twice else 1)


def disturbed(path: Path, store: str, kills: int, longest: float, draw: random.Random) -> dict[str, Any]:
    """Run the sweep `killed` to its end through so many kills; return the attempts of the trials that had ended at each."""
    ended: dict[str, Any] = {}
    process = start(path, store, resume=False)
    for number in range(1, kills + 1):
        wait_until(process, time.monotonic() + draw.uniform(SHORTEST, longest))
        # While Ray starts there is less to kill.
        found = {name: [one for one in family(process) if chosen(command_of(one))] for name, chosen in VICTIMS.items()}
        name = draw.choice([name for name, victims in found.items() if victims])
        for one in found[name]:
            one.send_signal(signal.SIGKILL)
        ended |= ended_trials(store)
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


def wait_until(process: "subprocess.Popen[bytes]", end: float) -> None:
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    if process.poll() is not None:
        raise SystemExit(f"the sweep ended before its last kill, with {process.returncode}: use more --trials")


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def ended_trials(store: str) -> dict[str, Any]:
    """The attempts of each trial that has ended well."""
    shown = subprocess.run(
        [sys.executable, "-m", "service.cli.main", "runs", "show", "killed", "--store", store, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    trials = json.loads(shown.stdout)["trials"] if shown.returncode == 0 else []
    return {trial["id"]: trial["attempts"] for trial in trials if trial["state"] == "succeeded"}


def result(document: Any) -> list[Any]:
    """What a sweep found, without times."""
    return [(trial["number"], trial["params"], trial["seed"], trial["state"], trial["metrics"]) for trial in document["trials"]]


def steps_twice(run: str, store: str) -> bool:
    steps = [row["step"] for row in delayline("runs", "show", run, "--json", store=store)["history"]]
    return steps != sorted(set(steps))


if __name__ == "__main__":
    main()
