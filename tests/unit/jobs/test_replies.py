"""The reply store: what was stored is found by every later attempt, wherever the one before was killed."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from shared.artifacts import ArtifactStore
from shared.jobs.journal import Journal
from shared.jobs.local import LocalContext
from shared.jobs.replies import PACKED, LooseReplies, Replies

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(params=["folder", "object store"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    """The store as a folder, and as something that is none (fsspec's memory file system stands for S3)."""
    if request.param == "folder":
        yield ArtifactStore(str(tmp_path / "artifacts"))
        return
    yield ArtifactStore("memory://artifacts")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def opened(artifacts: ArtifactStore, tmp_path: Path) -> Iterator[Callable[[], Replies]]:
    """The job's replies as one attempt after the other opens them; the packed journal stays."""
    handles = []

    def open_() -> Replies:
        path = tmp_path / "packed"
        handle = path.open("ab")
        handles.append(handle)
        return Replies(LooseReplies(artifacts, "jobs/J/replies"), Journal(PACKED, path, handle))

    yield open_
    for handle in handles:
        handle.close()


def loose(artifacts: ArtifactStore) -> int:
    return len(artifacts.folders("jobs/J/replies"))


class TestReplies:
    def test_an_unknown_key_has_no_reply(self, opened: Callable[[], Replies]) -> None:
        assert opened().get("run0/a") is None

    @pytest.mark.parametrize("data", [b"{}", b"", b"\n\n1 2\n", bytes(range(256)), "Grüße".encode() * 1000])
    def test_a_reply_is_found_loose_packed_and_by_later_attempts(
        self, opened: Callable[[], Replies], data: bytes
    ) -> None:
        replies = opened()
        replies.keep({"run0/a": data})
        replies.keep({"run0/b": b"other"})
        assert replies.get("run0/a") == opened().get("run0/a") == data
        replies.pack()
        assert replies.get("run0/a") == opened().get("run0/a") == data
        replies.drop_packed()
        assert replies.get("run0/a") == opened().get("run0/a") == data
        assert opened().get("run0/b") == b"other"

    def test_the_reply_of_the_attempt_that_has_the_job_stands(
        self, artifacts: ArtifactStore, opened: Callable[[], Replies], tmp_path: Path
    ) -> None:
        with (tmp_path / "other").open("ab") as handle:
            journal = Journal(PACKED, tmp_path / "other", handle)
            stale, present = (
                Replies(LooseReplies(artifacts, "jobs/J/replies", writer), journal) for writer in ("9-ff", "10-aa")
            )
            present.keep({"run0/a": b"used"})
            stale.keep({"run0/a": b"late"})
            stale.keep({"run0/a": b"later", "run0/b": b"of use"})
            assert present.get("run0/a") == b"used"
        assert opened().get("run0/a") == b"used"
        assert opened().get("run0/b") == b"of use"

    def test_a_stored_reply_stands(self, opened: Callable[[], Replies]) -> None:
        replies = opened()
        assert replies.keep({"run0/a": b"used"}) == {"run0/a": b"used"}
        again = {"run0/a": b"again", "run0/b": b"new"}
        assert replies.keep(again) == opened().keep(again) == {"run0/a": b"used", "run0/b": b"new"}

    def test_replies_that_arrive_together_are_one_file(
        self, opened: Callable[[], Replies], artifacts: ArtifactStore
    ) -> None:
        opened().keep({f"run0/{n}": bytes([n]) for n in range(50)})
        assert loose(artifacts) == 1
        assert [opened().get(f"run0/{n}") for n in range(50)] == [bytes([n]) for n in range(50)]

    def test_nothing_to_store_writes_nothing(self, opened: Callable[[], Replies], artifacts: ArtifactStore) -> None:
        replies = opened()
        replies.keep({})
        replies.keep({"a": b"x"})
        replies.keep({"a": b"x"})
        assert loose(artifacts) == 1

    def test_a_packed_reply_stands_too(self, opened: Callable[[], Replies]) -> None:
        replies = opened()
        replies.keep({"run0/a": b"used"})
        replies.pack()
        assert replies.keep({"run0/a": b"late"}) == {"run0/a": b"used"}

    def test_packing_clears_the_loose_ones_only_when_dropped(
        self, opened: Callable[[], Replies], artifacts: ArtifactStore
    ) -> None:
        replies = opened()
        for n in range(5):
            replies.keep({f"run0/{n}": b"x"})
        replies.pack()
        replies.keep({"run1/0": b"came later"})
        assert loose(artifacts) == 6
        replies.drop_packed()
        assert loose(artifacts) == 1

    def test_what_a_kill_left_in_both_places_is_cleared_at_the_next_packing(
        self, opened: Callable[[], Replies], artifacts: ArtifactStore
    ) -> None:
        killed = opened()
        killed.keep({"run0/a": b"x"})
        killed.pack()
        replies = opened()
        assert replies.get("run0/a") == b"x"
        replies.drop_packed()
        assert loose(artifacts) == 0
        assert opened().get("run0/a") == b"x"

    def test_packing_twice_packs_nothing_twice(self, opened: Callable[[], Replies], tmp_path: Path) -> None:
        replies = opened()
        replies.keep({"run0/a": b"x" * 100})
        replies.pack()
        size = (tmp_path / "packed").stat().st_size
        replies.pack()
        assert (tmp_path / "packed").stat().st_size == size

    def test_threads_may_store_while_others_pack(self, opened: Callable[[], Replies]) -> None:
        replies, done = opened(), threading.Event()

        def pack() -> None:
            while not done.is_set():
                replies.pack()
                replies.drop_packed()

        packing = threading.Thread(target=pack)
        packing.start()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: replies.keep({f"run0/{n}": str(n).encode()}), range(200)))
        done.set()
        packing.join()
        assert [opened().get(f"run0/{n}") for n in range(200)] == [str(n).encode() for n in range(200)]


