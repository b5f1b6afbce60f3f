"""Checkpoints, journals and inputs of a job that runs in a cluster: kill anywhere, same bytes."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.jobs.errors import InvalidInput
from shared.jobs.history import write_committed
from shared.jobs.layout import job_file, job_folder
from shared.jobs.references import Ref
from shared.jobs.store import Claim
from tests.unit.workers.runtime.conftest import Bench
from workers.runtime.claim_context import PARTS_BEFORE_JOINING, ClaimContext
from workers.runtime.heartbeat import Heartbeat, Lease


@contextmanager
def attempt(bench: Bench, job_id: str, number: int, folder: Path) -> Iterator[ClaimContext]:
    """One attempt's context; leaving it without a commit is a kill."""
    claimed = bench.store.claim(job_id, number, bench.runtime.worker)
    assert claimed is not None
    claim, record = claimed
    with Heartbeat(bench.store, claim, Lease(15.0, 3.0)) as heartbeat:
        context = ClaimContext(claim, record, heartbeat, bench.artifacts, bench.runtime.inputs(), folder / str(number))
        yield context
        context.release()
    bench.store.lose(job_id, number)


@pytest.fixture
def job_id(bench: Bench) -> str:
    return bench.submit("test.walk", {"steps": 1}, max_attempts=50)


