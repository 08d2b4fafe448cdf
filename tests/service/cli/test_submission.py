"""What --dry-run shows against what a cluster gets, through the whole command. The dashboard is played: it takes jobs and ends them."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.workspace import Done

from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.storage.base import Store

RUN = ("train", "--name", "fake", "-s", "worker.cpus=0.01")
SWEEP = ("sweep", "sweep-digits", "--name", "fake", "-s", "base.worker.cpus=0.01")


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Keeps the bodies of submissions; a job that is asked for has failed with exit code 3."""

    def do_GET(self) -> None:
        _, _, identity = self.path.partition("/api/jobs/")
        node = {"state": "ALIVE", "node_ip": "127.0.0.1", "resources_total": {"CPU": 2.0}}
        if self.path.startswith("/api/v0/nodes"):
            self.answer({"data": {"result": {"result": [node]}}})
        elif self.path == "/api/jobs/":
            self.answer([])
        elif identity.endswith("/logs"):
            self.answer({"logs": "Error: no such luck"})
        elif identity:
            self.answer({"submission_id": identity, "status": "FAILED", "driver_exit_code": 3})
        else:
            self.answer({})

    def do_POST(self) -> None:
        server: Any = self.server
        server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({})

    def answer(self, document: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        made: Any = server
        made.posted = []
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("how", ["attached", "detached"])
@pytest.mark.parametrize("command", [RUN, SWEEP], ids=["train", "sweep"])
def test_a_dry_run_shows_what_the_cluster_is_sent_byte_for_byte(
    delayline: Callable[..., Done], local_store: Store, dashboard: Any, command: tuple[str, ...], how: str
) -> None:
    more = ["--cluster", f"http://127.0.0.1:{dashboard.server_address[1]}", *(["--detach"] if how == "detached" else [])]

    def submit(*arguments: str) -> str:
        """Submit after a dry run; return the entrypoint."""
        shown = delayline(*command, *arguments, *more, "--dry-run", "--json")
        assert shown.code == 0, shown.err
        assert not dashboard.posted
        done = delayline(*command, *arguments, *more, "--json")
        assert done.code == (3 if how == "attached" else 0), done.err
        (posted,) = dashboard.posted
        dashboard.posted.clear()
        submission = shown.document["submission"]
        assert submission.pop("upload") == {"files": [], "bytes": 0}
        assert posted == json.dumps(submission).encode()
        assert submission["entrypoint"].startswith("exec python -P -m ")
        return str(submission["entrypoint"])

    first = submit()
    assert f"--kind {command[0]} " in first if how == "detached" else f" jobs.{command[0]} " in first
    RunRecord(local_store, "fake").write_state(StateDocument(state="cancelled", attempts=[], finished=7.0, error=None))
    # What is stored now is another spec than that of the first submission: it travels with the job.
    again = submit("--resume", "-s", "workers=4")
    assert " --resume --spec-changes " in again
    assert " --spec-changes " not in first
