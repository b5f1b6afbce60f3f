"""The guards of the red-team kinds, each with somebody who tries to get round it."""

import json

import pytest

from shared.jobs.catalog import catalog
from shared.jobs.redteam import SEALED, Redteam
from shared.jobs.references import Ref
from shared.jobs.retention import DAY_S, SEALED_DAYS, Retention
from shared.jobs.store import PREFIX
from shared.jobs.tokens import Scope, Tokens
from shared.jobs.weights import weight_digest
from shared.sealed import make_key
from workers.runtime.inputs import Inputs

on = pytest.mark.settings(redteam=True)
stand_in = pytest.mark.settings(redteam="stand_in")
KINDS = {"dsn.evaluate", "dsn.judge", "dsn.transfer"}
DIGEST = "d" * 64
JOB = "01M86AYJQV000N6W7J0SFJCABF"
SECRET_START = "quite some particular beginning"


def attack(**changes):
    params = {
        "model": "allowed:colours", "behaviours": "builtin:colours",
        "authorisation": {"owner": "lab", "purpose": "p", "ticket": "T-1", "expires": "2999-01-01"},
    }  # fmt: skip
    return params | changes


@pytest.fixture
def allowed(api, parts):
    """The stand-in is on the list."""
    answer = api.put("/v1/redteam/allowed/colours", json={"ref": "builtin:colours"})
    assert answer.status_code == 200, answer.text
    return answer.json


@pytest.fixture
def post(api):
    """Submit an evaluation with changed params; `kind`, `headers` and query as named."""

    def post(kind="dsn.evaluate", headers=None, query="", **changes):
        params = changes.pop("params", None) or attack(**changes)
        return api.post(f"/v1/jobs{query}", json={"kind": kind, "params": params}, headers=headers)

    return post


