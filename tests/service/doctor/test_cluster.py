"""What doctor says of a cluster by its dashboard's answers, given here by a server that answers as Ray 2.60 does."""

import http.server
import json
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support import s3_servers

from service.doctor.cluster import cluster_checks
from service.doctor.findings import Line, examine
from service.settings import Settings

TOKEN = "0123456789abcdef0123456789abcdef"
NODE = {"raylet": {"state": "ALIVE", "resourcesTotal": {"CPU": 4.0, "GPU": 1.0}}}
USE = "1.0/4.0 CPU\n0.0/1.0 GPU\n0B/19.48GiB memory"


class Dashboard(http.server.BaseHTTPRequestHandler):
    """Ray's: 401 without a token, 403 with a wrong one."""

    answers: dict[str, Any]
    token: str | None

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        status = 200 if self.token is None or given == f"Bearer {self.token}" else 403 if given else 401
        data = json.dumps(self.answers[self.path]).encode() if status == 200 else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def dashboard() -> Iterator[type[Dashboard]]:
    """A dashboard that a test may change; `url` is where."""
    answers = {
        "/api/version": {"version": "4", "ray_version": metadata.version("ray")},
        "/nodes?view=summary": {"data": {"summary": [NODE], "nodeLogicalResources": {"a": USE}}},
    }
    kind = type("Made", (Dashboard,), {"answers": answers, "token": None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kind.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        yield kind
        server.shutdown()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def lines_of(cluster: str | None) -> dict[str, Line]:
    lines = examine([cluster_checks(Settings.load(cluster=cluster))], 9.0)
    return {line.name: line for line in lines}


def test_a_cluster_is_well(dashboard: Any) -> None:
    lines = lines_of(dashboard.url)
    assert {line.status for line in lines.values()} == {"ok"}
    assert lines["Ray"].text == metadata.version("ray")
    assert lines["resources"].text == "1 node, 3 of 4 CPUs free, 1 of 1 GPUs free"


def test_without_the_nodes_use_their_whole_is_reported(dashboard: Any) -> None:
    dashboard.answers["/nodes?view=summary"]["data"]["nodeLogicalResources"] = {}
    assert lines_of(dashboard.url)["resources"].text == "1 node, 4 CPUs in all, 1 GPUs in all"


def test_a_cluster_without_living_nodes_is_reported(dashboard: Any) -> None:
    dashboard.answers["/nodes?view=summary"]["data"]["summary"] = [{"raylet": {"state": "DEAD"}}]
    assert lines_of(dashboard.url)["resources"].status == "failed"


def test_another_version_of_ray_is_reported(dashboard: Any) -> None:
    dashboard.answers["/api/version"]["ray_version"] = "2.9.0"
    line = lines_of(dashboard.url)["Ray"]
    assert line.status == "failed" and "2.9.0" in line.text and metadata.version("ray") in line.text


def test_the_token_is_asked_for_refused_and_accepted(dashboard: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dashboard.token = TOKEN
    missing = lines_of(dashboard.url)["token"]
    assert missing.status == "failed" and "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in missing.text
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another0secret")
    wrong = lines_of(dashboard.url)
    assert wrong["token"].status == "failed" and "does not accept this token" in wrong["token"].text
    assert wrong["Ray"].status == wrong["resources"].status == "not checked"
    assert not any("another0secret" in line.text for line in wrong.values())
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert {line.status for line in lines_of(dashboard.url).values()} == {"ok"}
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert lines_of(dashboard.url)["token"].text == "accepted"
    monkeypatch.setenv("RAY_ADDRESS", dashboard.url)
    assert "RAY_AUTH_MODE=token" in lines_of(None)["token"].text
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert lines_of(dashboard.url)["token"].text == "accepted"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    assert lines_of(dashboard.url)["token"].text == "accepted"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:8265", "has no scheme: write http://HOST:8265"),
        ("http://", "is no address"),
        ("http://nobody.invalid:8265", "no such host"),
        ("http://127.0.0.1:{closed}", "refuses the connection"),
    ],
)
def test_a_wrong_address_is_reported(address: str, words: str) -> None:
    lines = lines_of(address.replace("{closed}", str(s3_servers.free_ports(1)[0])))
    assert lines["cluster"].status == "failed" and words in lines["cluster"].text
    assert {line.status for line in list(lines.values())[1:]} == {"not checked"}


def test_tls_where_there_is_none_is_reported(dashboard: Any) -> None:
    line = lines_of(dashboard.url.replace("http://", "https://"))["cluster"]
    assert line.status == "failed" and "write http:// instead of https://" in line.text


def test_another_server_is_reported(dashboard: Any) -> None:
    dashboard.answers["/api/version"] = {"something": "else"}
    assert "is no Ray dashboard" in lines_of(dashboard.url)["cluster"].text


def test_without_a_cluster_this_machine_is_described() -> None:
    lines = lines_of(None)
    assert {line.status for line in lines.values()} == {"ok"}
    assert "CPUs" in lines["resources"].text and "memory free" in lines["resources"].text


def test_an_address_of_ray_is_looked_at_by_its_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nobody.invalid:6379")
    line = lines_of(None)["cluster"]
    assert line.status == "failed" and "http://nobody.invalid:8265 has no such host" in line.text
