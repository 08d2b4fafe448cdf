"""Uploads in parts that nobody finished."""

from pathlib import Path

import pytest
from support import s3_servers
from support.s3_stores import MIB, begun, opened, use


def test_unfinished_uploads_are_found_below_the_prefix_and_dropped(server: s3_servers.S3Server) -> None:
    bucket = server.bucket()
    store, beside = opened(f"s3://{bucket}/team/a"), opened(f"s3://{bucket}/team/b")
    begun(server, bucket, "team/a/runs/one/model.keras", 2)
    begun(server, bucket, "team/a/runs/one/model.keras")
    begun(server, bucket, "team/b/model.keras")
    begun(server, bucket, "team/ab/model.keras")
    found = store.unfinished(["runs/one/model.keras", "runs/two/model.keras"])
    assert [(each.key, each.bytes) for each in sorted(found, key=lambda each: each.bytes)] == [
        ("runs/one/model.keras", 5 * MIB),
        ("runs/one/model.keras", 10 * MIB),
    ]
    assert all(-2 < each.age < 120 for each in found)
    for each in [*found, *found]:
        store.forget(each)
    assert store.unfinished(["runs/one/model.keras"]) == []
    assert [each.key for each in beside.unfinished(["model.keras"])] == ["model.keras"]


def test_minio_shows_the_uploads_of_known_keys_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists by whole keys, and without a prefix what it remembers; a restarted one remembers nothing."""
    binary = s3_servers.minio_binary()
    if binary is None:
        pytest.skip("MinIO is not on the PATH and not built: run `just minio` (it needs Go)")
    with s3_servers.running(s3_servers.minio(tmp_path / "server", binary)) as running:
        use(running, monkeypatch)
        bucket = running.bucket()
        begun(running, bucket, "p/runs/one/model.keras")
        begun(running, bucket, "p/runs/one/checkpoints/0000000010/model.safetensors")
        store = opened(f"s3://{bucket}/p", patience=20)
        assert len(store.unfinished()) == 2
        running.stop()
        running.start()
        assert [each.key for each in store.unfinished(["runs/one/model.keras"])] == ["runs/one/model.keras"]
