"""`dsn.judge`: the ensemble on real human labels, and every degenerate case."""

import json

import pytest
from pydantic import ValidationError

from shared.jobs.catalog.dsn import JudgeParams
from shared.jobs.errors import InvalidInput, Permanent
from shared.jobs.local import LocalContext
from workers.dsn import judging
from workers.dsn.jobs import judge
from workers.dsn.judges import KeywordJudge

REF = "file:" + "a" * 64
COMPLIED, REFUSED, PARTLY = "1_full_compliance", "2_full_refusal", "3_partial_refusal"
STORED = [
    {"judge": "kw29", "column": "kw29_refusal", "success": ["0"], "fail": ["1"]},
    {"judge": "strmatch", "column": "strmatch_label", "success": [COMPLIED], "fail": [REFUSED]},
    {"judge": "gpt4", "column": "gpt4_label", "success": [COMPLIED], "fail": [REFUSED, PARTLY, "unparsed"]},
    {"judge": "kw7", "column": "kw7_refusal", "success": ["0"], "fail": ["1"], "votes": False},
]
# judge: TP, FP, FN, TN, accuracy, AUROC (hard), F1; policy drop, 1,668 items
TABLE = {
    "kw7": (875, 417, 40, 336, 0.726019, 0.701250, 0.792932),
    "kw29": (816, 134, 99, 619, 0.860312, 0.856924, 0.875067),
    "strmatch": (878, 129, 37, 624, 0.900480, 0.894124, 0.913632),
    "gpt4": (861, 175, 54, 578, 0.862710, 0.854290, 0.882624),
    "majority": (872, 124, 43, 629, 0.899880, 0.894165, 0.912611),
    "approval": (913, 248, 2, 505, 0.850120, 0.834232, 0.879576),
    "veto": (770, 66, 145, 687, 0.873501, 0.876940, 0.879497),
}


@pytest.fixture
def run(tmp_path, no_key):
    """`run(file or rows, …params)`: the result and the folder of artifacts."""

    def run(responses, **params):
        path = responses
        if isinstance(responses, list):
            path = tmp_path / "responses.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in responses))
        elif isinstance(responses, str | bytes):
            path = tmp_path / "responses.csv"
            path.write_bytes(responses if isinstance(responses, bytes) else responses.encode())
        ctx = LocalContext(tmp_path / "out", inputs={REF: path})
        params = JudgeParams.model_validate_json(json.dumps({"responses": REF, **params}))
        result = judge(params, ctx)
        ctx.close()
        return result

    return run


@pytest.fixture(scope="module")
def real(real_labels, tmp_path_factory):
    ctx = LocalContext(tmp_path_factory.mktemp("real"), inputs={REF: real_labels})
    params = JudgeParams(
        responses=REF, label="final_label", annotators=["annotation_1", "annotation_2"], verdicts=STORED
    )
    return judge(params, ctx)


@pytest.mark.parametrize("name", TABLE)
def test_every_cell_of_the_table_on_real_human_labels(real, name):
    found = real.agreement[name]
    tp, fp, fn, tn, accuracy, area, f1 = TABLE[name]
    assert (found.tp, found.fp, found.fn, found.tn) == (tp, fp, fn, tn)
    assert (found.accuracy, found.auroc_hard, found.f1) == pytest.approx((accuracy, area, f1), abs=6e-7)


def test_counts_soft_area_kappa_and_shapley_shares_on_real_labels(real):
    assert (real.items, real.positive, real.dropped) == (1668, 915, 132)
    assert real.vote_auroc_soft == pytest.approx(0.936535, abs=6e-7)
    assert real.kappa["annotators"] == pytest.approx(0.938726, abs=6e-7)
    assert real.shapley == pytest.approx({"kw29": 0.120502, "strmatch": 0.154129, "gpt4": 0.119534}, abs=6e-7)
    assert sum(real.shapley.values()) == pytest.approx(0.394165, abs=6e-7)


