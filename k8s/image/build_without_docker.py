"""Carry out the Dockerfile beside this file on root folders, where there is no Docker, and write an image archive.

    sudo python k8s/image/build_without_docker.py --variant cpu delayline.tar
    ctr images import delayline.tar

It needs root, debootstrap and a chroot, and the package registries that `docker build` needs. It reads the Dockerfile itself (FROM, ARG, RUN,
COPY, ENV, USER, WORKDIR, LABEL, CMD; any other instruction is an error), so that the two cannot drift. The archive has one layer for the base
stage and one for each instruction of the last stage that changed files, as `docker save` writes it (an OCI layout with Docker's own
manifest.json). Beside it comes ARCHIVE.packages.tsv: each package with its version and licence.

A stage or layer whose instructions and copied files are as they were is not made again: its folder or file in the cache is used. What a build takes from this
machine and does not keep: the resolver's configuration, the CA bundle and Debian's mirror.
"""

import argparse
import contextlib
import fcntl
import hashlib
import io
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
DEBIAN = {"debian:bookworm-slim": "bookworm"}
"""The base images that debootstrap makes: image → Debian's release."""
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
LOCK_SECONDS = 3600.0
"""How long a build waits for another that uses the same cache (assumed: several times what one takes)."""
OCI = "application/vnd.oci.image"
BUILD_FOLDER = Path("run/build")
"""Within a root folder: what RUN sees of this machine, gone when the step ends."""


class Refused(Exception):
    """What the Dockerfile or the machine lacks, in a sentence."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals and its text with continuation lines joined."""

    name: str
    text: str
    line: int


@dataclass
class Stage:
    """The instructions from one FROM to the next; `name` is its `AS`, or its number."""

    name: str
    base: str
    instructions: list[Instruction]


@dataclass
class Image:
    """What the instructions of a stage say of the image: its environment, user, folder, command, labels."""

    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    folder: str = "/"
    command: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """What one instruction changed: a tar in the cache (none if nothing changed), its digest, and its paths with their facts."""

    made_from: str
    """A digest over the instruction and all before it, with the files that they take."""
    file: str
    sha256: str
    paths: dict[str, tuple[int, ...]]


def instructions(text: str) -> Iterator[Instruction]:
    """Yield the instructions of a Dockerfile; comments and empty lines are left out, within continued instructions too."""
    name, words, start = "", "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if not name:
            name, _, line = stripped.partition(" ")
            start = number
        words += line
        if words.endswith("\\"):
            words = words[:-1]
            continue
        yield Instruction(name.upper(), words.strip(), start)
        name, words = "", ""


def stages(text: str) -> list[Stage]:
    """Split a Dockerfile into its stages; raise Refused for an instruction before the first FROM."""
    found: list[Stage] = []
    for step in instructions(text):
        if step.name == "FROM":
            base, *rest = step.text.split()
            name = rest[1] if len(rest) == 2 and rest[0].upper() == "AS" else str(len(found))
            found.append(Stage(name, base, []))
        elif not found:
            raise Refused(f"line {step.line}: {step.name} before the first FROM")
        else:
            found[-1].instructions.append(step)
    return found


