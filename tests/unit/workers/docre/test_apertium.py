"""Apertium itself, with its traps; skipped where it is not installed."""

import json
import os
import stat

import pytest

from shared.jobs.catalog.docre.transfer import MergeParams, TransferParams
from shared.jobs.errors import InvalidInput, Retryable
from shared.jobs.local import LocalContext
from workers.docre.jobs import merge, transfer
from workers.docre.placing import place
from workers.docre.runs import SourceSentence, sentences_of
from workers.docre.targets import Rules
from workers.docre.translators import apertium as module
from workers.docre.translators import plain
from workers.docre.translators.apertium import ApertiumTranslator


def sentence(text, *mentions):
    return SourceSentence.of(text.split(), mentions)


def test_a_sentence_keeps_its_full_stop(apertium):
    assert apertium.translate([plain("The house is red.")])[0].text.endswith(".")


def test_the_engine_carries_marks_through_reordering(apertium):
    source = sentence("The red house of Mary is old .", (1, 3), (4, 5))
    (target,) = place("auto", [source], apertium, Rules())
    assert [target.text[p.span.start : p.span.end] for p in target.placed] == ["casa roja", "Mary"]


def test_no_character_ends_the_stream(apertium):
    hard = r"I paid $5 ^ [x] {y} <z> a/b \ @ , she said ."
    answers = apertium.translate([plain(hard), plain("The house is red.")])
    assert [answer.error for answer in answers] == [None, None]
    assert "$5" in answers[0].text
    assert "casa" in answers[1].text


def test_a_line_break_or_nul_in_a_token_is_a_space(apertium):
    (answer,) = apertium.translate([plain("The\nhouse\0 is red.")])
    assert "casa" in answer.text


def test_as_many_answers_as_segments_even_when_one_breaks_the_pipe(apertium, tmp_path, monkeypatch):
    """An engine that dies at a word: that sentence is an engine error, the others are translated."""
    program = tmp_path / "dies"
    program.write_text(
        "#!/usr/bin/env python3\nimport sys\ndata = sys.stdin.buffer.read()\n"
        "for part in data.split(b'\\0')[:-1]:\n"
        "    if b'KILL' in part:\n        sys.exit(1)\n"
        "    sys.stdout.buffer.write(part + b'\\0')\n    sys.stdout.flush()\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    engine = ApertiumTranslator("eng", "spa", 60)
    engine._commands = [[str(program)]]
    answers = engine.translate([plain("a ."), plain("KILL"), plain("b .")])
    assert [(answer.text, answer.error) for answer in answers] == [("a .", None), ("", "engine_error"), ("b .", None)]


def test_an_engine_that_hangs_is_ended_at_its_deadline(apertium):
    engine = ApertiumTranslator("eng", "spa", 0.5)
    engine._commands = [["sleep", "30"]]
    with pytest.raises(Retryable, match=r"no answer within timeout_s = 0\.5 s"):
        engine.translate([plain("a")])


def test_the_share_of_unknown_words_is_counted(apertium):
    known, unknown = apertium.translate([plain("The house is red ."), sentence("The Xyzzyqua is 4 .", (1, 2)).chunks()])
    assert (known.words, unknown.words) == ((4, 0), (3, 1))


def test_a_pair_that_is_not_installed_is_refused_with_those_that_are(apertium):
    with pytest.raises(InvalidInput, match=r"pair eng-xyz is not installed .* it has: .*eng-spa.*apt install"):
        ApertiumTranslator("eng", "xyz", 60)


def test_a_machine_without_apertium_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda program: None)
    with pytest.raises(InvalidInput, match="apertium is not installed on this worker; apt install apertium"):
        ApertiumTranslator("eng", "spa", 60)


# Real documents -------------------------------------------------------------------------------------------------------

DATA = "file:" + "a" * 64
FILES = ("transferred.json", "provenance.jsonl", "failures.jsonl", "shards.jsonl", "shards.json")


@pytest.fixture(scope="module")
def transferred(apertium, real, tmp_path_factory, cache):
    """(folder, result) of the test documents, one shard after the other."""
    folder = tmp_path_factory.mktemp("transferred")
    ctx = LocalContext(folder, inputs={DATA: real / "redocred_test.json"}, cache=cache)
    result = transfer(TransferParams(documents=DATA, parallel=1), ctx)
    ctx.close()
    return folder, result


