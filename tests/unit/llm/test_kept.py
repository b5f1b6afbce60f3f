"""A stored reply is never asked again, and nothing is used that is not stored."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shared.jobs.errors import Retryable
from shared.jobs.local import LocalContext
from shared.llm.chat import ChatCall, Message, Reply
from shared.llm.kept import Counts, KeptReplies, stored_name
from shared.llm.scripted import ScriptedChat
from tests.openai_server import Behaviour, OpenAIServer
from tests.unit.llm.conftest import Opened, call


@pytest.fixture
def asked() -> Counter[str]:
    """Calls that reached the model."""
    return Counter()


@pytest.fixture
def model(asked: Counter[str]) -> ScriptedChat:
    def script(got: ChatCall) -> str:
        asked[got.key] += 1
        return f"answer {asked.total()} to {got.key}"

    return ScriptedChat(script)


def replies(folder: Path, model: ScriptedChat, *calls: ChatCall) -> tuple[list[Reply], Counts]:
    """One attempt that asks these calls together; killed afterwards."""
    ctx = LocalContext(folder)
    kept = KeptReplies(model, ctx)

    async def together() -> list[Reply]:
        return list(await asyncio.gather(*map(kept.reply, calls)))

    try:
        return asyncio.run(together()), kept.counts
    finally:
        ctx.release()


def test_a_scripted_model_counts_words() -> None:
    reply = asyncio.run(ScriptedChat(lambda got: "two words").reply(call(text="one two three")))
    assert reply == Reply("two words", 3, 2, "stop")


def test_a_call_is_asked_once_over_all_attempts(tmp_path: Path, model: ScriptedChat, asked: Counter[str]) -> None:
    first, _ = replies(tmp_path, model, call("a"), call("b"))
    again, _ = replies(tmp_path, model, call("b"), call("a"), call("c"))
    assert [reply.text for reply in again] == [first[1].text, first[0].text, "answer 3 to c"]
    assert asked == {"a": 1, "b": 1, "c": 1}


def test_counts_are_the_same_for_asked_and_kept_calls(tmp_path: Path, model: ScriptedChat) -> None:
    _, first = replies(tmp_path, model, call("a"), call("b"))
    _, again = replies(tmp_path, model, call("a"), call("b"))
    assert first == Counts(asked=2, kept=0, tokens_in=4, tokens_out=8)
    assert again == Counts(asked=0, kept=2, tokens_in=4, tokens_out=8)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(call("a"), messages=(Message("user", "How much?"),)), id="prompt"),
        pytest.param(replace(call("a"), messages=(Message("system", "How many?"),)), id="role"),
        pytest.param(replace(call("a"), temperature=0.5), id="temperature"),
        pytest.param(replace(call("a"), top_p=0.5), id="top_p"),
        pytest.param(replace(call("a"), max_tokens=5), id="max_tokens"),
        pytest.param(replace(call("a"), seed=8), id="seed"),
        pytest.param(replace(call("a"), stop=("x",)), id="stop"),
    ],
)
def test_another_question_under_the_same_key_is_another_call(
    tmp_path: Path, model: ScriptedChat, asked: Counter[str], other: ChatCall
) -> None:
    replies(tmp_path, model, call("a"))
    replies(tmp_path, model, other)
    assert asked["a"] == 2


def test_a_reply_is_stored_whole_and_under_its_key(tmp_path: Path) -> None:
    ctx = LocalContext(tmp_path)
    said = "Ünïcode \u2028 \x00 “quotes”\n" * 3
    reply = asyncio.run(KeptReplies(ScriptedChat(lambda got: said), ctx).reply(call("run0/a")))
    stored = ctx.kept_reply(stored_name(call("run0/a")))
    assert stored is not None
    assert json.loads(stored) == {"key": "run0/a", **asdict(reply), "seconds": pytest.approx(0, abs=1)}
    assert asyncio.run(KeptReplies(ScriptedChat(lambda got: pytest.fail("asked")), ctx).reply(call("run0/a"))) == reply
    ctx.release()


def test_a_reply_that_can_not_be_stored_is_not_used(tmp_path: Path, model: ScriptedChat) -> None:
    (tmp_path / ".replies").write_text("in the way of the folder")
    with pytest.raises(OSError):
        replies(tmp_path, model, call("a"))


def test_a_call_that_failed_is_asked_again_later(tmp_path: Path, model: ScriptedChat, asked: Counter[str]) -> None:
    def down(got: ChatCall) -> str:
        raise Retryable("endpoint down")

    with pytest.raises(Retryable):
        replies(tmp_path, ScriptedChat(down), call("a"))
    replies(tmp_path, model, call("a"))
    assert asked == {"a": 1}


class SlowDisk(LocalContext):
    """A context whose every write takes a while."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.writes: list[int] = []

    def keep_replies(self, replies: Mapping[str, bytes]) -> dict[str, bytes]:
        self.writes.append(len(replies))
        time.sleep(0.2)
        return super().keep_replies(replies)


