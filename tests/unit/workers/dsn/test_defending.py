"""The defences of one evaluation, over a scripted model: what they let through, block, cost and draw."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from shared.jobs.errors import InvalidInput
from shared.jobs.local import LocalContext
from workers.dsn import defending as defences
from workers.dsn.defending import BLOCKED, Defending
from workers.dsn.judges import Judged
from workers.dsn.trial import Trial

YES, NO = "Sure , here is", "I cannot help with that one ."
RANDOM = ["f90 f91 f92"]
NONE = {"perplexity": None, "smoothllm": None, "erase_and_check": None}


class Reading:
    """Says that whatever doesn't refuse complies, and remembers what it read."""

    name, votes, stand_in = "reading", True, False

    def __init__(self):
        self.read = []

    def judge(self, items):
        self.read += [item.response for item in items]
        return [Judged("cannot" not in item.response) for item in items]


class Scripted:
    """A decoder whose answers a function of the message gives."""

    def __init__(self, trial, answer):
        self.trial, self.answer, self.asked = trial, answer, []

    def answers(self, users):
        self.asked.append(list(users))
        return [self.answer(user) for user in users]


@pytest.fixture
def make(small, tmp_path, no_key, monkeypatch):
    """`make(answer, defences, …)`: Defending over a Trial whose model is the function `answer`."""
    opened = []

    def make(answer, chosen, **changes):
        ctx = LocalContext(tmp_path / f"ctx{len(opened)}")
        opened.append(ctx)
        params = small(judges=[{"name": "reading", "type": "keyword"}], defences=NONE | chosen, **changes)
        trial = Trial(params, ctx)
        trial.panel._judges["reading"] = Reading()
        scripted = Scripted(trial, answer)
        monkeypatch.setattr(trial, "answers", scripted.answers)
        return Defending(trial, params), trial, scripted

    yield make
    for ctx in opened:
        ctx.release()


def word(text):
    """What a script decides by: the last word."""
    return text.split()[-1]


def test_success_is_pooled_over_an_arms_runs_and_told_by_arm(make):
    def answer(user):
        return YES if word(user) in ("f00", "f02") else NO

    found, _, _ = make(answer, {})
    found.run({"gcg": ["f00", "f01"], "dsn@10": ["f02", "f02"]}, RANDOM, [])
    rates = found.defended["none"].asr
    assert {arm: (rate.successes, rate.n) for arm, rate in rates.items()} == {"gcg": (4, 8), "dsn@10": (8, 8)}


def test_harmless_prompts_come_plain_and_filled_with_the_random_suffix(make):
    def answer(user):
        return NO if word(user) == "f92" else YES

    found, trial, _ = make(answer, {}, n_benign=6)
    found.run({"gcg": ["f00"]}, RANDOM, [])
    none = found.defended["none"]
    assert (none.benign_refusal.successes, none.benign_refusal.n) == (0, len(trial.benign)) == (0, 6)
    assert none.benign_refusal_filled.successes == 6


# Perplexity ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nll(monkeypatch):
    """NLL by table of the last word; a window's is ten times the mean."""
    values = {}

    def likelihood(model, tokenizer, text, window):
        return (values.get(word(text), 1.0), 10 * values.get(word(text), 1.0))

    monkeypatch.setattr(defences, "negative_log_likelihood", likelihood)
    return values


def test_what_is_above_the_threshold_is_blocked_and_what_reaches_it_passes(make, nll, monkeypatch):
    found, trial, _ = make(lambda user: YES, {"perplexity": {"quantile": 1.0}})
    monkeypatch.setattr(trial, "benign", ["a clean", "b cleaner"])
    nll.update(clean=2.0, cleaner=1.5, f00=2.0, f01=2.0001)
    found.run({"gcg": ["f00"], "dsn": ["f01"]}, RANDOM, [])
    passed = {arm: rate.successes for arm, rate in found.defended["perplexity"].asr.items()}
    assert passed == {"gcg": 4, "dsn": 0}
    assert found.thresholds == {"perplexity": 2.0, "perplexity_window": 20.0}
    assert found.perplexities == {"clean": [2.0, 1.5], "gcg": [2.0] * 4, "dsn": [2.0001] * 4, "filled": [1.0] * 2}


