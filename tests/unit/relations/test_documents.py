"""Reading and writing documents: nothing is lost, and what is broken is named with document and field."""

import json

import pytest

from shared.jobs.errors import InvalidInput
from shared.relations.documents import dump_documents, parse_documents, read_documents, repaired
from shared.relations.effort import agreement, edit_steps, reduction
from shared.relations.formats import csv_of, doccano_of, parse_doccano, predictions_of
from shared.relations.text import detokenise, word_spans


@pytest.fixture(scope="module")
def real(real_data_root):
    folder = real_data_root / "docre_transfer"
    if not folder.is_dir():
        pytest.skip(f"no real documents at {folder}; set TENFOLD_REAL_DATA")
    return folder


def good():
    mention = {"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER", "global_pos": [0, 0]}
    other = {"name": "Lund", "sent_id": 1, "pos": [2, 3], "type": "LOC"}
    return {
        "title": "Ada",
        "sents": [["Ada", "sings", "."], ["Born", "in", "Lund", "."]],
        "vertexSet": [[mention], [other]],
        "labels": [{"h": 0, "t": 1, "r": "P19", "evidence": [1], "notes": ""}],
        "source": "own",
    }


def change(**fields):
    return {**good(), **fields}


def mention(**fields):
    return change(vertexSet=[[{**good()["vertexSet"][0][0], **fields}], good()["vertexSet"][1]])


def label(**fields):
    return change(labels=[{**good()["labels"][0], **fields}])


@pytest.mark.parametrize(
    "name",
    [
        "redocred_train.json",
        "redocred_test.json",
        "revisit_from_scratch.json",
        "revisit_recommend_revise.json",
        "redocred_test_first5_es_apertium.json",
    ],
)
def test_every_real_document_is_written_as_it_was_read(real, name):
    data = (real / name).read_bytes()
    assert json.loads(dump_documents(parse_documents(data, name))) == json.loads(data)


def test_unknown_keys_missing_evidence_and_missing_labels_survive():
    blind = {k: v for k, v in good().items() if k != "labels"}
    bare = label()
    del bare["labels"][0]["evidence"]
    for value in (good(), blind, bare):
        assert json.loads(dump_documents(parse_documents(json.dumps([value]).encode(), "d"))) == [value]


def test_jsonl_is_read_as_an_array_is():
    line = json.dumps(good())
    assert parse_documents(f"{line}\n\n{line}\n".encode(), "d") == parse_documents(f"[{line},{line}]".encode(), "d")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(change(vertexSet=[[]]), r"vertexSet\[0\]: an entity is a list with at least one", id="no_mention"),
        pytest.param(change(vertexSet="x"), r"vertexSet: expected list, not str", id="broken_vertex_set"),
        pytest.param({"title": "x", "sents": []}, r"vertexSet: is missing", id="no_vertex_set"),
        pytest.param(mention(sent_id=7), r"vertexSet\[0\]\[0\].sent_id: 7 is outside", id="sentence_out_of_range"),
        pytest.param(mention(pos=[2, 9]), r"vertexSet\[0\]\[0\].pos: \[2, 9\] is outside", id="mention_out_of_range"),
        pytest.param(mention(pos=[2, 1]), r"vertexSet\[0\]\[0\].pos: \[2, 1\] is outside", id="backwards"),
        pytest.param(mention(pos=[0]), r"pos: expected \[start, end\)", id="half_a_position"),
        pytest.param(
            change(vertexSet=[[dict(name="x", sent_id=0, pos=p, type="PER") for p in ([0, 2], [1, 3])]], labels=[]),
            r"vertexSet\[0\]\[1\].pos: \[1, 3\] overlaps \[0, 2\] of the same entity",
            id="overlapping_mentions",
        ),
        pytest.param(label(h=9), r"labels\[0\].h: 9 is outside the document's 2 entities", id="unknown_head"),
        pytest.param(label(t=0), r"labels\[0\].t: head and tail are the same", id="reflexive"),
        pytest.param(label(evidence=[5]), r"labels\[0\].evidence: expected indices", id="evidence_out_of_range"),
        pytest.param(change(sents=[["a", ""]]), r"sents\[0\]: expected a list of tokens", id="empty_token"),
        pytest.param([1], r"expected an object", id="no_object"),
    ],
)
def test_a_broken_document_is_named_with_its_field(value, says):
    with pytest.raises(InvalidInput, match=rf"mine.json: document 1 .*{says}"):
        parse_documents(json.dumps([good(), value]).encode(), "mine.json")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param('[{"title": "Å"}]'.encode("latin-1"), "line 1 is not UTF-8", id="wrong_encoding"),
        pytest.param(b"[]", "holds no document", id="empty_array"),
        pytest.param(b" \n", "holds no document", id="empty_file"),
        pytest.param(b"[{", "is not JSON", id="no_json"),
        pytest.param(b'{"a": 1}\n{', "line 2 is not JSON", id="no_json_line"),
    ],
)
def test_a_file_that_can_not_be_read_says_why(data, says):
    with pytest.raises(InvalidInput, match=says):
        parse_documents(data, "mine.json")


def test_spans_one_token_short_are_mended_and_the_rest_left(tmp_path):
    """JacRED: `1605年` stands over the tokens `160`, `5`, `年`, its end one short; empty spans too."""
    value = change(
        sents=[["160", "5", "年"], ["ab", "c"]],
        vertexSet=[
            [dict(name="1605 年", sent_id=0, pos=[0, 2], type="DAT")],
            [dict(name="ab", sent_id=1, pos=[0, 0], type="PER")],
            [dict(name="zzz", sent_id=1, pos=[0, 1], type="PER")],
        ],
        labels=[],
    )
    (tmp_path / "d.json").write_text(json.dumps([value]))
    (document,) = read_documents(tmp_path / "d.json", "d.json")
    assert [(e[0].start, e[0].end) for e in document.entities] == [(0, 3), (0, 1), (0, 1)]


