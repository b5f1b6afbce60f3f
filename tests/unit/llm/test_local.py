"""Local models: a tiny Llama of random weights, for the plumbing; what it says means nothing."""

import asyncio
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.jobs.errors import InvalidInput, Permanent
from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm import local
from shared.llm.chat import ChatCall, Message, Reply
from shared.llm.local import LoadedModel, LocalChat, loaded_models
from shared.llm.models import open_models
from shared.settings import Settings
from tests.tiny_model import CHAT_TEMPLATE, WORDS, edit_config, pack, save_tiny_model
from tests.unit.llm.conftest import call

REF = Ref(f"file:{'0' * 64}")
KINDS = [(0.0, 1.0), (1.0, 1.0), (0.8, 0.7)]  # temperature, top_p


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return local._load(REF, folder, "float32", "cpu")


def spoken(count: int, **changes: Any) -> list[ChatCall]:
    """Calls of various lengths and samplings."""
    return [
        call(
            f"call/{n}", "a b c d " * (1 + n % 5), temperature=KINDS[n % 3][0], top_p=KINDS[n % 3][1], seed=n, **changes
        )
        for n in range(count)
    ]


def answers(loaded: LoadedModel, calls: list[ChatCall], *, together: bool, most_rows: int = 64) -> list[Reply]:
    async def ask() -> list[Reply]:
        async with LocalChat(loaded, most_rows) as chat:
            if together:
                return await asyncio.gather(*map(chat.reply, calls))
            return [await chat.reply(asked) for asked in calls]

    return asyncio.run(ask())


def opened(folder_or_tar: Path, tmp_path: Path, ref: Ref = REF, **settings: Any) -> LoadedModel:
    """The model as a job opens it."""

    async def open_() -> LoadedModel:
        context = LocalContext(tmp_path / "out", {ref: folder_or_tar})
        async with open_models([ref], context, Settings(data=tmp_path / "data", **settings)) as models:
            chat = models[ref]
            assert isinstance(chat, LocalChat)
            return chat.loaded

    return asyncio.run(open_())


class TestReplies:
    def test_a_greedy_reply_is_the_librarys_own(self, loaded: LoadedModel) -> None:
        asked = call(text="a b c", max_tokens=12)
        ids = torch.tensor([loaded.encode(asked)])
        expected = loaded.model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0)[0, ids.shape[1] :]
        text = loaded.tokenizer.decode(expected, skip_special_tokens=True)
        assert answers(loaded, [asked], together=False)[0].text == text

    def test_a_reply_is_the_same_in_any_company(self, loaded: LoadedModel) -> None:
        calls = spoken(24)
        assert answers(loaded, calls, together=True) == answers(loaded, calls, together=False)

    def test_the_seed_decides_a_sampled_reply(self, loaded: LoadedModel) -> None:
        calls = [call(f"call/{n}", "a b", temperature=1.0, seed=seed) for n, seed in enumerate((1, 1, 2))]
        first, again, other = answers(loaded, calls, together=True)
        assert first.text == again.text != other.text

    def test_a_reply_ends_at_max_tokens_or_at_the_end_token(self, loaded: LoadedModel) -> None:
        replies = answers(loaded, spoken(40, max_tokens=10), together=True)
        assert {reply.finish_reason for reply in replies} == {"length", "stop"}
        assert all(reply.tokens_out == 10 for reply in replies if reply.finish_reason == "length")
        assert all(reply.tokens_out <= 10 for reply in replies)
        assert not any("end" in reply.text.split() for reply in replies)

    def test_a_reply_ends_before_a_stop_text(self, loaded: LoadedModel) -> None:
        whole = answers(loaded, [call(text="a b c", max_tokens=12)], together=False)[0].text
        stop = whole.split()[4]
        cut = answers(loaded, [call(text="a b c", max_tokens=12, stop=("never", stop))], together=False)[0]
        assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")

    def test_tokens_are_counted(self, loaded: LoadedModel) -> None:
        reply = answers(loaded, [call(text="a b c", max_tokens=3)], together=False)[0]
        assert (reply.tokens_in, reply.tokens_out) == (6, 3)  # user a b c end assistant

    def test_a_begun_answer_is_continued(self, loaded: LoadedModel) -> None:
        begun = replace(call(text="a"), messages=(Message("user", "a"), Message("assistant", "Answer :")))
        words = [WORDS[token] for token in loaded.encode(begun)]
        assert words == ["user", "a", "end", "assistant", "Answer", ":"]

    def test_a_reply_ends_at_the_models_context(self, folder: Path, tmp_path: Path) -> None:
        small = opened(save_tiny_model(tmp_path / "small", context=10), tmp_path)
        reply = answers(small, [call(text="a b c", max_tokens=50, temperature=1.0, seed=3)], together=False)[0]
        assert reply.tokens_in + reply.tokens_out <= 10