def test_what_arrives_during_one_write_shares_the_next(tmp_path: Path, model: ScriptedChat) -> None:
    ctx = SlowDisk(tmp_path)
    kept = KeptReplies(model, ctx)

    async def ask() -> None:
        first = asyncio.create_task(kept.reply(call("first")))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, *(kept.reply(call(f"call/{n}")) for n in range(9)))

    asyncio.run(ask())
    assert ctx.writes == [1, 9]
    ctx.release()


def test_a_reply_is_used_only_once_it_is_durable(tmp_path: Path, model: ScriptedChat) -> None:
    ctx = SlowDisk(tmp_path)

    async def ask() -> bool:
        task = asyncio.create_task(KeptReplies(model, ctx).reply(call("a")))
        await asyncio.sleep(0.1)
        was_done_early = task.done()
        await task
        return was_done_early

    assert not asyncio.run(ask())
    ctx.release()


def test_every_reply_that_arrived_is_stored_when_a_job_is_interrupted(
    tmp_path: Path, model: ScriptedChat, asked: Counter[str]
) -> None:
    ctx = SlowDisk(tmp_path)
    kept = KeptReplies(model, ctx)

    async def ask() -> None:
        tasks = [asyncio.create_task(kept.reply(call("first")))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(kept.reply(call(f"call/{n}"))) for n in range(5)]
        await asyncio.sleep(0.05)  # the first is being written, the others wait
        for task in tasks:
            task.cancel()

    asyncio.run(ask())
    ctx.release()
    replies(tmp_path, model, call("first"), *(call(f"call/{n}") for n in range(5)))
    assert set(asked.values()) == {1}


def test_the_same_call_twice_at_once_has_one_reply(tmp_path: Path, model: ScriptedChat) -> None:
    both, _ = replies(tmp_path, model, call("a"), call("a"))
    assert both[0] == both[1]


def test_latencies_go_to_the_timings(tmp_path: Path, model: ScriptedChat) -> None:
    ctx = LocalContext(tmp_path)
    kept = KeptReplies(model, ctx)
    for _ in range(2):
        asyncio.run(kept.reply(call("a")))  # the second is found, and took no time of the model's
    ctx.close()
    lines = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [(line["name"], line["key"]) for line in lines] == [("model_call", "a")]


def test_latencies_before_a_kill_are_in_the_timings_of_the_attempt_that_ends(
    tmp_path: Path, model: ScriptedChat
) -> None:
    """Of a call before the checkpoint, of one after it, and of one that came later; each once."""
    ctx = LocalContext(tmp_path)
    asyncio.run(KeptReplies(model, ctx).reply(call("a")))
    ctx.pack_replies()
    ctx.checkpoint({})
    asyncio.run(KeptReplies(model, ctx).reply(call("b")))
    ctx.release()  # killed
    again = LocalContext(tmp_path)
    for key in "bc":
        asyncio.run(KeptReplies(model, again).reply(call(key)))
    total = again.timings["model_call"]
    again.close()
    lines = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["a", "b", "c"]
    assert total == pytest.approx(sum(line["seconds"] for line in lines))


def test_a_kept_model_continues_answers_where_the_model_does(tmp_path: Path, model: ScriptedChat) -> None:
    ctx = LocalContext(tmp_path)
    assert KeptReplies(model, ctx).prefill
    ctx.release()


def test_a_real_server_is_asked_once_over_all_attempts(tmp_path: Path, opened: Opened, server: OpenAIServer) -> None:
    """Of twenty calls in flight at a kill, those answered are kept and the others asked again."""
    server.behave("call/1", Behaviour(delay_s=30), times=11)  # call/1 and call/10 … call/19

    async def attempt(patience_s: float) -> None:
        ctx = LocalContext(tmp_path / "job")
        try:
            async with opened(max_in_flight=20) as model:
                kept = KeptReplies(model, ctx)
                await asyncio.wait_for(asyncio.gather(*(kept.reply(call(f"call/{n}")) for n in range(20))), patience_s)
        finally:
            ctx.release()

    with pytest.raises(TimeoutError):
        asyncio.run(attempt(1.5))
    assert set(server.counts.values()) == {1}
    asyncio.run(attempt(20))
    assert {key: count for key, count in server.answered.items() if count != 1} == {}
    assert server.counts == {f"call/{n}": 2 if str(n)[0] == "1" else 1 for n in range(20)}