class Builder:
    """Builds stages in folders of `cache`, each once; `arguments` are those of --build-arg."""

    def __init__(self, dockerfile: Path, context: Path, cache: Path, arguments: dict[str, str]) -> None:
        self.stages = {stage.name: stage for stage in stages(dockerfile.read_text(encoding="utf-8"))}
        self.last = next(reversed(self.stages))
        self.context, self.cache, self.arguments = context, cache, arguments
        self.images: dict[str, Image] = {}

    def root(self, name: str) -> Path:
        """The folder of a finished stage, built if it is not there or no longer what the Dockerfile says."""
        stage, root = self.stages[name], self.cache / name
        stamp, digest = self.cache / f"{name}.stamp", self.digest(name)
        self.images[name] = self.read(name)
        if stamp.exists() and stamp.read_text() == digest:
            say(f"stage {name}: as it was")
            return root
        stamp.unlink(missing_ok=True)
        start(self.base(stage.base), root)
        for step in stage.instructions:
            self.carry_out(step, name, root)
        stamp.write_text(digest)
        return root

    def base(self, name: str) -> Path:
        """The folder of another stage, or of a Debian that debootstrap makes."""
        if name in self.stages:
            return self.root(name)
        if name not in DEBIAN:
            raise Refused(f"FROM {name}: only stages and {', '.join(DEBIAN)} can be made without Docker")
        folder = self.cache / name.replace(":", "-")
        if not (folder / ".made").exists():
            say(f"debootstrap {DEBIAN[name]}")
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            run(["debootstrap", "--variant=minbase", DEBIAN[name], str(folder)], timeout=1800)
            shutil.rmtree(folder / "var/cache/apt", ignore_errors=True)
            (folder / ".made").touch()
        return folder

    def read(self, name: str) -> Image:
        """What a stage's instructions say of its image, with what it has from the stage below."""
        stage = self.stages[name]
        below = self.read(stage.base) if stage.base in self.stages else Image()
        image = Image(dict(below.environment), below.user, below.folder, list(below.command), dict(below.labels))
        known = dict(image.environment)
        for step in stage.instructions:
            match step.name:
                case "ARG":
                    key, _, default = step.text.partition("=")
                    known[key] = self.arguments.get(key, default)
                case "ENV":
                    image.environment |= (pairs := assignments(substitute(step.text, known)))
                    known |= pairs
                case "LABEL":
                    image.labels |= assignments(substitute(step.text, known))
                case "USER":
                    image.user = step.text
                case "WORKDIR":
                    image.folder = step.text
                case "CMD":
                    image.command = json.loads(step.text)
                case "RUN" | "COPY":
                    pass
                case other:
                    raise Refused(f"line {step.line}: {other} is not carried out without Docker")
        return image

    def variables(self, name: str) -> dict[str, str]:
        """ARG and ENV of a stage, as its instructions see them."""
        known = dict(self.read(name).environment)
        for step in self.stages[name].instructions:
            if step.name == "ARG":
                key, _, default = step.text.partition("=")
                known[key] = self.arguments.get(key, default)
        return known

    def sources(self, step: Instruction, name: str) -> tuple[Path, list[Path], str]:
        """What a COPY takes: the folder that it takes it from, the paths, and where to in the image."""
        words = shlex.split(substitute(step.text, self.variables(name)))
        origin = self.context
        if words[0].startswith("--from="):
            origin = self.cache / words.pop(0).removeprefix("--from=")
        if any(word.startswith("--") for word in words):
            raise Refused(f"line {step.line}: of COPY's options only --from is carried out without Docker")
        *taken, to = words
        return origin, [origin / path.lstrip("/") for path in taken], to

    def digest(self, name: str) -> str:
        """A digest over everything that a stage is made from."""
        stage = self.stages[name]
        total = hashlib.sha256(stage.base.encode())
        if stage.base in self.stages:
            total.update(self.digest(stage.base).encode())
        for step in stage.instructions:
            total.update(self.taken(step, name))
        return total.hexdigest()

    def taken(self, step: Instruction, name: str) -> bytes:
        """What tells one instruction of a stage from another: its text, and the names and bytes of the files that it copies."""
        variables = self.variables(name)
        total = hashlib.sha256(f"{step.name} {substitute(step.text, variables)}\n".encode())
        if step.name == "RUN":
            total.update(json.dumps(variables, sort_keys=True).encode())
        if step.name == "COPY" and step.text.startswith("--from="):
            total.update(self.digest(step.text.split()[0].removeprefix("--from=")).encode())
        elif step.name == "COPY":
            for path in self.sources(step, name)[1]:
                for file in product_files(path):
                    total.update(str(file.relative_to(self.context)).encode() + file.read_bytes())
        return total.digest()

    def carry_out(self, step: Instruction, name: str, root: Path) -> None:
        """Do one instruction in a root folder."""
        if step.name == "RUN":
            say(f"stage {name}: RUN {step.text[:100]}")
            with this_machines(root) as environment:
                command = ["chroot", str(root), "/bin/sh", "-ec", step.text]
                run(command, env={**environment, **self.variables(name)}, timeout=3600)
        elif step.name == "COPY":
            if step.text.startswith("--from="):
                self.root(step.text.split()[0].removeprefix("--from="))
            _, taken, to = self.sources(step, name)
            for path in taken:
                copy(path, root, to)
        elif step.name == "WORKDIR":
            (root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def layers(self) -> list[Layer]:
        """Write the layers of the last stage: that of the stage below it, then one for each instruction that changed files."""
        stage, root, record = self.stages[self.last], self.cache / self.last, self.cache / f"{self.last}.layers.json"
        below = self.base(stage.base)
        steps = [(n, step) for n, step in enumerate(stage.instructions, 1) if step.name in ("RUN", "COPY", "WORKDIR")]
        keys = self.keys(stage, [step for _, step in steps])
        made = kept(record, root, keys)
        record.unlink(missing_ok=True)
        if not made:
            start(below, root)
            made = [self.layer(0, keys[0], root, listing(root))]
        before = {path: facts for layer in made for path, facts in layer.paths.items()}
        for key, (number, step) in list(zip(keys[1:], steps, strict=True))[len(made) - 1 :]:
            self.carry_out(step, self.last, root)
            after = listing(root)
            gone = [path for path in before if path not in after]
            if gone:
                raise Refused(
                    f"line {step.line}: the last stage deletes {gone[0]}; delete it in an earlier stage, so that no layer holds it"
                )
            made.append(self.layer(number, key, root, {path: after[path] for path in after if before.get(path) != after[path]}))
            before = after
        record.write_text(json.dumps([asdict(layer) for layer in made]))
        return [layer for layer in made if layer.file]

    def keys(self, stage: Stage, steps: list[Instruction]) -> list[str]:
        """A digest for the layer of the stage below and for that of each step, each over all that comes before it."""
        below = self.digest(stage.base) if stage.base in self.stages else stage.base
        found = [hashlib.sha256(below.encode()).hexdigest()]
        for step in steps:
            found.append(hashlib.sha256(found[-1].encode() + self.taken(step, stage.name)).hexdigest())
        return found

    def layer(self, number: int, key: str, root: Path, paths: dict[str, tuple[int, ...]]) -> Layer:
        """Write the tar of some paths of a root folder, the same bytes for the same files."""
        if not paths:
            return Layer(key, "", "", {})
        file = self.cache / f"{self.last}.{number}.layer.tar"
        say(f"layer {self.last}.{number}: {len(paths)} paths")
        with file.open("wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(paths):
                tar.add(root / path, arcname=path, recursive=False, filter=without_devices)
        return Layer(key, str(file), sha256(file), paths)


def kept(record: Path, root: Path, keys: list[str]) -> list[Layer]:
    """The first layers of the last build that this one begins with too; `root` is put back to where they end.

    None where there was no such build, or where its folder is not as it left it.
    """
    if not record.exists():
        return []
    layers = [
        Layer(**{**layer, "paths": {path: tuple(facts) for path, facts in layer["paths"].items()}})
        for layer in json.loads(record.read_text())
    ]
    same = [layer for layer, key in zip(layers, keys, strict=False) if layer.made_from == key]
    same = same if [layer.made_from for layer in same] == keys[: len(same)] else []
    wanted = {path: facts for layer in same for path, facts in layer.paths.items()}
    for path in sorted(listing(root) if same else (), reverse=True):
        if path not in wanted:
            place = root / path
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    if not same or listing(root) != wanted or not all(Path(layer.file).exists() for layer in same if layer.file):
        return []
    say(f"layers: the first {len(same)} of {len(keys)} as they were")
    return same


def start(below: Path, root: Path) -> None:
    """Make `root` a copy of the folder that a stage begins with."""
    shutil.rmtree(root, ignore_errors=True)
    run(["cp", "-a", "--reflink=auto", str(below), str(root)], timeout=600)
    (root / ".made").unlink(missing_ok=True)


def product_files(path: Path) -> list[Path]:
    """The files that COPY takes of a path: caches of Python are left out, as .dockerignore says."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise Refused(f"COPY: {path} is not there")
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def copy(path: Path, root: Path, to: str) -> None:
    """Copy a file into a folder or to a name, a folder's content into a folder, as COPY does."""
    target = root / to.lstrip("/")
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        run(["cp", "-a", "--reflink=auto", f"{path}/.", str(target)], timeout=600)
        for cache in list(target.rglob("__pycache__")) if not is_stage(path) else []:
            shutil.rmtree(cache)
    elif path.is_file():
        target = target / path.name if to.endswith("/") else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    else:
        raise Refused(f"COPY: {path} is not there")
    if not is_stage(path):
        run(["chown", "-R", "0:0", str(target)], timeout=600)


def is_stage(path: Path) -> bool:
    """Whether a path lies in a stage's folder and not in the context."""
    return not path.is_relative_to(PROJECT)


@contextlib.contextmanager
def this_machines(root: Path) -> Iterator[dict[str, str]]:
    """Lend a root folder what a RUN needs of this machine, take it back, and give RUN's environment."""
    lent = root / BUILD_FOLDER
    lent.mkdir(parents=True, exist_ok=True)
    resolver, apt = root / "etc/resolv.conf", root / "etc/apt/sources.list"
    own = apt.read_bytes() if apt.exists() else None
    shutil.copy(CA_BUNDLE, lent / "ca.crt")
    shutil.copy("/etc/resolv.conf", resolver)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    environment |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), f"/{BUILD_FOLDER}/ca.crt")
    environment |= {"DEBIAN_FRONTEND": "noninteractive", "PIP_ROOT_USER_ACTION": "ignore"}
    environment |= {
        key: os.environ[key] for key in ("PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy") if key in os.environ
    }
    run(["mount", "--bind", "/proc", str(root / "proc")], timeout=60)
    run(["mount", "--bind", "/dev", str(root / "dev")], timeout=60)
    try:
        yield environment
    finally:
        run(["umount", str(root / "dev")], timeout=60)
        run(["umount", str(root / "proc")], timeout=60)
        shutil.rmtree(lent)
        resolver.write_bytes(b"")
        if own is not None:
            apt.write_bytes(own)


