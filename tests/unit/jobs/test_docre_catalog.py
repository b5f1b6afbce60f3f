"""The declarations of DocRE transfer: kinds, defaults of the specification, schemas with descriptions."""

import pytest

from shared.jobs.catalog import catalog
from shared.jobs.catalog.docre.models import RecommendParams, TrainParams
from shared.jobs.catalog.docre.transfer import TransferParams

KINDS = {"docre.transfer": "cpu", "docre.merge": "cpu", "docre.train": "gpu", "docre.evaluate": "cpu",
         "docre.recommend": "gpu", "docre.llm": "cpu"}  # fmt: skip
TRAIN, DOCUMENTS = TrainParams(train="builtin:docre-train"), TransferParams(documents="builtin:docre-train")


@pytest.mark.parametrize(("kind", "pool"), KINDS.items())
def test_every_kind_has_its_pool_and_describes_every_field(kind, pool):
    spec = catalog()[kind]
    assert spec.pool == pool
    for schema in (spec.params_schema(), spec.result_schema()):
        assert all("description" in about or "$ref" in about for about in schema["properties"].values())


@pytest.mark.parametrize(
    ("params", "defaults"),
    [
        pytest.param(
            DOCUMENTS,
            {"source_lang": "eng", "target_lang": "spa", "backend": "apertium", "strategy": "auto", "shard_size": 50,
             "max_gap_words": 3, "fuzzy_min_ratio": 0.7, "max_lost_mentions": 0.2, "max_failed_sentences": 0,
             "particle_trim": "auto", "analyser": "unidic-lite", "retries": 3, "timeout_s": 60},
            id="transfer",
        ),
        pytest.param(
            TRAIN,
            {"model": None, "max_len": 1024, "num_labels": 4, "seed": 66, "adam_epsilon": 1e-6, "warmup": 0.06,
             "emb_size": 768, "block_size": 64, "evi_lambda": 0.1, "evi_thresh": 0.2, "attn_lambda": 1.0,
             "max_sent": 25},
            id="train",
        ),
        pytest.param(
            RecommendParams(model="file:" + "0" * 64, documents="builtin:docre-native"),
            {"c_add": 1, "c_del": 1, "max_recommendations": 64, "batch": 8},
            id="recommend",
        ),
    ],
)  # fmt: skip
def test_defaults_are_the_specifications(params, defaults):
    assert {name: getattr(params, name) for name in defaults} == defaults
