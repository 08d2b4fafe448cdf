"""Names that Kubernetes, S3 and every file system accept, checked before they become keys or paths."""

import re
import secrets
from datetime import UTC, datetime

from service.errors import InvalidInput

# KubeRay refuses RayJob names of more than 47 characters: it appends suffixes to make RayCluster and pod names of 63.
LONGEST = 47
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


def check_label(value: str, what: str) -> str:
    """Return `value`, a lower-case label of at most 47 characters; raise InvalidInput otherwise."""
    if len(value) > LONGEST or not _LABEL.match(value):
        shown = repr(value) if len(value) <= 60 else f"{value[:40]!r}… ({len(value)} characters)"
        raise InvalidInput(
            f"{what} {shown} is not valid: use 1 to {LONGEST} lower-case letters, digits and inner hyphens, such as 'cnn-2'."
        )
    return value


def check_run_id(value: str) -> str:
    """Return a valid run id unchanged; raise InvalidInput otherwise."""
    return check_label(value, "The run id")


def is_run_id(value: str) -> bool:
    """Whether `value` is a valid run id."""
    return is_label(value)


def is_label(value: str, longest: int = LONGEST) -> bool:
    """Whether `value` is a lower-case label of at most `longest` characters."""
    return len(value) <= longest and _LABEL.match(value) is not None


def check_dataset_reference(value: str) -> tuple[str, str | None]:
    """Split `name` or `name@version` and check both parts."""
    name, separator, version = value.partition("@")
    check_label(name, "The dataset name")
    if not separator:
        return name, None
    return name, check_label(version, "The dataset version")


def trial_id(sweep_id: str, number: int) -> str:
    """The run id of a sweep's trial."""
    return check_run_id(f"{sweep_id}-{number:04d}")


def new_run_id(stem: str, longest: int = LONGEST) -> str:
    """Make a run id from a recipe's or file's name, the time in UTC and four random characters."""
    suffix = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    cleaned = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "run"
    return f"{cleaned[: longest - len(suffix) - 1].rstrip('-')}-{suffix}"
