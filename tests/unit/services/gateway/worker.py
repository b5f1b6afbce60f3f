"""A worker's side of a job's life, by hand: real claims, reports and commits on the real store."""

import hashlib
import json

from services.gateway.state import Gateway
from shared.jobs.layout import job_file
from shared.jobs.states import JobState
from shared.jobs.store import Claim, Outcome, Report, Worker


class FakeWorker:
    """Claims, says and ends what a test tells it to."""

    def __init__(self, parts: Gateway) -> None:
        self._store, self._artifacts = parts.store, parts.artifacts

    def claim(self, job_id: str) -> Claim:
        attempt = self._store.get(job_id).attempt + 1
        claimed = self._store.claim(job_id, attempt, Worker("test@here", 1, lease_ttl_s=60))
        assert claimed is not None
        return claimed[0]

    def say(self, claim: Claim, *tokens: str, log: str = "", progress: dict | None = None) -> None:
        events = [("token", json.dumps({"text": token})) for token in tokens]
        fields = {"progress": json.dumps(progress)} if progress else {}
        self._store.report(claim, Report(fields, events, log))

    def leave(self, claim: Claim, **artifacts: bytes) -> list[dict[str, object]]:
        """Write artifacts (`end_txt` is `end.txt`) and list them."""
        listed = []
        for name, data in artifacts.items():
            file = name.replace("_", ".")
            self._artifacts.put_bytes(job_file(claim.job_id, claim.prefix, file), data)
            sha256 = hashlib.sha256(data).hexdigest()
            listed.append({"name": file, "media_type": "text/plain", "bytes": len(data), "sha256": sha256})
        self._store.report(claim, Report({"artifacts": json.dumps(listed)}))
        return listed

    def succeed(self, claim: Claim, result: dict | None = None, **artifacts: bytes) -> None:
        listed = self.leave(claim, **artifacts)
        fields = {"result": json.dumps(result or {}), "artifacts": json.dumps(listed), "prefix": claim.prefix}
        assert self._store.commit(claim, Outcome(JobState.SUCCEEDED, fields)) is JobState.SUCCEEDED

    def fail(self, claim: Claim) -> None:
        self._store.commit(claim, Outcome(JobState.FAILED, {}, "failed", "it broke"))

    def run(self, job_id: str, result: dict | None = None, **artifacts: bytes) -> None:
        """From queued to succeeded."""
        self.succeed(self.claim(job_id), result, **artifacts)