def test_many_blobs_are_read_and_removed_together(artifacts: ArtifactStore) -> None:
    for name in "abc":
        artifacts.put_bytes(f"x/{name}", name.encode())
    assert artifacts.get_all(["x/a", "x/c"]) == {"x/a": b"a", "x/c": b"c"}
    artifacts.delete_all(["x/a", "x/b"])
    artifacts.delete_all(["x/a"])
    assert artifacts.folders("x") == ["c"]
    assert artifacts.get_all([]) == {}
    artifacts.delete_all([])


class TestLocalContext:
    def test_a_finished_run_leaves_its_artifacts_alone(self, tmp_path: Path) -> None:
        ctx = LocalContext(tmp_path / "out")
        ctx.keep_reply("run0/a", b"x")
        ctx.pack_replies()
        ctx.checkpoint({})
        ctx.keep_reply("run0/b", b"y")
        ctx.write_text("notes.txt", "done")
        ctx.close()
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]

    def test_a_method_that_asks_no_model_writes_no_replies(self, tmp_path: Path) -> None:
        ctx = LocalContext(tmp_path / "out")
        ctx.checkpoint({"step": 1})
        assert not (tmp_path / "out/.replies").exists()
        assert not list(tmp_path.rglob("*replies*"))
        ctx.release()

    def test_a_half_written_file_is_no_reply(self, tmp_path: Path) -> None:
        killed = LocalContext(tmp_path / "out")
        killed.keep_reply("run0/a", b"x")
        (tmp_path / "out/.replies/.1-local.2.1234.part").write_bytes(b"ha")
        killed.release()
        again = LocalContext(tmp_path / "out")
        assert again.kept_reply("run0/a") == b"x"
        again.release()

    def test_packing_that_no_checkpoint_followed_is_undone(self, tmp_path: Path) -> None:
        killed = LocalContext(tmp_path / "out")
        killed.keep_reply("run0/a", b"x")
        killed.pack_replies()
        killed.release()
        again = LocalContext(tmp_path / "out")
        assert not (tmp_path / "out/.work/journal-.replies").exists()
        assert again.kept_reply("run0/a") == b"x"
        again.release()

    @pytest.mark.parametrize("step", range(8))
    def test_a_kill_between_any_two_steps_of_a_checkpoint_leaves_one_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        ctx = LocalContext(tmp_path / "out")
        _phase(ctx, 0)
        _die_at(monkeypatch, step)
        with contextlib.suppress(_Killed):
            _phase(ctx, 1)
        monkeypatch.undo()
        ctx.release()
        again = LocalContext(tmp_path / "out")
        restored = again.restored()
        assert restored is not None
        assert restored.state["phase"] in (0, 1)
        assert restored.blobs["b"].read_bytes() == str(restored.state["phase"]).encode()
        assert again.kept_reply("phase0") == b"0"
        assert again.kept_reply("phase1") == b"1"
        _phase(again, 2)
        assert [again.kept_reply(f"phase{n}") for n in range(3)] == [b"0", b"1", b"2"]
        again.close()
        assert list((tmp_path / "out").iterdir()) == []


