"""What a client says of servers that are no Ray dashboard; tests/integration/test_ray_jobs.py speaks with a real one."""

import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from support import s3_servers

from service.cluster import open_cluster
from service.cluster.dashboard_http import DashboardHttp
from service.cluster.jobs_api import JobsApi, check_url
from service.doctor.cluster import cluster_checks
from service.errors import ClusterUnreachable, InfrastructureFailure, InvalidInput
from service.settings import Settings

Answer = tuple[int, dict[str, str], bytes]


class Server(http.server.ThreadingHTTPServer):
    """Answers by path, and keeps what was asked."""

    answers: dict[str, Answer]
    asked: list[tuple[str, str | None]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Authorization")))
        status, headers, body = server.answers.get(self.path, (404, {}, b"nothing here"))
        while body == b"drip":
            try:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.answers, made.asked = {}, []
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_port_where_nobody_listens() -> None:
    (port,) = s3_servers.free_ports(1)
    with pytest.raises(ClusterUnreachable, match=r"does not answer \(.*refused.*\): check its address"):
        JobsApi(f"http://127.0.0.1:{port}", None).version()


@pytest.mark.parametrize("answer", [(200, b"<html>"), (404, b""), (405, b"")])
def test_a_server_that_is_no_dashboard(server: Server, answer: tuple[int, bytes]) -> None:
    server.answers["/api/version"] = (answer[0], {}, answer[1])
    with pytest.raises(InvalidInput, match="is no Ray dashboard"):
        JobsApi(server.url, None).version()


def test_the_token_goes_to_the_cluster_alone(server: Server) -> None:
    server.answers["/api/version"] = (302, {"Location": f"{server.url}/elsewhere"}, b"")
    with pytest.raises(InvalidInput, match="is no Ray dashboard"):
        JobsApi(f"{server.url}/", SecretStr("t0ken")).version()
    assert server.asked == [("/api/version", "Bearer t0ken")]


@pytest.mark.parametrize(("status", "token", "words"), [
    (401, None, "asks for a token and there is none here: set RAY_AUTH_TOKEN"),
    (403, "t0ken", "refuses the token that was found here"),
])  # fmt: skip
def test_refusals_say_what_to_do_and_no_token(server: Server, status: int, token: str | None, words: str) -> None:
    server.answers["/api/version"] = (status, {}, b"no")
    with pytest.raises(InvalidInput, match=words) as raised:
        JobsApi(server.url, SecretStr(token) if token else None).version()
    assert "t0ken" not in str(raised.value)


def test_a_failure_of_the_cluster_is_quoted_by_its_last_line(server: Server) -> None:
    server.answers["/api/version"] = (500, {}, b"Traceback\n  File\nTimeoutError: no agent\n")
    with pytest.raises(InfrastructureFailure, match="answered with status 500: TimeoutError: no agent"):
        JobsApi(server.url, None).version()


@pytest.mark.parametrize(("report", "fixed"), [
    (b'{"data": {"clusterStatus": {"autoscalerReport": {"nodeTypeMapping": {"ab": "node_ab", "cd": "node_cd"}}}}}', True),
    (b'{"data": {"clusterStatus": {"autoscalerReport": {"nodeTypeMapping": {"ab": "head-group", "cd": "workers"}}}}}', False),
])  # fmt: skip
def test_tells_a_cluster_that_grows_from_one_that_cannot(server: Server, report: bytes, fixed: bool) -> None:
    server.answers["/api/cluster_status"] = (200, {}, report)
    assert JobsApi(server.url, None).has_fixed_size() is fixed


NODES = b"""{"data": {"result": {"result": [
    {"node_id": "cd", "is_head_node": false, "state": "ALIVE"}, {"node_id": "ab", "is_head_node": true, "state": "ALIVE"}
]}}}"""
LOG = "/api/v0/logs/file?node_id=ab&filename=monitor.log&lines=-1"


@pytest.mark.parametrize(("log", "fixed"), [
    ((200, b"Starting autoscaler v2 monitor\nNo autoscaling config provided: use read only node provider.\nsession_name"), True),
    ((200, b"Starting autoscaler v2 monitor\nUsing Autoscaling Config: \nprovider: {type: kuberay}"), False),
    ((200, b" " * 100_000 + b"use read only node provider"), False),
    ((500, b"no such file"), False),
], ids=["looks", "adds", "much later", "no monitor of Ray's own"])  # fmt: skip
def test_of_a_cluster_that_reports_nothing_the_log_of_its_monitor_tells(
    server: Server, log: tuple[int, bytes], fixed: bool
) -> None:
    """As every cluster of KubeRay with Ray 2.60."""
    status = b'{"data": {"autoscalingStatus": null, "autoscalingError": null, "clusterStatus": null}}'
    server.answers |= {
        "/api/cluster_status": (200, {}, status),
        "/api/v0/nodes?detail=1&limit=10000": (200, {}, NODES),
        LOG: (log[0], {}, log[1]),
    }
    assert JobsApi(server.url, None).has_fixed_size() is fixed


@pytest.mark.parametrize(
    "url", ["http://", "http://head:0x1", "http://u:secret@head:8265", "http://head:8265/?a=1", "http://he\nad"]
)
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(InvalidInput, match="cluster") as raised:
        check_url(url)
    assert "secret" not in str(raised.value)


def test_an_address_loses_its_last_slash() -> None:
    assert check_url("https://head/ray/") == "https://head/ray"


REFUSED = [
    "http://head:8265", "http://10.0.0.1:8265", "http://localhost.example.com:8265", "http://127.0.0.1.example.com",
    "http://ray-head.team.svc:8265", "http://ray-head.team.svc.cluster.local", "http://[2001:db8::1]:8265", "http://0.0.0.0:8265",
    "http://x.svc.example.com", "http://example.com%2f.svc.", "http://example.com/x.svc", "http://localhost%00.example.com", "http://127.1",
    "http://2130706433",
]  # fmt: skip
SAFE = [
    "https://head:8265",
    "http://localhost:8265",
    "http://127.0.0.1:8265",
    "http://127.9.9.9",
    "http://[::1]:8265",
    "HTTP://LOCALHOST:8265",
    "http://localhost.:8265",
]


def settings(monkeypatch: pytest.MonkeyPatch, inside: bool = False, **flags: Any) -> Settings:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("DELAYLINE_INSECURE_TOKEN", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if inside:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    return Settings.load(**flags)


@pytest.mark.parametrize("url", REFUSED)
def test_a_token_does_not_go_to_another_machine_in_the_clear(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in (
        lambda: JobsApi(url, SecretStr("t0ken")),
        lambda: DashboardHttp(url, SecretStr("t0ken")),
        lambda: open_cluster(settings(monkeypatch, cluster=url)),
        lambda: cluster_checks(settings(monkeypatch, cluster=url)),
    ):
        with pytest.raises(
            InvalidInput, match="https://, or `kubectl port-forward` and http://localhost:8265, or --insecure-token"
        ) as raised:
            attempt()
        assert "t0ken" not in str(raised.value) and "\n" not in str(raised.value)
    assert open_cluster(settings(monkeypatch, cluster=url, insecure_token=True)).description.endswith(url)
    assert JobsApi(url, None).url == url


@pytest.mark.parametrize("url", SAFE)
def test_a_token_goes_by_https_and_to_this_machine(url: str) -> None:
    assert JobsApi(url, SecretStr("t0ken"))


@pytest.mark.parametrize("url", REFUSED)
def test_from_a_pod_a_token_goes_to_a_service_of_its_cluster(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = settings(monkeypatch, inside=True)
    if ".team.svc" in url:
        assert JobsApi(f"{url}", SecretStr("t0ken"), inside)
    else:
        with pytest.raises(InvalidInput, match="by http"):
            JobsApi(url, SecretStr("t0ken"), inside)


def test_a_token_that_goes_by_http_passes_no_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = s3_servers.free_ports(1)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    server.answers["/api/version"] = (200, {}, b'{"ray_version": "1"}')
    assert JobsApi(server.url, SecretStr("t0ken")).version() == "1"


def test_a_dashboard_that_drips_is_given_up(server: Server) -> None:
    server.daemon_threads, server.block_on_close = True, False
    server.answers["/api/version"] = (200, {}, b"drip")
    began = time.monotonic()
    with pytest.raises(OSError, match=r"the answer has not come whole within 0\.8 s"):
        DashboardHttp(server.url, None).request("GET", "/api/version", seconds=0.2)
    assert time.monotonic() - began < 5


def test_an_answer_that_is_nested_without_end_is_no_dashboards(server: Server) -> None:
    server.answers["/api/version"] = (200, {}, b"[" * 100_000)
    with pytest.raises(InvalidInput, match="is no Ray dashboard"):
        JobsApi(server.url, None).version()
