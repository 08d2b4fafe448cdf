"""Print name, version and licence of each package of a virtual environment, one a line, tabs between: `licences.py VENV`."""

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path


def licence(package: Distribution) -> str:
    """The licence as a package's metadata gives it: the SPDX expression, the classifiers, or the first line of its licence's text."""
    values = {name: package.metadata.get_all(name) or [] for name in ("License-Expression", "Classifier", "License")}
    classifiers = [value.rsplit(" :: ", 1)[-1] for value in values["Classifier"] if value.startswith("License")]
    said = [*values["License-Expression"], "; ".join(classifiers), *(text.strip().split("\n")[0] for text in values["License"])]
    return next((text for text in said if text), "not given")


def main() -> None:
    """Write the table of the environment that is named on the command line."""
    site = next(Path(sys.argv[1]).glob("lib/python3*/site-packages"))
    rows = {package.name: (package.version, licence(package)) for package in distributions(path=[str(site)])}
    for name in sorted(rows, key=str.lower):
        print(name, *rows[name], sep="\t")


if __name__ == "__main__":
    main()