class _Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def _phase(ctx: LocalContext, phase: int) -> None:
    ctx.keep_reply(f"phase{phase}", str(phase).encode())
    ctx.pack_replies()
    ctx.checkpoint({"phase": phase}, {"b": str(phase).encode()})


def _die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Raise at the n-th file operation of the checkpoint after the reply is stored."""
    left = [step]

    def guarded(original: Callable[..., Any], at_checkpoint: Callable[[tuple[Any, ...]], bool]) -> Callable[..., Any]:
        def operation(*args: Any, **terms: Any) -> Any:
            if at_checkpoint(args):
                if left[0] == 0:
                    raise _Killed
                left[0] -= 1
            return original(*args, **terms)

        return operation

    def is_checkpoint(args: tuple[Any, ...]) -> bool:
        return ".checkpoint" in str(args[0])

    def is_loose(args: tuple[Any, ...]) -> bool:
        return ".replies/" in str(args[0])

    monkeypatch.setattr("shared.jobs.local.shutil.rmtree", guarded(__import__("shutil").rmtree, is_checkpoint))
    monkeypatch.setattr("shared.jobs.local.os.replace", guarded(os.replace, is_checkpoint))
    monkeypatch.setattr(Path, "write_bytes", guarded(Path.write_bytes, is_checkpoint))
    monkeypatch.setattr(Path, "write_text", guarded(Path.write_text, is_checkpoint))
    monkeypatch.setattr(Path, "unlink", guarded(Path.unlink, is_loose))


ASKER = textwrap.dedent(
    """
    import sys
    from shared.jobs.local import LocalContext

    ctx = LocalContext(sys.argv[1])
    done = ctx.restored().state["done"] if ctx.restored() else 0
    for n in range(done, 400):
        if ctx.kept_reply(f"call/{n}") is None:
            ctx.keep_reply(f"call/{n}", str(n).encode())
            print(n, flush=True)  # the reply counts as stored from here on
        if n % 7 == 6:
            ctx.pack_replies()
            ctx.checkpoint({"done": n + 1})
    assert all(ctx.kept_reply(f"call/{n}") == str(n).encode() for n in range(400))
    print("end", flush=True)
    """
)


def test_no_kill_loses_a_stored_reply(tmp_path: Path) -> None:
    """kill -9 at twelve moments: no call is asked again whose reply was stored, and in the end all are there."""
    asked: list[str] = []
    for kill in range(13):
        process = subprocess.Popen(
            [sys.executable, "-c", ASKER, str(tmp_path / "out")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        assert process.stdout is not None
        with process, process.stdout:
            for line in process.stdout:
                asked.append(line.strip())
                if kill < 12 and len(asked) >= 30 * (kill + 1):
                    process.send_signal(signal.SIGKILL)
                    break
            asked += process.stdout.read().split()
    assert asked.pop() == "end"
    numbers = [int(line) for line in asked]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 400 - 12  # a kill may fall between storing and saying so
