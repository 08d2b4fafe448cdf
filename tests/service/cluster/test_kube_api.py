"""Failures that a real API server cannot be made to show at will; what it does show is tested in tests/integration/kubernetes."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from service.cluster import kube_api
from service.cluster.kube_address import KubeAddress
from service.cluster.kube_api import KubeApi
from service.errors import ClusterUnreachable, Conflict, DelaylineError, InvalidInput, NotFound
from service.settings import Settings

Answer = Callable[[int], tuple[int, Any, float]]
"""Of the number of a request: status, document or text, and by how much the server's clock is ahead."""


@contextmanager
def api_server(answer: Answer, folder: Path) -> Iterator[KubeApi]:
    """An API server that answers as told, and the client of the namespace `team` on it."""
    asked = 0

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            nonlocal asked
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body, ahead = answer(asked)
            asked += 1
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Date", formatdate(time.time() + ahead, usegmt=True))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = reply

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield client_of(f"http://127.0.0.1:{server.server_port}", folder)
    finally:
        server.shutdown()
        server.server_close()


def client_of(url: str, folder: Path) -> KubeApi:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(json.dumps(config))
    return KubeApi.of(KubeAddress("team"), Settings(kubeconfig=str(file)))


def status(code: int, message: str) -> tuple[int, Any, float]:
    return code, {"kind": "Status", "message": message}, 0.0


@pytest.mark.parametrize(
    ("code", "message", "kind", "words"),
    [
        (401, "Unauthorized", InvalidInput, ["credentials", "expired", "log in again"]),
        (403, 'rayjobs.ray.io is forbidden: User "u" cannot create', InvalidInput, ["may not create rayjobs.ray.io", "'team'", "rbac.yaml"]),
        (403, "exceeded quota: few, requested: count/rayjobs.ray.io=1", InvalidInput, ["does not admit", "exceeded quota: few"]),
        (400, 'admission webhook "x" denied the request: no owner', InvalidInput, ["does not admit", "no owner"]),
        (404, 'namespaces "team" not found', InvalidInput, ["no namespace 'team'", "kubectl create namespace team"]),
        (404, "404 page not found\n", InvalidInput, ["KubeRay operator 1.6"]),
        (400, 'strict decoding error: unknown field "spec.submitterConfig"', InvalidInput, ["too old", "submitterConfig"]),
        (409, 'rayjobs.ray.io "one" already exists', Conflict, ["already exists"]),
        (422, "spec.entrypoint: Required value", InvalidInput, ["refuses", "Required value"]),
        (418, "teapot", DelaylineError, ["418", "teapot"]),
    ],
)  # fmt: skip
def test_each_refusal_gets_its_own_sentence(
    tmp_path: Path, code: int, message: str, kind: type[DelaylineError], words: list[str]
) -> None:
    answer = (code, message, 0.0) if message.startswith("404") else status(code, message)
    with api_server(lambda _: answer, tmp_path) as api, pytest.raises(kind) as raised:
        api.create("rayjobs", {"kind": "RayJob"})
    assert [word for word in words if word not in str(raised.value)] == []
    assert "secret-token" not in str(raised.value)


def test_a_server_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    with api_server(lambda number: status(503, "busy") if number < 2 else (200, {"data": {"a": "b"}}, 0.0), tmp_path) as api:
        assert api.config_map("x") == {"a": "b"}


def test_a_server_that_nobody_reaches_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_api, "AWAY_SECONDS", 0.5)
    with pytest.raises(ClusterUnreachable, match="context lab") as raised:
        client_of("http://127.0.0.1:9", tmp_path).get("rayjobs", "one")
    assert "goes on meanwhile" in str(raised.value)


@pytest.mark.parametrize(
    ("ahead", "word"), [(-300.0, "(299|300|301) s ahead of"), (300.0, "(299|300|301) s behind"), (5.0, None)]
)
def test_clocks_that_differ_are_told(tmp_path: Path, ahead: float, word: str | None) -> None:
    with api_server(lambda _: (200, {}, ahead), tmp_path) as api:
        api.config_map("x")
        remark = api.clock_remark()
    assert (remark is None) if word is None else re.search(word, str(remark))


def test_a_deletion_of_what_is_gone_is_none(tmp_path: Path) -> None:
    with api_server(lambda _: status(404, 'rayjobs.ray.io "one" not found'), tmp_path) as api:
        api.delete("rayjobs", "one")
        with pytest.raises(NotFound):
            api.get("rayjobs", "one")


@pytest.mark.parametrize("text", ["", "a: b", "{", "just words", "[1, 2]"])
def test_a_file_that_is_no_kubeconfig_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(InvalidInput, match="kubeconfig"):
        KubeApi.of(KubeAddress("team"), Settings(kubeconfig=str(tmp_path / "config")))


def test_a_context_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    client_of("http://127.0.0.1:9", tmp_path)
    with pytest.raises(InvalidInput, match="no context 'other', only lab"):
        KubeApi.of(KubeAddress("team", context="other"), Settings(kubeconfig=str(tmp_path / "kubeconfig")))