@pytest.fixture
def bearer(parts):
    def make(owner, *scopes):
        _, secret = Tokens(parts.store).create("test", owner, [Scope(s) for s in (*scopes, "jobs:write", "jobs:read")])
        return {"Authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
def with_key(app, parts, tmp_path):
    """The deployment has a key."""
    make_key(tmp_path / "key")
    parts.settings = parts.settings.model_copy(update={"redteam_key": tmp_path / "key"})
    return tmp_path / "key"


# The switch and the scope ---------------------------------------------------------------------------------------------


def test_switched_off_the_kinds_are_not_there(api, post):
    assert KINDS & {item["kind"] for item in api.get("/v1/kinds").json["items"]} == set()
    assert api.get("/v1/kinds/dsn.evaluate").status_code == 404
    assert "dsn." not in api.get("/openapi.json").text
    assert "dsn." not in api.get("/docs").text
    assert "dsn." not in post("no.such").text


@on
def test_switched_on_they_are(api):
    assert {item["kind"] for item in api.get("/v1/kinds").json["items"]} >= KINDS
    assert api.get("/v1/kinds/dsn.judge").status_code == 200
    assert "dsn.judge" in api.get("/openapi.json").text


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_switched_off_a_submit_is_refused_even_with_the_scope(post, bearer, kind):
    assert post(kind, headers=bearer("ann", "redteam", "redteam:reveal", "admin")).status_code == 403


@on
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("scopes", [(), ("admin",), ("redteam:reveal",)], ids=str)
def test_without_the_scope_a_submit_is_refused_without_detail(post, bearer, kind, scopes):
    refused = post(kind, headers=bearer("ann", *scopes), params={"no": "such"})
    assert refused.status_code == 403
    assert refused.json["detail"] == "this kind is not for you"


@on
def test_neither_a_sweep_nor_a_dry_run_nor_a_retry_gets_round_the_scope(api, parts, post, bearer, allowed):
    job = post(headers=bearer("ann", "redteam")).json["id"]
    parts.store.cancel(job)
    plain = bearer("ann")
    sweep = {"kind": "dsn.evaluate", "params": attack(), "grid": {"n_steps": [1]}}
    assert api.post("/v1/sweeps", json=sweep, headers=plain).status_code == 403
    assert post(query="?dry_run=true", headers=plain).status_code == 403
    assert api.post(f"/v1/jobs/{job}/retry", headers=plain).status_code == 403


# The list -------------------------------------------------------------------------------------------------------------


@on
def test_a_model_outside_the_list_is_refused_with_the_list(post, allowed):
    refused = post(model="allowed:other")
    assert refused.status_code == 422
    assert "not on the red-team list; it has: colours" in refused.json["errors"][0]["msg"]
    assert refused.json["errors"][0]["loc"] == ["body", "params", "model"]


@on
@pytest.mark.parametrize("model", ["hub:lab/model", "builtin:colours", f"file:{'a' * 64}", f"job:{JOB}/model",
                                   "endpoint:lab/model", "/models/x", "https://x", "allowed:../x"])  # fmt: skip
def test_a_model_is_named_by_the_list_alone(post, allowed, model):
    assert post(model=model).status_code == 422


@on
@pytest.mark.parametrize("model", ["hub:lab/model", "endpoint:lab/model", "builtin:colours", "https://x"])
def test_stored_suffixes_go_to_models_of_the_list_alone(post, evaluated, model):
    transfer = attack(suffixes=f"job:{evaluated}/suffixes.enc")
    assert post("dsn.transfer", params=transfer | {"model": model}).status_code == 422
    assert post("dsn.transfer", params=transfer, query="?dry_run=true").status_code == 200


@on
@pytest.mark.parametrize("ref", ["endpoint:lab/model", "allowed:colours", "secret:key", "https://x/y", "/models/x"])
def test_nothing_remote_gets_onto_the_list(api, allowed, ref):
    assert api.put("/v1/redteam/allowed/far", json={"ref": ref, "digest": DIGEST}).status_code == 422
    assert [entry["name"] for entry in api.get("/v1/redteam/allowed").json["items"]] == ["colours"]


@on
def test_only_an_admin_changes_or_reads_the_list_and_the_trail(api, bearer, allowed):
    eve = bearer("eve", "redteam", "redteam:reveal")
    assert api.put("/v1/redteam/allowed/x", json={"ref": "builtin:colours"}, headers=eve).status_code == 403
    assert api.delete("/v1/redteam/allowed/colours", headers=eve).status_code == 403
    assert api.get("/v1/redteam/allowed", headers=eve).status_code == 403
    assert api.get("/v1/redteam/audit", headers=eve).status_code == 403


def test_a_shipped_model_is_pinned_by_its_weights(allowed, parts):
    path = Inputs(parts.store, parts.artifacts, parts.settings).fetch(Ref("builtin:colours")).path
    assert allowed["digest"] == weight_digest(path)


def test_a_model_that_the_gateway_does_not_see_needs_its_digest(api):
    refused = api.put("/v1/redteam/allowed/far", json={"ref": "hub:lab/far"})
    assert refused.status_code == 422
    assert refused.json["errors"][0]["loc"] == ["body", "digest"]
    pinned = api.put("/v1/redteam/allowed/far", json={"ref": "hub:lab/far", "digest": DIGEST})
    assert pinned.json["digest"] == DIGEST


def test_a_digest_that_is_not_the_models_is_refused(api):
    refused = api.put("/v1/redteam/allowed/colours", json={"ref": "builtin:colours", "digest": DIGEST})
    assert refused.status_code == 422


def test_only_what_is_there_is_allowed(api):
    for ref in (f"file:{'a' * 64}", f"job:{JOB}/model"):
        assert api.put("/v1/redteam/allowed/x", json={"ref": ref}).status_code == 422


def test_an_upload_and_a_jobs_artifact_are_pinned_by_their_sha256(api, submit, worker):
    uploaded = api.post("/v1/files", data=b"a tar", content_type="application/octet-stream").json["ref"]
    assert api.put("/v1/redteam/allowed/up", json={"ref": uploaded}).json["digest"] == uploaded.removeprefix("file:")
    job = submit()
    worker.run(job, model_tar=b"weights")
    listed = api.get(f"/v1/jobs/{job}/artifacts").json["items"]
    pinned = api.put("/v1/redteam/allowed/made", json={"ref": f"job:{job}/model"}).json["digest"]
    assert pinned == next(entry["sha256"] for entry in listed if entry["name"] == "model.tar")


# The stand-in's deployment --------------------------------------------------------------------------------------------


@stand_in
def test_in_the_demos_deployment_the_stand_in_is_attacked_and_nothing_else(api, post, allowed, bearer):
    assert post().status_code == 202
    api.put("/v1/redteam/allowed/real", json={"ref": "hub:lab/real", "digest": DIGEST})
    assert post(model="allowed:real").status_code == 403
    token = api.post("/v1/tokens", json={"name": "x", "owner": "eve", "scopes": ["jobs:write", "redteam"]}).json[
        "token"
    ]
    assert post(model="allowed:real", headers={"Authorization": f"Bearer {token}"}).status_code == 403


@stand_in
def test_in_the_demos_deployment_nobody_reveals(api, post, allowed, with_key):
    assert "redteam:reveal" not in api.get("/v1/me").json["scopes"]
    assert post(reveal=True).status_code == 403
    assert api.post("/v1/tokens", json={"name": "x", "owner": "e", "scopes": ["redteam:reveal"]}).status_code == 403


# One at a time --------------------------------------------------------------------------------------------------------


@on
def test_a_second_unfinished_attack_of_one_principal_is_refused(post, bearer, allowed, parts):
    ann, also_ann, ben = bearer("ann", "redteam"), bearer("ann", "redteam"), bearer("ben", "redteam")
    first = post(headers=ann)
    assert first.status_code == 202
    assert post(headers=also_ann).status_code == 429
    assert post(headers=ben).status_code == 202
    parts.store.cancel(first.json["id"])
    assert post(headers=ann).status_code == 202


@on
def test_neither_a_sweep_nor_a_retry_nor_a_chain_gets_round_it(api, post, parts, allowed, submit, with_key):
    sweep = {"kind": "dsn.evaluate", "params": attack(), "seeds": [1, 2]}
    assert api.post("/v1/sweeps", json=sweep).status_code == 429
    first = post().json["id"]
    parts.store.cancel(first)
    second = post().json["id"]
    assert api.post(f"/v1/jobs/{first}/retry").status_code == 429
    assert api.post("/v1/sweeps", json={**sweep, "seeds": [1]}).status_code == 429
    parts.store.cancel(second)
    waited_for = submit("test.noop")
    blocked = post(behaviours="builtin:colours", judges=[
        {"name": "n", "type": "nli", "model": f"job:{waited_for}/model.tar"}])  # fmt: skip
    assert blocked.json["state"] == "blocked"
    assert post().status_code == 429


@on
def test_two_submissions_at_the_same_moment_do_not_both_come_through(post, parts, allowed):
    parts.store.redis.set(f"{PREFIX}attacking:local", "1", px=30_000)  # another gateway process is at it
    assert post().status_code == 429
    parts.store.redis.delete(f"{PREFIX}attacking:local")
    assert post().status_code == 202


@on
def test_the_same_submission_again_is_still_the_same_job(post, allowed):
    first = post(headers={"Idempotency-Key": "k"})
    again = post(headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json["id"]) == (200, first.json["id"])


@on
def test_judging_is_no_attack(api, post, allowed):
    ref = api.post("/v1/files", data=b"goal,response\na,b\n", content_type="text/csv").json["ref"]
    params = {"responses": ref, "judges": [{"name": "keyword", "type": "keyword"}]}
    assert post().status_code == 202
    assert [post("dsn.judge", params=params).status_code for _ in range(2)] == [202, 202]


# What params show -----------------------------------------------------------------------------------------------------


@on
@pytest.mark.parametrize(("changes", "field"), [
    ({"n_steps": 2001}, "n_steps"), ({"batch_size": 4097}, "batch_size"), ({"n_test": 501}, "n_test"),
    ({"n_train": 300, "n_test": 300}, "params"), ({"suffix_init": "! " * 65}, "suffix_init"),
    ({"suffix_init": "  "}, "suffix_init"), ({"alpha": 0}, "alpha"), ({"alpha": [1, 1]}, "alpha"),
    ({"random_draws": 4}, "random_draws"), ({"judges": []}, "params"), ({"behaviours": "builtin:tasks"}, "params"),
])  # fmt: skip
def test_caps_and_odd_params_are_refused_with_their_field(post, allowed, changes, field):
    refused = post(**changes)
    assert refused.status_code == 422
    assert any(field in error["loc"] for error in refused.json["errors"])


@on
@pytest.mark.parametrize(("authorisation", "says"), [
    pytest.param(None, "Field required", id="none"),
    pytest.param({"purpose": "p", "expires": "2020-01-01"}, "expired on 2020", id="expired"),
    pytest.param({"purpose": "", "expires": "2999-01-01"}, "at least 1", id="no purpose"),
])  # fmt: skip
def test_without_a_purpose_in_force_nothing_is_attacked(post, allowed, authorisation, says):
    params = attack(authorisation={"owner": "lab", "ticket": "T-1", **(authorisation or {})})
    if authorisation is None:
        del params["authorisation"]
    refused = post(params=params)
    assert refused.status_code == 422
    assert says in refused.text


@on
def test_the_worlds_judges_are_for_their_world(api, post, allowed):
    ref = api.post("/v1/files", data=b"goal,target\na,b\n", content_type="text/csv").json["ref"]
    for judge in ({"name": "e", "type": "exact"}, {"name": "n", "type": "nli", "model": "builtin:colours-nli"}):
        assert "only knows the colour world" in post(behaviours=ref, judges=[judge]).text


# Judges behind endpoints ----------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(parts, tmp_path):
    file = tmp_path / "endpoints.json"
    file.write_text(json.dumps({"lab": {"base_url": "http://127.0.0.1:9/v1"}}))
    parts.settings = parts.settings.model_copy(update={"endpoints": file})
    return {"name": "far", "type": "llm", "model": "endpoint:lab/m"}


@on
def test_judges_behind_endpoints_are_off_unless_the_operator_turns_them_on(post, parts, allowed, endpoint):
    refused = post(judges=[endpoint])
    assert refused.status_code == 422
    assert "TENFOLD_REDTEAM_REMOTE_JUDGES" in refused.text
    parts.settings = parts.settings.model_copy(update={"redteam_remote_judges": "redacted"})
    assert post(judges=[endpoint]).status_code == 202


# Keys, revealing, and what is kept ------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(post, worker, allowed, with_key):
    """A finished evaluation with its sealed artifact."""
    job = post().json["id"]
    worker.run(job, suffixes_enc=b"sealed", metrics_json=b"{}")
    return job


@on
def test_without_a_key_nothing_is_transferred_or_revealed(post, parts, evaluated):
    transfer = attack(suffixes=f"job:{evaluated}/suffixes.enc")
    assert post("dsn.transfer", params=transfer, query="?dry_run=true").status_code == 200
    parts.settings = parts.settings.model_copy(update={"redteam_key": None})
    for suffixes in ("suffixes.enc", "suffixes"):  # an artifact may be named without its ending
        refused = post("dsn.transfer", params=transfer | {"suffixes": f"job:{evaluated}/{suffixes}"})
        assert (refused.status_code, "TENFOLD_REDTEAM_KEY" in refused.text) == (422, True)
    assert post(reveal=True).status_code == 422


@on
def test_revealing_needs_its_own_scope(post, bearer, allowed, with_key):
    assert post(reveal=True, headers=bearer("ann", "redteam")).status_code == 403
    assert post(reveal=True, headers=bearer("ann", "redteam", "redteam:reveal")).status_code == 202


@on
def test_a_sealed_artifact_is_handed_to_those_who_may_reveal_and_that_is_noted(api, bearer, parts, evaluated):
    path = f"/v1/jobs/{evaluated}/artifacts/suffixes"
    assert api.get(path, headers=bearer("ann", "redteam", "admin")).status_code == 403
    assert api.get(f"{path}.enc", headers=bearer("ann")).status_code == 403
    assert api.get(f"{path}.enc", headers=bearer("eve", "redteam:reveal")).data == b"sealed"
    newest = Redteam(parts.store).audit()[-1]
    assert (newest.owner, newest.action, newest.detail) == ("eve", "reveal", f"dsn.evaluate {evaluated} suffixes.enc")
    assert api.get(f"/v1/jobs/{evaluated}/artifacts/metrics.json", headers=bearer("ann")).status_code == 200


@on
@pytest.mark.parametrize("headers", [{"Range": "bytes=0-2"}, {"If-None-Match": "*"}], ids=str)
@pytest.mark.parametrize("method", ["get", "head"])
def test_no_way_of_asking_for_a_sealed_artifact_gets_round_the_scope(api, bearer, evaluated, method, headers):
    plain = bearer("ann", "redteam", "admin")
    answer = getattr(api, method)(f"/v1/jobs/{evaluated}/artifacts/suffixes.enc", headers=plain | headers)
    assert answer.status_code == 403
    assert b"sealed" not in answer.data


@on
@pytest.mark.parametrize("artifact", ["suffixes.enc", "suffixes"])
def test_a_sealed_artifact_goes_into_no_other_kind_where_nothing_would_delete_it(post, evaluated, artifact):
    ref = f"job:{evaluated}/{artifact}"
    judge = {"responses": ref, "judges": [{"name": "keyword", "type": "keyword"}]}
    refused = [post("dsn.judge", params=judge), post("silu.compare", params={"datasets": [ref]}),
               post("insta.index", params={"library": ref})]  # fmt: skip
    for answer in refused:
        assert answer.status_code == 422
    assert "dsn.transfer alone takes it" in refused[0].text
    assert "dsn.transfer alone takes it" in refused[2].text


@on
def test_another_kinds_artifact_may_bear_such_a_name(post, submit, worker, with_key):
    job = submit()
    worker.run(job, suffixes_csv=b"goal,response\na,b\n")
    params = {"responses": f"job:{job}/suffixes", "judges": [{"name": "keyword", "type": "keyword"}]}
    assert post("dsn.judge", params=params).status_code == 202


@on
def test_revealing_by_a_sweep_needs_its_scope_too(api, bearer, allowed, with_key):
    ann = bearer("ann", "redteam")
    for sweep in ({"params": attack(reveal=True), "seeds": [1]}, {"params": attack(), "grid": {"reveal": [True]}}):
        answer = api.post("/v1/sweeps", json={"kind": "dsn.evaluate", **sweep}, headers=ann)
        assert answer.status_code == 403


@on
def test_what_is_sealed_goes_after_thirty_days_with_every_checkpoint(api, parts, worker, evaluated):
    retention = Retention(parts.store, parts.artifacts, keep_days=90)
    folder = f"jobs/{evaluated}/1-abc/.checkpoint-3"
    parts.artifacts.put_bytes(f"{folder}/found.enc", b"sealed")
    retention.clear_old()
    assert api.get(f"/v1/jobs/{evaluated}/artifacts/suffixes.enc").data == b"sealed"
    long_ago = parts.store.now_ms() - int((SEALED_DAYS + 1) * DAY_S * 1000)
    parts.store.redis.hset(f"{PREFIX}job:{evaluated}", "finished_ms", long_ago)
    parts.store.redis.zadd(SEALED, {evaluated: long_ago})
    retention.clear_old()
    assert api.get(f"/v1/jobs/{evaluated}/artifacts/suffixes.enc").status_code == 404
    assert not parts.artifacts.exists(f"{folder}/found.enc")
    assert api.get(f"/v1/jobs/{evaluated}/artifacts/metrics.json").status_code == 200


@on
def test_a_job_that_ended_late_keeps_its_suffixes_for_thirty_days_from_its_end(parts, evaluated):
    submitted_long_ago = parts.store.now_ms() - int((SEALED_DAYS + 1) * DAY_S * 1000)
    parts.store.redis.zadd(SEALED, {evaluated: submitted_long_ago})
    Retention(parts.store, parts.artifacts, keep_days=90).clear_old()
    assert parts.store.redis.zscore(SEALED, evaluated) > submitted_long_ago
    assert parts.artifacts.blobs(f"jobs/{evaluated}")


# The trail ------------------------------------------------------------------------------------------------------------


@on
def test_the_trail_tells_who_what_and_which_weights_and_no_suffix(post, parts, allowed):
    job = post(suffix_init=SECRET_START).json["id"]
    entries = Redteam(parts.store).audit()
    submitted = next(entry for entry in entries if entry.action == "submit")
    assert f"colours={allowed['digest']}" in submitted.detail
    assert '"ticket": "T-1"' in submitted.detail
    assert '"n_steps": 500' in submitted.detail
    assert any(job in entry.detail for entry in entries)
    assert not any(SECRET_START in entry.detail for entry in entries)
    assert Redteam(parts.store).verify()[1] is None


@on
def test_no_length_of_params_pushes_model_purpose_or_behaviours_out_of_the_trail(post, parts, allowed):
    phrases = [f"{n} {'x' * 190}" for n in range(500)]
    judges = [{"name": "keyword", "type": "keyword"}]
    post(match_phrases=phrases, refusal_phrases=phrases, judges=judges,
         authorisation={"owner": "lab", "ticket": "T-9", "expires": "2999-01-01", "purpose": "p" * 300})  # fmt: skip
    submitted = next(entry for entry in Redteam(parts.store).audit() if entry.action == "submit")
    told = json.loads(submitted.detail[submitted.detail.index("{") :])
    assert (told["model"], told["behaviours"]) == ("allowed:colours", "builtin:colours")
    assert told["authorisation"]["ticket"] == "T-9"
    assert told["match_phrases"].startswith("sha256 ")
    assert told["judges"][0]["name"] == "keyword"
    assert len(submitted.detail) < 3000


def test_the_house_declares_what_is_guarded():
    specs = {kind: catalog()[kind] for kind in KINDS}
    assert {kind: spec.attacks for kind, spec in specs.items()} == {
        "dsn.evaluate": True, "dsn.judge": False, "dsn.transfer": True}  # fmt: skip
    assert all(spec.scope == "redteam" for spec in specs.values())
