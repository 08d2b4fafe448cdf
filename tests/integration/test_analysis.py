"""Workers that are killed in the analysis, as by the kernel for their memory: the trained run succeeds."""

import json

import pytest
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLED = """
import glob, json, os, signal, threading, time

class Killed(keras.callbacks.Callback):
    # Ends its worker as soon as the run is trained, in the first `times` attempts.
    def __init__(self, store, times):
        super().__init__()
        self.store, self.times = store, times
        # Not as the training begins: an attempt for the analysis alone does not train.
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while True:
            time.sleep(0.01)
            try:
                with open(f"{self.store}/runs/killed/progress.json") as file:
                    progress = json.load(file)
            except (OSError, ValueError):
                continue
            if progress["phase"] == "trained" and os.getpid() in [w["pid"] for w in progress["workers"]]:
                if progress["attempt"] <= self.times:
                    os.kill(os.getpid(), signal.SIGKILL)
                return
"""


@pytest.mark.parametrize(("times", "workers"), [(1, 2), (2, 1)])
def test_a_kill_in_the_analysis_repeats_it_alone_and_once(workspace: Workspace, times: int, workers: int) -> None:
    (workspace.folder / "nets.py").write_text((workspace.folder / "nets.py").read_text() + KILLED)
    callbacks = f'callbacks=[{{name: "nets:Killed", store: "{workspace.store_url}", times: {times}}}]'
    arguments = ("-s", callbacks, "-s", "steps=40", "-s", "retries=0", "--workers", str(workers), "--name", "killed")
    done = workspace.delayline("train", "run.yaml", *arguments)
    assert done.code == 0, done.err
    run = workspace.show("killed")
    assert (run["state"], run["error"], len(run["attempts"])) == ("succeeded", None, 2)
    assert run["metrics"]["test_accuracy"] > 0
    events = [event["event"] for event in run["events"]]
    # It trained and kept its model once.
    assert events.count("training") == 1 and workspace.store.exists("runs/killed/model.keras")
    assert ("not analysed" in events) == (times == 2)
    analysed = [info.key for info in workspace.store.objects("runs/killed/analysis/") if info.key.endswith("results.json")]
    assert len(analysed) == (1 if times == 1 else 0)
    if analysed:
        assert json.loads(workspace.store.read(analysed[0]))["pairs"]
