"""Pin every dependency, transitive ones included, in pyproject.toml and for the image: `just pins`.

uv resolves for Python 3.11 to 3.13 and all extras; what it chose becomes `[tool.uv] constraint-dependencies`, between
the two marker lines. `uv.lock` itself records download addresses and stays out of the repository. The image's two lists
(k8s/image/requirements.*.txt) are what the pins come to for its Python and platform.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
IMAGE_PYTHON, IMAGE_PLATFORM = "3.11", "x86_64-manylinux_2_36"
"""Of Debian 12, which the image stands on."""
LEFT_OUT = ("libclang",)
"""What TensorFlow names for those who generate code from its headers."""
BEGIN, END = "# pins: begin", "# pins: end"


def main() -> None:
    """Resolve anew without the old pins and write the new ones."""
    text = PROJECT.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PROJECT.write_text(f"{head}{BEGIN}\n[tool.uv]\nconstraint-dependencies = []\n{END}{tail}")
    try:
        subprocess.run(["uv", "lock", "--upgrade"], check=True)
        export = [
            "uv",
            "export",
            "--no-hashes",
            "--no-annotate",
            "--no-header",
            "--all-extras",
            "--all-groups",
            "--no-emit-project",
        ]
        lines = subprocess.run(export, check=True, capture_output=True, text=True).stdout.splitlines()
    except subprocess.CalledProcessError:
        PROJECT.write_text(text)
        raise
    pins = "".join(f'  "{re.sub(chr(34), chr(39), line.strip())}",\n' for line in lines if "==" in line)
    PROJECT.write_text(f"{head}{BEGIN}\n[tool.uv]\nconstraint-dependencies = [\n{pins}]\n{END}{tail}")
    print(f"pinned {pins.count(chr(10))} packages")
    for variant in ("cpu", "gpu"):
        lines = image_requirements(variant)
        (ROOT / "k8s" / "image" / f"requirements.{variant}.txt").write_text("".join(f"{line}\n" for line in lines))
        print(f"pinned {len(lines)} packages for the image's variant {variant}")


def image_requirements(variant: str) -> list[str]:
    """The packages of the image by the pins: with `tensorflow-cpu` for `cpu`, with CUDA's libraries for `gpu`."""
    extra = ["--extra", "gpu"] if variant == "gpu" else []
    resolve = ["uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", *extra]
    resolve += ["--python-version", IMAGE_PYTHON, "--python-platform", IMAGE_PLATFORM, str(PROJECT)]
    lines = subprocess.run(resolve, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    kept = [line for line in lines if line.partition("==")[0] not in LEFT_OUT]
    return [re.sub(r"^tensorflow==", "tensorflow-cpu==", line) for line in kept] if variant == "cpu" else kept


if __name__ == "__main__":
    main()