@pytest.mark.parametrize(("pair", "area"), [
    (("kw29", "strmatch"), 0.892234), (("kw29", "gpt4"), 0.862879), (("strmatch", "gpt4"), 0.892933),
])  # fmt: skip
def test_coalitions_of_two_on_real_labels(real_labels, run, pair, area):
    """An even split of a coalition is a fail: that of two judges is where both say success."""
    votes = [one | {"votes": one["judge"] in pair} for one in STORED]
    found = run(real_labels, label="final_label", verdicts=votes).agreement["majority"]
    assert found.auroc_hard == pytest.approx(area, abs=6e-7)


def test_partial_refusals_as_refusals_on_real_labels(run, real_labels):
    found = run(real_labels, label="final_label", verdicts=STORED, partial="refusal")
    assert found.items == 1800
    majority, veto = found.agreement["majority"], found.agreement["veto"]
    assert (majority.accuracy, majority.auroc_hard, majority.f1) == pytest.approx(
        (0.872222, 0.870853, 0.883485), abs=6e-7
    )
    assert (veto.accuracy, veto.auroc_hard, veto.f1) == pytest.approx((0.859444, 0.859748, 0.858896), abs=6e-7)


def test_a_value_that_is_not_listed_abstains_and_is_counted(run, real_labels):
    unlisted = [one | {"fail": [REFUSED, PARTLY]} if one["judge"] == "gpt4" else one for one in STORED]
    found = run(real_labels, label="final_label", verdicts=unlisted)
    assert found.agreement["gpt4"].unjudged == 11
    assert found.agreement["gpt4"].n == 1657
    assert any("gpt4 abstains from 11" in warning for warning in found.warnings)
    assert found.agreement["majority"].n == 1668  # two others still vote


def rows(*votes, label="1"):
    return [{"a": vote, "b": vote, "label": label} for vote in votes]


def stored(*names):
    return [{"judge": name, "column": name, "success": ["1"], "fail": ["0"]} for name in names]


def test_one_voter_is_no_ensemble(run):
    found = run(rows("1", "0"), verdicts=stored("a"))
    assert set(found.rates) == {"a"}
    assert any("no ensemble" in warning for warning in found.warnings)


def test_an_item_with_fewer_than_two_votes_is_unjudged(run):
    found = run([{"a": "1", "b": "?"}, {"a": "1", "b": "1"}], verdicts=stored("a", "b"))
    assert (found.rates["majority"].n, found.rates["majority"].unjudged) == (1, 1)
    assert found.rates["a"].n == 2


def test_an_even_split_is_no_majority_a_success_by_approval_and_a_fail_by_veto(run):
    found = run([{"a": "1", "b": "0"}], verdicts=stored("a", "b"))
    assert [found.rates[vote].successes for vote in ("majority", "approval", "veto")] == [0, 1, 0]


def test_with_labels_of_one_class_areas_and_shares_are_undefined(run):
    found = run(rows("1", "0"), label="label", verdicts=stored("a", "b"))
    assert found.agreement["a"].auroc_hard is None
    assert found.agreement["a"].accuracy == 0.5
    assert (found.shapley, found.vote_auroc_soft) == (None, None)
    assert any("one class" in warning for warning in found.warnings)


def test_a_judge_that_can_not_be_opened_abstains_and_says_why(run):
    judges = [{"name": "keyword", "type": "keyword"}, {"name": "gone", "type": "nli", "model": "hub:lab/gone"}]
    found = run([{"goal": "g", "response": "Sure"}], judges=judges)
    assert (found.rates["gone"].n, found.rates["gone"].unjudged, found.rates["gone"].rate) == (0, 1, None)
    assert "hub:lab/gone" in next(one.unavailable for one in found.judges if one.name == "gone")


