"""Pin every dependency, transitive ones included, in pyproject.toml: `just pins`.

uv resolves for Python 3.11 to 3.13 and all extras; what it chose becomes `[tool.uv] constraint-dependencies`, between
the two marker lines. `uv.lock` itself records download addresses and stays out of the repository.
"""

import re
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
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


if __name__ == "__main__":
    main()