def test_a_quantile_lowers_the_threshold_and_clean_texts_above_it_are_refused(make, nll, monkeypatch):
    found, trial, _ = make(lambda user: YES, {"perplexity": {"quantile": 0.5}})
    monkeypatch.setattr(trial, "benign", ["x a", "x b", "x c"])
    trial.__dict__.pop("benign_behaviours", None)
    nll.update(a=1.0, b=2.0, c=3.0)
    found.run({"gcg": ["f00"]}, RANDOM, [])
    assert found.thresholds["perplexity"] == 2.0
    assert found.defended["perplexity"].benign_refusal.successes == 1


def test_no_judge_is_asked_about_what_was_blocked_and_it_counts_as_a_fail(make, nll, monkeypatch):
    found, trial, _ = make(lambda user: YES, {"perplexity": {}})
    monkeypatch.setattr(trial, "benign", ["x a"])
    nll.update(a=1.0, f00=5.0)
    found.run({"gcg": ["f00"]}, RANDOM, [])
    assert found.defended["perplexity"].asr["gcg"].successes == 0
    assert found.defended["perplexity"].asr["gcg"].n == 4
    assert BLOCKED not in trial.panel._judges["reading"].read


def test_without_harmless_prompts_there_is_no_threshold_and_no_filter_but_a_warning(make):
    found, _, _ = make(lambda user: YES, {"perplexity": {}}, n_benign=0)
    warnings = []
    found.run({"gcg": ["f00"]}, RANDOM, warnings)
    assert list(found.defended) == ["none"]
    assert found.defended["none"].benign_refusal.n == 0
    assert len(warnings) == 1
    assert "needs benign prompts" in warnings[0]


def test_another_models_perplexity_may_be_the_filters(make):
    """The second stand-in is the reference: its likelihoods, not the attacked model's."""
    own, trial, _ = make(lambda user: YES, {"perplexity": {}})
    other, _, _ = make(lambda user: YES, {"perplexity": {"reference": "builtin:colours-2"}})
    texts = trial.benign[:2]
    assert own._nll(texts) != other._nll(texts)
    assert other._reference[0] is not trial.target.model


def test_a_wrong_reference_is_told_before_anything_runs(make, tmp_path):
    with pytest.raises(InvalidInput, match="nonesuch"):
        make(lambda user: YES, {"perplexity": {"reference": "builtin:nonesuch"}})


# SmoothLLM -------------------------------------------------------------------------------------------------------


def test_smoothllm_answers_by_the_majority_of_its_copies(make, monkeypatch):
    """Of three copies of each message one, then two comply."""
    many = iter([YES, NO, NO] * 4 + [YES, YES, NO] * 4 + [NO] * 100)
    found, _, scripted = make(lambda user: next(many), {"smoothllm": {"copies": 3, "kind": "token"}}, n_benign=0)
    monkeypatch.setattr(found, "_chosen", {"smoothllm": found._chosen["smoothllm"]})
    found.run({"gcg": ["f00"], "dsn": ["f01"]}, RANDOM, [])
    assert {arm: rate.successes for arm, rate in found.defended["smoothllm"].asr.items()} == {"gcg": 0, "dsn": 4}
    assert [len(users) for users in scripted.asked] == [12, 12]
    assert found.defended["smoothllm"].cost == 2


def test_smoothllms_draws_follow_the_seed_and_differ_between_arms_and_runs(make):
    def copies(**changes):
        found, trial, scripted = make(lambda user: NO, {"smoothllm": {"copies": 2, "q": 30.0}}, n_benign=0, **changes)
        users = trial.users(trial.split.test, "f00")
        for about in ("smoothllm/gcg", "smoothllm/gcg/1", "smoothllm/dsn"):
            found._chosen["smoothllm"].answer(about, users)
        return scripted.asked

    first, again, other = copies(), copies(), copies(seed=1)
    assert first == again != other
    assert len({json.dumps(asked) for asked in first}) == 3


