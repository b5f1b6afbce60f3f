"""What the kinds of DSN declare: the method's defaults, caps, and what params alone show to be wrong."""

import json

import pytest
from pydantic import ValidationError

from shared.jobs.catalog import catalog
from shared.jobs.catalog.dsn import EvaluateParams, JudgeParams, TransferParams

FILE = "file:" + "a" * 64
AUTHORISATION = {"owner": "lab", "purpose": "p", "ticket": "T-1", "expires": "2999-01-01"}
JOB = "01M86AYJQV000N6W7J0SFJCABF"
LEAST = {"model": "allowed:mine", "behaviours": FILE, "authorisation": AUTHORISATION}
NLI = {"name": "n", "type": "nli", "model": "hub:lab/nli"}


def params(of=EvaluateParams, **changes):
    return of.model_validate_json(json.dumps(LEAST | changes))


def judged(**changes):
    return JudgeParams.model_validate_json(json.dumps({"responses": FILE, "judges": [NLI]} | changes))


@pytest.mark.parametrize(("field", "default"), [
    ("objective", "both"), ("alpha", 10.0), ("cosine_decay", None), ("grad_refusal", False), ("grad_alpha", None),
    ("suffix_init", " ".join(["!"] * 20)), ("n_steps", 500), ("batch_size", 512), ("topk", 256), ("n_train", 25),
    ("n_test", 100), ("test_steps", 25), ("allow_non_ascii", False), ("filter_candidates", True),
    ("target_rewrite", "off"), ("refusal_phrases", None), ("match_phrases", None), ("eval_max_new_tokens", 512),
    ("nli_threshold", 1.3), ("alpha_1", 1.0), ("alpha_2", 1.0), ("nli_short_policy", "scaled"),
    ("stop_on_success", False), ("seed", 0), ("judge_sees_suffix", False), ("make_targets", False),
    ("reveal", False), ("n_suffixes", 1), ("random_draws", 5),
])  # fmt: skip
def test_the_defaults_are_those_of_the_official_scripts(field, default):
    assert getattr(params(), field) == default


def test_the_defences_defaults_are_those_of_their_papers():
    defences = params().defences
    assert (defences.smoothllm.copies, defences.smoothllm.q) == (10, 10.0)
    assert (defences.perplexity.quantile, defences.perplexity.window) == (1.0, 10)
    assert defences.perplexity.reference is None
    assert defences.erase_and_check.checker is None


@pytest.mark.parametrize(("field", "most"), [
    ("n_steps", 2000), ("batch_size", 4096), ("n_suffixes", 20), ("random_draws", 50),
])  # fmt: skip
def test_a_cap_is_reached_and_not_passed(field, most):
    assert getattr(params(**{field: most}), field) == most
    with pytest.raises(ValidationError, match=field):
        params(**{field: most + 1})


def test_at_most_500_prompts_and_64_suffix_words_together():
    assert params(n_train=100, n_test=400).n_test == 400
    with pytest.raises(ValidationError, match="n_train \\+ n_test is 501; at most 500"):
        params(n_train=101, n_test=400)
    assert params(suffix_init="! " * 64).suffix_init == " ".join(["!"] * 64)
    with pytest.raises(ValidationError, match="65 words"):
        params(suffix_init="! " * 65)


@pytest.mark.parametrize(("changes", "says"), [
    pytest.param({"model": "hub:lab/model"}, "model", id="a model by another name than the list's"),
    pytest.param({"behaviours": "hub:lab/data"}, "behaviours", id="behaviours from elsewhere"),
    pytest.param({"benign": "builtin:tasks"}, "benign", id="harmless prompts that ship"),
    pytest.param({"judges": [NLI, NLI]}, "n is used twice", id="one name for two judges"),
    pytest.param({"judges": [NLI | {"name": "majority"}]}, "majority is used twice or is the name", id="a vote's name"),
    pytest.param({"judges": [{"name": "n", "type": "nli"}]}, "needs a model", id="a judge without its model"),
    pytest.param({"judges": [{"name": "k", "type": "keyword", "model": "hub:a/b"}]}, "takes no model", id="idle model"),
    pytest.param({"judges": [NLI | {"model": "endpoint:lab/m"}]}, "endpoints are for type llm", id="an NLI endpoint"),
    pytest.param({"judges": [NLI | {"template": "{goal} {response}"}]}, "template is for classifiers", id="template"),
    pytest.param({"judges": [NLI | {"type": "llm", "model": "builtin:colours-nli"}]}, "of type nli", id="stand-in"),
    pytest.param({"alpha": []}, "alpha", id="no alpha"),
    pytest.param({"alpha": [1, 2, 1]}, "names a value twice", id="an alpha twice"),
    pytest.param({"alpha": -1}, "alpha", id="a negative alpha"),
    pytest.param({"eval_max_new_tokens": 0}, "eval_max_new_tokens", id="no answer"),
    pytest.param({"dtype": "float16"}, "dtype", id="a dtype in which losses overflow"),
    pytest.param({"authorisation": AUTHORISATION | {"expires": "2020-01-01"}}, "have it renewed", id="expired"),
    pytest.param({"authorisation": AUTHORISATION | {"owner": ""}}, "owner", id="nobody is responsible"),
    pytest.param({"typo": 1}, "typo", id="an unknown field"),
])  # fmt: skip
def test_what_params_alone_show_to_be_wrong_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        params(**changes)


@pytest.mark.parametrize("suffixes", [f"job:{JOB}/metrics.json", f"job:{JOB}/revealed.enc", f"file:{'a' * 64}"])
def test_only_a_jobs_suffixes_are_transferred(suffixes):
    with pytest.raises(ValidationError, match="suffixes"):
        params(TransferParams, suffixes=suffixes)
    assert params(TransferParams, suffixes=f"job:{JOB}/suffixes.enc").suffixes.artifact == "suffixes.enc"


@pytest.mark.parametrize(("changes", "says"), [
    pytest.param({"judges": []}, "give judges, or verdicts", id="nobody judges"),
    pytest.param({"annotators": ["a"]}, "annotators", id="one annotator"),
    pytest.param({"partial": "half"}, "partial", id="an odd policy"),
    pytest.param({"verdicts": [{"judge": "n", "column": "c", "success": ["1"], "fail": ["0"]}]}, "used twice",
                 id="a stored judge by a taken name"),
    pytest.param({"verdicts": [{"judge": "v", "column": "c", "success": ["1"], "fail": ["1"]}]}, "both success and",
                 id="a value that says both"),
    pytest.param({"verdicts": [{"judge": "v", "column": "c", "success": [], "fail": ["1"]}]}, "success",
                 id="no value that says success"),
])  # fmt: skip
def test_what_judging_params_alone_show_to_be_wrong_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        judged(**changes)


def test_every_field_of_params_and_results_is_described():
    for kind in ("dsn.evaluate", "dsn.judge", "dsn.transfer"):
        spec = catalog()[kind]
        for model in (spec.params, spec.result):
            lacking = [name for name, field in model.model_fields.items() if not field.description and name != "seed"]
            assert lacking == [], (kind, lacking)


def test_the_kinds_name_their_pool_their_progress_and_what_they_seal():
    specs = [catalog()[kind] for kind in ("dsn.evaluate", "dsn.transfer", "dsn.judge")]
    assert {spec.pool for spec in specs} == {"gpu"}
    assert [spec.progress_unit for spec in specs] == ["steps and answers", "answers", "items"]
    assert [spec.sealed for spec in specs[:2]] == [("suffixes.enc", "revealed.enc")] * 2
    assert not specs[2].sealed
