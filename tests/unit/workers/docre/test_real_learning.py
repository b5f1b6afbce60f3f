"""What the method shows on real documents: it learns, translationese recalls less, recommendations save steps."""

import json

import pytest

from shared.jobs.catalog.docre.evaluation import EvaluateParams
from shared.jobs.catalog.docre.models import RecommendParams, TrainParams
from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.local import LocalContext
from tests.unit.workers.docre.conftest import A, B, C
from workers.docre.jobs import evaluate, recommend, train, transfer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SEEDS = (1, 2, 3)


class Worlds:
    """The shared documents, native (through `identity`) and gone to Spanish and back; models of both by seed."""

    def __init__(self, folder, cache, real):
        self._folder, self._cache = folder, cache
        self.train = self._through("identity", real / "redocred_train.json", "native_train")
        self.test = self._through("identity", real / "redocred_test.json", "native_test")
        there = self._through("apertium", real / "redocred_train.json", "spanish")
        self.back = self._through("apertium", there, "back", source_lang="spa", target_lang="eng")
        self._models = {}

    def run(self, function, params, name, inputs):
        ctx = LocalContext(self._folder / name, inputs=inputs, cache=self._cache)
        result = function(params, ctx)
        ctx.close()
        return result, self._folder / name

    def _through(self, backend, path, name, **languages):
        _, out = self.run(transfer, TransferParams(documents=A, backend=backend, **languages), name, {A: path})
        return out / "transferred.json"

    def model(self, documents, seed):
        """(result, folder); dev is the native test set, so at_th are test figures; only the epoch is chosen by it."""
        key = (documents.parent.name, seed)
        if key not in self._models:
            params = TrainParams(train=A, dev=B, epochs=8, seed=seed)
            self._models[key] = self.run(train, params, f"model-{key[0]}-{seed}", {A: documents, B: self.test})
        return self._models[key]


@pytest.fixture(scope="module")
def worlds(apertium, real, tmp_path_factory, cache):
    return Worlds(tmp_path_factory.mktemp("worlds"), cache, real)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_beats_the_most_frequent_relation_on_real_documents(worlds, seed):
    result, _ = worlds.model(worlds.train, seed)
    found, baseline = result.at_best.relation, result.baseline
    print(f"seed {seed}: F1 {found.f1:.3f}, baseline {baseline.all_pairs.f1:.3f}; at TH {result.at_th.relation}")
    print(f"  same sentence {baseline.model_same_sentence.f1:.3f}, baseline {baseline.same_sentence.f1:.3f}")
    assert found.f1 > baseline.all_pairs.f1
    assert baseline.model_same_sentence.f1 > baseline.same_sentence.f1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_of_translationese_recalls_less_of_native_documents(worlds, seed):
    native, back = (worlds.model(documents, seed)[0].at_th.relation for documents in (worlds.train, worlds.back))
    print(f"seed {seed}: recall {native.r:.3f} and {back.r:.3f}, precision {native.p:.3f} and {back.p:.3f}")
    assert native.r > back.r


def test_recommendations_save_steps_of_a_simulated_annotator(worlds):
    """Gold is the annotator; probabilities are calibrated on other native documents than those annotated."""
    documents = json.loads(worlds.test.read_text())
    (worlds.test.parent / "half.json").write_text(json.dumps(documents[:50]))
    (worlds.test.parent / "other.json").write_text(json.dumps(documents[50:]))
    inputs = {A: worlds.model(worlds.train, 1)[1] / "model.tar", B: worlds.test.parent / "other.json",
              C: worlds.test.parent / "half.json"}  # fmt: skip
    params = RecommendParams(model=A, documents=B, calibration=C)
    result, _ = worlds.run(recommend, params, "recommended", inputs)
    effort = result.effort
    print(f"steps {effort.steps:.1f}, scratch {effort.scratch:.1f}, F1-optimal {effort.best_f1_steps:.1f}")
    assert result.calibrated_on == "native"
    assert effort.steps < effort.scratch < effort.best_f1_steps + effort.scratch


def test_the_gap_report_compares_both_on_one_test_set(worlds):
    inputs, entries = {B: worlds.test}, []
    for name, documents, ref in (("native", worlds.train, A), ("transferred", worlds.back, C)):
        inputs[ref] = worlds.model(documents, 1)[1] / "predictions.json"
        entries.append({"predictions": ref, "gold": B, "trained_on": name, "tested_on": "native test"})
    result, _ = worlds.run(evaluate, EvaluateParams(entries=entries, gap=("native", "transferred")), "gap", inputs)
    assert result.gap[0].false_negatives
