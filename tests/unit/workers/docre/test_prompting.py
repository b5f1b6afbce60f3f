"""docre.llm against a real server: what is asked, what is read, what is dropped, what is kept."""

import json

import pytest

from shared.data import relation_documents
from shared.jobs.catalog.docre.prompting import LlmParams
from shared.jobs.errors import Retryable
from shared.relations.documents import document_of
from tests.openai_server import Behaviour, OpenAIServer
from tests.unit.workers.docre.conftest import A
from workers.docre.jobs import llm
from workers.docre.prompting import answer_of, describe, parse, prompt

INVENTORY = {"P19": "place of birth", "P50": "author"}
NATIVE = {d["title"]: document_of(d) for d in relation_documents.documents("native")}


def oracle(request):
    """Answers with the labels that the inventory has, and three that are wrong."""
    title = request.prompt.splitlines()[0].removeprefix("Document: ")
    wrong = ['{"h": 0, "t": 99, "r": "P19"}', '{"h": 0, "t": 1, "r": "P0"}', '{"h": 0, ']
    return "\n".join([answer_of(NATIVE[title], INVENTORY), *wrong])


@pytest.fixture
def server(tmp_path, monkeypatch):
    with OpenAIServer(oracle) as server:
        (tmp_path / "endpoints.json").write_text(
            json.dumps({"lab": {"base_url": server.url, "tries": 1, "max_in_flight": 1}})
        )
        (tmp_path / "names.json").write_text(json.dumps(INVENTORY))
        monkeypatch.setenv("TENFOLD_ENDPOINTS", str(tmp_path / "endpoints.json"))
        yield server


@pytest.fixture
def params():
    return LlmParams(model="endpoint:lab/any", documents="builtin:docre-native", relations=A, k=2,
                     demonstrations="builtin:docre-train")  # fmt: skip


def test_right_answers_are_scored_and_wrong_ones_counted_and_dropped(run, out, server, params, tmp_path):
    result = run(llm, params, inputs={A: tmp_path / "names.json"})
    assert (result.documents, result.invalid_ids, result.invalid_relations, result.unreadable) == (24, 24, 24, 24)
    assert result.relation.p == 1.0
    assert 0 < result.relation.r < 1  # the inventory has two of nine relations
    assert len(out("out", "predictions.json")) == result.predicted


def test_a_server_that_fails_in_the_middle_is_not_asked_twice(run, server, params, tmp_path):
    server.behave("document7", Behaviour(status=500), times=1)
    inputs = {A: tmp_path / "names.json"}
    with pytest.raises(Retryable):
        run(llm, params, inputs=inputs, finish=False)
    run(llm, params, inputs=inputs)
    assert [server.counts[f"document{n}"] for n in range(7)] == [1] * 7
    assert server.counts["document7"] == 2


def test_the_prompt_gives_ids_types_names_and_the_inventory():
    document = NATIVE["native 0"]
    messages = prompt(document, INVENTORY, [NATIVE["native 1"]])
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert "P19: place of birth" in messages[0].content
    assert "0 (" in describe(document)
    assert document.entities[0][0].name in messages[-1].content


@pytest.mark.parametrize(
    ("text", "triples"),
    [
        pytest.param('{"h": 0, "t": 1, "r": "P19"}', [(0, 1, "P19")], id="one"),
        pytest.param('Sure:\n```json\n{"h": 0, "t": 1, "r": "P19"}\n```', [(0, 1, "P19")], id="wrapped"),
        pytest.param('[{"h": 0, "t": 1, "r": "P19"}, {"h": 1, "t": 0, "r": "P50"}]', [(0, 1, "P19"), (1, 0, "P50")],
                     id="a_list"),
        pytest.param('{"h": 0, "t": 1, "r": "P19"}\n' * 2, [(0, 1, "P19")], id="twice"),
        pytest.param('{"h": "0", "t": 1, "r": "P19"}', [], id="text_is_no_id"),
        pytest.param("NONE", [], id="none"),
    ],
)  # fmt: skip
def test_an_answer_is_read(text, triples):
    assert parse(text, 2, INVENTORY).triples == triples
