"""Projects, lists, events: what annotators do, what is counted, and what is refused."""

import json
import threading

import pytest

from shared.relations.effort import edit_steps
from tests.unit.services.annotation.conftest import DOCUMENTS, triple

ADD = {"h": 0, "t": 1, "r": "P777"}


def see(api, project_id, document=0, **query):
    return api.get(f"/v1/projects/{project_id}/documents/{document}", query_string=query).json


def test_a_list_starts_from_the_recommendations(api, project):
    seen = see(api, project())
    assert (seen["version"], len(seen["entries"]), seen["is_blind"]) == (0, 3, False)
    assert {entry["decision"] for entry in seen["entries"]} == {"undecided"}
    assert seen["entries"][0]["p"] == 0.9
    assert set(seen["document"]) == {"title", "sents", "vertexSet"}


def test_every_edit_is_counted_as_the_formula_says(api, project, act):
    """Keep two, delete one, add one, relabel one: R = 3; G = (3 − 1 − 1) + 1 + 1; steps = 2 deletes + 2 adds."""
    pid = project()
    first, second = DOCUMENTS[0]["labels"][:2]
    act(pid, 0, 0, "accept", **triple(first))
    act(pid, 0, 1, "reject", **{**triple(first), "r": "P999"})
    act(pid, 0, 2, "add", **ADD)
    answer = act(pid, 0, 3, "relabel", **triple(second), new_r="P1")
    counters = answer.json["counters"]
    assert (counters["accepted"], counters["rejected"], counters["added"]) == (1, 2, 2)
    assert (counters["steps"], counters["actions"]) == (4, 4)
    recommended = {tuple(triple(x).values()) for x in (first, second)} | {(first["h"], first["t"], "P999")}
    final = {(e["h"], e["t"], e["r"]) for e in see(api, pid)["entries"] if e["decision"] != "rejected"}
    assert edit_steps(recommended, final).steps == 4


def test_undo_takes_back_the_action_and_its_step(api, project, act):
    pid = project()
    act(pid, 0, 0, "add", **ADD)
    act(pid, 0, 1, "add", **{**ADD, "r": "P778"})
    counters = act(pid, 0, 2, "undo").json["counters"]
    assert (counters["steps"], counters["actions"], counters["added"]) == (1, 1, 1)
    counters = act(pid, 0, 3, "undo").json["counters"]
    assert (counters["steps"], counters["actions"]) == (0, 0)
    assert act(pid, 0, 4, "undo").status_code == 422


def test_a_rejected_recommendation_that_is_added_again_costs_nothing(project, act):
    pid = project()
    first = triple(DOCUMENTS[0]["labels"][0])
    act(pid, 0, 0, "reject", **first)
    assert act(pid, 0, 1, "add", **first).json["counters"]["steps"] == 0


def test_the_slower_of_two_annotators_gets_the_current_version(api, project, act):
    pid = project()
    assert act(pid, 0, 0, "add", **ADD, annotator="ann").status_code == 201
    late = act(pid, 0, 0, "add", **ADD, annotator="bob")
    assert late.status_code == 409
    assert late.mimetype == "application/problem+json"
    assert late.headers["X-Document-Version"] == "1"
    assert late.json["errors"][0]["msg"] == "current version: 1"
    assert act(pid, 0, 1, "add", **ADD, annotator="bob").status_code == 201
    assert [event["annotator"] for event in api.get(f"/v1/projects/{pid}/documents/0/events").json["events"]] == [
        "ann",
        "bob",
    ]


def test_of_many_at_once_one_wins_and_nothing_is_overwritten(app, project):
    pid, statuses = project(), []

    def send(n):
        body = {"version": 0, "action": "add", **ADD, "annotator": f"a{n}"}
        statuses.append(app.test_client().post(f"/v1/projects/{pid}/documents/0/events", json=body).status_code)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 7


def test_two_processes_over_one_store_see_each_others_events(app, make_app, project, act):
    pid = project()
    other = make_app().test_client()
    act(pid, 0, 0, "add", **ADD)
    body = {"version": 0, "action": "add", **ADD, "annotator": "bob"}
    assert other.post(f"/v1/projects/{pid}/documents/0/events", json=body).status_code == 409
    assert other.get(f"/v1/projects/{pid}/documents/0").json["version"] == 1