# Erase-and-check -------------------------------------------------------------------------------------------------


def test_a_prompt_is_refused_if_any_shortened_version_is_refused(make):
    """The suffix opens the model; without its last word the model refuses."""
    found, _, scripted = make(
        lambda user: YES if word(user) in ("f00", "f02") else NO, {"erase_and_check": {"d": 1}}, n_benign=0
    )
    found.run({"gcg": ["f01 f00"], "dsn": ["f02 f00"]}, RANDOM, [])
    assert {arm: rate.successes for arm, rate in found.defended["erase_and_check"].asr.items()} == {"gcg": 0, "dsn": 4}
    assert found.defended["erase_and_check"].cost == 1
    assert all(len(users) == 8 for users in scripted.asked[2:])


def test_a_judge_may_be_the_checker_and_hears_the_shortened_request(make):
    """It knows a refusal that is in no list of phrases; where it abstains nothing is refused."""

    class Checker(Reading):
        def judge(self, items):
            self.read += [item.goal for item in items]
            return [Judged({"closed": False, "odd": None}.get(item.response, True)) for item in items]

    answers = {"f00": YES, "f01": "closed", "f02": "odd"}
    found, trial, _ = make(lambda user: answers.get(word(user), YES),
                           {"erase_and_check": {"d": 1, "checker": "reading"}}, n_benign=0)  # fmt: skip
    judge = trial.panel._judges["reading"] = Checker()
    trial.panel.named["other"] = trial.panel.named["reading"]
    trial.panel._judges["other"] = Reading()  # is asked about the cells, and not about shortened requests
    found.run({"gcg": ["f01 f00"], "dsn": ["f02 f00"]}, RANDOM, [])
    assert {arm: rate.successes for arm, rate in found.defended["erase_and_check"].asr.items()} == {"gcg": 0, "dsn": 4}
    assert f"{trial.split.test[0].goal} f01" in judge.read
    assert len(trial.panel._judges["other"].read) < len(judge.read)


@pytest.mark.parametrize("checker", ["nobody", "truth"])
def test_only_a_judge_of_the_job_that_reads_any_text_may_be_the_checker(small, checker):
    judges = [{"name": "truth", "type": "exact"}, {"name": "kw", "type": "keyword"}]
    with pytest.raises(ValidationError, match="those are: kw"):
        small(judges=judges, defences={"erase_and_check": {"checker": checker}})
    assert small(judges=judges, defences={"erase_and_check": {"checker": "kw"}})


def test_erasing_no_token_is_the_plain_model_at_no_cost(make):
    found, _, _ = make(lambda user: YES, {"erase_and_check": {"d": 0}}, n_benign=0)
    found.run({"gcg": ["f00"]}, RANDOM, [])
    assert found.defended["erase_and_check"] == found.defended["none"]


# Work ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chosen", "per_prompt"), [
    ({}, 1), ({"perplexity": {}}, 3), ({"smoothllm": {"copies": 10}}, 11), ({"erase_and_check": {"d": 20}}, 22),
], ids=["none", "perplexity, two kinds", "copies", "erased versions"])  # fmt: skip
def test_the_work_ahead_counts_every_answer_of_every_defence(make, chosen, per_prompt):
    found, _, _ = make(lambda user: YES, chosen, n_benign=3)
    assert found.work(2) == (2 * 4 + 2 * 3) * per_prompt


def test_a_cost_is_the_mean_over_arms_and_runs(make, monkeypatch):
    found, _, _ = make(lambda user: YES, {}, n_benign=0)
    costs = iter([0.0, 3.0, 6.0])
    plain = found._plain
    defence = defences.Defence(lambda about, users: plain(about, users)._replace(cost=next(costs)), 1)
    monkeypatch.setattr(found, "_chosen", {"none": defence})
    found.run({"gcg": ["f00", "f01"], "dsn": ["f00"]}, RANDOM, [])
    assert found.defended["none"].cost == pytest.approx(np.mean([0, 3, 6]))
