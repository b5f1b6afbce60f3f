"""What INSTA's Params alone show to be wrong is refused with the field named."""

import pytest
from pydantic import ValidationError

from shared.jobs.catalog.insta import (
    AlignParams,
    DownstreamParams,
    EvaluateParams,
    IndexParams,
    QueryParams,
)  # fmt: skip

INDEX, FILE = "job:01ARZ3NDEKTSV4RRFFQ69G5FAV/index.tar", "file:" + "a" * 64


@pytest.mark.parametrize(
    ("params", "values"),
    [
        (IndexParams(library="builtin:tasks"), {
            "encoder": "builtin:minilm", "backend": "best", "max_tokens": 256, "batch_size": 16, "refine": "names",
            "original_task_only": True, "seed": 42}),
        (QueryParams(index=INDEX, task_id="x"), {
            "aggregate": "max", "vote_depth": 10, "k": None, "method": "insta", "seed": 42}),
        (AlignParams(index=INDEX), {
            "recipe": None, "train": "head", "pos_fraction": 0.4, "neg_threshold": 0.3, "neg_max_use": 4, "steps": 300,
            "tau": 0.07, "penalty": 0.01, "epochs": 5, "batch": None, "learning_rate": None}),
        (EvaluateParams(index=INDEX), {"queries": "leave_one_out", "relevance": "category", "resamples": 1_000}),
        (DownstreamParams(index=INDEX), {"tasks": "builtin:tasks", "k": 5, "seeds": 3, "adapt_examples": 64}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)  # fmt: skip
def test_defaults_are_those_of_the_specification(params, values):
    assert {name: getattr(params, name) for name in values} == values


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        pytest.param(IndexParams, {}, "library is missing", id="nothing-to-index"),
        pytest.param(IndexParams, {"library": FILE, "update": "merge"}, "needs a base_index", id="merge-into-nothing"),
        pytest.param(IndexParams, {"library": FILE, "remove": ["a"]}, "remove needs update merge", id="remove-alone"),
        pytest.param(IndexParams, {"library": "endpoint:a/b"}, "not a reference this field takes", id="endpoint"),
        pytest.param(IndexParams, {"library": FILE, "refine": "none"}, "names", id="refine"),
        pytest.param(IndexParams, {"library": FILE, "max_tokens": 4}, "greater than or equal to 8", id="max_tokens"),
        pytest.param(QueryParams, {}, "no target given", id="no-target"),
        pytest.param(QueryParams, {"task_id": "a", "queries": FILE}, "task_id and queries given", id="two-targets"),
        pytest.param(QueryParams, {"instructions": ["Sort.", " "]}, "instruction 1 is empty", id="empty-instruction"),
        pytest.param(QueryParams, {"instructions": []}, "at least 1", id="no-instructions"),
        pytest.param(QueryParams, {"instructions": ["x"] * 51}, "at most 50", id="51-instructions"),
        pytest.param(QueryParams, {"task_id": "a", "k": 0}, "greater than or equal to 1", id="k"),
        pytest.param(QueryParams, {"instructions": ["x"], "method": "data_sample"}, "give example", id="no-example"),
        pytest.param(QueryParams, {"task_id": "a", "aggregate": "vote", "filters": {"min_score": 0.1}},
                     "no meaning for aggregate vote", id="min-score-of-votes"),
        pytest.param(QueryParams, {"task_id": "a", "method": "random", "filters": {"min_score": 0.1}},
                     "filters.min_score: method random has no scores", id="min-score-of-random"),
        pytest.param(QueryParams, {"task_id": "a", "method": "all", "filters": {"min_score": 0.1}},
                     "filters.min_score: method all has no scores", id="min-score-of-all"),
        pytest.param(QueryParams, {"task_id": "a", "dataset": "x"}, "dataset goes with instructions",
                     id="dataset-of-a-task"),
        pytest.param(QueryParams, {"queries": FILE, "example": {"input": "a", "output": "b"}},
                     "example goes with instructions", id="example-of-many"),
        pytest.param(EvaluateParams, {"filters": {"min_score": 0.9}}, "filters.min_score: whole rankings",
                     id="min-score-of-an-evaluation"),
        pytest.param(EvaluateParams, {"query_filters": {"exclude_same_dataset": True}},
                     "query_filters.exclude_same_dataset: queries have no target", id="same-data-set-as-what"),
        pytest.param(QueryParams, {"task_id": "a", "filters": {"colour": ["red"]}}, "colour", id="unknown-filter"),
        pytest.param(AlignParams, {"train": "full", "refit": True}, "refit is for train head", id="refit-full"),
        pytest.param(AlignParams, {"tau": 0}, "greater than 0", id="tau"),
        pytest.param(EvaluateParams, {"methods": ["insta", "insta"]}, "names one twice", id="method-twice"),
        pytest.param(EvaluateParams, {"methods": ["transferability"]}, "insta", id="not-available"),
        pytest.param(EvaluateParams, {"queries": "all"}, "leave_one_out", id="queries"),
        pytest.param(DownstreamParams, {"methods": ["insta"]}, "at least 2", id="one-arm"),
        pytest.param(DownstreamParams, {"seeds": 1}, "greater than or equal to 2", id="one-seed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(model, params, said):
    given = params if model is IndexParams else {"index": INDEX, **params}
    with pytest.raises(ValidationError, match=said):
        model.model_validate(given)
