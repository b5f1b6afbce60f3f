"""Model replies of a job in a cluster: they belong to the job, whichever attempt asked, and go when it succeeded."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore
from shared.jobs.errors import LeaseLost
from shared.jobs.layout import REPLIES, job_folder
from shared.jobs.retention import Retention
from shared.jobs.states import JobState
from shared.jobs.store import Outcome
from tests.unit.workers.runtime.conftest import Bench
from tests.unit.workers.runtime.test_claim_context import attempt
from workers.runtime.claim_context import PARTS_BEFORE_JOINING, ClaimContext


@pytest.fixture
def job_id(bench: Bench) -> str:
    return bench.submit("test.walk", {"steps": 1}, max_attempts=200)


def loose(bench: Bench, job_id: str) -> int:
    return len(bench.artifacts.folders(f"{job_folder(job_id)}/{REPLIES}"))


def phase(ctx: ClaimContext, number: int) -> None:
    """A phase that asks two calls and ends with its checkpoint."""
    for name in "ab":
        ctx.keep_reply(f"phase{number}/{name}", f"{number}{name}".encode())
    ctx.pack_replies()
    ctx.checkpoint({"phase": number})


def found(ctx: ClaimContext, phases: int) -> list[bytes | None]:
    return [ctx.kept_reply(f"phase{number}/{name}") for number in range(phases) for name in "ab"]


def expected(phases: int) -> list[bytes]:
    return [f"{number}{name}".encode() for number in range(phases) for name in "ab"]


def test_a_reply_outlives_its_attempt_without_any_checkpoint(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.keep_reply("run0/a", b"paid for")
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert ctx.restored() is None
        assert ctx.kept_reply("run0/a") == b"paid for"


def test_a_reply_lies_outside_every_claims_prefix(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.keep_reply("run0/a", b"x")
        assert bench.artifacts.folders(job_folder(job_id)) == [REPLIES]


def test_packed_replies_are_one_object_that_the_checkpoint_names(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        phase(ctx, 0)
        assert loose(bench, job_id) == 0
        packed = [blob.key for blob in bench.artifacts.blobs(job_folder(job_id)) if blob.key.endswith("/.replies")]
        assert len(packed) == 1
        assert packed[0].removeprefix(f"{job_folder(job_id)}/") in bench.store.get(job_id).checkpoint
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert found(ctx, 1) == expected(1)


def test_a_later_attempt_sees_packed_and_loose_replies(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        phase(ctx, 0)
        ctx.keep_reply("phase1/a", b"1a")
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert [*found(ctx, 1), ctx.kept_reply("phase1/a")] == [*expected(1), b"1a"]


def test_replies_of_many_phases_over_many_attempts_are_whole(bench: Bench, job_id: str, tmp_path: Path) -> None:
    phases = PARTS_BEFORE_JOINING + 8
    for start in range(0, phases, 8):
        with attempt(bench, job_id, 1 + start // 8, tmp_path) as ctx:
            assert found(ctx, start) == expected(start)
            for number in range(start, start + 8):
                phase(ctx, number)
    with attempt(bench, job_id, 1 + phases // 8, tmp_path) as ctx:
        assert found(ctx, phases) == expected(phases)


def test_an_unnamed_pack_of_a_lost_attempt_is_as_if_it_never_was(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.keep_reply("run0/a", b"x")
        ctx.pack_replies()
    assert loose(bench, job_id) == 1
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert ctx.kept_reply("run0/a") == b"x"


def test_an_attempt_that_lost_its_job_removes_nothing(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as stale:
        stale.keep_reply("run0/a", b"x")
        stale.pack_replies()
        bench.store.lose(job_id, 1)
        with pytest.raises(LeaseLost):
            stale.checkpoint({"phase": 0})
        assert loose(bench, job_id) == 1


def test_a_late_reply_of_a_lost_attempt_changes_nothing(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as stale:
        assert stale.kept_reply("run0/a") is None
        bench.store.lose(job_id, 1)
        with attempt(bench, job_id, 2, tmp_path) as ctx:
            ctx.keep_reply("run0/a", b"used")
            stale.keep_reply("run0/a", b"late")
            assert ctx.kept_reply("run0/a") == b"used"
    with attempt(bench, job_id, 3, tmp_path) as ctx:
        assert ctx.kept_reply("run0/a") == b"used"


def test_replies_outlive_a_checkpoint_of_another_version(
    bench: Bench, job_id: str, tmp_path: Path, newer_code: Callable[[], None]
) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        phase(ctx, 0)
        ctx.keep_reply("phase1/a", b"1a")
    newer_code()
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert ctx.restored() is None
        assert [*found(ctx, 1), ctx.kept_reply("phase1/a")] == [*expected(1), b"1a"]


class _Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class DyingStore(ArtifactStore):
    """An artifact store whose process is killed before or after its n-th change."""

    def __init__(self, root: str, dies_at: int, *, after: bool) -> None:
        super().__init__(root)
        self._left, self._after = dies_at, after

    def _change(self, change: Callable[[], Any]) -> Any:
        if self._left == 0 and not self._after:
            raise _Killed
        answer = change()
        if self._left == 0:
            raise _Killed
        self._left -= 1
        return answer

    def put_bytes(self, key: str, data: bytes) -> None:
        self._change(lambda: super(DyingStore, self).put_bytes(key, data))

    def delete(self, key: str) -> None:
        self._change(lambda: super(DyingStore, self).delete(key))

    def delete_all(self, keys: list[str]) -> None:
        for key in keys:  # a kill may fall between any two
            self._change(lambda key=key: super(DyingStore, self).delete_all([key]))


@pytest.mark.parametrize("after", [pytest.param(False, id="before"), pytest.param(True, id="after")])
@pytest.mark.parametrize("dies_at", range(16))
def test_a_kill_at_any_change_of_the_store_costs_at_most_the_call_in_flight(
    bench: Bench, job_id: str, tmp_path: Path, dies_at: int, after: bool
) -> None:
    """Two phases, killed at the n-th change; then the whole again. A key that was stored is never stored anew."""
    stored: list[str] = []

    def work(ctx: ClaimContext) -> None:
        restored = ctx.restored()
        for number in range(restored.state["phase"] + 1 if restored else 0, 2):
            for name in "ab":
                key = f"phase{number}/{name}"
                if ctx.kept_reply(key) is None:
                    ctx.keep_reply(key, f"{number}{name}".encode())
                    stored.append(key)
            ctx.pack_replies()
            ctx.checkpoint({"phase": number})

    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx._artifacts = DyingStore(bench.artifacts.root, dies_at, after=after)
        with contextlib.suppress(_Killed):
            work(ctx)
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        work(ctx)
        assert found(ctx, 2) == expected(2)
    with attempt(bench, job_id, 3, tmp_path) as ctx:
        assert found(ctx, 2) == expected(2)
        ctx.checkpoint({"phase": 2})
        assert loose(bench, job_id) == 0
    assert len(stored) == len(set(stored))
    assert len(stored) >= 3  # a kill just after a store keeps it from being noted here, no more


class TestRetention:
    def retention(self, bench: Bench) -> Retention:
        return Retention(bench.store, bench.artifacts, 90.0)

    def end(self, bench: Bench, job_id: str, state: JobState, tmp_path: Path) -> None:
        """An attempt that stores a loose and a packed reply and ends so."""
        claimed = bench.store.claim(job_id, 1, bench.runtime.worker)
        assert claimed is not None
        from workers.runtime.heartbeat import Heartbeat, Lease

        claim, record = claimed
        with Heartbeat(bench.store, claim, Lease(15.0, 3.0)) as heartbeat:
            ctx = ClaimContext(claim, record, heartbeat, bench.artifacts, bench.runtime.inputs(), tmp_path / "work")
            phase(ctx, 0)
            ctx.keep_reply("phase1/a", b"1a")
            ctx.close_journals()
            bench.store.commit(claim, Outcome(state, {"prefix": claim.prefix, "artifacts": ctx.listed()}))
            ctx.release()

    def test_a_job_that_succeeded_keeps_no_reply(self, bench: Bench, job_id: str, tmp_path: Path) -> None:
        self.end(bench, job_id, JobState.SUCCEEDED, tmp_path)
        self.retention(bench).collect(dry_run=False)
        assert not [blob.key for blob in bench.artifacts.blobs(job_folder(job_id)) if "repl" in blob.key]

    @pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
    def test_a_job_that_may_be_retried_keeps_its_replies(
        self, bench: Bench, job_id: str, tmp_path: Path, state: JobState
    ) -> None:
        self.end(bench, job_id, state, tmp_path)
        self.retention(bench).collect(dry_run=False)
        keys = [blob.key for blob in bench.artifacts.blobs(job_folder(job_id))]
        assert sum(f"/{REPLIES}/" in key for key in keys) == 1
        assert sum(key.endswith("/.replies") for key in keys) == 1

    def test_replies_are_no_artifact(self, bench: Bench, job_id: str, tmp_path: Path) -> None:
        self.end(bench, job_id, JobState.SUCCEEDED, tmp_path)
        assert bench.store.get(job_id).artifacts == "[]"
