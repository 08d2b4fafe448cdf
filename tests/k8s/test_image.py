"""The image: its Dockerfile, its pins, and the script that carries the Dockerfile out where there is no Docker."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "k8s" / "image"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_without_docker", IMAGE / "build_without_docker.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_the_image_has_the_pinned_versions(variant: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {}
    for line in project["tool"]["uv"]["constraint-dependencies"]:
        name, _, rest = line.partition("==")
        version, _, marker = rest.partition(";")
        if "python_full_version" not in marker or "< '3.12'" in marker:
            pinned[re.sub(r"\[.*", "", name)] = version.strip()
    lines = (IMAGE / f"requirements.{variant}.txt").read_text().splitlines()
    image = dict(line.split("==") for line in lines)
    if variant == "cpu":
        assert "tensorflow" not in image and not any(name.startswith("nvidia-") for name in image)
        image["tensorflow"] = image.pop("tensorflow-cpu")
    else:
        assert sum(name.startswith("nvidia-") for name in image) >= 10
    assert {name: pinned.get(re.sub(r"\[.*", "", name)) for name in image} == image
    required = {re.split(r"[\[=<> ;]", line)[0].lower().replace("_", "-") for line in project["project"]["dependencies"]}
    assert required <= {re.sub(r"\[.*", "", name) for name in image}


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(["hadolint", str(IMAGE / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_last_stage_runs_as_a_user_and_has_no_installer(builder: ModuleType) -> None:
    *_, last = builder.stages((IMAGE / "Dockerfile").read_text())
    assert not [step for step in last.instructions if step.name == "RUN"]
    assert [step.text for step in last.instructions if step.name == "USER"] == ["1000:1000"]
    labels = " ".join(step.text for step in last.instructions if step.name == "LABEL")
    assert "delayline.version" in labels and "org.opencontainers.image.licenses" in labels


def test_instructions_are_read_with_their_continued_lines_and_without_comments(builder: ModuleType) -> None:
    text = "# one\nFROM a AS b\n\nRUN one \\\n # not this\n && two\nCOPY --from=b /x /y\n"
    assert [(step.name, " ".join(step.text.split()), step.line) for step in builder.instructions(text)] == [
        ("FROM", "a AS b", 2),
        ("RUN", "one && two", 4),
        ("COPY", "--from=b /x /y", 7),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("RUN true", "line 1: RUN before the first FROM"),
        ("FROM alpine:3\n", "FROM alpine:3: only stages and debian:bookworm-slim can be made without Docker"),
        ("FROM base\nADD a b\n", "line 2: ADD is not carried out without Docker"),
        ("FROM base\nCOPY --chown=1 a b\n", "line 2: of COPY's options only --from is carried out without Docker"),
        ("FROM base\nCOPY nothing /\n", "nothing is not there"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    text: str, sentence: str, builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    if "base" in text:
        base = tmp_path / "cache" / "base"
        base.mkdir(parents=True)
        (base / ".made").touch()
        monkeypatch.setattr(builder, "DEBIAN", {"base": "none"})
    with pytest.raises(builder.Refused, match=re.escape(sentence)):
        made = builder.Builder(tmp_path / "Dockerfile", tmp_path, tmp_path / "cache", {})
        made.read(made.last)
        made.layers()


@pytest.fixture
def base(tmp_path: Path, builder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder that holds a shell and no more, in a Debian's place."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    folder = tmp_path / "cache" / "debian-small"
    for name in ("bin", "proc", "dev", "etc", "tmp"):
        (folder / name).mkdir(parents=True)
    shell = Path(shutil.which("sh") or "/bin/sh").resolve()
    for file in (shell, *map(Path, re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", shell], text=True)))):
        place = folder / str(file).lstrip("/") if file != shell else folder / "bin" / "sh"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    (folder / ".made").touch()
    monkeypatch.setattr(builder, "DEBIAN", {"debian:small": "none"})
    return folder


def test_stages_are_carried_out_and_become_an_archive(base: Path, builder: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "product.txt").write_text("one\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:small AS base\nRUN echo base > /base.txt\n"
        "FROM base AS made\nARG WORD=none\nCOPY product.txt /build/\nRUN echo $WORD > /build/word.txt\n"
        'FROM base\nARG WORD\nLABEL word="${WORD}"\nENV HOME=/tmp/home \\\n  WHERE="a b"\n'
        'COPY --from=made /build /opt/build\nUSER 1000:1000\nCMD ["sh"]\n'
    )
    context, cache = tmp_path, tmp_path / "cache"

    def build(name: str) -> tuple[dict[str, object], list[list[str]], list[str]]:
        made = builder.Builder(tmp_path / "Dockerfile", context, cache, {"WORD": "said"})
        layers = made.layers()
        builder.write_archive(made.read(made.last), layers, "kube.local/product:1", tmp_path / name)
        with tarfile.open(tmp_path / name) as archive:
            manifest = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]
            config = json.loads(archive.extractfile(manifest[0]["Config"]).read())  # type: ignore[union-attr]
            assert manifest[0]["RepoTags"] == ["kube.local/product:1"]
            held = []
            for layer in manifest[0]["Layers"]:
                with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                    held.append(sorted(files.getnames()))
        return config, held, config["rootfs"]["diff_ids"]

    config, held, digests = build("first.tar")
    assert config["config"] == {
        "Env": ["HOME=/tmp/home", "WHERE=a b"],
        "Cmd": ["sh"],
        "WorkingDir": "/",
        "User": "1000:1000",
        "Labels": {"word": "said"},
    }
    assert len(held) == 2 and "base.txt" in held[0]
    assert {"opt/build/product.txt", "opt/build/word.txt"} <= set(held[1]) and "base.txt" not in held[1]
    assert (cache / "made" / "build" / "word.txt").read_text() == "said\n"
    assert not list((cache / "made" / "proc").iterdir()), "what a step is lent is taken back"

    # The same files make the same layers; another product changes its own layer alone.
    assert build("second.tar")[2] == digests
    (tmp_path / "product.txt").write_text("another\n")
    third = build("third.tar")[2]
    assert third[0] == digests[0] and third[1] != digests[1]
    assert (cache / "made" / "build" / "product.txt").read_text() == "another\n"


def test_layers_that_did_not_change_are_kept_and_those_that_a_node_has_left_out(
    base: Path, builder: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "product.txt").write_text("one\n")
    (tmp_path / "old.txt").write_text("gone later\n")
    (tmp_path / "Dockerfile").write_text("FROM debian:small\nWORKDIR /srv\nCOPY old.txt /a/\nCOPY product.txt /b/\n")

    def build(cache: str, present: frozenset[str] = frozenset()) -> tuple[list[str], list[str]]:
        (tmp_path / cache).mkdir(exist_ok=True)
        if not (tmp_path / cache / "debian-small").exists():
            shutil.copytree(base, tmp_path / cache / "debian-small", symlinks=True)
        made = builder.Builder(tmp_path / "Dockerfile", tmp_path, tmp_path / cache, {})
        layers = made.layers()
        builder.write_archive(made.read(made.last), layers, "kube.local/product:1", tmp_path / "out.tar", present)
        with tarfile.open(tmp_path / "out.tar") as archive:
            index = json.loads(archive.extractfile("index.json").read())  # type: ignore[union-attr]
            manifest = f"blobs/{index['manifests'][0]['digest'].replace(':', '/')}"
            document = json.loads(archive.extractfile(manifest).read())  # type: ignore[union-attr]
            held = [name for name in archive.getnames() if name.startswith("blobs/")]
        assert [f"sha256:{layer.sha256}" for layer in layers] == [layer["digest"] for layer in document["layers"]]
        return [layer["digest"] for layer in document["layers"]], held

    first, _ = build("cache")
    (tmp_path / "product.txt").write_text("another\n")
    capfd.readouterr()
    second, held = build("cache", frozenset(first))
    assert "the first 3 of 4 as they were" in capfd.readouterr().err
    assert second[:-1] == first[:-1] and second[-1] != first[-1]
    assert [
        name for name in held if name.removeprefix("blobs/sha256/") in {digest.removeprefix("sha256:") for digest in first}
    ] == []
    assert len(held) == 3, "the configuration, the manifest and the one layer that changed"
    assert build("fresh")[0] == second, "kept layers are those of a build from nothing"

    # What an earlier layer no longer has, and what someone did to the folder, is in no layer.
    (tmp_path / "old.txt").write_text("new, and longer\n")
    (tmp_path / "cache" / "0" / "stray.txt").write_text("made by hand\n")
    assert build("cache")[0] == build("fresh")[0]


def test_a_step_that_fails_ends_the_build(base: Path, builder: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:small AS base\nRUN exit 3\nFROM base\n")
    with pytest.raises(builder.Refused, match="exit code 3"):
        builder.Builder(tmp_path / "Dockerfile", tmp_path, tmp_path / "cache", {}).layers()
    assert not list((tmp_path / "cache" / "base" / "proc").iterdir())
