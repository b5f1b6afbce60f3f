"""`Tenfold`: the whole HTTP API as typed methods."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from services.client.admin import Admin
from services.client.connection import Connection
from services.client.errors import NotFound, Problem, Refused, TimedOut
from services.client.events import follow
from services.client.models import (
    Artifact,
    Event,
    EventPage,
    Health,
    Job,
    Kind,
    Me,
    Queue,
    State,
    Sweep,
    Uploaded,
)  # fmt: skip
from services.client.transfers import Advance, download, upload

WAIT_S = 60
"""The longest that one call may wait for a job, by the contract."""


def default_url() -> str:
    """TENFOLD_URL, else the embedded cluster's gateway."""
    return os.environ.get("TENFOLD_URL") or f"http://127.0.0.1:{os.environ.get('TENFOLD_PORT_BASE') or 8000}"


class Tenfold:
    """One cluster. `url` and `token` default to TENFOLD_URL and TENFOLD_TOKEN.

    `patience_s` is how long a call that is safe to repeat goes on trying while nothing answers (a gateway restarting).
    Every call raises Unreachable or a Refused.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout_s: float = 30.0, patience_s: float = 5.0
    ) -> None:
        token = token or os.environ.get("TENFOLD_TOKEN") or None
        self._connection = Connection(url or default_url(), token, timeout_s, patience_s)

    @property
    def url(self) -> str:
        return self._connection.url

    @property
    def patience_s(self) -> float:
        return self._connection.patience_s

    @patience_s.setter
    def patience_s(self, seconds: float) -> None:
        self._connection.patience_s = seconds

    @cached_property
    def admin(self) -> Admin:
        """Tokens, the red-team list and its audit, upkeep: all need the scope `admin`."""
        return Admin(self._connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Kinds --------------------------------------------------------------------------------------------------------

    def kinds(self) -> list[Kind]:
        return [Kind.model_validate(item) for item in self._connection.json("GET", "/v1/kinds")["items"]]

    def kind(self, kind: str) -> Kind:
        return Kind.model_validate(self._connection.json("GET", f"/v1/kinds/{kind}"))

    # Jobs ---------------------------------------------------------------------------------------------------------

    def submit(
        self,
        kind: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Job:
        """Submit a job. Options: `name`, `labels`, `priority`, `max_attempts`, `timeout_s`.

        Without a key one is drawn, so that a call repeated after a broken connection can't submit twice.
        """
        body = _body(kind, params, options)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        answer = self._connection.json("POST", "/v1/jobs", repeatable=True, json=body, headers=headers)
        return Job.model_validate(answer)

    def check(self, kind: str, params: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """What submitting would validate to; nothing is stored."""
        body = _body(kind, params, options)
        answer: dict[str, Any] = self._connection.json(
            "POST", "/v1/jobs", repeatable=True, json=body, params={"dry_run": "true"}
        )
        return answer

    def job(self, job_id: str, *, wait_s: float = 0) -> Job:
        """The job, at once or when it is final, at most `wait_s` (≤ 60) later."""
        query = {"wait_s": f"{wait_s:g}"} if wait_s else {}
        answer = self._connection.json(
            "GET", f"/v1/jobs/{job_id}", params=query, timeout=self._connection.timeout_s + wait_s
        )
        return Job.model_validate(answer)

    def jobs(
        self,
        *,
        kind: str | None = None,
        state: State | None = None,
        labels: Mapping[str, str] | None = None,
        owner: str | None = None,
        page_size: int = 50,
    ) -> Iterator[Job]:
        """Jobs, newest first, page after page as you iterate."""
        query: dict[str, Any] = {"limit": page_size}
        query |= {name: value for name, value in {"kind": kind, "state": state, "owner": owner}.items() if value}
        if labels:
            query["label"] = [f"{key}:{value}" for key, value in labels.items()]
        while True:
            page = self._connection.json("GET", "/v1/jobs", params=query)
            yield from (Job.model_validate(item) for item in page["items"])
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """The job once it is final, whatever its outcome. Raises TimedOut when it isn't after `timeout_s`."""
        deadline = time.monotonic() + timeout_s if timeout_s is not None else None
        while True:
            left = WAIT_S if deadline is None else min(WAIT_S, max(0.0, deadline - time.monotonic()))
            job = self.job(job_id, wait_s=round(left, 3))
            if job.is_final:
                return job
            if deadline is not None and time.monotonic() >= deadline:
                raise TimedOut(f"job {job_id} is still {job.state} after {timeout_s:g} s")

    def events(self, job_id: str, *, after: str | None = None) -> Iterator[Event]:
        """The job's events as they happen, each once, until it is final; broken connections are mended."""
        return follow(self._connection, job_id, after, lambda: self.job(job_id).is_final)

    def event_page(self, job_id: str, *, after: str | None = None) -> EventPage:
        """Events so far, without waiting."""
        answer = self._connection.json(
            "GET", f"/v1/jobs/{job_id}/events", params={"after": after} if after else {},
            headers={"Accept": "application/json"},
        )  # fmt: skip
        return EventPage.model_validate(answer)

    def log(self, job_id: str, *, offset: int = 0) -> str:
        """The log so far from byte `offset` on."""
        return self.log_bytes(job_id, offset=offset).decode(errors="replace")

    def log_bytes(self, job_id: str, *, offset: int = 0) -> bytes:
        """The same as bytes, to go on with at `offset + len(...)`."""
        return self._connection.send("GET", f"/v1/jobs/{job_id}/log", params={"offset": offset}).content

    def cancel(self, job_id: str) -> Job:
        return Job.model_validate(self._connection.json("POST", f"/v1/jobs/{job_id}/cancel"))

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again, from its last checkpoint."""
        return Job.model_validate(self._connection.json("POST", f"/v1/jobs/{job_id}/retry"))

    def delete(self, job_id: str) -> None:
        """Remove a finished job, its record and artifacts."""
        self._connection.json("DELETE", f"/v1/jobs/{job_id}", repeatable=False)

    # Artifacts and files ------------------------------------------------------------------------------------------

    def artifacts(self, job_id: str) -> list[Artifact]:
        answer = self._connection.json("GET", f"/v1/jobs/{job_id}/artifacts")
        return [Artifact.model_validate(item) for item in answer["items"]]

    def artifact(self, job_id: str, name: str) -> Artifact:
        """The artifact of that name, which may lack its ending where that is unambiguous."""
        known = self.artifacts(job_id)
        exact = [artifact for artifact in known if artifact.name == name]
        found = exact or [artifact for artifact in known if artifact.name.startswith(f"{name}.")]
        if len(found) == 1:
            return found[0]
        names = ", ".join(artifact.name for artifact in found or known) or "none yet"
        wrong = f"{name!r} is ambiguous" if found else f"job {job_id} has no artifact {name!r}"
        raise NotFound(Problem(status=404, title="no such artifact", detail=f"{wrong}: {names}"))

    def download(self, job_id: str, name: str, target: Path | str, *, advance: Advance | None = None) -> Path:
        """Fetch an artifact into a file or into an existing folder; checked by SHA-256, gone on with if cut."""
        artifact = self.artifact(job_id, name)
        path = Path(target)
        path = path / artifact.name if path.is_dir() else path
        address = f"/v1/jobs/{job_id}/artifacts/{artifact.name}"
        return download(self._connection, address, artifact, path, advance or (lambda _: None))

    def upload(self, path: Path | str) -> Uploaded:
        """Store a file; its `ref` goes into Params."""
        return upload(self._connection, Path(path))

    def file(self, ref: str) -> bytes:
        """The content of an uploaded file, by its `file:<sha256>` reference."""
        return self._connection.send("GET", f"/v1/files/{ref.removeprefix('file:')}").content

    # Sweeps -------------------------------------------------------------------------------------------------------

    def submit_sweep(
        self,
        kind: str,
        params: Mapping[str, Any] | None = None,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        seeds: Sequence[int] | None = None,
        **options: Any,
    ) -> Sweep:
        """Submit the product of the grid's values and the seeds as jobs, all or none. Options as for `submit`."""
        body = _body(kind, params, options) | {"grid": dict(grid or {})}
        if seeds:
            body["seeds"] = list(seeds)
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = self._connection.json("POST", "/v1/sweeps", repeatable=False, json=body, headers=headers)
        return Sweep.model_validate(answer)

    def sweeps(self) -> list[Sweep]:
        return [Sweep.model_validate(item) for item in self._connection.json("GET", "/v1/sweeps")["items"]]

    def sweep(self, sweep_id: str) -> Sweep:
        return Sweep.model_validate(self._connection.json("GET", f"/v1/sweeps/{sweep_id}"))

    def cancel_sweep(self, sweep_id: str) -> Sweep:
        return Sweep.model_validate(self._connection.json("POST", f"/v1/sweeps/{sweep_id}/cancel"))

    # The cluster --------------------------------------------------------------------------------------------------

    def me(self) -> Me:
        return Me.model_validate(self._connection.json("GET", "/v1/me"))

    def queues(self) -> list[Queue]:
        return [Queue.model_validate(item) for item in self._connection.json("GET", "/v1/queues")["items"]]

    def is_alive(self) -> bool:
        """Whether the gateway answers."""
        return self._connection.send("GET", "/healthz").is_success

    def readiness(self) -> Health:
        """Whether the gateway, Redis and the artifact store answer. Raises Unreachable when nothing does."""
        try:
            answer = self._connection.json("GET", "/readyz", repeatable=False)
        except Refused as refused:
            return Health(ok=False, details=refused.problem.model_dump(exclude_none=True))
        return Health(ok=True, details=answer if isinstance(answer, dict) else {})


def _body(kind: str, params: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "params": dict(params or {})} | {k: v for k, v in options.items() if v is not None}