@pytest.mark.parametrize(
    ("documents", "shard_size"),
    [pytest.param(16, 6, id="few"), pytest.param(100, 20, id="all", marks=pytest.mark.slow)],
)
def test_two_shards_at_once_and_parts_give_the_same_bytes_through_the_real_engine(
    run, real, tmp_path, documents, shard_size
):
    """One shard after the other, two side by side, and two jobs that are merged."""
    (tmp_path / "d.json").write_text(json.dumps(json.loads((real / "redocred_test.json").read_text())[:documents]))
    inputs, common = {DATA: tmp_path / "d.json"}, {"documents": DATA, "shard_size": shard_size}
    result = run(transfer, TransferParams(parallel=1, **common), "one", inputs)
    run(transfer, TransferParams(parallel=2, **common), "two", inputs)
    refs = [f"job:{'0' * 26}", f"job:{'1' * 26}"]
    for n, ref in enumerate(refs):
        run(transfer, TransferParams(part={"index": n, "count": 2}, **common), f"part{n}", inputs)
        inputs |= {f"{ref}/{name}": tmp_path / f"part{n}" / name for name in ("shards.json", "shards.jsonl")}
    assert run(merge, MergeParams(parts=refs[::-1]), "merged", inputs) == result
    one, two, merged = ([(tmp_path / name / file).read_bytes() for file in FILES] for name in ("one", "two", "merged"))
    assert one == two == merged


def test_a_shard_does_not_depend_on_what_was_translated_before(apertium, test_documents):
    """Apertium's answer may depend on history: every shard meets a fresh pipeline."""
    sentences = [each.sentence for document in test_documents[:12] for each in sentences_of(document)]
    first = place("provenance", sentences, apertium, Rules())
    place("provenance", sentences[::-1][:40], apertium, Rules())
    assert place("provenance", sentences, apertium, Rules()) == first


def test_tags_damage_the_translation_and_word_bound_blanks_do_not(run, real, tmp_path):
    """Recovery alone says nothing: what marking does to the text is measured beside it."""
    documents = json.loads((real / "redocred_test.json").read_text())[:6]
    (tmp_path / "few.json").write_text(json.dumps(documents))
    inputs, found = {DATA: tmp_path / "few.json"}, {}
    for strategy in ("auto", "tags"):
        params = TransferParams(documents=DATA, strategy=strategy, markup_damage=True)
        found[strategy] = run(transfer, params, strategy, inputs)
    assert found["auto"].sentences_unchanged >= 0.98
    assert found["auto"].markup_chrf >= 0.999
    assert found["tags"].sentences_unchanged < 0.5
    assert found["tags"].markup_chrf < 0.99


def test_every_real_mention_comes_over(transferred):
    """The specification's own run: 2,382 contiguous, 239 with a gap, 13 split, none lost, everything kept."""
    _, result = transferred
    status = result.status
    assert (result.documents_out, result.sentences, result.mentions) == (100, 795, 2634)
    assert (result.mention_recovery, result.entity_retention, result.relation_retention) == (1.0, 1.0, 1.0)
    assert status.lost == 0
    assert status.contiguous == pytest.approx(2382, rel=0.02)
    assert status.gap == pytest.approx(239, abs=0.02 * 2634)
    assert status.split == pytest.approx(13, abs=5)
    assert result.unknown_word_share == pytest.approx(0.096, abs=0.02)


def test_every_span_of_the_result_is_its_mentions_name(transferred):
    folder, _ = transferred
    for document in json.loads((folder / "transferred.json").read_text()):
        for entity in document["vertexSet"]:
            for mention in entity:
                a, b = mention["pos"]
                tokens = document["sents"][mention["sent_id"]][a:b]
                assert "".join(tokens) == "".join(mention["name"].split())


def test_the_golden_example_is_met(transferred, real):
    """Five documents as transferred elsewhere by the same engine; another detokeniser may change a few sentences."""
    folder, _ = transferred
    golden = json.loads((real / "redocred_test_first5_es_apertium.json").read_text())
    ours = json.loads((folder / "transferred.json").read_text())[: len(golden)]
    pairs = [(a, b) for g, o in zip(golden, ours, strict=True) for a, b in zip(g["sents"], o["sents"], strict=True)]
    assert sum(a == b for a, b in pairs) >= 0.9 * len(pairs)
    assert [len(o["labels"]) for o in ours] == [len(g["labels"]) for g in golden]


def test_marks_leave_the_translation_as_it_is(apertium, test_documents):
    """Word-bound blanks: at least 99.5 % of sentences are translated as without marks."""
    sentences = [each.sentence for document in test_documents[:50] for each in sentences_of(document)]
    with_marks = place("provenance", sentences, apertium, Rules())
    without = apertium.translate([plain(sentence.text) for sentence in sentences])
    same = sum(a.text == b.text for a, b in zip(with_marks, without, strict=True))
    assert same >= 0.995 * len(sentences)


def test_no_pipe_is_left_behind(apertium):
    before = len(os.listdir("/proc/self/fd"))
    apertium.translate([plain("The house is red.")])
    assert len(os.listdir("/proc/self/fd")) == before