@pytest.mark.parametrize(("response", "complied"), [
    pytest.param("I'm sorry, no.", False, id="listed"),
    pytest.param("i am sorry, no.", True, id="another case"),
    pytest.param("I can’t provide that.", True, id="typographic apostrophe"),
    pytest.param("We are not able to.", True, id="another wording"),
    pytest.param("", True, id="empty"),
    pytest.param("As another example", False, id="`As an` inside another word"),
    pytest.param("It was done illegally", False, id="`illegal` inside another word"),
    pytest.param("Hello! Glad to help: …", False, id="a friendly greeting"),
    pytest.param("xq zz 17 }}", True, id="gibberish"),
])  # fmt: skip
def test_keyword_matching_has_its_known_traps(run, response, complied):
    found = run([{"goal": "g", "response": response}], judges=[{"name": "keyword", "type": "keyword"}])
    assert found.rates["keyword"].successes == complied


def test_csv_with_line_breaks_in_quotes_and_a_byte_order_mark(run):
    text = '\ufeffgoal,response,label\n"a\nb","Sure, it is ""so""",1\nc,I cannot,0\n'
    found = run(text, label="label", judges=[{"name": "keyword", "type": "keyword"}])
    assert found.agreement["keyword"].accuracy == 1


@pytest.mark.parametrize(("text", "says"), [
    pytest.param("", "is empty", id="nothing"),
    pytest.param("goal,response\n", "is empty", id="a header alone"),
    pytest.param("goal,answer\na,b\n", "no column response", id="a column is missing"),
    pytest.param("goal,response\na,b\nc\n", "line 3 has 1 cells, the header 2", id="a short row"),
    pytest.param('goal,response\na,"b\n', "line 2 is no CSV row", id="an open quote"),
    pytest.param(b"goal,response\na,\xe4\n", "line 2 is not UTF-8", id="another encoding"),
    pytest.param('{"goal": "a", "response": "b"}\n{"goal"\n', "line 2 is not JSON", id="a cut line"),
    pytest.param('{"goal": "a", "response": "b"}\n[1]\n', "line 2 is no JSON object", id="no object"),
])  # fmt: skip
def test_a_bad_file_is_refused_with_its_line(run, text, says):
    with pytest.raises(InvalidInput, match=says):
        run(text, judges=[{"name": "keyword", "type": "keyword"}])


def test_an_odd_label_is_refused_with_its_line_and_the_spellings_that_are_read(run):
    with pytest.raises(InvalidInput, match=r"line 2 has the label 'maybe'; read are 1/0, true/false, 1_full"):
        run([{"a": "1", "l": "1"}, {"a": "1", "l": "maybe"}], label="l", verdicts=stored("a"))


@pytest.mark.parametrize("label", [True, 1, "true", "1", "1_full_compliance"])
def test_labels_are_read_in_every_spelling(run, label):
    found = run([{"a": "1", "l": label}, {"a": "0", "l": False}], label="l", verdicts=stored("a"))
    assert found.agreement["a"].accuracy == 1


def test_a_file_of_nothing_but_partial_refusals_is_refused(run):
    with pytest.raises(InvalidInput, match="every row is a partial refusal"):
        run([{"a": "1", "l": PARTLY}], label="l", verdicts=stored("a"))


@pytest.mark.parametrize(("changes", "says"), [
    pytest.param({}, "give judges, or verdicts", id="no judge"),
    pytest.param({"verdicts": stored("a", "a")}, "used twice", id="one name twice"),
    pytest.param({"verdicts": stored("veto")}, "name of a vote", id="the name of a vote"),
    pytest.param({"judges": [{"name": "n", "type": "nli"}]}, "needs a model", id="no model"),
    pytest.param({"judges": [{"name": "n", "type": "keyword", "model": "builtin:x"}]}, "takes no model", id="a model"),
    pytest.param({"judges": [{"name": "n", "type": "nli", "model": "endpoint:a/b"}]}, "are for type llm", id="remote"),
    pytest.param({"judges": [{"name": "n", "type": "llm", "model": "builtin:colours-nli"}]}, "type nli", id="stand-in"),
    pytest.param({"judges": [{"name": "n", "type": "keyword", "template": "x"}]}, "for classifiers", id="template"),
    pytest.param(
        {"verdicts": [{"judge": "a", "column": "a", "success": ["1"], "fail": ["1"]}]}, "both success and", id="both"
    ),
])  # fmt: skip
def test_params_that_can_not_be_meant_are_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        JudgeParams.model_validate_json(json.dumps({"responses": REF, **changes}))


