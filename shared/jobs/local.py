"""A JobContext over a folder: run a method with no cluster at all.

    result = simulate(SimulateParams(scenario="fishery"), LocalContext("out/"))

Artifacts land in the folder; the last checkpoint under `out/.checkpoint`, model replies under `out/.replies`, so
calling again after a kill resumes. Delete the folder to start afresh. What several runs may share is kept under
`cache`, by default `out/.cache`.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.artifacts import ArtifactStore
from shared.data.builtin import STAND_INS, shipped
from shared.jobs.context import Artifact, JobContext, Restored, digest_of_input
from shared.jobs.errors import Cancelled, InvalidInput
from shared.jobs.references import Ref
from shared.jobs.replies import PACKED, LooseReplies, Replies
from shared.jobs.weights import weight_digest


class LocalContext(JobContext):
    """Files for everything. `inputs` maps references to local paths; `say` gets each event (default: nothing)."""

    local = True

    def __init__(
        self,
        folder: str | Path,
        inputs: Mapping[str, str | Path] | None = None,
        say: Callable[[str, dict[str, Any]], None] = lambda event, data: None,
        cache: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        super().__init__(self.folder / ".work")
        self._inputs = {ref: Path(path) for ref, path in (inputs or {}).items()}
        self._say = say
        self._cache = Path(cache) if cache else self.folder / ".cache"
        self._saved = self.folder / ".checkpoint"
        self._fresh, self._old = self.folder / ".checkpoint.new", self.folder / ".checkpoint.old"
        self._adopt_fresh()
        self.cancelled = False
        """Set it to make the next check raise Cancelled."""
        self._open_journals()

    def restored(self) -> Restored | None:
        saved = self._saved / "state.json"
        if not saved.exists():
            return None
        envelope = json.loads(saved.read_text())
        return Restored(envelope["state"], {name: self._saved / f"blob-{name}" for name in envelope["blobs"]})

    def input(self, ref: Ref) -> Path:
        if ref in self._inputs:
            return self._inputs[ref]
        if ref.scheme == "builtin" or f"builtin:{ref.target}" in STAND_INS:
            made = self.builtin_dir / ref.target
            if path := made if made.exists() else shipped(ref.target, self.builtin_dir):
                return path
        raise InvalidInput(f"{ref} is not among this run's inputs: {sorted(self._inputs) or 'none given'}")

    def input_digest(self, ref: Ref) -> str:
        path = self.input(ref)
        return weight_digest(path) if ref.scheme == "allowed" else digest_of_input(path)

    @property
    def cache_dir(self) -> Path:
        return self._cache

    @property
    def builtin_dir(self) -> Path:
        return self._cache / "builtin"

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled("cancelled")

    def close(self) -> None:
        """Finish journals and remove the scratch folder and checkpoint: the run is complete."""
        self.close_journals()
        for folder in (self._old, self._fresh, self.work_dir, self._saved, self.folder / ".replies"):
            shutil.rmtree(folder, ignore_errors=True)

    def _report(self, event: str, data: dict[str, Any]) -> None:
        self._say(event, data)

    def _report_progress(self, progress: dict[str, Any]) -> None:
        self._say("progress", progress)

    def _store(self, artifact: Artifact, path: Path) -> None:
        shutil.copyfile(path, self.folder / artifact.name)

    def _open_replies(self) -> Replies:
        return Replies(LooseReplies(ArtifactStore(str(self.folder.resolve())), ".replies"), self.journal(PACKED))

    def _save_checkpoint(self, state: dict[str, Any], blobs: Mapping[str, bytes]) -> None:
        """Write the checkpoint beside the one before, then let it take its place: a kill leaves one of them whole."""
        for leftover in (self._fresh, self._old):
            shutil.rmtree(leftover, ignore_errors=True)
        self._fresh.mkdir(parents=True)
        for name, data in blobs.items():
            (self._fresh / f"blob-{name}").write_bytes(data)
        journals = {journal.name: journal.path.stat().st_size for journal in self._journals.values()}
        (self._fresh / "state.json").write_text(
            json.dumps({"state": state, "blobs": sorted(blobs), "journals": journals})
        )
        if self._saved.exists():
            os.replace(self._saved, self._old)
        os.replace(self._fresh, self._saved)
        shutil.rmtree(self._old, ignore_errors=True)

    def _adopt_fresh(self) -> None:
        """Between the two renames of a save the new checkpoint is the only one; without one before, it may be cut."""
        if not self._saved.exists() and self._old.exists() and self._fresh.exists():
            os.replace(self._fresh, self._saved)

    def _open_journals(self) -> None:
        """Cut every journal back to its length at the checkpoint; drop those the checkpoint doesn't know."""
        saved = self._saved / "state.json"
        lengths: dict[str, int] = json.loads(saved.read_text())["journals"] if saved.exists() else {}
        for path in self.work_dir.glob("journal-*"):
            name = path.name.removeprefix("journal-")
            if name in lengths:
                os.truncate(path, lengths[name])
            else:
                path.unlink()
        for name in lengths:
            self.journal(name)
