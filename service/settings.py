"""Where a run happens: store, cluster, cache. The only reader of the process's environment."""

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import InvalidInput

GIB = 1024**3
_TOKEN_FILE = Path("~/.ray/auth_token")


class Settings(BaseSettings):
    """Read from `DELAYLINE_*` (and, for S3, the AWS names) and overridden by flags. Immutable."""

    model_config = SettingsConfigDict(
        env_prefix="DELAYLINE_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    store: str = "./delayline-store"
    """A folder, `file:///folder` or `s3://bucket/prefix[?endpoint_override=URL]`."""
    cluster: str | None = None
    """None: Ray on this machine."""
    pool: str | None = None
    """Of a Kubernetes cluster's node pools, by the name that `delayline-defaults` gives it."""
    kubeconfig: str | None = Field(default=None, validation_alias=AliasChoices("KUBECONFIG", "kubeconfig"))
    """Files with the credentials of Kubernetes clusters, as kubectl takes them; None: `~/.kube/config`."""
    s3_endpoint: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DELAYLINE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "s3_endpoint"),
    )
    cache: Path = Path("~/.cache/delayline")
    """The node's cache of datasets."""
    cache_bytes: Annotated[int, Field(ge=1024**2)] = 20 * GIB
    """The cache drops what was used longest ago beyond this size."""
    store_patience: Annotated[float, Field(gt=0, le=86400)] = 300.0
    """Seconds for which a running job waits for a store that is away (assumed: five times the minute promised)."""
    ring_timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0
    """Seconds in which all workers must have started TensorFlow and found each other (assumed)."""
    wait_limit: Annotated[float, Field(ge=0, le=7 * 86400)] = 1800.0
    """Seconds for which a run waits for room in its cluster, and for Ray to start (assumed: a node comes within minutes, a queue
    moves within half an hour). Ray on this machine is waited for 300 s at most."""
    ask_for_more: bool = False
    """Whether a run that trains with fewer workers than it may have asks Ray's autoscaler for the others: in a cluster of its own."""
    ray_address: str | None = Field(default=None, validation_alias=AliasChoices("RAY_ADDRESS", "ray_address"))
    """An existing Ray cluster to join; None starts one on this machine."""
    ray_tmpdir: str | None = Field(default=None, validation_alias=AliasChoices("RAY_TMPDIR", "ray_tmpdir"))
    """Where Ray on this machine keeps its files, if not in TMPDIR."""
    ray_token: SecretStr | None = Field(default=None, validation_alias=AliasChoices("RAY_AUTH_TOKEN", "ray_token"))
    ray_token_path: Path | None = Field(default=None, validation_alias=AliasChoices("RAY_AUTH_TOKEN_PATH", "ray_token_path"))
    insecure_token: bool = False
    """Whether the token of a Ray cluster may go by http to another machine."""
    kubernetes_service_host: str | None = Field(
        default=None, validation_alias=AliasChoices("KUBERNETES_SERVICE_HOST", "kubernetes_service_host")
    )
    """Set by Kubernetes in every pod."""
    ray_job: str | None = Field(default=None, validation_alias=AliasChoices("RAY_JOB_CONFIG_JSON_ENV_VAR", "ray_job"), repr=False)
    """Set by Ray for the process of a job, and for what that starts."""
    ray_auth_mode: str | None = Field(default=None, validation_alias=AliasChoices("RAY_AUTH_MODE", "ray_auth_mode"))

    @field_validator(
        "s3_endpoint",
        "store",
        "cluster",
        "pool",
        "kubeconfig",
        "ray_address",
        "ray_tmpdir",
        "ray_token",
        "ray_token_path",
        "ray_auth_mode",
        mode="before",
    )
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return value or None if isinstance(value, str) else value

    @field_validator("cache")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read the environment, let the flags that are not None replace it; raise InvalidInput."""
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "settings"
            raise InvalidInput(
                f"The setting {name} is not valid: {first['msg']}; correct its environment variable or flag."
            ) from error

    @property
    def in_kubernetes(self) -> bool:
        """Whether this process runs in a pod of a Kubernetes cluster."""
        return bool(self.kubernetes_service_host)

    @property
    def in_job_of_kubernetes(self) -> bool:
        """Whether this process is of a job of a Ray cluster in Kubernetes."""
        return self.in_kubernetes and bool(self.ray_job)

    def cluster_token(self) -> SecretStr | None:
        """The token of a Ray cluster, found as Ray finds it; None where there is none. Raise InvalidInput.

        RAY_AUTH_TOKEN, else the file RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token, unless RAY_AUTH_MODE is `disabled`.
        """
        if (self.ray_auth_mode or "").lower() == "disabled":
            return None
        token = self.ray_token.get_secret_value().strip() if self.ray_token else self._token_from_file()
        if token is not None and not (token.isascii() and token.isprintable()):
            raise InvalidInput("The token of the Ray cluster holds characters that no token has: set RAY_AUTH_TOKEN anew.")
        return SecretStr(token) if token else None

    def _token_from_file(self) -> str | None:
        path = (self.ray_token_path or _TOKEN_FILE).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            if self.ray_token_path is None:
                return None
            raise InvalidInput(f"There is no file {path}, which RAY_AUTH_TOKEN_PATH names: correct it.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"The token in {path} cannot be read ({error}): mend the file, or set RAY_AUTH_TOKEN.") from error

    def for_processes(self) -> dict[str, str]:
        """The settings as environment variables for a process that this one starts; credentials are inherited, not copied."""
        values = {
            "DELAYLINE_STORE": self.store,
            "DELAYLINE_CACHE": str(self.cache),
            "DELAYLINE_CACHE_BYTES": str(self.cache_bytes),
            "DELAYLINE_STORE_PATIENCE": str(self.store_patience),
            "DELAYLINE_RING_TIMEOUT": str(self.ring_timeout),
            "DELAYLINE_WAIT_LIMIT": str(self.wait_limit),
        }
        return {**values, "DELAYLINE_S3_ENDPOINT": self.s3_endpoint} if self.s3_endpoint else values


def process_environment(**changes: str) -> dict[str, str]:
    """This process's whole environment with `changes`, for a child process, which imports no modules from its folder."""
    return {**os.environ, "PYTHONSAFEPATH": "1", **changes}


def wants_plain_text() -> bool:
    """Whether the user asks for text without escape codes: by NO_COLOR (https://no-color.org) or a terminal that has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def visible_gpus() -> int | None:
    """To how many GPUs CUDA_VISIBLE_DEVICES limits this process; None where it is not set."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if names is None else sum(1 for name in names.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