def test_an_event_sent_again_is_applied_once(project, act):
    """Whose answer was lost: same event_id, same version."""
    pid = project()
    first, again = (act(pid, 0, 0, "add", **ADD, event_id="e1") for _ in "ab")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json["version"] == again.json["version"] == 1
    assert again.json["counters"]["added"] == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"action": "add", "h": 0, "t": 99, "r": "P1"}, "t", id="no_such_entity"),
        pytest.param({"action": "add", "h": 1, "t": 1, "r": "P1"}, "body", id="same_entity"),
        pytest.param({"action": "accept", "h": 0, "t": 1, "r": "P0"}, "r", id="not_in_the_list"),
        pytest.param({"action": "add", "h": 0, "t": 1}, "body", id="no_relation"),
        pytest.param({"action": "relabel", "h": 0, "t": 1, "r": "P1"}, "body", id="no_new_relation"),
        pytest.param({"action": "add", **ADD, "evidence": [99]}, "evidence", id="no_such_sentence"),
        pytest.param({"action": "complete", "h": 0, "t": 1, "r": "P1"}, "body", id="complete_takes_no_triple"),
        pytest.param({"action": "dance"}, "action", id="unknown_action"),
        pytest.param({"action": "accept_above"}, "body", id="no_score"),
        pytest.param({"action": "accept", "h": 0, "t": 1, "r": "P1", "score": 1}, "body", id="needless_score"),
    ],
)
def test_an_event_that_does_not_fit_is_refused_and_not_kept(api, project, act, fields, field):
    pid = project()
    answer = act(pid, 0, 0, **fields)
    assert answer.status_code == 422, answer.text
    assert field in answer.json["errors"][0]["loc"]
    assert see(api, pid)["version"] == 0


def test_a_relation_outside_the_inventory_is_refused(project, act):
    pid = project(relations={"P19": "place of birth"})
    answer = act(pid, 0, 0, "add", **ADD)
    assert answer.status_code == 422
    assert "not in the project's relations" in answer.json["errors"][0]["msg"]


def test_bulk_decisions_by_score_are_one_action_that_undo_takes_back(api, upload, project, act):
    """Scores 2.5, 1.5 and 0.5: accept from 1 on, reject the rest; what is decided already stays."""
    first, second = (triple(label) for label in DOCUMENTS[0]["labels"][:2])
    scored = [{**first, "score": 2.5}, {**second, "score": 1.5}, {**first, "r": "P999", "score": 0.5}]
    lines = [{"title": d["title"], "recommendations": scored if n == 0 else []} for n, d in enumerate(DOCUMENTS)]
    pid = project(recommendations=upload("".join(json.dumps(line) + "\n" for line in lines).encode()))
    act(pid, 0, 0, "reject", **first)
    assert act(pid, 0, 1, "accept_above", score=1.5).json["counters"]["accepted"] == 1
    counters = act(pid, 0, 2, "reject_below", score=1).json["counters"]
    assert (counters["accepted"], counters["rejected"], counters["undecided"]) == (1, 2, 0)
    assert (counters["actions"], counters["steps"]) == (3, 2)
    late = act(pid, 0, 3, "reject_below", score=9)
    assert late.status_code == 422
    assert late.json["errors"][0]["loc"] == ["body", "score"]
    counters = act(pid, 0, 3, "undo").json["counters"]
    assert (counters["undecided"], counters["actions"]) == (1, 2)


# Queues, agreement, adjudication --------------------------------------------------------------------------------------


def test_documents_are_dealt_in_turn_and_leave_the_queue_when_complete(api, project, act):
    pid = project(annotators=["ann", "bob"])

    def queue(name):
        return api.get(f"/v1/projects/{pid}/next", query_string={"annotator": name}).json

    assert (queue("ann"), queue("bob")) == ({"document": 0, "left": 3}, {"document": 1, "left": 3})
    act(pid, 0, 0, "complete", annotator="ann")
    assert queue("ann") == {"document": 2, "left": 2}
    act(pid, 4, 0, "add", **ADD, annotator="ann")
    assert queue("ann")["document"] == 4  # what was begun comes first
    assert queue("cid") == {"document": None, "left": 0}
    assert api.get(f"/v1/projects/{pid}").json["complete"] == 1


