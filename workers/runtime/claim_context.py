"""The JobContext of a job that runs in a cluster: files under its claim's prefix, reports through its heartbeat."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import tracing
from shared.artifacts import ArtifactStore
from shared.jobs.catalog import find
from shared.jobs.context import Artifact, JobContext, Restored, digest_of_input
from shared.jobs.journal import Journal
from shared.jobs.layout import REPLIES, job_file, job_folder
from shared.jobs.record import JobRecord
from shared.jobs.references import Ref
from shared.jobs.replies import PACKED, LooseReplies, Replies
from shared.jobs.store import Claim
from workers.runtime.heartbeat import Heartbeat
from workers.runtime.inputs import Input, Inputs

if TYPE_CHECKING:
    from opentelemetry.context import Context

PARTS_BEFORE_JOINING = 32


class ClaimContext(JobContext):
    """One claim's context. Artifact and checkpoint keys lie under `jobs/<id>/<attempt>-<claim>/`."""

    def __init__(
        self,
        claim: Claim,
        record: JobRecord,
        heartbeat: Heartbeat,
        artifacts: ArtifactStore,
        inputs: Inputs,
        work_dir: Path,
    ) -> None:
        super().__init__(work_dir)
        self._claim, self._heartbeat, self._artifacts, self._inputs = claim, heartbeat, artifacts, inputs
        self.inputs_read: dict[str, str] = {}
        """sha256 by reference, for the manifest."""
        self._run_span: Context | None = None
        self._saves = 0
        self._writing = threading.Lock()
        self._pointer = self._usable_checkpoint(record)
        self._restored = self._restore()

    def restored(self) -> Restored | None:
        return self._restored

    def input(self, ref: Ref) -> Path:
        found: Input = self._inputs.fetch(ref)
        self.inputs_read[str(ref)] = found.sha256
        return self._moved_here(found.path) if (ref.artifact or "").endswith(".enc") else found.path

    def _moved_here(self, path: Path) -> Path:
        """What is kept encrypted for some days only doesn't stay in the machine's cache: it goes with this attempt."""
        return Path(shutil.move(path, self.work_dir / f"sealed-{path.name}"))

    def input_digest(self, ref: Ref) -> str:
        path = self.input(ref)
        return self.inputs_read[str(ref)] or digest_of_input(path)

    @property
    def cache_dir(self) -> Path:
        return self._inputs.cache_dir

    @property
    def builtin_dir(self) -> Path:
        return self._inputs.builtin_dir

    def check(self) -> None:
        self._heartbeat.check()

    def log(self, message: str) -> None:
        self._heartbeat.log(message, {"message": message})

    def timing(self, name: str, seconds: float, key: str | None = None) -> None:
        super().timing(name, seconds, key)
        if self._run_span is not None:  # each measured phase is a span, whatever thread measured it
            tracing.past(name, seconds, self._run_span)

    @contextmanager
    def traced(self) -> Iterator[None]:
        """The method's run as a span, its phases below it."""
        with tracing.span("run"):
            self._run_span = tracing.current()
            try:
                yield
            finally:
                self._run_span = None

    def listed(self) -> str:
        """The finished artifacts as the record keeps them."""
        return json.dumps([asdict(artifact) for artifact in self.artifacts], separators=(",", ":"))

    def _report(self, event: str, data: dict[str, Any]) -> None:
        self._heartbeat.event(event, data)

    def _report_progress(self, progress: dict[str, Any]) -> None:
        self._heartbeat.progress(progress)

    def _store(self, artifact: Artifact, path: Path) -> None:
        self._artifacts.put_file(self._key(artifact.name), path)
        listed = [
            asdict(known) for known in (*self.artifacts, artifact) if known.name != artifact.name or known is artifact
        ]
        self._heartbeat.write({"artifacts": json.dumps(listed, separators=(",", ":"))})

    def _open_replies(self) -> Replies:
        loose = LooseReplies(self._artifacts, self._job_key(REPLIES), self._claim.prefix)
        return Replies(loose, self.journal(PACKED))

    # Checkpoints --------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, state: dict[str, Any], blobs: Mapping[str, bytes]) -> None:
        """Blobs and journal segments first, then the fenced pointer to them; then the one before is rubbish."""
        self._saves += 1
        folder = f"{self._claim.prefix}/.checkpoint-{self._saves}"
        for name, data in blobs.items():
            self._artifacts.put_bytes(self._job_key(f"{folder}/{name}"), data)
        self._artifacts.put_bytes(self._job_key(f"{folder}/.state.json"), json.dumps(state, allow_nan=False).encode())
        pointer = {
            "kind_version": self._kind_version,
            "folder": folder,
            "blobs": sorted(blobs),
            "journals": {name: self._save_journal(journal) for name, journal in sorted(self._journals.items())},
        }
        before, self._pointer = self._pointer, pointer
        self._heartbeat.write({"checkpoint": json.dumps(pointer, separators=(",", ":"))})
        if before and before["folder"].startswith(self._claim.prefix):
            self._artifacts.delete(self._job_key(before["folder"]))

    def _save_journal(self, journal: Journal) -> dict[str, Any]:
        size = journal.path.stat().st_size
        if len(journal.parts) >= PARTS_BEFORE_JOINING:
            journal.parts, journal.saved_bytes = [], 0
        if size > journal.saved_bytes or not journal.parts:
            part = f"{self._claim.prefix}/.journal-{self._saves}/{journal.name}"
            with journal.path.open("rb") as handle:
                handle.seek(journal.saved_bytes)
                self._artifacts.put_bytes(self._job_key(part), handle.read())
            journal.parts.append(part)
            journal.saved_bytes = size
        return {"parts": list(journal.parts), "bytes": size}

    def _usable_checkpoint(self, record: JobRecord) -> dict[str, Any] | None:
        """The record's checkpoint if this worker's code wrote its form, whatever the job was submitted under."""
        self._kind_version = find(record.kind).version
        pointer: dict[str, Any] | None = json.loads(record.checkpoint) if record.checkpoint else None
        if pointer and pointer["kind_version"] != self._kind_version:
            self.log(
                f"the checkpoint is of version {pointer['kind_version']} of {record.kind}, this worker runs "
                f"{self._kind_version}: starting from zero"
            )
            self._restore_replies(pointer)
            return None
        return pointer

    def _restore(self) -> Restored | None:
        if self._pointer is None:
            return None
        folder = self.work_dir / "restored"
        for name in (*self._pointer["blobs"], ".state.json"):
            self._artifacts.get_file(self._job_key(f"{self._pointer['folder']}/{name}"), folder / name)
        for name, saved in self._pointer["journals"].items():
            self._restore_journal(name, saved)
        self.log(f"resumed from the checkpoint in {self._pointer['folder'].partition('/')[0]}")
        state = json.loads((folder / ".state.json").read_text())
        return Restored(state, {name: folder / name for name in self._pointer["blobs"]})

    def _restore_replies(self, pointer: dict[str, Any]) -> None:
        """Replies are paid for and found by what was asked: they outlive a checkpoint of another version."""
        if PACKED in pointer["journals"]:
            self._restore_journal(PACKED, pointer["journals"][PACKED])

    def _restore_journal(self, name: str, saved: dict[str, Any]) -> None:
        journal = self.journal(name)
        for part in saved["parts"]:
            journal.append(self._artifacts.get_bytes(self._job_key(part)))
        journal.handle.flush()
        journal.parts, journal.saved_bytes = list(saved["parts"]), saved["bytes"]

    def _key(self, name: str) -> str:
        return job_file(self._claim.job_id, self._claim.prefix, name)

    def _job_key(self, path: str) -> str:
        return f"{job_folder(self._claim.job_id)}/{path}"
