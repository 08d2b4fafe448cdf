"""Fetching original files: sizes and checksums are held to, and nothing half-fetched is imported."""

import contextlib
import gzip
import hashlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.datasets import download, importer
from service.datasets.download import fetch_known, fetch_url
from service.datasets.importer import import_dataset
from service.datasets.known import KNOWN, Known, Remote
from service.errors import BadData, InvalidInput
from service.storage.base import Store

Refused = Callable[..., str]
Arrays = dict[str, NDArray[Any]]


class Site:
    """Files over HTTP; `behave` may change how one is sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.behave: dict[str, str] = {}
        self.over = threading.Event()


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            data, how = made.files.get(name), made.behave.get(name, "")
            if data is None:
                self.send_error(404)
                return
            if how.isdigit():
                self.send_error(int(how))
                return
            if how.startswith("to "):
                self.send_response(302)
                self.send_header("Location", how[3:])
                self.end_headers()
                return
            if how == "late":
                time.sleep(0.7)
            self.send_response(200)
            while how == "drip headers" and not made.over.wait(0.05):
                with contextlib.suppress(OSError):
                    self.wfile.write(b"x")
                    self.wfile.flush()
            if how not in ("unsized", "drip"):
                self.send_header("Content-Length", str(2**50 if how == "huge" else len(data) * (2 if how == "short" else 1)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            if how == "silent":
                time.sleep(3)
            while how == "drip" and not made.over.wait(0.05):
                with contextlib.suppress(OSError):
                    self.wfile.write(b"x")
                    self.wfile.flush()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    made.over.set()
    server.shutdown()
    server.server_close()


def silent(_: int) -> None:
    return


@pytest.mark.parametrize("how", ["", "unsized"])
def test_a_file_is_fetched(site: Site, tmp_path: Path, how: str) -> None:
    site.files["some/a b.npz"] = site.files["some/a%20b.npz"] = data = bytes(range(256)) * 9000
    site.behave["some/a%20b.npz"] = how
    moved: list[int] = []
    path = fetch_url(f"{site.url}/some/a%20b.npz", tmp_path, moved.append)
    assert path == tmp_path / "a b.npz" and path.read_bytes() == data and sum(moved) == len(data)


def test_a_dataset_is_imported_from_an_address(site: Site, local_store: Store, tmp_path: Path, npz_arrays: Arrays) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays)
    site.files["a.npz"] = (tmp_path / "a.npz").read_bytes()
    manifest = import_dataset(local_store, "mine", f"{site.url}/a.npz", "npz")
    assert manifest.splits["train"] == 12 and manifest.source == f"{site.url}/a.npz"


@pytest.mark.parametrize(("how", "code"), [("404", "404"), ("500", "500"), ("403", "403")])
def test_an_answer_that_is_none_is_an_error(site: Site, local_store: Store, how: str, code: str) -> None:
    site.files["a.npz"], site.behave["a.npz"] = b"x", how
    with pytest.raises(InvalidInput, match=code) as caught:
        import_dataset(local_store, "mine", f"{site.url}/a.npz", "npz")
    assert "address" in str(caught.value) and list(local_store.objects("")) == []


def test_a_file_that_ends_early_is_refused(site: Site, local_store: Store) -> None:
    site.files["a.npz"], site.behave["a.npz"] = bytes(1000), "short"
    with pytest.raises(BadData, match="1000 of 2000 bytes") as caught:
        import_dataset(local_store, "mine", f"{site.url}/a.npz", "npz")
    assert caught.value.exit_code == 3 and list(local_store.objects("")) == []


def test_a_file_that_is_too_large_is_refused(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["a"], site.behave["a"] = b"x", "huge"
    with pytest.raises(BadData, match=str(2**50)):
        fetch_url(f"{site.url}/a", tmp_path, silent)
    monkeypatch.setattr(download, "MOST_BYTES", 1000)
    site.files["b"], site.behave["b"] = bytes(5000), "unsized"
    with pytest.raises(BadData, match="more than 1000 bytes"):
        fetch_url(f"{site.url}/b", tmp_path, silent)


def test_a_server_that_falls_silent_is_given_up(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.5)
    site.files["a"], site.behave["a"] = b"x", "silent"
    monkeypatch.setitem(site.behave, "a", "silent")
    began = time.monotonic()
    try:
        fetch_url(f"{site.url}/a", tmp_path, silent)
    except (InvalidInput, BadData) as error:
        assert "\n" not in str(error)
    assert time.monotonic() - began < 3


def test_a_server_that_is_not_there_is_an_error(local_store: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.npz"
        with pytest.raises(InvalidInput, match="refused") as caught:
            import_dataset(local_store, "mine", url, "npz")
    assert url in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "s3://bucket/a", "http://", "http://host:port/a", "http://[::1/a", "http://ho st/a\n", "http:///a"]
)
def test_an_address_that_is_none_is_refused(local_store: Store, url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_dataset(local_store, "mine", url, "npz")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a"])
def test_a_server_cannot_send_us_to_a_local_file(site: Site, tmp_path: Path, target: str) -> None:
    site.files["a"], site.behave["a"] = b"x", f"to {target}"
    with pytest.raises(InvalidInput):
        fetch_url(f"{site.url}/a", tmp_path, silent)
    assert not (tmp_path / "a").exists() or (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize("path", ["..", "x/..%2f..%2fevil", "%2e%2e"])
def test_a_name_in_an_address_leads_nowhere_else(site: Site, tmp_path: Path, path: str) -> None:
    site.files[path] = b"x"
    folder = tmp_path / "scratch"
    folder.mkdir()
    with contextlib.suppress(InvalidInput):
        assert fetch_url(f"{site.url}/{path}", folder, silent).parent == folder
    assert [entry.name for entry in tmp_path.iterdir()] == ["scratch"]


def test_credentials_in_an_address_are_not_kept(site: Site, local_store: Store, tmp_path: Path, npz_arrays: Arrays) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays)
    site.files["a.npz?token=topsecret"] = site.files["a.npz"] = (tmp_path / "a.npz").read_bytes()
    manifest = import_dataset(local_store, "mine", f"{site.url}/a.npz?token=topsecret", "npz")
    assert "topsecret" not in manifest.source
    with pytest.raises(InvalidInput) as caught:
        import_dataset(local_store, "mine", f"{site.url}/none.npz?token=topsecret", "npz")
    assert "topsecret" not in str(caught.value)
    with pytest.raises(InvalidInput) as caught:
        import_dataset(local_store, "mine", f"{site.url.replace('//', '//me:topsecret@')}/a.npz", "npz")
    assert "topsecret" not in str(caught.value)


def known(site: Site, folder: Path) -> Known:
    """The idx files of a folder as a known dataset on the site."""
    remotes = []
    for path in sorted(folder.iterdir()):
        data = site.files[f"{path.name}.gz"] = gzip.compress(path.read_bytes())
        remotes.append(Remote(f"{site.url}/{path.name}.gz", hashlib.sha256(data).hexdigest(), len(data)))
    return Known("idx", tuple(remotes))


def test_a_known_dataset_is_fetched_from_its_address(
    site: Site, local_store: Store, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "mnist", known(site, idx_folder))
    told: list[str] = []
    manifest = import_dataset(local_store, "mnist", None, None, lambda phase, *_: told.append(phase))
    assert manifest.splits == {"train": 30, "test": 10} and manifest.source == "its public address"
    assert told[0] == "fetching" and told[-1] == "writing"


def test_a_known_file_of_other_bytes_is_refused(
    site: Site, refused: Refused, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "mnist", known(site, idx_folder))
    good = site.files["train-labels-idx1-ubyte.gz"]
    site.files["train-labels-idx1-ubyte.gz"] = good[:-1] + b"\1"
    refused(None, None, 3, "train-labels-idx1-ubyte.gz", "sha256 checksum", "--from", name="mnist")
    for other in (good + b"\0", good[:-1]):
        site.files["train-labels-idx1-ubyte.gz"] = other
        for how in ("", "unsized"):
            site.behave["train-labels-idx1-ubyte.gz"] = how
            refused(None, None, 3, "train-labels-idx1-ubyte.gz", f"{len(good)}", f"{len(other)}", name="mnist")


def test_a_known_dataset_without_a_network_asks_for_the_files(
    site: Site, refused: Refused, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "mnist", known(site, idx_folder))
    site.files.clear()
    refused(None, None, 2, "404", "delayline data import mnist --from FOLDER", name="mnist")


def test_every_known_dataset_has_a_format_and_whole_checksums(tmp_path: Path) -> None:
    for name, entry in KNOWN.items():
        assert importer.reader(entry.format) and len({remote.name for remote in entry.files}) == len(entry.files), name
        assert all(len(bytes.fromhex(remote.sha256)) == 32 and remote.size > 1000 for remote in entry.files)
        assert all(remote.url.startswith("https://") for remote in entry.files)
    single = Known("cifar", (Remote((tmp_path / "a.tar.gz").as_uri(), hashlib.sha256(b"x").hexdigest(), 1),))
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    assert fetch_known("cifar10", single, tmp_path / "in", silent) == tmp_path / "in" / "a.tar.gz"


@pytest.mark.parametrize("how", ["drip", "drip headers"])
def test_a_server_that_drips_is_given_up(site: Site, refused: Refused, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(download, "WHOLE_SECONDS", 1.0)
    site.files["a.npz"], site.behave["a.npz"] = b"x", how
    began = time.monotonic()
    refused(f"{site.url}/a.npz", "npz", 2, "a.npz", "has not come whole within 1 s")
    assert time.monotonic() - began < 5


def test_all_files_of_a_dataset_share_one_hour(
    site: Site, refused: Refused, idx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "mnist", known(site, idx_folder))
    monkeypatch.setattr(download, "WHOLE_SECONDS", 1.0)
    site.behave = dict.fromkeys(site.files, "late")
    refused(None, None, 2, "has not come whole within 1 s", name="mnist")


def test_the_limits_are_an_hour_in_all_and_a_minute_of_silence() -> None:
    assert (download.WHOLE_SECONDS, download.SILENCE_SECONDS) == (3600, 60)


@pytest.fixture
def https_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address by https that sends on to the same file of the site, by http, and answers for `own.npz` itself."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "2",
            *names,
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = site.files.get(self.path.strip("/")) if "own" in self.path else None
            self.send_response(302 if data is None else 200)
            if data is None:
                self.send_header("Location", f"{site.url}{self.path}")
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate by openssl")
def test_what_is_to_come_by_https_comes_by_nothing_less(https_site: str, site: Site, refused: Refused, tmp_path: Path) -> None:
    site.files["own.npz"] = site.files["a.npz"] = b"x"
    assert fetch_url(f"{https_site}/own.npz", tmp_path, silent).read_bytes() == b"x"
    site.behave["b.npz"] = f"to {https_site}/own.npz"
    site.files["b.npz"] = b""
    assert fetch_url(f"{site.url}/b.npz", tmp_path, silent).read_bytes() == b"x"
    refused(f"{https_site}/a.npz", "npz", 2, "a.npz", "redirects from https", "not safe")