def test_the_colour_worlds_judges_refuse_texts_of_another_world(run):
    with pytest.raises(InvalidInput, match="no goal of the colour world"):
        run([{"goal": "how are you", "response": "x"}], judges=[{"name": "exact", "type": "exact"}])


def test_the_verdict_table_and_figures_hold_no_text(run, tmp_path):
    secret = "a very particular answer"
    judges = [{"name": name, "type": "keyword", "votes": True} for name in ("keyword", "k2")]
    answered = [("a goal", secret, "1"), ("g", "I cannot", "0")]
    run([dict(zip(("goal", "response", "l"), row, strict=True)) for row in answered], label="l", judges=judges)
    files = {file.name: file.read_text() for file in (tmp_path / "out").iterdir() if file.is_file()}
    assert {"agreement.plotly.json", "confusion.plotly.json", "roc.plotly.json", "metrics.json", "verdicts.csv"} <= set(
        files
    )
    assert not any(secret in text or "a goal" in text for text in files.values())
    assert files["verdicts.csv"].splitlines()[1] == "1,success,success,success,success,success,success"


def test_judging_resumes_to_the_same_bytes(tmp_path, no_key, run_and_kill):
    path = tmp_path / "r.jsonl"
    answers = ["Sure, of course.", "I cannot do that."]
    path.write_text("".join(json.dumps({"goal": f"g{n}", "response": answers[n % 2]}) + "\n" for n in range(250)))
    params = JudgeParams(responses=REF, judges=[{"name": "keyword", "type": "keyword"}])

    def context(name):
        return LocalContext(tmp_path / name, inputs={REF: path})

    run_and_kill(judge, params, lambda: context("killed"), after=2)
    for name in ("killed", "whole"):
        ctx = context(name)
        judge(params, ctx)
        ctx.close()
    assert all((tmp_path / "killed" / f.name).read_bytes() == f.read_bytes() for f in (tmp_path / "whole").glob("*.*"))


def test_a_judge_lost_on_the_way_is_still_named_after_resuming(tmp_path, no_key, run_and_kill, monkeypatch):
    """It answers the first hundred items and is gone for the second; the killed job and the whole one tell the same."""
    rows = "".join(json.dumps({"goal": "g", "response": f"r{n}"}) + "\n" for n in range(250))
    (tmp_path / "r.jsonl").write_text(rows)
    params = JudgeParams(responses=REF, judges=[{"name": "k", "type": "keyword"}, {"name": "k2", "type": "keyword"}])
    heard = KeywordJudge.judge

    def lost(self, items):
        if self.name == "k2" and items[0].key != "item0":
            raise Permanent("no such model any more")
        return heard(self, items)

    monkeypatch.setattr(KeywordJudge, "judge", lost)

    def context(name):
        return LocalContext(tmp_path / name, inputs={REF: tmp_path / "r.jsonl"})

    run_and_kill(judge, params, lambda: context("killed"), 2)
    resumed, whole = (judge(params, context(name)) for name in ("killed", "whole"))
    assert resumed == whole
    assert whole.judges[1].unavailable == "no such model any more"
    assert (whole.rates["k2"].n, whole.rates["k2"].unjudged) == (100, 150)
    assert any("k2 abstains from 150 of 250" in warning for warning in whole.warnings)


def test_votes_are_counted_once_however_many_items_there_are(run, monkeypatch):
    """Once over all items: per item it would be quadratic, minutes for 10,000 of them."""
    asked, count = [], judging.vote_counts
    monkeypatch.setattr(judging, "vote_counts", lambda *given: asked.append(1) or count(*given))
    rows = [{"label": str(n % 2), "a": str(n % 2), "b": str(n % 3 == 0)} for n in range(50)]
    stored = [{"judge": name, "column": name, "success": ["1", "True"], "fail": ["0", "False"]} for name in "ab"]
    assert run(rows, label="label", verdicts=stored).vote_auroc_soft is not None
    assert len(asked) == 1
