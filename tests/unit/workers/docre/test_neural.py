"""seq2seq and CTranslate2 engines shown true: a small model that learns an invented language, with its alignment."""

import json
import random

import pytest

from shared.jobs.catalog.docre.transfer import TransferParams
from tests.toy_translation import TARGET, pair, trained_checkpoint
from tests.unit.workers.docre.conftest import A, B
from workers.docre.jobs import transfer
from workers.docre.placing import place
from workers.docre.runs import SourceSentence
from workers.docre.targets import Rules
from workers.docre.translators import plain
from workers.docre.translators.seq2seq import Seq2SeqTranslator


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A BART of two small layers that has learned the language."""
    return trained_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def sentence(text):
    words = text.split()
    return SourceSentence.of(words, [(0, 1), (2, 3), (4, 5)])


@pytest.fixture(scope="module")
def engine(checkpoint):
    return Seq2SeqTranslator(checkpoint, "0" * 64, "eng", "toy")


def test_a_trained_checkpoint_translates_in_the_order_it_was_asked(engine):
    sources = [pair(random.Random(seed)) for seed in range(100, 120)]
    answers = engine.translate([plain(source) for source, _ in sources])
    assert sum(a.text == target for a, (_, target) in zip(answers, sources, strict=True)) >= 18


def test_every_mention_of_a_neural_translation_is_found(engine):
    sources = [pair(random.Random(seed))[0] for seed in range(100, 110)]
    found = place("auto", [sentence(source) for source in sources], engine, Rules())
    placed = [placed for target in found for placed in target.placed]
    assert sum(each.span is not None for each in placed) >= 0.9 * len(placed)


def test_cross_attention_is_asked_for_in_its_eager_form(engine):
    (answer,) = engine.translate([plain("ada meets bob in rome")])
    assert answer.alignment
    assert all(source.end > source.start and target.end > target.start for source, target in answer.alignment)


def test_a_checkpoint_is_a_job_s_translator(run, out, checkpoint, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.add(checkpoint, ".")
    rng, documents = random.Random(5), []
    for n in range(4):
        words = [pair(rng)[0].split() for _ in range(2)]
        mentions = [[{"name": w[0], "sent_id": s, "pos": [0, 1], "type": "PER"}] for s, w in enumerate(words)]
        documents.append({"title": str(n), "sents": words, "vertexSet": mentions, "labels": []})
    (tmp_path / "d.json").write_text(json.dumps(documents))
    inputs = {A: tmp_path / "d.json", B: tmp_path / "model.tar"}
    result = run(
        transfer, TransferParams(documents=A, backend="transformers", translator=B, target_lang="es"), "t", inputs
    )
    assert (result.documents_out, result.engine.name, result.strategy) == (4, "transformers", "locate+align")
    sents = [token for d in out("t", "transferred.json") for s in d["sents"] for token in s]
    assert set(sents) <= set(TARGET.values())


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    from shared.jobs.errors import InvalidInput

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="is no sequence-to-sequence checkpoint"):
        Seq2SeqTranslator(tmp_path, "0" * 64, "eng", "toy")


def test_ctranslate2_translates_as_the_checkpoint_it_came_from(checkpoint, engine, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    from ctranslate2.converters import TransformersConverter

    from workers.docre.translators.ctranslate import CTranslate2Translator

    (target := tmp_path / "converted").mkdir()
    try:
        TransformersConverter(str(checkpoint)).convert(str(target), force=True)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as reason:
        pytest.skip(f"ctranslate2 {ctranslate2.__version__} can't convert with this transformers: {reason}")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (target / name).write_bytes((checkpoint / name).read_bytes())
    converted = CTranslate2Translator(target, "0" * 64, "eng", "toy")
    sources = [pair(random.Random(seed))[0] for seed in range(100, 110)]
    ours = converted.translate([plain(source) for source in sources])
    theirs = engine.translate([plain(source) for source in sources])
    assert [a.text for a in ours] == [a.text for a in theirs]
    assert all(answer.alignment for answer in ours)
