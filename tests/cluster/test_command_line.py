"""The command line against a real cluster: what a person does in a day."""

import json

import pytest

from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


@pytest.fixture
def tenfold(cluster):
    """One verb: its output; a code other than the expected one fails the test."""
    eventually(lambda: cluster.is_healthy("gateway", "redis", "worker-test", "reconciler"))

    def tenfold(*arguments, code=0):
        done = cluster.run(*arguments, module="services.cli")
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    return tenfold


def walk(tenfold, **params):
    given = [part for name, value in params.items() for part in ("-p", f"{name}={value}")]
    return tenfold("submit", "test.walk", *given).strip()


def test_a_job_is_submitted_watched_and_taken_away(tenfold, tmp_path):
    job_id = walk(tenfold, steps=30, seed=7)
    assert "succeeded" in tenfold("watch", job_id)
    result = json.loads(tenfold("result", job_id, "--json"))
    assert set(result) == {"position", "farthest"}
    tenfold("get", job_id, "-o", str(tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["params"]["steps"] == 30
    assert (tmp_path / "log.txt").exists()


def test_the_same_seed_gives_the_same_walk(tenfold):
    outputs = {tenfold("submit", "test.walk", "-p", "steps=50", "-p", "seed=3", "--wait") for _ in range(2)}
    assert len(outputs) == 1


def test_events_as_json_tell_a_jobs_life(tenfold):
    job_id = walk(tenfold, steps=5)
    events = [json.loads(line) for line in tenfold("watch", job_id, "--json").splitlines()]
    states = [event["data"]["state"] for event in events if event["type"] == "state"]
    assert states == ["queued", "running", "succeeded"]
    assert any(event["type"] == "progress" for event in events)
    assert [event["id"] for event in events] == sorted((event["id"] for event in events), key=_order)


def _order(event_id):
    return tuple(map(int, event_id.split("-")))


def test_a_job_waits_for_the_job_it_refers_to(tenfold):
    first = walk(tenfold, steps=60, step_s=0.05)
    second = walk(tenfold, steps=1, source=f"job:{first}/end.txt")
    assert json.loads(tenfold("jobs", "--json", "--limit", "1"))[0]["state"] == "blocked"
    assert "succeeded" in tenfold("watch", second)
    ends = [json.loads(tenfold("result", job_id))["position"] for job_id in (first, second)]
    assert ends[0] != ends[1]


def test_a_failed_job_says_why_and_its_exit_code_is_1(tenfold):
    job_id = tenfold("submit", "test.fail", "-p", "how=invalid_input").strip()
    assert "failed" in tenfold("watch", job_id, code=1)
    assert "invalid_input" in tenfold("result", job_id, code=1)


def test_a_running_job_is_cancelled_retried_and_deleted(tenfold, cluster):
    job_id = walk(tenfold, steps=1000, step_s=0.05)
    eventually(lambda: json.loads(tenfold("jobs", "--state", "running", "--json")) != [])
    tenfold("delete", job_id, code=4)
    tenfold("cancel", job_id)
    assert "cancelled" in tenfold("watch", job_id, code=1)
    tenfold("retry", job_id)
    tenfold("cancel", job_id)
    tenfold("watch", job_id, code=1)
    tenfold("delete", job_id)
    tenfold("result", job_id, code=4)


def test_a_refusal_names_the_field(tenfold, cluster):
    done = cluster.run("submit", "test.walk", "-p", "steps=0", module="services.cli")
    assert done.returncode == 4
    assert "steps" in done.stderr
    assert done.stdout == ""


def test_the_same_key_submits_once(tenfold):
    first, second = (tenfold("submit", "test.noop", "--idempotency-key", "only-once") for _ in range(2))
    assert first == second


def test_labels_find_a_job_again(tenfold):
    job_id = tenfold("submit", "test.noop", "--label", "study=command-line", "--name", "labelled").strip()
    assert [job["id"] for job in json.loads(tenfold("jobs", "--label", "study=command-line", "--json"))] == [job_id]
    assert "labelled" in tenfold("jobs", "--label", "study=command-line")


def test_a_sweep_is_the_product_of_its_grid_and_seeds(tenfold):
    sweep_id = tenfold("sweep", "test.walk", "--grid", "steps=1,2", "--seeds", "1-2").strip()
    eventually(lambda: "4 succeeded" in tenfold("sweeps", sweep_id))
    assert sweep_id in tenfold("sweeps")


def test_an_uploaded_file_has_the_reference_of_its_content(tenfold, tmp_path):
    (tmp_path / "a.txt").write_text("the same")
    (tmp_path / "b.txt").write_text("the same")
    assert tenfold("upload", str(tmp_path / "a.txt")) == tenfold("upload", str(tmp_path / "b.txt"))


def test_a_token_lives_until_it_is_revoked(tenfold):
    tenfold("token", "create", "ci", "--owner", "ada")
    token_id = next(token["id"] for token in json.loads(tenfold("token", "list", "--json")) if token["owner"] == "ada")
    tenfold("token", "revoke", token_id)
    assert all(token["id"] != token_id for token in json.loads(tenfold("token", "list", "--json")))


def test_a_model_is_allowed_and_forbidden_and_the_audit_holds(tenfold):
    tenfold("redteam", "allow", "tiny", "builtin:colours")
    assert "builtin:colours" in tenfold("redteam", "list")
    tenfold("redteam", "remove", "tiny")
    assert "builtin:colours" not in tenfold("redteam", "list")
    assert "whole" in tenfold("redteam", "audit", "--verify")


def test_upkeep_and_queues_answer(tenfold):
    assert "would free" in tenfold("gc", "--dry-run")
    assert "restored" in tenfold("reindex")
    assert {queue["pool"] for queue in json.loads(tenfold("queues", "--json"))} >= {"cpu", "gpu", "sim", "test"}
    assert "test.walk" in tenfold("kinds")
    assert "steps" in tenfold("kinds", "test.walk")


def test_down_hands_a_running_job_back_and_it_goes_on_after_the_next_up(other):
    def verb(*arguments):
        return other.run(*arguments, module="services.cli").stdout

    other.up()
    job_id = verb("submit", "test.walk", "-p", "steps=100", "-p", "step_s=0.05", "-p", "seed=5").strip()
    eventually(lambda: '"running"' in verb("jobs", "--json"))
    other.down()
    assert other.processes() == []
    other.up()
    assert "succeeded" in verb("watch", job_id)
    (job,) = json.loads(verb("jobs", "--json"))
    assert (job["attempt"], job["losses"]) == (2, 0)
