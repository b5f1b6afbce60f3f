"""A clone of logged decisions: what it learns from, what it is, and that it answers like any local model."""

import json
import tarfile

import pytest

from shared.jobs.catalog.govsim import SimulateParams, TrainCloneParams
from shared.jobs.errors import HandBack, InvalidInput
from shared.jobs.local import LocalContext
from tests.bench.bench_govsim_clone import WEAK_MODELS, expectation, play, train
from workers.govsim.decisions import choose
from workers.govsim.jobs import simulate, train_clone

REPLIES, CLONE = "file:" + "a" * 64, "file:" + "b" * 64


def decision(run="r", model="m", wanted=10, pool=100, universalized=False, reply="Answer: 10"):
    memories = ["- 2024-01-01: if everyone fishes more than 10 tons"] if universalized else []
    return {"run": run, "model": model, "month": 1, "agent": "persona_0", "pool": pool, "memories": memories,
            "reply": reply, "wanted": wanted}  # fmt: skip


@pytest.fixture
def replies(tmp_path):
    """Agents that take 20, and 7 when they know what follows."""
    path = tmp_path / "replies.jsonl"
    lines = [decision(wanted=20), decision(wanted=7, universalized=True), decision(wanted=3, pool=40)] * 10
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def trained(folder, replies, **params):
    ctx = LocalContext(folder, inputs={REPLIES: replies})
    result = train_clone(TrainCloneParams(replies=REPLIES, **params), ctx)
    ctx.close()
    return result


def files(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "timings.jsonl"
    }


def test_the_real_decisions_of_weak_models_are_430_of_22_runs(real_data):
    chosen = choose(real_data / "harvest_replies.jsonl", "here", WEAK_MODELS)
    assert (len(chosen.decisions), len({one.run for one in chosen.decisions})) == (430, 22)


def test_mixed_societies_other_models_and_missing_replies_are_left_out(tmp_path):
    lines = [
        decision(run="pure", model="a"), decision(run="mixed", model="a"), decision(run="mixed", model="b"),
        decision(run="other", model="b"), decision(run="pure", model="a", reply=None),
    ]  # fmt: skip
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen = choose(path, "here", ["a"])
    assert ([one.run for one in chosen.decisions], chosen.left_out) == (["pure"], 4)
    assert len(choose(path, "here", None).decisions) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{", "line 1: is not whole JSON", id="cut-off"),
        pytest.param('{"run": "r"}', "line 1: has no `model`", id="missing"),
        pytest.param(json.dumps(decision() | {"wanted": "ten"}), "`wanted`", id="no-number"),
        pytest.param(json.dumps(decision(reply=None)), "no decision to learn from; models in it: m", id="nothing-said"),
        pytest.param("", "no decision to learn from", id="empty"),
    ],
)
def test_decisions_that_can_not_be_learnt_from_are_refused(tmp_path, text, says):
    (tmp_path / "replies").write_text(text)
    with pytest.raises(InvalidInput, match=says):
        choose(tmp_path / "replies", "here", None)


def test_a_clone_of_the_stated_size_has_about_a_hundred_thousand_parameters(tmp_path, replies):
    assert 100_000 < trained(tmp_path / "out", replies, steps=1).parameters < 110_000


def test_a_clone_takes_what_it_was_shown(tmp_path, replies):
    """20 of a full lake, 7 when universalization is in memory; answered through the local back end."""
    result = trained(tmp_path / "clone", replies, steps=120)
    assert (result.decisions, result.universalized_decisions, result.runs) == (30, 10, 1)
    for universalization, wanted in ((False, 20), (True, 7)):
        ctx = LocalContext(tmp_path / str(universalization), inputs={CLONE: tmp_path / "clone" / "model.tar"})
        params = SimulateParams(
            policies={"type": "llm", "model": CLONE}, communication=False, universalization=universalization,
            runs=1, months=1, max_tokens=16,
        )  # fmt: skip
        simulated = simulate(params, ctx)
        ctx.close()
        assert simulated.runs[0].demanded == [[wanted] * 5]
        assert simulated.fallback_rate == 0


def test_a_clone_is_a_hugging_face_folder_without_pickles(tmp_path, replies):
    trained(tmp_path / "out", replies, steps=1)
    with tarfile.open(tmp_path / "out" / "model.tar") as tar:
        names = set(tar.getnames())
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


class DiesAt(LocalContext):
    """Stops after so many steps."""

    def __init__(self, folder, step, **more):
        super().__init__(folder, **more)
        self.step = step

    def progress(self, done, total, unit, message=""):
        super().progress(done, total, unit, message)
        if done == self.step:
            raise HandBack("killed")


@pytest.mark.parametrize("step", [10, *(pytest.param(step, marks=pytest.mark.slow) for step in (50, 75))])
def test_a_training_that_was_stopped_resumes_to_the_same_bytes(tmp_path, replies, step):
    trained(tmp_path / "whole", replies, steps=80)
    ctx = DiesAt(tmp_path / "job", step, inputs={REPLIES: replies})
    with pytest.raises(HandBack):
        train_clone(TrainCloneParams(replies=REPLIES, steps=80), ctx)
    ctx.release()
    trained(tmp_path / "job", replies, steps=80)
    assert files(tmp_path / "job") == files(tmp_path / "whole")


def test_another_seed_gives_another_clone(tmp_path, replies):
    for seed in (1, 2):
        trained(tmp_path / str(seed), replies, steps=2, seed=seed)
    assert (tmp_path / "1" / "model.tar").read_bytes() != (tmp_path / "2" / "model.tar").read_bytes()


@pytest.mark.slow
def test_societies_of_the_clone_of_real_decisions_collapse_at_once_and_with_universalization_last(real_data, tmp_path):
    train(tmp_path / "clone", real_data / "harvest_replies.jsonl")
    for condition, universalization in (("default", False), ("universalization", True)):
        result = play(tmp_path / condition, tmp_path / "clone" / "model.tar", universalization, 200)
        assert expectation(condition, result.survival_time.mean)[1] >= 1
