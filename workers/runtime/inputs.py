"""Resolving references: the one place where a reference in Params becomes a file on this machine.

Fetched blobs are kept in a cache under TENFOLD_DATA by their sha256, so a second job finds them there.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from shared.artifacts import ArtifactStore
from shared.data.builtin import shipped
from shared.jobs.artifact_names import pick
from shared.jobs.context import digest_of
from shared.jobs.errors import InvalidInput, NotFound
from shared.jobs.history import read_committed
from shared.jobs.layout import job_file, upload_key
from shared.jobs.record import JobRecord
from shared.jobs.redteam import Redteam
from shared.jobs.references import Ref
from shared.jobs.states import JobState
from shared.jobs.store import JobStore
from shared.jobs.weights import weight_digest
from shared.settings import Settings


@dataclass(frozen=True)
class Input:
    """A resolved reference: where it lies and what it is, for the manifest."""

    path: Path
    sha256: str


class Inputs:
    """Fetches what references point to. Every refusal is one InvalidInput that says how to mend it."""

    def __init__(self, store: JobStore, artifacts: ArtifactStore, settings: Settings) -> None:
        self._store, self._artifacts, self._settings = store, artifacts, settings
        self.cache_dir = settings.data.resolve() / "cache"
        self.builtin_dir = settings.data.resolve() / "builtin"
        self._cache = self.cache_dir / "inputs"

    def fetch(self, ref: Ref) -> Input:
        """The file behind a reference."""
        match ref.scheme:
            case "file":
                return self._cached(ref, ref.target, upload_key(ref.target))
            case "job":
                return self._job_artifact(ref)
            case "builtin":
                return self._builtin(ref)
            case "allowed":
                return self._allowed(ref)
            case "hub":
                return self._folder(ref, self._settings.models, "put the model under TENFOLD_MODELS/<org>/<name>")
            case "secret":
                return self._folder(ref, self._settings.secrets, "put the secret into TENFOLD_SECRETS")
        raise InvalidInput(f"{ref} can't be read as a file")

    def _job_artifact(self, ref: Ref) -> Input:
        record = self._record(ref)
        listed = {entry["name"]: entry for entry in json.loads(record.artifacts)}
        name = pick(list(listed), ref.artifact or "")
        if name is None or record.prefix is None:
            have = ", ".join(sorted(listed)) or "none"
            raise InvalidInput(f"{ref}: job {record.id} has no artifact of that name; it has: {have}")
        return self._cached(ref, listed[name]["sha256"], job_file(record.id, record.prefix, name))

    def _record(self, ref: Ref) -> JobRecord:
        job_id = ref.job_id or ""
        try:
            record = self._store.get(job_id)
        except NotFound:
            try:
                record = read_committed(job_id, self._artifacts)
            except NotFound as missing:
                raise InvalidInput(f"{ref}: {missing}") from None
        if record.state is not JobState.SUCCEEDED:
            raise InvalidInput(f"{ref}: job {job_id} is {record.state}, so its artifacts are not committed")
        return record

    def _cached(self, ref: Ref, sha256: str, key: str) -> Input:
        path = self._cache / sha256[:2] / sha256
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{sha256}.{secrets.token_hex(4)}")
            try:
                self._artifacts.get_file(key, fresh)
            except FileNotFoundError:
                raise InvalidInput(f"{ref} is not in the artifact store any more: upload it again") from None
            if digest_of(fresh)[0] != sha256:
                fresh.unlink()
                raise InvalidInput(f"{ref} is damaged in the artifact store: its sha256 is not {sha256}")
            os.replace(fresh, path)
        return Input(path, sha256)

    def _builtin(self, ref: Ref) -> Input:
        """What jobs made under TENFOLD_DATA/builtin comes before what Tenfold ships."""
        root = self.builtin_dir
        path = None if (root / ref.target).exists() else shipped(ref.target, root)
        if path is None:
            return self._folder(ref, root, "make it with the demo, or install the package that carries it")
        return Input(path, digest_of(path)[0] if path.is_file() else "")

    def _allowed(self, ref: Ref) -> Input:
        """A model of the red-team list, if its weights are still those that were allowed."""
        try:
            entry = Redteam(self._store).find(ref.target)
        except NotFound as missing:
            raise InvalidInput(f"{ref}: {missing}") from None
        found = self.fetch(Ref(entry.ref))
        digest = weight_digest(found.path)
        if digest != entry.digest:
            raise InvalidInput(
                f"{ref}: the weights behind {entry.ref} have the digest {digest}, and {entry.digest} was allowed; an "
                "admin allows the new ones with `tenfold redteam allow`"
            )
        return Input(found.path, digest)

    def _folder(self, ref: Ref, root: Path | None, remedy: str) -> Input:
        path = root / ref.target if root else None
        if path is None or not path.exists():
            raise InvalidInput(f"{ref} is not on this worker: {remedy}")
        return Input(path, digest_of(path)[0] if path.is_file() else "")