class TestBatches:
    def test_calls_that_come_together_share_a_batch(self, loaded: LoadedModel) -> None:
        async def ask() -> list[int]:
            async with LocalChat(loaded) as chat:
                await asyncio.gather(*map(chat.reply, spoken(20)))
                return chat.batches

        assert asyncio.run(ask()) == [20]

    def test_a_batch_has_no_more_rows_than_it_may(self, loaded: LoadedModel) -> None:
        async def ask() -> list[int]:
            async with LocalChat(loaded, most_rows=8) as chat:
                await asyncio.gather(*map(chat.reply, spoken(20)))
                return chat.batches

        assert asyncio.run(ask()) == [8, 8, 4]

    def test_a_short_reply_does_not_wait_for_a_long_one(self, loaded: LoadedModel) -> None:
        async def ask() -> bool:
            async with LocalChat(loaded) as chat:
                # temperature 1 and many tokens: some seed of these speaks long
                long = [asyncio.create_task(chat.reply(asked)) for asked in spoken(8, max_tokens=200)]
                await chat.reply(call("short", "a", max_tokens=1))
                waiting = not all(task.done() for task in long)
                await asyncio.gather(*long)
                return waiting

        assert asyncio.run(ask())

    def test_one_refused_call_fails_alone(self, loaded: LoadedModel) -> None:
        async def ask() -> list[Reply | BaseException]:
            async with LocalChat(loaded) as chat:
                calls = [call("good", "a"), call("long", "a " * 300), call("fine", "b")]
                return await asyncio.gather(*map(chat.reply, calls), return_exceptions=True)

        good, refused, fine = asyncio.run(ask())
        assert isinstance(good, Reply)
        assert isinstance(fine, Reply)
        assert isinstance(refused, Permanent)
        assert refused.message == "call long is 303 tokens long, more than the model's context of 256"

    def test_a_cancelled_call_stops_the_work_on_it(self, loaded: LoadedModel) -> None:
        async def ask() -> Reply:
            async with LocalChat(loaded) as chat:
                endless = asyncio.create_task(chat.reply(call("endless", "a", max_tokens=250, stop=("never",))))
                await asyncio.sleep(0.02)
                endless.cancel()
                return await asyncio.wait_for(chat.reply(call("next", "b")), 10)

        assert asyncio.run(ask()).text

    def test_closing_ends_what_is_under_way(self, loaded: LoadedModel) -> None:
        async def leave() -> bool:
            async with LocalChat(loaded) as chat:
                tasks = [asyncio.create_task(chat.reply(asked)) for asked in spoken(9, max_tokens=250)]
                await asyncio.sleep(0.02)
            await asyncio.gather(*tasks, return_exceptions=True)
            return all(task.done() for task in tasks)

        assert asyncio.run(asyncio.wait_for(leave(), 20))

    def test_a_batch_too_large_for_the_device_is_halved(
        self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls, expected = spoken(12), answers(loaded, spoken(12), together=True)
        sizes = _limited_memory(monkeypatch, most_rows=3)
        assert answers(loaded, calls, together=True) == expected
        assert sizes == [12, 6, 3, 3, 6, 3, 3]

    def test_a_call_too_large_for_the_device_is_refused(
        self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _limited_memory(monkeypatch, most_rows=0)
        with pytest.raises(Permanent, match="call call/0 doesn't fit the device's memory"):
            answers(loaded, spoken(1), together=True)

    def test_an_error_of_the_model_reaches_its_callers(
        self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: object) -> None:
            raise RuntimeError("device lost")

        monkeypatch.setattr(local, "generate", broken)
        with pytest.raises(RuntimeError, match="device lost"):
            answers(loaded, spoken(2), together=True)


def _limited_memory(monkeypatch: pytest.MonkeyPatch, most_rows: int) -> list[int]:
    """A device with room for so many rows; the sizes of the batches it was given."""
    sizes: list[int] = []
    generate = local.generate

    def limited(model: Any, rows: list[Any], *rest: Any) -> None:
        sizes.append(len(rows))
        if len(rows) > most_rows:
            raise torch.OutOfMemoryError("out of memory")
        generate(model, rows, *rest)

    monkeypatch.setattr(local, "generate", limited)
    return sizes


class TestFolders:
    def test_a_folder_and_its_tar_answer_alike(self, folder: Path, tmp_path: Path) -> None:
        tar = pack(folder, tmp_path / "model.tar")
        replies = [answers(opened(source, tmp_path), spoken(6), together=True) for source in (folder, tar)]
        assert replies[0] == replies[1]

    def test_a_tar_with_one_folder_inside_is_read(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "outer").mkdir()
        shutil.copytree(folder, tmp_path / "outer" / "tiny")
        assert opened(pack(tmp_path / "outer", tmp_path / "model.tar"), tmp_path).context == 256

    def test_a_model_stays_warm(self, folder: Path, tmp_path: Path) -> None:
        assert opened(folder, tmp_path) is opened(folder, tmp_path)

    def test_a_replaced_folder_is_loaded_anew(self, tmp_path: Path) -> None:
        first = opened(save_tiny_model(tmp_path / "tiny", seed=1), tmp_path)
        assert opened(save_tiny_model(tmp_path / "tiny", seed=2), tmp_path) is not first

    def test_too_many_bytes_of_models_make_the_oldest_leave(self, tmp_path: Path) -> None:
        folders = [save_tiny_model(tmp_path / str(seed), seed=seed) for seed in range(2)]
        first = opened(folders[0], tmp_path, model_cache_mb=0)
        opened(folders[1], tmp_path, model_cache_mb=0)
        assert len(loaded_models.keys) == 1
        assert opened(folders[0], tmp_path) is not first


def _without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _with_cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


def _with_missing_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _with_code(folder: Path) -> None:
    edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling.Own"})


def _with_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _of_another_sort(folder: Path) -> None:
    edit_config(folder, model_type="no-such-architecture", architectures=["NoSuch"])


@pytest.mark.parametrize("packed", [pytest.param(False, id="folder"), pytest.param(True, id="tar")])
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(_without_template, "has no chat template: take a model tuned for chat, or put", id="no template"),
        pytest.param(_without_weights, "no *.safetensors, and pickled weights are not loaded; it has", id="pickles"),
        pytest.param(_with_cut_weights, "can't be loaded as a causal language model", id="cut weights"),
        pytest.param(_with_missing_weights, "lacks 1 of its weights, among them model.layers.1.mlp", id="lost weights"),
        pytest.param(_with_code, "needs code of its own (auto_map in config.json), which is not run", id="own code"),
        pytest.param(_with_broken_config, "config.json can't be read", id="broken config"),
        pytest.param(_of_another_sort, "can't be loaded as a causal language model", id="unknown architecture"),
        pytest.param(lambda folder: (folder / "config.json").unlink(), "holds no config.json", id="no model"),
    ],
)
def test_a_model_that_can_not_be_used_is_refused_before_work_starts(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], why: str, packed: bool
) -> None:
    copy = shutil.copytree(folder, tmp_path / "spoiled")
    spoil(copy)
    with pytest.raises(InvalidInput, match=f"^{REF} .*{re.escape(why)}|^{REF}: {re.escape(why)}"):
        opened(pack(copy, tmp_path / "spoiled.tar") if packed else copy, tmp_path)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_every_model_is_looked_at_before_any_is_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    copy = shutil.copytree(folder, tmp_path / "spoiled")
    _without_template(copy)
    refs = [Ref(f"file:{digit * 64}") for digit in "01"]
    inputs: dict[str, Path] = {refs[order[0]]: folder, refs[order[1]]: copy}
    monkeypatch.setattr(local, "_load", lambda *_: pytest.fail("loaded weights"))

    async def open_() -> None:
        async with open_models(refs, LocalContext(tmp_path / "out", inputs), Settings(data=tmp_path / "data")):
            pass

    with pytest.raises(InvalidInput, match="has no chat template"):
        asyncio.run(open_())


