"""Images for tests on a real Kubernetes: Delayline's own from this checkout, and a store's from its program alone."""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

from support import s3_servers
from support.kube import Kube

ROOT = Path(__file__).parents[2]
PRODUCT = ("service", "jobs", "k8s/image", "pyproject.toml", "README.md", "LICENSE")
"""What the image is made from."""
BUILD_SECONDS = 1500
"""For an image of which nothing is there yet (measured: 260 s beside other work, and 75 s to load it)."""
SEAWEEDFS = "kube.local/delayline-test-seaweedfs:4.48"
MINIO = f"kube.local/delayline-test-minio:{s3_servers.MINIO_VERSION}"


def delayline(cluster: Kube) -> str:
    """The name of this checkout's image in the cluster, built and loaded if it is not there: DELAYLINE_TEST_IMAGE, or one by its content."""
    given = os.environ.get("DELAYLINE_TEST_IMAGE")
    if given:
        return given
    name = f"kube.local/delayline:{content()}"
    if name not in names(cluster):
        load(cluster, name)
    return name


@functools.cache
def content() -> str:
    """A digest over what the image is made from."""
    total = hashlib.sha256()
    for path in sorted(file for top in PRODUCT for file in ([ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*"))):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]


def names(cluster: Kube) -> set[str]:
    """The images that the node has: as its containerd says where that is here, else as the nodes said last, which may be minutes old."""
    if cluster.is_here:
        command = ["ctr", "-a", str(cluster.containerd), "-n", "k8s.io", "images", "ls", "-q"]
        return set(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split())
    images = [image for node in cluster.get("nodes") for image in node["status"].get("images") or ()]
    return {name for image in images for name in image.get("names") or ()}


def load(cluster: Kube, name: str, archive: Path | None = None) -> None:
    """Load an archive, or an image built from this checkout."""
    done = subprocess.run(
        [ROOT / "tests" / "tools" / "load_image.sh", name, *([str(archive)] if archive else [])],
        env={**cluster.environment, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"load_image.sh {name}: {done.stderr[-3000:]}"


def seaweedfs(cluster: Kube, scratch: Path) -> str:
    """SeaweedFS' image, made from the development dependency's program."""
    return _of_program(cluster, SEAWEEDFS, Path(sys.executable).parent / "weed", scratch)


def minio(cluster: Kube, scratch: Path) -> str | None:
    """MinIO's image, made from the program that tests/tools/build_minio.sh builds; None where there is none."""
    program = s3_servers.minio_binary()
    return _of_program(cluster, MINIO, program, scratch) if program else None


def _of_program(cluster: Kube, name: str, program: Path, scratch: Path) -> str:
    """An image that holds one program, with the libraries of this machine that it needs."""
    if name in names(cluster):
        return name
    builder = _builder()
    scratch.mkdir(parents=True, exist_ok=True)
    layer = scratch / "layer.tar"
    with tarfile.open(layer, mode="w") as tar:
        tar.add(program, arcname=f"usr/bin/{program.name}", filter=builder.without_devices)
        for library in libraries(program):
            tar.add(library.resolve(), arcname=str(library).lstrip("/"), filter=builder.without_devices)
    image = builder.Image({"PATH": "/usr/bin"}, "1000:1000", "/", [program.name])
    builder.write_archive(image, [builder.Layer("", str(layer), builder.sha256(layer), {})], name, scratch / "image.tar")
    load(cluster, name, scratch / "image.tar")
    shutil.rmtree(scratch)
    return name


def libraries(program: Path) -> list[Path]:
    """The shared libraries that a program is started with, its loader among them; none where it is linked statically."""
    shown = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=60, check=False)
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", shown.stdout)]


@functools.cache
def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_without_docker", ROOT / "k8s" / "image" / "build_without_docker.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
