"""HTTP engines against a real server on this machine: forms, retries, quota, rate, what is kept."""

import json
import threading

import pytest

from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.errors import InvalidInput, Permanent, Retryable
from tests.translation_server import TranslationServer
from workers.docre.jobs import transfer
from workers.docre.translators import http

DOCUMENTS = "builtin:docre-native"


@pytest.fixture
def server(tmp_path, monkeypatch):
    with TranslationServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        (secrets / "key").write_text("k3y")
        entries = {
            name: {"base_url": server.url, "protocol": name, "secret": "key"} for name in ("deepl", "libretranslate")
        }
        entries["chat"] = {"base_url": server.url}
        (tmp_path / "endpoints.json").write_text(json.dumps(entries))
        monkeypatch.setenv("TENFOLD_ENDPOINTS", str(tmp_path / "endpoints.json"))
        monkeypatch.setenv("TENFOLD_SECRETS", str(secrets))
        monkeypatch.setattr(http, "wait_before_retry", lambda failures, generator: 0.0)
        yield server
        server.shutdown()
        thread.join()


def params(name="deepl", **fields):
    return TransferParams(
        documents=DOCUMENTS, backend="http", translator=f"endpoint:{name}/any", shard_size=8, **fields
    )


@pytest.mark.parametrize("name", ["deepl", "libretranslate"])
def test_tags_carry_every_mention_through_either_form(run, out, server, name):
    result = run(transfer, params(name))
    assert (result.documents_out, result.mention_recovery, result.strategy) == (24, 1.0, "tags")
    for document in out("out", "transferred.json"):
        names = [mention["name"] for entity in document["vertexSet"] for mention in entity]
        assert all(text == text.upper() for text in names)


def test_deepl_is_asked_as_its_second_tag_handling_wants_it(run, server):
    run(transfer, params())
    body, headers = server.requests[0]
    assert (body["tag_handling"], body["tag_handling_version"], body["split_sentences"]) == ("xml", "v2", "0")
    assert (body["source_lang"], body["target_lang"]) == ("EN", "ES")
    assert headers["Authorization"] == "DeepL-Auth-Key k3y"
    assert max(len(body["text"]) for body, _ in server.requests) <= 50


def test_libretranslate_gets_html_and_its_key_in_the_body(run, server):
    run(transfer, params("libretranslate"))
    body, _ = server.requests[0]
    assert (body["format"], body["source"], body["target"], body["api_key"]) == ("html", "en", "es", "k3y")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(run, server, status):
    server.failures = [(status, {"Retry-After": "0"})] * 2
    assert run(transfer, params(parallel=1)).documents_out == 24


def test_a_server_that_goes_down_in_the_middle_costs_no_sentence_twice(run, out, server):
    """The job fails for now; the next attempt asks only for what is missing."""
    server.works_for = 2
    with pytest.raises(Retryable, match=r"no answer in 4 requests: 503 .*the job goes on from there"):
        run(transfer, params(parallel=1), "torn", finish=False)
    asked = {text for body, _ in server.requests[:2] for text in body["text"]}
    server.works_for, server.requests[:] = 10**9, []
    run(transfer, params(parallel=1), "torn")
    again = [text for body, _ in server.requests for text in body["text"]]
    assert asked
    assert asked.isdisjoint(again)
    assert len(again) == len(set(again))
    run(transfer, params(parallel=2), "whole")
    assert out("torn", "transferred.json") == out("whole", "transferred.json")


def test_a_used_up_quota_ends_the_attempt_at_once_and_hides_the_key(run, server):
    server.failures = [(456, {})]
    with pytest.raises(Retryable, match=r"quota is used up \(456 .*\*\*\* is tired"):
        run(transfer, params(parallel=1), finish=False)
    assert len(server.requests) == 1


def test_a_refusal_is_the_jobs_end(run, server):
    server.failures = [(403, {})]
    with pytest.raises(Permanent, match=r"translator answered 403: .*\*\*\* is tired"):
        run(transfer, params(parallel=1), finish=False)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("nowhere", "there is no endpoint nowhere; TENFOLD_ENDPOINTS has: chat, deepl", id="unknown"),
        pytest.param("chat", "endpoint chat speaks openai; a translator speaks libretranslate or deepl", id="chat"),
    ],
)
def test_an_endpoint_that_does_not_translate_is_refused(run, server, name, says):
    with pytest.raises(InvalidInput, match=says):
        run(transfer, params(name), finish=False)
    assert not server.requests