def test_the_first_attempt_finds_no_checkpoint(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        assert ctx.restored() is None


def test_a_later_attempt_finds_state_and_blobs_of_the_last_checkpoint(
    bench: Bench, job_id: str, tmp_path: Path
) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.checkpoint({"step": 1}, {"weights": b"old"})
        ctx.checkpoint({"step": 2}, {"weights": b"new"})
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        restored = ctx.restored()
        assert restored is not None
        assert restored.state == {"step": 2}
        assert restored.blobs["weights"].read_bytes() == b"new"


def test_a_journal_resumes_at_the_length_of_the_checkpoint(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.journal("trace.jsonl").append(b"one\n")
        ctx.checkpoint({})
        ctx.journal("trace.jsonl").append(b"two\n")
        ctx.checkpoint({})
        ctx.journal("trace.jsonl").append(b"lost with the kill\n")
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        ctx.journal("trace.jsonl").append(b"three\n")
        ctx.checkpoint({})
    with attempt(bench, job_id, 3, tmp_path) as ctx:
        assert ctx.journal("trace.jsonl").path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_journal_of_many_segments_is_joined_and_still_whole(bench: Bench, job_id: str, tmp_path: Path) -> None:
    count = PARTS_BEFORE_JOINING + 3
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        for n in range(count):
            ctx.journal("trace.jsonl").append(f"{n}\n".encode())
            ctx.checkpoint({})
        assert len(ctx.journal("trace.jsonl").parts) < PARTS_BEFORE_JOINING
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert ctx.journal("trace.jsonl").path.read_bytes() == b"".join(f"{n}\n".encode() for n in range(count))


def test_metrics_of_a_resumed_job_have_no_gap_and_no_repeat(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.metric("loss", 0, 2.0)
        ctx.checkpoint({"step": 1})
        ctx.metric("loss", 1, 1.0)
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        ctx.metric("loss", 1, 1.0)
        ctx.metric("loss", 2, 0.5)
        ctx.journal("curves.jsonl").handle.flush()
        points = [json.loads(line)["step"] for line in ctx.journal("curves.jsonl").path.read_text().splitlines()]
        assert points == [0, 1, 2]


def test_the_checkpoint_before_the_last_is_removed(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        for step in range(5):
            ctx.checkpoint({"step": step}, {"weights": b"x"})
        kept = {blob.key.split("/")[3] for blob in bench.artifacts.blobs(job_folder(job_id))}
        assert kept == {".checkpoint-5"}


def test_a_checkpoint_of_another_version_starts_from_zero_and_says_so(
    bench: Bench, job_id: str, tmp_path: Path, newer_code: Callable[[], None]
) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.checkpoint({"step": 7})
    newer_code()
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert ctx.restored() is None
        ctx.checkpoint({"step": 8})
    assert "starting from zero" in bench.store.redis.get(f"tf:log:{job_id}")
    with attempt(bench, job_id, 3, tmp_path) as ctx:
        assert (restored := ctx.restored())
        assert restored.state == {"step": 8}


def test_a_checkpoint_of_the_workers_version_goes_on_though_the_job_was_submitted_under_another(
    bench: Bench, job_id: str, tmp_path: Path
) -> None:
    bench.store.redis.hset(f"tf:job:{job_id}", "kind_version", 99)
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.checkpoint({"step": 7})
    with attempt(bench, job_id, 2, tmp_path) as ctx:
        assert (restored := ctx.restored())
        assert restored.state == {"step": 7}


def test_a_finished_artifact_is_listed_while_the_job_runs(bench: Bench, job_id: str, tmp_path: Path) -> None:
    with attempt(bench, job_id, 1, tmp_path) as ctx:
        ctx.write_text("notes.txt", "so far")
        record = bench.store.get(job_id)
        assert [entry["name"] for entry in json.loads(record.artifacts)] == ["notes.txt"]
        assert bench.artifacts.get_bytes(job_file(job_id, record.prefix or "", "notes.txt")) == b"so far"


def test_an_artifact_whose_writing_fails_does_not_exist(bench: Bench, job_id: str, tmp_path: Path) -> None:
    def write_half(ctx: ClaimContext) -> None:
        with ctx.artifact("half.txt") as out:
            out.write(b"half")
            raise RuntimeError("disk gone")

    with attempt(bench, job_id, 1, tmp_path) as ctx:
        with pytest.raises(RuntimeError, match="disk gone"):
            write_half(ctx)
        assert json.loads(bench.store.get(job_id).artifacts) == []


class TestInputs:
    def test_an_artifact_is_found_without_its_ending(self, bench: Bench) -> None:
        made = bench.run("test.walk", {"steps": 3})
        assert bench.runtime.inputs().fetch(Ref(f"job:{made.id}/end")).path.read_text().strip()

    def test_a_missing_artifact_is_refused_with_those_there_are(self, bench: Bench) -> None:
        made = bench.run("test.noop", {})
        with pytest.raises(InvalidInput, match=r"has no artifact of that name; it has: log\.txt, manifest\.json"):
            bench.runtime.inputs().fetch(Ref(f"job:{made.id}/model"))

    def test_an_unfinished_jobs_artifacts_are_refused(self, bench: Bench) -> None:
        waiting = bench.submit("test.noop", {})
        with pytest.raises(InvalidInput, match="is queued"):
            bench.runtime.inputs().fetch(Ref(f"job:{waiting}/log.txt"))

    def test_an_artifact_of_a_job_past_its_days_is_still_found(self, bench: Bench) -> None:
        made = bench.run("test.walk", {"steps": 3})
        write_committed(made.id, bench.store, bench.artifacts)
        bench.store.redis.zrem("tf:untidy", made.id)  # its files have been put in order
        bench.store.forget(made.id, with_files=False)
        assert bench.runtime.inputs().fetch(Ref(f"job:{made.id}/end.txt")).sha256

    def test_a_damaged_blob_is_refused(self, bench: Bench) -> None:
        made = bench.run("test.walk", {"steps": 3})
        bench.artifacts.put_bytes(job_file(made.id, made.prefix or "", "end.txt"), b"1.0\n")
        with pytest.raises(InvalidInput, match="damaged"):
            bench.runtime.inputs().fetch(Ref(f"job:{made.id}/end.txt"))

    def test_a_file_that_is_gone_is_refused_with_the_remedy(self, bench: Bench) -> None:
        with pytest.raises(InvalidInput, match="upload it again"):
            bench.runtime.inputs().fetch(Ref("file:" + "0" * 64))

    def test_a_model_that_is_not_here_is_refused_with_the_remedy(self, bench: Bench) -> None:
        with pytest.raises(InvalidInput, match="TENFOLD_MODELS"):
            bench.runtime.inputs().fetch(Ref("hub:org/model"))


def test_claims_keep_their_files_apart() -> None:
    assert Claim("J", 2, "abc").prefix == "2-abc"
    assert os.sep not in Claim("J", 2, "abc").prefix