def test_without_named_annotators_anybody_takes_the_next_one(api, project, act):
    pid = project()
    act(pid, 0, 0, "add", **ADD, annotator="ann")
    assert api.get(f"/v1/projects/{pid}/next?annotator=bob").json == {"document": 1, "left": 5}


def test_blind_documents_come_without_recommendations_and_are_measured(api, project, act):
    pid = project(blind_share=0.5)
    items = api.get(f"/v1/projects/{pid}/documents").json["items"]
    blind = [item["id"] for item in items if item["is_blind"]]
    assert len(blind) == 3
    assert see(api, pid, blind[0])["entries"] == []
    act(pid, blind[0], 0, "add", **ADD)
    act(pid, blind[0], 1, "complete")
    assert api.get(f"/v1/projects/{pid}").json["anchoring"]["labels_blind"] == 1


def test_each_annotator_sees_their_own_list_and_disagreements_are_adjudicated(api, project, act):
    pid = project(annotators=["ann", "bob"], double_share=1.0)
    first = triple(DOCUMENTS[0]["labels"][0])
    wrong = {**first, "r": "P999"}
    act(pid, 0, 0, "reject", **wrong, annotator="ann")
    act(pid, 0, 1, "add", **ADD, annotator="bob")
    assert all(entry["r"] != "P777" for entry in see(api, pid, annotator="ann")["entries"])
    act(pid, 0, 2, "complete", annotator="ann")
    act(pid, 0, 3, "complete", annotator="bob")
    (item,) = api.get(f"/v1/projects/{pid}/adjudication").json["items"]
    assert (item["agreed"], item["version"]) == (2, 4)
    assert {(d["r"], *d["has"]) for d in item["disputed"]} == {("P999", "bob"), ("P777", "bob")}
    stands = api.get(f"/v1/projects/{pid}").json
    assert stands["agreement"]["documents"] == 1
    assert stands["agreement"]["f1"] == pytest.approx(2 * 2 / (2 + 4))
    act(pid, 0, 4, "add", **ADD, annotator="adjudication")
    assert act(pid, 0, 5, "complete", annotator="adjudication").status_code == 201
    exported = api.get(f"/v1/projects/{pid}/export").json[0]["labels"]
    assert sorted(label["r"] for label in exported) == sorted([*(x["r"] for x in DOCUMENTS[0]["labels"][:2]), "P777"])


def test_inverses_are_offered_and_entities_without_relation_are_listed(api, project, act):
    pid = project()
    act(pid, 0, 0, "add", h=0, t=1, r="P26")
    seen = see(api, pid)
    assert {"h": 1, "t": 0, "r": "P26", "because": "inverse of P26"} in seen["hints"]
    used = {e for entry in seen["entries"] for e in (entry["h"], entry["t"])}
    assert set(seen["without_relation"]) == set(range(len(seen["document"]["vertexSet"]))) - used


def test_a_projects_own_inverse_rules_take_the_place_of_ours(api, project, act):
    pid = project(inverses={"P777": ["P778", "P779"]})
    act(pid, 0, 0, "add", **ADD)
    act(pid, 0, 1, "add", h=ADD["h"], t=ADD["t"], r="P26")
    offered = {hint["r"] for hint in see(api, pid)["hints"] if hint["because"].startswith("inverse")}
    assert offered == {"P778", "P779"}
    assert api.get(f"/v1/projects/{pid}").json["inverses"] == {"P777": ["P778", "P779"]}


def test_relations_are_offered_by_type_pair_commonest_first(api, project, act):
    pid = project(blind_share=1.0)  # recommended anywhere counts, shown or not
    pair = ">".join(DOCUMENTS[0]["vertexSet"][ADD[end]][0]["type"] for end in "ht")
    for version, relation in enumerate(("P777", "P778")):
        act(pid, 0, version, "add", **{**ADD, "r": relation})
    act(pid, 1, 0, "add", **{**ADD, "r": "P778"})
    observed = api.get(f"/v1/projects/{pid}").json["observed"]
    assert {"P777", "P778"} <= set(observed[pair])
    assert observed[pair].index("P777") >= 0
    assert sum(map(len, observed.values())) > 2


