"""Models behind a real HTTP server: what is sent, how hard, what is asked again and what is not."""

import asyncio
import itertools
import json
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from shared.jobs.errors import InvalidInput, Permanent, Retryable
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.chat import ChatCall, ChatModel, Message, Reply
from shared.llm.models import open_models
from tests.openai_server import Behaviour, OpenAIServer, server_process
from tests.unit.llm.conftest import LAB, Opened, call, settings_with

KEY = "run0/month1/harvest/agent0"


def ask(opened: Opened, asked: ChatCall | None = None, **entry: object) -> Reply:
    """One call to the server."""

    async def once() -> Reply:
        async with opened(**entry) as model:
            return await model.reply(asked or call())

    return asyncio.run(once())


def ask_together(opened: Opened, count: int, **entry: object) -> list[Reply]:
    async def together() -> list[Reply]:
        async with opened(**entry) as model:
            return await asyncio.gather(*(model.reply(call(f"call/{n}")) for n in range(count)))

    return asyncio.run(together())


class TestOneCall:
    def test_a_reply_holds_text_tokens_and_why_it_ended(self, opened: Opened) -> None:
        assert ask(opened) == Reply("Answer to How many?", 2, 4, "stop")

    def test_the_request_names_model_messages_and_sampling(self, opened: Opened, server: OpenAIServer) -> None:
        asked = call(temperature=0.7, top_p=0.9, max_tokens=5, seed=11, stop=("\n",))
        ask(opened, replace(asked, messages=(Message("system", "Be brief."), *asked.messages)))
        assert server.requests[0].body == {
            "model": "some-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many?"}],
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 5,
            "seed": 11,
            "stop": ["\n"],
        }

    def test_the_calls_key_goes_along(self, opened: Opened, server: OpenAIServer) -> None:
        ask(opened)
        assert server.counts == {KEY: 1}

    def test_a_models_name_may_hold_slashes(self, opened: Opened, server: OpenAIServer) -> None:
        ask(opened, ref=Ref("endpoint:lab/meta-llama/Llama-3.1-8B"))
        assert server.requests[0].body["model"] == "meta-llama/Llama-3.1-8B"

    def test_a_truncated_reply_says_so(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(truncate=6))
        assert ask(opened) == Reply("Answer", 2, 1, "length")

    @pytest.mark.parametrize("content", ["null", '""', '"  "'])
    def test_a_blank_answer_is_an_answer(self, opened: Opened, server: OpenAIServer, content: str) -> None:
        """As of a model that spent all its tokens on reasoning: paid for, and the same when asked again."""
        raw = f'{{"choices": [{{"message": {{"content": {content}}}, "finish_reason": "length"}}]}}'
        server.behave(KEY, Behaviour(raw=raw.encode()))
        assert ask(opened) == Reply(json.loads(content) or "", 0, 0, "length")
        assert server.counts[KEY] == 1

    def test_a_server_is_told_only_what_it_takes(self, opened: Opened, server: OpenAIServer) -> None:
        ask(opened, max_tokens_name="max_completion_tokens", omit=["seed", "temperature"])
        body = server.requests[0].body
        assert body["max_completion_tokens"] == call().max_tokens
        assert body.keys() == {"model", "messages", "top_p", "max_completion_tokens"}

    def test_tokens_are_zero_where_the_server_reports_none(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(without_usage=True))
        assert ask(opened) == Reply("Answer to How many?", 0, 0, "stop")


class TestPrefill:
    begun = replace(call(), messages=(Message("user", "How many?"), Message("assistant", "Answer:")))

    def test_it_is_refused_where_the_endpoint_declares_none(self, opened: Opened, server: OpenAIServer) -> None:
        with pytest.raises(Permanent, match="endpoint lab doesn't declare prefill: call run0/month1"):
            ask(opened, self.begun)
        assert not server.requests

    @pytest.mark.parametrize(
        ("way", "told"),
        [
            pytest.param("trailing", {}, id="the server knows by itself"),
            pytest.param("vllm", {"add_generation_prompt": False, "continue_final_message": True}, id="vllm"),
        ],
    )
    def test_it_is_sent_as_the_endpoint_takes_it(
        self, opened: Opened, server: OpenAIServer, way: str, told: dict[str, bool]
    ) -> None:
        ask(opened, self.begun, prefill=way)
        body = server.requests[0].body
        assert body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
        assert {name: body[name] for name in body if name in told or name.startswith(("add_", "continue_"))} == told


