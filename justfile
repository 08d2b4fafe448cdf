# What a developer types; `just` lists it. uv brings just itself: `uv run just`.

default:
    @just --list

# The fast tests, lint, types and import contracts included
test *ARGS:
    uv run pytest {{ARGS}}

# Whole runs on a real Ray cluster and two real S3 servers
test-slow *ARGS:
    uv run pytest -m slow {{ARGS}}

# Lint and format
lint:
    uv run ruff check --fix service jobs k8s tests
    uv run ruff format service jobs k8s tests

# Types and import contracts
check:
    uv run mypy
    uv run lint-imports

# Build the pinned MinIO server into the cache folder (needs Go)
minio:
    bash tests/tools/build_minio.sh

# Print the figures of one benchmark, such as `just benchmark step_time`
benchmark NAME *ARGS:
    uv run python tests/benchmarks/{{NAME}}.py {{ARGS}}

# Train a run and draw docs/report.png, the README's picture, of its report (needs Chromium)
picture *ARGS:
    PYTHONPATH=.:tests uv run python tests/tools/picture_report.py {{ARGS}}

# Resolve all dependencies anew and pin them in pyproject.toml
pins:
    uv run python tests/tools/refresh_pins.py

# Write the table of what Keras' optimizers, schedules and callbacks take, after a change of Keras
arguments:
    PYTHONPATH=. uv run python tests/tools/refresh_arguments.py

# Install the wheel by pip alone into an empty environment, and train there
wheel:
    bash tests/tools/try_wheel.sh

# What continuous integration runs
ci:
    bash .ci/run