def test_counters_stand_beside_every_document(api, project, act):
    pid = project()
    act(pid, 2, 0, "add", **ADD, annotator="ann")
    act(pid, 2, 1, "add", **ADD, annotator="bob")
    items = api.get(f"/v1/projects/{pid}/documents").json["items"]
    assert [item["counters"]["added"] for item in items] == [0, 0, 2, 0, 0, 0]
    assert items[2]["active"] == ["ann", "bob"]


# Export and refusals --------------------------------------------------------------------------------------------------


def test_every_format_holds_the_same_triples(api, project, act):
    pid = project()
    act(pid, 0, 0, "add", **ADD, evidence=[0])
    export = {f: api.get(f"/v1/projects/{pid}/export?format={f}") for f in ("docred", "doccano", "predictions", "csv")}
    docred = sorted((d["title"], x["h"], x["t"], x["r"]) for d in export["docred"].json for x in d["labels"])
    official = sorted((p["title"], p["h_idx"], p["t_idx"], p["r"]) for p in export["predictions"].json)
    assert docred == official
    assert len(export["csv"].text.splitlines()) == len(docred) + 1
    assert sum(len(json.loads(line)["relations"]) for line in export["doccano"].text.splitlines()) == len(docred)


def test_a_project_of_broken_documents_is_refused_with_document_and_field(api, upload):
    bad = json.dumps([{**DOCUMENTS[0], "vertexSet": [[]]}]).encode()
    answer = api.post("/v1/projects", json={"documents": upload(bad)})
    assert answer.status_code == 422
    assert "document 0" in answer.json["errors"][0]["msg"]
    assert "vertexSet[0]" in answer.json["errors"][0]["msg"]


@pytest.mark.parametrize("lines", [b"{}\n", b'{"title": "x", "recommendations": []}\n' * 6, b"\xff"])
def test_recommendations_that_do_not_fit_are_refused(api, upload, lines):
    body = {"documents": upload(json.dumps(DOCUMENTS).encode()), "recommendations": upload(lines)}
    answer = api.post("/v1/projects", json=body)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["loc"] == ["body", "recommendations"]


def test_references_that_lead_nowhere_are_refused(api):
    for ref in ("file:" + "0" * 64, "job:" + "0" * 26 + "/x", "builtin:nope"):
        answer = api.post("/v1/projects", json={"documents": ref})
        assert (answer.status_code, answer.json["errors"][0]["type"]) == (422, "unknown_reference")


def test_our_own_documents_make_a_project(api):
    assert api.post("/v1/projects", json={"documents": "builtin:docre-native"}).json["documents"] == 24


def test_what_is_not_there_is_not_found(api, project):
    pid = project()
    for path in (f"/v1/projects/{'0' * 26}", f"/v1/projects/{pid}/documents/99", f"/v1/projects/{pid}/documents/x"):
        assert api.get(path).status_code == 404
    assert [item["id"] for item in api.get("/v1/projects").json["items"]] == [pid]


def test_scopes_are_the_gateways(make_app, redis_url):
    from shared.jobs.tokens import Scope, Tokens

    app = make_app(auth="token")
    client = app.test_client()
    assert client.get("/v1/projects").status_code == 401
    issued = Tokens(app.extensions["tenfold"].store).create("reader", "reader", frozenset({Scope.JOBS_READ}), None)
    secret = issued.secret if hasattr(issued, "secret") else issued[1]
    headers = {"Authorization": f"Bearer {secret}"}
    assert client.get("/v1/projects", headers=headers).status_code == 200
    refused = client.post("/v1/projects", json={"documents": "builtin:docre-native"}, headers=headers)
    assert refused.status_code == 403
    assert "jobs:write" in refused.json["detail"]


def test_the_document_tells_of_every_route(app, api):
    document = api.get("/openapi.json").json
    described = {f"{m.upper()} {path}" for path, methods in document["paths"].items() for m in methods}
    served = {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }
    assert described == served
    assert document["info"]["title"] == "Tenfold annotation"