def test_an_empty_span_that_no_rule_mends_is_refused():
    value = mention(pos=[1, 1])
    (document,) = parse_documents(json.dumps([value]).encode(), "d")
    with pytest.raises(InvalidInput, match=r"vertexSet\[0\]\[0\].pos is empty"):
        repaired(document, "d: document 0")


# Text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        pytest.param(["Ann", "'s", "cat", ",", "Bob", "."], "Ann's cat, Bob.", id="clitic_and_comma"),
        pytest.param(["He", "does", "n't", "(", "yet", ")", "."], "He doesn't (yet).", id="brackets"),
        pytest.param(["a", '"', "b", "c", '"', "d"], 'a "b c" d', id="quotes_alternate"),
        pytest.param(["1997", "-", "8", "and", "/", "or", "$", "5", "%"], "1997-8 and/or $5%", id="joined"),
        pytest.param(["東京", "は", "大", "きい", "。"], "東京は大きい。", id="japanese"),
    ],
)
def test_tokens_become_text_as_people_write_it(tokens, text):
    found = detokenise(tokens)
    assert found.text == text
    assert [found.text[start:end] for start, end in found.spans] == tokens


def test_words_and_signs_are_tokens():
    assert ["Ab-c, 1."[s:e] for s, e in word_spans("Ab-c, 1.")] == ["Ab", "-", "c", ",", "1", "."]


# Effort ---------------------------------------------------------------------------------------------------------------


def test_edit_steps_of_a_hand_made_case():
    r, g = {(0, 1, "P17"), (1, 0, "P150")}, {(0, 1, "P17"), (2, 1, "P27")}
    found = edit_steps(r, g)
    assert (found.deletes, found.adds, found.steps, found.scratch) == (1, 1, 2, 2)
    assert reduction(found.steps, found.scratch) == 0
    assert found.cost(c_add=4) == 5
    assert reduction(1, 0) is None


def test_edit_steps_of_documents_annotated_twice(real):
    revised, scratch = (
        {d.title: d.triples for d in parse_documents((real / name).read_bytes(), name)}
        for name in ("revisit_recommend_revise.json", "revisit_from_scratch.json")
    )
    steps = [edit_steps(revised[title], final) for title, final in scratch.items()]
    assert sum(len(r) for r in revised.values()) == 620
    assert sum(s.scratch for s in steps) == 1604
    assert (sum(s.deletes for s in steps), sum(s.adds for s in steps)) == (0, 984)
    assert sum(s.steps for s in steps) / len(steps) == 20.5
    assert sum(edit_steps((), final).steps for final in scratch.values()) / 48 == pytest.approx(33.4, abs=0.05)


def test_agreement_is_f1_and_kappa():
    """10 pairs × 2 relations: both say 2, one says 1 more. po = 19/20, pe = (3·2 + 17·18)/400 = 0.78."""
    a, b = {(0, 1, "x"), (1, 2, "x")}, {(0, 1, "x"), (1, 2, "x"), (2, 0, "y")}
    found = agreement(a, b, pairs=10, relations=2)
    assert found.f1 == pytest.approx(0.8)
    assert found.kappa == pytest.approx((0.95 - 0.78) / 0.22)
    assert agreement((), (), 0, 0) == (None, None)


# Other programs' forms ------------------------------------------------------------------------------------------------


def test_doccano_keeps_entities_and_relations():
    documents = parse_documents(json.dumps([good()]).encode(), "d")
    (back,) = parse_doccano(doccano_of(documents).encode(), "x.jsonl")
    assert back.sentences == documents[0].sentences
    assert [(m.name, m.sent_id, m.start, m.end) for e in back.entities for m in e] == [
        ("Ada", 0, 0, 1),
        ("Lund", 1, 2, 3),
    ]
    assert back.triples == documents[0].triples


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param({"text": "Ada", "relations": [{"from_id": 4, "to_id": 5, "type": "x"}]}, "from_id", id="relation"),
        pytest.param(
            {"text": "Ada", "entities": [{"id": 1, "label": "PER", "start_offset": 2, "end_offset": 9}]},
            r"entities\[0\]: \[2, 9\) is outside",
            id="offset",
        ),
        pytest.param({"entities": []}, "'text' is missing", id="no_text"),
    ],
)
def test_broken_doccano_is_named_with_line_and_field(line, says):
    with pytest.raises(InvalidInput, match=f"x.jsonl: line 1: .*{says}"):
        parse_doccano(json.dumps(line).encode(), "x.jsonl")


def test_triples_as_the_official_list_and_as_rows():
    documents = parse_documents(json.dumps([good()]).encode(), "d")
    assert predictions_of(documents) == [{"title": "Ada", "h_idx": 0, "t_idx": 1, "r": "P19", "evidence": [1]}]
    assert csv_of(documents, {"P19": "place of birth"}).splitlines()[1] == "Ada,Ada,P19,place of birth,Lund,0,1,1"


def test_a_spreadsheet_does_not_compute_a_title():
    assert csv_of(parse_documents(json.dumps([change(title="=1+1")]).encode(), "d")).splitlines()[1][:6] == "'=1+1,"
