"""Sweeps: the product of a grid and seeds as jobs, all or none."""

import pytest

WALK = {"kind": "test.walk", "params": {"step_s": 0}}


def post(api, key=None, **body):
    headers = {"Idempotency-Key": key} if key else {}
    return api.post("/v1/sweeps", json={**WALK, **body}, headers=headers)


def test_a_sweep_is_the_product_of_its_grid_and_seeds(api):
    answer = post(api, grid={"steps": [1, 2, 3]}, seeds=[7, 8], name="s", labels={"study": "a"})
    sweep = answer.json
    assert (answer.status_code, sweep["total"], len(sweep["jobs"])) == (202, 6, 6)
    assert answer.headers["Location"] == f"/v1/sweeps/{sweep['id']}"
    params = [api.get(f"/v1/jobs/{job}").json["params"] for job in sweep["jobs"]]
    assert [(p["steps"], p["seed"]) for p in params] == [(1, 7), (1, 8), (2, 7), (2, 8), (3, 7), (3, 8)]
    assert api.get("/v1/jobs?label=study:a").json["items"][0]["id"] == sweep["jobs"][-1]


def test_a_sweep_counts_its_jobs_by_state(api, worker):
    sweep = post(api, seeds=[1, 2, 3]).json
    worker.run(sweep["jobs"][0])
    states = api.get(f"/v1/sweeps/{sweep['id']}").json["states"]
    assert {state: n for state, n in states.items() if n} == {"queued": 2, "succeeded": 1}


def test_a_grid_path_goes_deeper_and_into_lists(api):
    body = {"kind": "govsim.simulate", "params": {"policies": [{"type": "fixed", "quantity": 1}] * 5}}
    answer = api.post("/v1/sweeps", json={**body, "grid": {"policies.0.quantity": [2, 3]}})
    assert answer.status_code == 202
    params = [api.get(f"/v1/jobs/{job}").json["params"] for job in answer.json["jobs"]]
    assert [p["policies"][0]["quantity"] for p in params] == [2, 3]
    assert all(p["policies"][1]["quantity"] == 1 for p in params)


@pytest.mark.parametrize(("body", "loc"), [
    pytest.param({"grid": {"steps": [1, -1]}}, ["body", "grid", "steps"], id="a value the kind refuses"),
    pytest.param({"grid": {"colour": ["red"]}}, ["body", "grid", "colour"], id="a param the kind has not"),
    pytest.param({"params": {"steps": 0}, "seeds": [1]}, ["body", "params", "steps"], id="a bad param beside the grid"),
    pytest.param({"grid": {"steps": []}}, ["body", "grid", "steps"], id="an empty axis"),
    pytest.param({"grid": {"steps.x": [1]}, "params": {"steps": 1}}, ["body", "grid", "steps.x"], id="path into one"),
    pytest.param({"grid": {"seed": [1]}, "seeds": [1]}, ["body", "seeds"], id="seeds twice"),
    pytest.param({"grid": {"steps": list(range(1, 12))}, "seeds": list(range(91))}, ["body", "grid"], id="1,001 jobs"),
    pytest.param({"seeds": []}, ["body", "seeds"], id="no seed"),
    pytest.param({"kind": "test.nope"}, ["body", "kind"], id="unknown kind"),
    pytest.param({"grid": {"source": ["job:" + "0" * 26]}}, ["body", "params", "source"], id="unknown reference"),
])  # fmt: skip
def test_one_bad_combination_refuses_the_whole_sweep(api, body, loc):
    answer = post(api, **body)
    assert answer.status_code == 422
    assert answer.json["errors"][0]["loc"] == loc
    assert api.get("/v1/jobs").json["items"] == []


@pytest.mark.settings(max_unfinished=2)
def test_a_sweep_beyond_the_owners_cap_submits_nothing(api):
    assert post(api, seeds=[1, 2, 3]).status_code == 429
    assert api.get("/v1/jobs").json["items"] == []


def test_copies_of_large_params_are_bounded_together(api, monkeypatch):
    monkeypatch.setattr("services.gateway.sweeps.SWEEP_BYTES", 10_000)
    body = {"kind": "test.noop", "params": {"note": "x" * 4000}, "grid": {"size": [1, 2, 3]}}
    answer = api.post("/v1/sweeps", json=body)
    assert answer.status_code == 422
    assert "upload what they share" in answer.json["detail"]


def test_the_same_key_brings_the_same_sweep(api):
    first, again = post(api, "k", seeds=[1, 2]), post(api, "k", seeds=[1, 2])
    assert (first.status_code, again.status_code, again.json["id"]) == (202, 200, first.json["id"])
    assert post(api, "k", seeds=[1]).status_code == 422


def test_a_job_does_not_share_its_key_with_a_sweep(api):
    post(api, "k", seeds=[1])
    assert api.post("/v1/jobs", json=WALK, headers={"Idempotency-Key": "k"}).status_code == 422


def test_cancelling_a_sweep_cancels_what_is_unfinished(api, worker):
    sweep = post(api, seeds=[1, 2, 3]).json
    worker.run(sweep["jobs"][0])
    answer = api.post(f"/v1/sweeps/{sweep['id']}/cancel")
    assert answer.status_code == 202
    assert {state: n for state, n in answer.json["states"].items() if n} == {"succeeded": 1, "cancelled": 2}


def test_sweeps_are_listed_newest_first_in_pages(api):
    sweeps = [post(api, seeds=[n]).json["id"] for n in range(3)]
    first = api.get("/v1/sweeps?limit=2").json
    rest = api.get("/v1/sweeps", query_string={"limit": 2, "cursor": first["next_cursor"]}).json
    assert [item["id"] for item in first["items"] + rest["items"]] == sweeps[::-1]
    assert rest["next_cursor"] is None


def test_a_sweep_whose_jobs_are_all_deleted_is_gone(api, worker):
    sweep = post(api, seeds=[1]).json
    worker.run(sweep["jobs"][0])
    api.delete(f"/v1/jobs/{sweep['jobs'][0]}")
    assert api.get(f"/v1/sweeps/{sweep['id']}").status_code == 404
    assert api.get("/v1/sweeps").json["items"] == []
