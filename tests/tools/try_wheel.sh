#!/usr/bin/env bash
# Build the sdist and from it the wheel, install that with pip alone into an empty environment, and train there, away from the
# checkout. 2 minutes with pip's cache; the packages are 2 GB for as long as it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

uv build --quiet --out-dir "$work/dist"
"$(uv python find)" -m venv "$work/venv"
# uv's constraints and a caller's own have no say here: the wheel's bounds alone choose.
unset PIP_CONSTRAINT PYTHONPATH VIRTUAL_ENV DELAYLINE_STORE RAY_ADDRESS
"$work/venv/bin/pip" install --quiet "$work"/dist/*.whl
"$work/venv/bin/pip" check

mkdir "$work/empty"
cd "$work/empty"
export PATH="$work/venv/bin:$PATH"
python -c "import jobs, service, sys; assert all(m.__file__.startswith(sys.prefix) for m in (jobs, service)), service.__file__"
delayline --help > help.txt
delayline train --name wheel
delayline runs show wheel --json > wheel.json
python -c "import json; run = json.load(open('wheel.json')); assert run['metrics']['test_accuracy'] > 0.95, run['metrics']"
delayline runs report wheel --to wheel.html
grep -q '</html>' wheel.html