def substitute(text: str, variables: dict[str, str]) -> str:
    """Put in `${NAME}` and `$NAME`; a name that no ARG or ENV gives stays as it is, for the shell."""
    return Template(text).safe_substitute(variables)


def assignments(text: str) -> dict[str, str]:
    """`A=1 B="two words"` as a mapping."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def listing(root: Path) -> dict[str, tuple[int, ...]]:
    """All paths of a root folder, without what /proc and /dev hold, with what tells whether one changed."""
    found: dict[str, tuple[int, ...]] = {}
    for folder, names, files in os.walk(root):
        if folder == str(root):
            names[:] = [name for name in names if name not in ("proc", "dev", "sys")]
        for name in (*names, *files):
            path = Path(folder, name)
            facts = path.lstat()
            size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
            found[str(path.relative_to(root))] = (
                facts.st_mode,
                facts.st_uid,
                facts.st_gid,
                size,
                facts.st_mtime_ns if size else 0,
            )
    return found


def without_devices(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave device nodes out; owners by number alone; a folder's time, which says when it was made here, is none."""
    entry.uname = entry.gname = ""
    entry.mtime = 0 if entry.isdir() else entry.mtime
    return None if entry.ischr() or entry.isblk() else entry


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_archive(image: Image, layers: list[Layer], reference: str, out: Path, present: frozenset[str] = frozenset()) -> None:
    """Write an archive as `docker save` does, which docker, containerd, podman and kind load.

    Layers whose digest (sha256:…) is in `present` are named and left out: containerd takes those that it has from its own store.
    """
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {
                "Env": [f"{key}={value}" for key, value in image.environment.items()],
                "Cmd": image.command,
                "WorkingDir": image.folder,
                "User": image.user,
                "Labels": image.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in layers]},
        }
    ).encode()
    tars = [(layer.sha256, Path(layer.file).stat().st_size) for layer in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor("config.v1+json", hashlib.sha256(config).hexdigest(), len(config)),
            "layers": [descriptor("layer.v1.tar", digest, size) for digest, size in tars],
        }
    ).encode()
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rpartition(":")[2]}
    pointer = descriptor("manifest.v1+json", hashlib.sha256(manifest).hexdigest(), len(manifest))
    docker = {"Config": blob(config), "RepoTags": [reference], "Layers": [f"blobs/sha256/{digest}" for digest, _ in tars]}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [pointer | {"annotations": names}]}).encode(),
        "manifest.json": json.dumps([docker]).encode(),
        blob(config): config,
        blob(manifest): manifest,
    }
    with tarfile.open(out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for layer in layers:
            if f"sha256:{layer.sha256}" not in present:
                tar.add(layer.file, arcname=f"blobs/sha256/{layer.sha256}")


def descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    """How an OCI document points at a blob."""
    return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": size}


def blob(data: bytes) -> str:
    """The name of a blob in an archive."""
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def compressed_size(layers: list[Layer]) -> int:
    """Bytes of the layers as registries keep them (gzip, level 6)."""
    total = 0
    for layer in layers:
        with subprocess.Popen(["gzip", "-6", "-c", layer.file], stdout=subprocess.PIPE) as packer:
            assert packer.stdout is not None
            while piece := packer.stdout.read(1 << 20):
                total += len(piece)
    return total


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Hold the cache, which two builds would spoil for each other; raise Refused when another holds it for too long."""
    deadline = time.monotonic() + LOCK_SECONDS
    with (cache / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused(f"another build has held {cache} for {LOCK_SECONDS:.0f} s") from None
                time.sleep(0.5)
        yield


def run(command: list[str], *, timeout: float, env: dict[str, str] | None = None) -> None:
    """Run a command, its output on standard error; raise Refused if it fails."""
    done = subprocess.run(command, env=env, stdout=sys.stderr, timeout=timeout, check=False)
    if done.returncode != 0:
        raise Refused(f"{' '.join(command)[:200]} ended with exit code {done.returncode}")


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def main() -> int:
    """Build what the command line names; print the archive's sizes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archive", type=Path, help="the archive to write, which docker, ctr, podman and kind load")
    parser.add_argument("--variant", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--reference", help="the image's name and tag (default: delayline:VERSION-VARIANT)")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/delayline/image").expanduser(), help="where stages are kept")
    parser.add_argument(
        "--present", type=Path, help="a file of digests, one a line (`ctr content ls -q`): leave those layers out of the archive"
    )
    parser.add_argument("--measure", action="store_true", help="also print the compressed size, as registries keep it")
    options = parser.parse_args()
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    try:
        if os.geteuid() != 0:
            raise Refused("this needs root, for chroot")
        if shutil.which("debootstrap") is None:
            raise Refused("this needs debootstrap: apt-get install debootstrap")
        cache = options.cache / options.variant
        cache.mkdir(parents=True, exist_ok=True)
        with alone(cache):
            builder = Builder(HERE / "Dockerfile", PROJECT, cache, {"VARIANT": options.variant, "VERSION": version})
            layers = builder.layers()
            image = builder.read(builder.last)
            present = frozenset(options.present.read_text().split()) if options.present else frozenset()
            reference = options.reference or f"delayline:{version}-{options.variant}"
            write_archive(image, layers, reference, options.archive, present)
            shutil.copy(cache / builder.last / "opt/venv/PACKAGES.tsv", f"{options.archive}.packages.tsv")
    except (Refused, subprocess.TimeoutExpired) as failed:
        print(f"Error: {failed}.", file=sys.stderr)
        return 1
    unpacked = sum(Path(layer.file).stat().st_size for layer in layers)
    print(f"unpacked {unpacked / 1e9:.2f} GB in {len(layers)} layers; archive {options.archive.stat().st_size / 1e6:.1f} MB")
    if options.measure:
        print(f"compressed {compressed_size(layers) / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