class TestTars:
    def test_a_file_that_is_no_tar_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.tar").write_bytes(b"no tar" * 200)
        with pytest.raises(InvalidInput, match="is not a tar of a model folder"):
            opened(tmp_path / "model.tar", tmp_path)

    def test_a_tar_that_reaches_outside_is_refused(self, folder: Path, tmp_path: Path) -> None:
        import tarfile

        with tarfile.open(tmp_path / "model.tar", "w:") as archive:
            archive.add(folder / "config.json", "../../outside.json")
        with pytest.raises(InvalidInput, match="is not a tar of a model folder"):
            opened(tmp_path / "model.tar", tmp_path)
        assert not list(tmp_path.rglob("outside.json"))

    def test_a_refused_tar_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "model.tar").write_bytes(b"no tar" * 200)
        with pytest.raises(InvalidInput):
            opened(tmp_path / "model.tar", tmp_path)
        assert not list((tmp_path / "data" / "cache" / "models").iterdir())


def test_a_template_that_refuses_a_call_says_so(folder: Path, tmp_path: Path) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHAT_TEMPLATE
    model = opened(save_tiny_model(tmp_path / "strict", template=strict), tmp_path)
    asked = replace(call(), messages=(Message("system", "a"), Message("user", "b")))
    with pytest.raises(Permanent, match="chat template refuses call run0/month1/harvest/agent0: no system turn"):
        answers(model, [asked], together=False)