class TestPassingFailures:
    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(Behaviour(status=500), id="500"),
            pytest.param(Behaviour(status=503), id="503"),
            pytest.param(Behaviour(status=429), id="429 without Retry-After"),
            pytest.param(Behaviour(status=429, headers={"Retry-After": "soon"}), id="Retry-After that says nothing"),
            pytest.param(Behaviour(status=408), id="408"),
            pytest.param(Behaviour(drop=True), id="dropped connection"),
            pytest.param(Behaviour(delay_s=5.0), id="too slow"),
            pytest.param(Behaviour(raw=b'{"choices": [{"mess'), id="malformed JSON"),
            pytest.param(Behaviour(raw=b"<html>busy</html>"), id="no JSON"),
            pytest.param(Behaviour(raw=b"{}"), id="no choices"),
            pytest.param(Behaviour(raw=b'{"choices": []}'), id="empty choices"),
            pytest.param(Behaviour(raw=b'{"choices": [{"message": {}}]}'), id="no content"),
        ],
    )
    def test_the_call_is_sent_again(self, opened: Opened, server: OpenAIServer, behaviour: Behaviour) -> None:
        server.behave(KEY, behaviour, times=1)
        assert ask(opened, timeout_s=0.5).text == "Answer to How many?"
        assert server.counts[KEY] == 2

    def test_the_number_of_requests_is_bounded(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(status=503, message="overloaded"))
        with pytest.raises(Retryable, match=f"endpoint lab gave no answer to call {KEY} in 2 requests: 503 overloaded"):
            ask(opened, tries=2)
        assert server.counts[KEY] == 2

    def test_the_time_spent_waiting_is_bounded(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(status=500))
        with pytest.raises(Retryable, match="in 2 requests"):  # waits of at least 0.25 + 0.5 s: over 0.7
            ask(opened, retry_budget_s=0.7)

    def test_a_retry_after_beyond_the_budget_fails_at_once(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(status=429, headers={"Retry-After": "3600"}))
        started = time.monotonic()
        with pytest.raises(Retryable, match="in 1 requests: 429"):
            ask(opened)
        assert time.monotonic() - started < 2

    @pytest.mark.parametrize("header", [pytest.param("1", id="seconds"), pytest.param(None, id="date")])
    def test_retry_after_is_heeded(self, opened: Opened, server: OpenAIServer, header: str | None) -> None:
        # A date has whole seconds: two ahead is more than one second to wait.
        value = header or formatdate(time.time() + 2, usegmt=True)
        server.behave(KEY, Behaviour(status=429, headers={"Retry-After": value}), times=1)
        ask(opened)
        first, second = server.requests
        assert 0.95 <= second.at_s - first.at_s < 3

    def test_a_rate_limit_stops_every_call_of_the_endpoint(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave("first", Behaviour(status=429, headers={"Retry-After": "1"}), times=1)

        async def two() -> None:
            async with opened() as model:
                first = asyncio.create_task(model.reply(call("first")))
                await asyncio.sleep(0.3)
                await asyncio.gather(first, model.reply(call("second")))

        asyncio.run(two())
        assert min(request.at_s for request in server.requests[1:]) - server.requests[0].at_s >= 0.95

    def test_an_endpoint_that_is_not_there_fails_for_now(self, tmp_path: Path) -> None:
        with OpenAIServer(lambda request: "") as gone:
            url = gone.url
        settings = settings_with(tmp_path, {"lab": {"base_url": url, "tries": 2}})

        async def once() -> None:
            async with open_models([Ref("endpoint:lab/m")], LocalContext(tmp_path / "out"), settings) as models:
                await models[Ref("endpoint:lab/m")].reply(call())

        with pytest.raises(Retryable, match="in 2 requests: ClientConnectorError"):
            asyncio.run(once())


class TestLastingFailures:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    def test_a_refusal_is_not_asked_again_and_says_why(self, opened: Opened, server: OpenAIServer, status: int) -> None:
        server.behave(KEY, Behaviour(status=status, message="model not found"))
        with pytest.raises(Permanent, match=f"endpoint lab answered {status} to call {KEY}: model not found"):
            ask(opened)
        assert server.counts[KEY] == 1

    def test_a_servers_words_are_shortened_and_escaped(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(status=400, message="<script>alert(1)</script>\r\n\x1b[2J" + "x" * 5000))
        with pytest.raises(Permanent) as refused:
            ask(opened)
        message = refused.value.message
        assert "&lt;script&gt;alert(1)&lt;/script&gt; [2Jxxx" in message
        assert message.isprintable()
        assert len(message) < 500

    def test_a_redirect_is_not_followed(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave(KEY, Behaviour(status=307, headers={"Location": f"{server.url}/chat/completions"}))
        with pytest.raises(Permanent, match="answered 307"):
            ask(opened)
        assert len(server.requests) == 1


class TestHowHard:
    def test_calls_in_flight_are_bounded(self, tmp_path: Path) -> None:
        with OpenAIServer(lambda request: "yes", delay_s=0.05) as server:
            settings = settings_with(tmp_path, {"lab": {"base_url": server.url, "max_in_flight": 3}})
            refs = [Ref("endpoint:lab/one"), Ref("endpoint:lab/two")]  # the endpoint's limit, not the model's

            async def many() -> None:
                async with open_models(refs, LocalContext(tmp_path / "out"), settings) as models:
                    await asyncio.gather(*(models[refs[n % 2]].reply(call(f"call/{n}")) for n in range(12)))

            asyncio.run(many())
        assert server.most_at_once == 3

    def test_connections_are_used_again(self, opened: Opened, server: OpenAIServer) -> None:
        ask_together(opened, 30, max_in_flight=4)
        assert server.connections <= 4

    def test_requests_are_spaced_by_the_rate(self, opened: Opened, server: OpenAIServer) -> None:
        ask_together(opened, 6, requests_per_minute=600)
        times = [request.at_s for request in server.requests]
        assert times[-1] - times[0] >= 0.45  # 5 gaps of 0.1 s, less what the loop's clock rounds

    def test_repeated_requests_count_towards_the_rate(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave("call/0", Behaviour(status=500), times=1)
        ask_together(opened, 4, requests_per_minute=300)
        times = [request.at_s for request in server.requests]
        assert len(times) == 5
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.15

    def test_an_unused_endpoint_is_not_asked(self, opened: Opened, server: OpenAIServer) -> None:
        ask_together(opened, 0)
        assert server.connections == 0

    def test_a_cancelled_call_frees_its_place(self, opened: Opened, server: OpenAIServer) -> None:
        server.behave("slow", Behaviour(delay_s=30))

        async def cancel_then_ask() -> Reply:
            async with opened(max_in_flight=1) as model:
                slow = asyncio.create_task(model.reply(call("slow")))
                await asyncio.sleep(0.1)
                slow.cancel()
                return await asyncio.wait_for(model.reply(call("next")), 5)

        assert asyncio.run(cancel_then_ask()).text == "Answer to How many?"


class TestSecrets:
    key = "sk-very-secret-0123456789"

    @pytest.fixture(autouse=True)
    def _secret(self, tmp_path: Path) -> None:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "lab-key").write_text(f"{self.key}\n")

    def test_the_key_is_sent_as_a_bearer_token(self, opened: Opened, server: OpenAIServer) -> None:
        ask(opened, secret="lab-key")
        assert server.requests[0].headers["authorization"] == f"Bearer {self.key}"

    def test_no_key_is_sent_without_one(self, opened: Opened, server: OpenAIServer) -> None:
        ask(opened)
        assert "authorization" not in server.requests[0].headers

    @pytest.mark.parametrize(
        "behaviour",
        [
            pytest.param(
                Behaviour(status=401, message=f"Incorrect API key provided: {key}"), id="repeated by a refusal"
            ),
            pytest.param(Behaviour(status=500, message=f"bad key {key}"), id="repeated by a failure"),
            pytest.param(Behaviour(status=400, raw=f"bad key {key}".encode()), id="repeated without JSON"),
            pytest.param(Behaviour(raw=f'{{"{key}": 1}}'.encode()), id="repeated in no completion"),
        ],
    )
    def test_the_key_shows_nowhere(
        self,
        opened: Opened,
        server: OpenAIServer,
        behaviour: Behaviour,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        caplog.set_level("DEBUG")
        server.behave(KEY, behaviour)
        with pytest.raises((Permanent, Retryable)) as failure:
            ask(opened, secret="lab-key", tries=1)
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lab-key"]
        seen = [str(failure.getrepr(style="long", showlocals=False)), caplog.text, *capfd.readouterr()]
        assert not any(self.key in text for text in seen)
        assert not any(self.key.encode() in data for data in written)

    def test_the_key_does_not_show_in_its_holder(self) -> None:
        from shared.llm.secrets import Secret

        assert self.key not in repr(Secret(self.key))

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            pytest.param("other-key", None, id="missing"),
            pytest.param("other-key", "", id="empty"),
            pytest.param("other-key", "two words", id="not one word"),
            pytest.param("other-key", "line\nline", id="two lines"),
            pytest.param("other-key", "schlüssel", id="not ASCII"),
        ],
    )
    def test_an_unusable_secret_is_refused_before_work_starts(
        self, opened: Opened, server: OpenAIServer, tmp_path: Path, name: str, text: str | None
    ) -> None:
        if text is not None:
            (tmp_path / "secrets" / name).write_text(text)
        with pytest.raises(InvalidInput, match="endpoint lab needs the secret other-key: put the key") as refused:
            ask(opened, secret=name)
        assert not server.requests
        assert text is None or not text or text not in refused.value.message


class TestWhatIsRefused:
    def refused(self, tmp_path: Path, ref: str, endpoints: dict[str, object]) -> str:
        async def once() -> None:
            settings = settings_with(tmp_path, endpoints)
            async with open_models([Ref(ref)], LocalContext(tmp_path / "out"), settings):
                pass

        with pytest.raises(InvalidInput) as refused:
            asyncio.run(once())
        return refused.value.message

    def test_an_unknown_endpoint_with_the_known_names(self, tmp_path: Path) -> None:
        entries = {name: {"base_url": "http://127.0.0.1:1"} for name in ("lab", "cloud")}
        message = self.refused(tmp_path, "endpoint:attic/m", entries)
        assert message == "endpoint:attic/m: there is no endpoint attic; TENFOLD_ENDPOINTS has: cloud, lab"

    def test_an_endpoint_that_translates(self, tmp_path: Path) -> None:
        entries = {"lab": {"base_url": "http://127.0.0.1:1", "protocol": "deepl"}}
        assert "speaks deepl: a chat model needs protocol openai" in self.refused(tmp_path, "endpoint:lab/m", entries)

    def test_a_reference_that_is_no_model(self, tmp_path: Path) -> None:
        assert self.refused(tmp_path, "secret:lab-key", {}) == "secret:lab-key names no model"

    @pytest.mark.parametrize(
        ("key", "messages"),
        [
            pytest.param("run 0", (Message("user", "x"),), id="a key with a space"),
            pytest.param("", (Message("user", "x"),), id="no key"),
            pytest.param("run0", (), id="no messages"),
        ],
    )
    def test_a_malformed_call(self, key: str, messages: tuple[Message, ...]) -> None:
        with pytest.raises(ValueError, match=r"call key|no messages"):
            ChatCall(key, messages, 0.0, 1.0, 1, 0)


def test_the_server_counts_what_it_answered(opened: Opened, server: OpenAIServer) -> None:
    server.behave(KEY, Behaviour(status=500), times=1)
    ask(opened)
    assert (server.counts[KEY], server.answered[KEY]) == (2, 1)


def test_an_endpoint_model_is_a_chat_model(opened: Opened) -> None:
    async def name() -> str:
        async with opened() as model:
            checked: ChatModel = model
            return json.dumps(checked.prefill)

    assert asyncio.run(name()) == "false"


def test_the_server_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    with server_process("tests.openai_server:echo") as url:

        async def once() -> Reply:
            settings = settings_with(tmp_path, {"lab": {"base_url": url}})
            async with open_models([LAB], LocalContext(tmp_path / "out"), settings) as models:
                return await models[LAB].reply(call())

        assert asyncio.run(once()).text == "How many?"
