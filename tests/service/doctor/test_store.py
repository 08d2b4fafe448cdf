"""What doctor says of stores: folders and a real SeaweedFS, with what may be wrong with each."""

import http.server
import re
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from support import s3_servers

from service.doctor import Line
from service.doctor.findings import examine
from service.doctor.store import NAMES, SKEW_SECONDS, store_checks
from service.errors import Conflict
from service.settings import Settings
from service.storage import open_store
from service.storage.local import LocalStore


@pytest.fixture
def server(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> s3_servers.S3Server:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return seaweedfs


def lines_of(url: str) -> dict[str, Line]:
    began = time.monotonic()
    lines = examine([store_checks(Settings.load(store=url))], 9.0)
    assert time.monotonic() - began < 10
    assert [line.name for line in lines] == list(NAMES)
    for line in lines:
        assert line.text and "\n" not in line.text and len(line.text) < 400
    return {line.name: line for line in lines}


def statuses(lines: dict[str, Line]) -> dict[str, str]:
    return {name: line.status for name, line in lines.items()}


ALL_OK = dict.fromkeys(NAMES, "ok")


def test_a_folder_is_well_and_left_as_it_was(tmp_path: Path) -> None:
    for url in (str(tmp_path / "new" / "store"), f"file://{tmp_path}/new"):
        lines = lines_of(url)
        assert statuses(lines) == ALL_OK
        assert "MB/s put" in lines["throughput"].text
        assert list(tmp_path.iterdir()) == []
    store = LocalStore(tmp_path / "store")
    store.write("runs/a/spec.json", b"{}")
    before = sorted(path for path in tmp_path.rglob("*") if "lock-" not in path.name)
    assert statuses(lines_of(store.url)) == ALL_OK
    assert sorted(path for path in tmp_path.rglob("*") if "lock-" not in path.name) == before


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    lines = lines_of(str(tmp_path / "store"))
    assert lines["put"].status == "failed" and "a file stands where a folder is needed" in lines["put"].text


def test_a_bucket_is_well_and_nothing_is_left(server: s3_servers.S3Server) -> None:
    bucket = server.bucket()
    lines = lines_of(f"s3://{bucket}/course")
    assert statuses(lines) == ALL_OK, lines
    assert "answers in" in lines["endpoint"].text and "of the server's" in lines["clock"].text
    assert list(open_store(Settings.load(store=f"s3://{bucket}")).objects("")) == []
    assert not server.client().list_objects_v2(Bucket=bucket).get("Contents")


def test_a_missing_bucket_is_to_be_created_and_reported_once(server: s3_servers.S3Server) -> None:
    lines = lines_of("s3://no-such-bucket")
    assert lines["endpoint"].status == lines["clock"].status == "ok"
    assert "no bucket 'no-such-bucket'" in lines["list"].text and "create it" in lines["list"].text
    assert (lines["put"].status, lines["put"].text) == ("failed", "As for list.")
    assert {lines[name].status for name in NAMES[5:]} == {"not checked"}


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key_is_named_and_not_repeated(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong0secret0value")
    lines = lines_of(f"s3://{server.bucket()}")
    assert lines["endpoint"].status == lines["clock"].status == "ok"
    assert lines["list"].status == "failed" and "AWS_SECRET_ACCESS_KEY" in lines["list"].text
    assert not any("wrong0secret0value" in line.text or server.secret_key in line.text for line in lines.values())
    assert not any(line.status == "ok" for line in list(lines.values())[3:])


def test_missing_credentials_are_asked_for_and_the_endpoint_is_looked_at_all_the_same(
    server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    lines = lines_of(f"s3://{server.bucket()}")
    assert lines["endpoint"].status == "ok"
    assert lines["list"].status == "failed" and "no credentials" in lines["list"].text


def test_who_may_only_read_learns_which_right_is_missing(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = server.bucket()
    assert server.read_only
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.read_only[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.read_only[1])
    lines = lines_of(f"s3://{bucket}/course")
    assert statuses(lines) == {
        **ALL_OK,
        "put": "failed",
        "conditional writes": "not checked",
        "throughput": "not checked",
        "old uploads": "not checked",
        "delete": "failed",
    }
    assert "give these credentials the right" in lines["put"].text


def test_uploads_that_were_killed_a_day_ago_are_dropped(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, client = server.bucket(), server.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key="course/runs/a/model.keras")["UploadId"]
    client.upload_part(Bucket=bucket, Key="course/runs/a/model.keras", UploadId=upload, PartNumber=1, Body=bytes(5 * 1024**2))
    assert lines_of(f"s3://{bucket}/course")["old uploads"].text == "none of more than a day ago"
    monkeypatch.setattr("service.runs.prune.UPLOAD_SECONDS", -60.0)
    assert lines_of(f"s3://{bucket}/other")["old uploads"].text == "none of more than a day ago"
    found = lines_of(f"s3://{bucket}/course")["old uploads"]
    assert found.status == "ok" and found.text.startswith("1 of more than a day ago, 5 MiB")
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


@pytest.mark.parametrize("way", ["environment", "url"])
def test_an_endpoint_without_a_scheme_is_refused_with_the_remedy(
    server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    host = server.endpoint.removeprefix("http://")
    if way == "environment":
        monkeypatch.setenv("DELAYLINE_S3_ENDPOINT", host)
    lines = lines_of("s3://bucket" if way == "environment" else f"s3://bucket?endpoint_override={host}")
    assert lines["store"].status == "failed" and f"such as http://{host}" in lines["store"].text
    assert {lines[name].status for name in NAMES[1:]} == {"not checked"}


def test_tls_where_there_is_none_is_reported(server: s3_servers.S3Server) -> None:
    endpoint = server.endpoint.replace("http://", "https://")
    lines = lines_of(f"s3://bucket?endpoint_override={endpoint}")
    assert lines["endpoint"].status == "failed" and "write http:// instead of https://" in lines["endpoint"].text


def test_a_closed_port_is_reported_in_time(server: s3_servers.S3Server) -> None:
    (port,) = s3_servers.free_ports(1)
    lines = lines_of(f"s3://bucket?endpoint_override=http://127.0.0.1:{port}")
    assert lines["endpoint"].status == "failed" and f"127.0.0.1:{port}" in lines["endpoint"].text
    assert {lines[name].status for name in NAMES[2:]} == {"not checked"}


def test_a_server_that_is_silent_does_not_hold_the_command(server: s3_servers.S3Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"s3://bucket?endpoint_override=http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        lines = examine([store_checks(Settings.load(store=url))], 1.0)
        assert time.monotonic() - began < 3
    assert [line.status for line in lines] == ["ok", "failed", *["not checked"] * (len(NAMES) - 2)]
    assert "No answer within 1 s" in lines[1].text


@pytest.fixture
def late_server(server: s3_servers.S3Server) -> Iterator[str]:
    """Answers every request with 403 and a time that is an hour ahead: no real server can be made to."""

    class Late(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(403)
            self.send_header("Date", formatdate(time.time() + 3600, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_clock_that_is_wrong_is_reported_with_the_direction(late_server: str) -> None:
    lines = lines_of(f"s3://bucket?endpoint_override={late_server}")
    assert lines["clock"].status == "failed"
    assert re.search(r"clock is 3,60\d s behind the server", lines["clock"].text) and SKEW_SECONDS < 3600


@pytest.mark.parametrize("ignored", ["if_absent", "if_version"])
def test_a_store_that_ignores_conditions_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: str) -> None:
    whole = LocalStore.write

    def write(self: LocalStore, key: str, data: bytes, **conditions: object) -> str:
        try:
            return whole(self, key, data, **conditions)  # type: ignore[arg-type]
        except Conflict:
            if ignored not in conditions:
                raise
            return whole(self, key, data)

    monkeypatch.setattr(LocalStore, "write", write)
    line = lines_of(str(tmp_path / "store"))["conditional writes"]
    header = {"if_absent": "If-None-Match", "if_version": "If-Match"}[ignored]
    assert line.status == "failed" and f"ignores {header}:" in line.text
