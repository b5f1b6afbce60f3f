"""Typed settings from the environment (`TENFOLD_*`), read once at process start and passed on as values.

A secret one may lie in a file instead, named like its variable in lower case, in the folder TENFOLD_SETTINGS names
(a mounted Kubernetes or Docker secret): `tenfold_redis_url`, `tenfold_admin_token`. The environment comes first.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Ports(BaseModel):
    """Where the embedded cluster's servers listen, all on 127.0.0.1."""

    model_config = ConfigDict(frozen=True)

    gateway: int
    console: int
    flower: int
    redis: int
    annotation: int
    ray: int
    """The first of thirty ports for Ray and the rest."""

    @classmethod
    def from_base(cls, base: int | None) -> "Ports":
        if base is None:
            return cls(gateway=8000, console=8050, annotation=8070, flower=5555, redis=6380, ray=6390)
        return cls(gateway=base, console=base + 1, flower=base + 2, redis=base + 3, annotation=base + 4, ray=base + 10)


class Settings(BaseSettings):
    """Every setting of every Tenfold process; the variable is the field's name with TENFOLD_ before it."""

    model_config = SettingsConfigDict(
        env_prefix="TENFOLD_", frozen=True, extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True,
        secrets_dir=os.environ.get("TENFOLD_SETTINGS") or None,
    )  # fmt: skip

    data: Path = Path(".tenfold")
    """Everything the embedded cluster writes."""
    port_base: int | None = Field(None, ge=1024, le=65000)
    """First port of the embedded cluster; unset: the default ports."""
    redis_url: str | None = None
    """The job store and broker; unset: the embedded cluster's."""
    redis_maxmemory_mb: int = Field(1024, ge=16)
    """maxmemory of the embedded Redis."""
    artifacts: str | None = None
    """An fsspec URL (a folder, s3://bucket/prefix); unset: TENFOLD_DATA/artifacts."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    host: str = "127.0.0.1"
    """Where the gateway listens. Anything but loopback requires tokens."""
    hosts: str = ""
    """Further Host header values to accept, comma-separated."""
    auth: Literal["loopback", "token"] = "loopback"
    """loopback: callers need no token; token: every call needs one."""
    admin_token: str | None = None
    """A token with every scope but redteam, for making the first real ones."""
    redteam: bool | Literal["stand_in"] = False
    """Offers the red-team kinds, and grants the loopback caller their scope; stand_in: against what ships only."""
    redteam_key: Path | None = None
    """The operator's key file: suffixes are kept encrypted with it, and without it not at all."""
    redteam_remote_judges: Literal["off", "redacted", "full"] = "off"
    """Whether judges behind endpoints are asked, and whether they see the goals."""
    max_body: int = Field(2**20, ge=1024)
    """Bytes of a JSON body."""
    max_upload: int = Field(2**30, ge=1024)
    """Bytes of an uploaded file."""
    streams_per_caller: int = Field(50, ge=1)
    """Open event streams per caller."""
    max_unfinished: int = Field(100_000, ge=1)
    """Unfinished jobs per owner."""
    keep_days: float = Field(90.0, gt=0)
    """Days a finished job's record stays in Redis; its manifest stays in the artifact store."""

    lease_ttl_s: float = Field(15.0, gt=0)
    """A running job whose lease is older belongs to nobody."""
    lease_renew_s: float = Field(3.0, gt=0)
    cancel_grace_s: float = Field(10.0, gt=0)
    """How long a cancelled job may take to stop by itself."""
    stop_grace_s: float = Field(25.0, gt=0)
    """How long a stopping worker's jobs may take to hand back."""

    models: Path | None = None
    """A folder of Hugging Face models, <org>/<name>, looked into before the local cache."""
    endpoints: Path | None = None
    """The operator's file of model and translation endpoints (JSON)."""
    secrets: Path | None = None
    """A folder with one file per secret, read by workers only."""
    model_cache_mb: int = Field(4096, ge=0)
    """Weights that a worker process keeps warm between jobs; the last model stays whatever its size."""
    ray_address: str | None = None
    """The Ray cluster that `sim` workers attach to; unset: the embedded head."""
    slots: dict[str, int] = Field(default_factory=dict)
    """Jobs at once by pool on the embedded cluster, as JSON; a pool not named: one, beyond 4 cores one per 4."""
    ray_hosts: int = Field(2, ge=0, le=256)
    """Ray host actors per simulation job; never changes a result. 0: agents live in the worker, without Ray."""

    url: str | None = None
    """The gateway that the client and the command line talk to."""
    token: str | None = None
    """Their token."""

    @cached_property
    def ports(self) -> Ports:
        return Ports.from_base(self.port_base)

    @property
    def redis(self) -> str:
        return self.redis_url or f"redis://127.0.0.1:{self.ports.redis}/0"

    @property
    def artifact_root(self) -> str:
        return self.artifacts or str((self.data / "artifacts").resolve())

    @property
    def gateway_url(self) -> str:
        return self.url or f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def ray(self) -> str:
        return self.ray_address or f"127.0.0.1:{self.ports.ray}"
