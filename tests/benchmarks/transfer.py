"""Bytes a second: importing CIFAR-10 into MinIO and loading it with a cold cache, against bare parallel boto3 transfers.

usage: uv run python tests/benchmarks/transfer.py --data FOLDER [--rounds 3]
FOLDER holds cifar-10-batches-py/. The bare side moves as many bytes in as many objects with boto3's own parallel
transfers between files and the bucket, as an import reads files and a node's cache is files; and once more in memory.
"""

import argparse
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import heading, median_ratio, minio_store

THREADS = 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from service.datasets.cache import Cache
    from service.datasets.importer import import_dataset
    from service.datasets.load import load_split
    from service.settings import Settings
    from service.storage import open_store

    with minio_store() as (url, environment), tempfile.TemporaryDirectory() as scratch:
        os.environ.update(environment)
        stores = [open_store(Settings.load(store=f"{url}/{number}")) for number in range(2 * options.rounds + 1)]
        made = [import_dataset(stores[0], "cifar10", str(options.data / "cifar-10-batches-py"))]
        sizes = [shard.bytes for shard in made[0].shards]
        bare = Bare(url, environment, sizes, Path(scratch))
        fresh = iter(stores[1:])
        heading(f"MB/s, importing CIFAR-10 ({sum(sizes) / 1e6:.0f} MB in {len(sizes)} shards) into MinIO")

        def rate(work: Any) -> float:
            began = time.perf_counter()
            work()
            return sum(sizes) / 1e6 / (time.perf_counter() - began)

        def importing() -> None:
            made.append(import_dataset(next(fresh), "cifar10", str(options.data / "cifar-10-batches-py")))

        for work, how in ((bare.upload, "files"), (bare.upload_memory, "memory")):
            sides = ("delayline", f"boto3 from {how}")
            median_ratio(lambda: rate(importing), lambda work=work: rate(work), options.rounds, "MB/s", sides)
        heading("MB/s, loading CIFAR-10 from MinIO with a cold cache")

        def loading() -> None:
            with tempfile.TemporaryDirectory() as folder:
                cache = Cache(Path(folder), 10**10)
                for split in ("train", "test"):
                    load_split(stores[0], made[0], split, cache)

        for work, how in ((bare.download, "files"), (bare.download_memory, "memory")):
            sides = ("delayline", f"boto3 to {how}")
            median_ratio(lambda: rate(loading), lambda work=work: rate(work), options.rounds, "MB/s", sides)


class Bare:
    """Parallel transfers of objects of given sizes by boto3 alone: between files and the bucket, or in memory."""

    def __init__(self, url: str, environment: dict[str, str], sizes: list[int], folder: Path) -> None:
        import boto3
        from botocore.config import Config

        self._client = boto3.client(
            "s3",
            endpoint_url=environment["DELAYLINE_S3_ENDPOINT"],
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=4 * THREADS),
        )
        self._bucket = url.removeprefix("s3://").split("/")[0]
        self._folder = folder
        self._bodies = {f"bare-{number}": secrets.token_bytes(size) for number, size in enumerate(sizes)}
        for key, body in self._bodies.items():
            (folder / key).write_bytes(body)

    def _all(self, work: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, self._bodies))

    def upload(self) -> None:
        """Send all files."""
        self._all(lambda key: self._client.upload_file(str(self._folder / key), self._bucket, key))

    def download(self) -> None:
        """Fetch all objects into files."""
        self._all(lambda key: self._client.download_file(self._bucket, key, str(self._folder / key)))

    def upload_memory(self) -> None:
        """Send all bodies."""
        self._all(lambda key: self._client.put_object(Bucket=self._bucket, Key=key, Body=self._bodies[key]))

    def download_memory(self) -> None:
        """Fetch all bodies and drop them."""
        self._all(lambda key: self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())


if __name__ == "__main__":
    main()
