import hashlib
import json

import pytest

from tests.unit.services.api_server import ID, Answer, job, stream

SSE = {"Content-Type": "text/event-stream"}
KIND = {
    "kind": "govsim.simulate", "version": 1, "method": "govsim", "pool": "sim", "summary": "Simulate a commons.",
    "params_schema": {
        "properties": {
            "runs": {"type": "integer", "minimum": 1, "maximum": 100, "default": 5, "description": "Simulations."},
            "scenario": {"enum": ["fishery", "pasture"], "default": "fishery"},
            "start": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "policies": {"type": "array", "items": {"$ref": "#/$defs/Policy"}},
        },
        "required": ["policies"],
    },
    "result_schema": {"properties": {"gain": {"type": "number", "description": "Units per agent."}}},
}  # fmt: skip


def test_kinds_lists_what_can_be_submitted(run, server):
    server.on("GET", "/v1/kinds", {"items": [KIND]})
    assert "govsim.simulate" in run("kinds").out
    assert json.loads(run("kinds", "--json").out)[0]["params_schema"] == KIND["params_schema"]


def test_one_kind_shows_its_parameters_with_bounds_and_defaults(run, server):
    server.on("GET", "/v1/kinds/govsim.simulate", KIND)
    out = run("kinds", "govsim.simulate").out
    for words in ("integer 1…100", "5", "Simulations.", "fishery | pasture", "integer | null", "list of Policy",
                  "required", "Units per agent."):  # fmt: skip
        assert words in out


def test_submit_prints_the_id_alone_so_that_a_shell_can_use_it(run, server):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    outcome = run(
        "submit", "govsim.simulate", "-p", "runs=2", "-p", "policies.type=greedy", "--name", "n", "--label", "a=1",
        "--priority", "high", "--max-attempts", "5", "--timeout-s", "60", "--idempotency-key", "k",
    )  # fmt: skip
    assert outcome.out == f"{ID}\n"
    assert server.asked[0].headers["idempotency-key"] == "k"
    assert server.asked[0].json == {
        "kind": "govsim.simulate", "params": {"runs": 2, "policies": {"type": "greedy"}}, "name": "n",
        "labels": {"a": "1"}, "priority": "high", "max_attempts": 5, "timeout_s": 60,
    }  # fmt: skip


def test_a_dry_run_prints_what_would_be_submitted(run, server):
    server.on("POST", "/v1/jobs", {"params": {"runs": 5}})
    assert json.loads(run("submit", "govsim.simulate", "--dry-run").out) == {"params": {"runs": 5}}
    assert server.asked[0].query == {"dry_run": ["true"]}


def test_submit_and_wait_prints_the_result(run, server):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    server.on("GET", f"/v1/jobs/{ID}", job(state="succeeded", result={"gain": 120}))
    server.on("GET", f"/v1/jobs/{ID}/events", Answer(stream(("1-0", "state", {"state": "succeeded"})), headers=SSE))
    assert json.loads(run("submit", "govsim.simulate", "--wait").out) == {"gain": 120}
    assert json.loads(run("submit", "govsim.simulate", "--wait", "--json").out)["result"] == {"gain": 120}


def test_a_failed_jobs_reason_is_shown(run, server):
    error = {"type": "invalid_input", "message": "line 3 lacks 'round'", "retryable": False}
    server.on("GET", f"/v1/jobs/{ID}", job(state="failed", error=error))
    assert "invalid_input: line 3 lacks 'round'" in run("result", ID).out


def test_jobs_lists_the_newest_and_stops_at_the_limit(run, server):
    page = {"items": [job(id="B", progress={"done": 1, "total": 2, "unit": "months"}), job(id="A")], "next_cursor": "1"}
    server.on("GET", "/v1/jobs", page)
    out = run("jobs", "--limit", "2", "--state", "running", "--label", "a=1").out
    assert "1/2 months" in out
    assert len(server.asked) == 1
    assert server.asked[0].query == {"limit": ["2"], "state": ["running"], "label": ["a:1"]}
    assert [item["id"] for item in json.loads(run("jobs", "--limit", "2", "--json").out)] == ["B", "A"]


def test_a_long_value_is_not_cut_in_a_pipe(run, server):
    server.on("GET", "/v1/jobs", {"items": [job(name="n" * 200)], "next_cursor": None})
    assert "n" * 200 in run("jobs").out


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_cancel_and_retry_say_the_state(run, server, verb):
    server.on("POST", f"/v1/jobs/{ID}/{verb}", Answer(job(state="queued"), 202))
    assert run(verb, ID).out == f"{ID} queued\n"
    assert json.loads(run(verb, ID, "--json").out)["id"] == ID


def test_a_running_job_that_was_cancelled_is_said_to_be_stopping(run, server):
    asked = job(state="running", cancel_requested_at="2026-01-01T00:00:00Z")
    server.on("POST", f"/v1/jobs/{ID}/cancel", Answer(asked, 202))
    assert run("cancel", ID).out == f"{ID} running (stopping)\n"


def test_delete_says_nothing(run, server):
    server.on("DELETE", f"/v1/jobs/{ID}", Answer(status=204))
    assert run("delete", ID) == (0, "", "")


def test_watching_as_json_prints_one_event_a_line(run, server):
    events = stream(("1-0", "progress", {"done": 1, "attempt": 1}), ("2-0", "state", {"state": "succeeded"}))
    server.on("GET", f"/v1/jobs/{ID}", job(state="succeeded"))
    server.on("GET", f"/v1/jobs/{ID}/events", Answer(events, headers=SSE))
    lines = [json.loads(line) for line in run("watch", ID, "--json").out.splitlines()]
    assert [(line["id"], line["type"]) for line in lines] == [("1-0", "progress"), ("2-0", "state")]


def test_watching_shows_progress_and_log_on_stderr(run, server):
    events = stream(
        ("1-0", "progress", {"done": 3, "total": 12, "unit": "months", "message": "spring"}),
        ("2-0", "log", {"message": "the [stock] collapsed"}),
        ("3-0", "state", {"state": "succeeded"}),
    )
    server.on("GET", f"/v1/jobs/{ID}", job(state="succeeded"))
    server.on("GET", f"/v1/jobs/{ID}/events", Answer(events, headers=SSE))
    outcome = run("watch", ID)
    assert outcome.out == f"{ID} succeeded\n"
    assert "3/12" in outcome.err
    assert "the [stock] collapsed" in outcome.err


def test_the_log_is_printed_as_it_is(run, server):
    server.on("GET", f"/v1/jobs/{ID}/log", Answer(b"one\ntwo\n", headers={"Content-Type": "text/plain"}))
    assert run("logs", ID).out == "one\ntwo\n"


def test_a_followed_log_goes_on_from_where_it_was_until_the_job_ends(run, server):
    plain = {"Content-Type": "text/plain; charset=utf-8"}
    texts = [Answer(text, headers=plain) for text in ("ü\n".encode(), b"b\n", b"")]
    server.on("GET", f"/v1/jobs/{ID}/log", *texts)
    server.on("GET", f"/v1/jobs/{ID}", job(state="running"), job(state="succeeded"))
    assert run("logs", ID, "-f").out == "ü\nb\n"
    assert [asked.query["offset"] for asked in server.calls("GET", f"/v1/jobs/{ID}/log")] == [["0"], ["3"], ["5"]]


def _artifacts(server, **contents):
    listed = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "media_type": "text/plain"}
        for name, content in contents.items()
    ]
    server.on("GET", f"/v1/jobs/{ID}/artifacts", {"items": listed})
    for name, content in contents.items():
        server.on("GET", f"/v1/jobs/{ID}/artifacts/{name}", Answer(content))


def test_get_lists_the_artifacts(run, server):
    _artifacts(server, **{"log.txt": b"x" * 2048})
    out = run("get", ID).out
    assert "log.txt" in out
    assert "2.0 KiB" in out


def test_get_fetches_one_or_all(run, server, tmp_path):
    _artifacts(server, **{"log.txt": b"log", "summary.csv": b"a,b"})
    assert run("get", ID, "summary", "-o", str(tmp_path / "one")).out == f"{tmp_path / 'one' / 'summary.csv'}\n"
    run("get", ID, "-o", str(tmp_path / "all"))
    assert [path.read_bytes() for path in sorted((tmp_path / "all").iterdir())] == [b"log", b"a,b"]


def test_upload_prints_the_reference(run, server, tmp_path):
    server.on("POST", "/v1/files", Answer({"ref": "file:ab", "bytes": 1, "media_type": "text/csv"}, 201))
    (tmp_path / "a.csv").write_text("a")
    assert run("upload", str(tmp_path / "a.csv")).out == "file:ab\n"
    assert json.loads(run("upload", str(tmp_path / "a.csv"), "--json").out)["bytes"] == 1


def test_a_sweep_prints_its_id(run, server):
    server.on("POST", "/v1/sweeps", Answer({"id": "S", "jobs": ["A", "B"]}, 202))
    outcome = run("sweep", "govsim.simulate", "-p", "runs=1", "--grid", "months=6,12", "--seeds", "1-2")
    assert outcome.out == "S\n"
    assert server.asked[0].json == {
        "kind": "govsim.simulate", "params": {"runs": 1}, "grid": {"months": [6, 12]}, "seeds": [1, 2],
    }  # fmt: skip


def test_sweeps_show_their_jobs_by_state(run, server):
    counts = {"queued": 1, "running": 1, "failed": 0}
    sweep = {"id": "S", "kind": "govsim.simulate", "jobs": ["A", "B"], "states": counts}
    server.on("GET", "/v1/sweeps", {"items": [sweep]})
    server.on("GET", "/v1/sweeps/S", sweep)
    server.on("POST", "/v1/sweeps/S/cancel", Answer(sweep, 202))
    assert "1 queued, 1 running" in run("sweeps").out
    assert "1 queued, 1 running" in run("sweeps", "S").out
    assert run("cancel-sweep", "S").out == "S 1 queued, 1 running\n"


def test_queues_and_me(run, server):
    queue = {"pool": "sim", "waiting": 4, "running": 1, "slots": 1, "workers": 1, "oldest_wait_s": 2.4,
             "desired_workers": 5}  # fmt: skip
    server.on("GET", "/v1/queues", {"items": [queue]})
    server.on("GET", "/v1/me", {"owner": "ada", "scopes": ["jobs:read", "admin"]})
    assert "2 s" in run("queues").out
    assert "jobs:read admin" in run("me").out
    assert json.loads(run("me", "--json").out)["owner"] == "ada"


def test_a_new_tokens_secret_is_alone_on_stdout(run, server):
    made = {"id": "T", "token": "tf_secret", "owner": "ada", "scopes": ["jobs:read", "jobs:write"]}
    server.on("POST", "/v1/tokens", Answer(made, 201))
    outcome = run("token", "create", "ci", "--owner", "ada", "--expires-days", "7")
    assert outcome.out == "tf_secret\n"
    assert server.asked[0].json["scopes"] == ["jobs:read", "jobs:write"]


def test_tokens_are_listed_and_revoked(run, server):
    server.on("GET", "/v1/tokens", {"items": [{"id": "T", "name": "ci", "owner": "ada", "scopes": ["admin"]}]})
    server.on("DELETE", "/v1/tokens/T", Answer(status=204))
    assert "never" in run("token", "list").out
    assert run("token", "revoke", "T").code == 0


def test_the_red_team_list(run, server):
    model = {"name": "tiny", "ref": "builtin:colours", "added_by": "ada"}
    server.on("PUT", "/v1/redteam/allowed/tiny", model)
    server.on("GET", "/v1/redteam/allowed", {"items": [model]})
    server.on("DELETE", "/v1/redteam/allowed/tiny", Answer(status=204))
    server.on("GET", "/v1/redteam/audit", {"items": [{"id": "1", "action": "allow", "owner": "ada"}]})
    assert run("redteam", "allow", "tiny", "builtin:colours").out == "allowed:tiny builtin:colours\n"
    assert "builtin:colours" in run("redteam", "list").out
    assert run("redteam", "remove", "tiny").code == 0
    assert "allow" in run("redteam", "audit").out


@pytest.mark.parametrize(
    ("verdict", "code", "says"),
    [
        pytest.param({"ok": True, "entries": 3, "broken_at": None}, 0, "the audit is whole, 3 entries", id="whole"),
        pytest.param({"ok": False, "entries": 3, "broken_at": "2"}, 1, "the audit is BROKEN at 2", id="broken"),
    ],
)
def test_a_broken_audit_ends_with_1(run, server, verdict, code, says):
    server.on("GET", "/v1/redteam/audit/verify", verdict)
    outcome = run("redteam", "audit", "--verify")
    assert (outcome.code, outcome.out.strip()) == (code, says)


def test_upkeep_says_what_it_did(run, server):
    server.on("POST", "/v1/gc", {"removed": ["jobs/A/1-x"], "bytes": 2048, "dry_run": True})
    server.on("POST", "/v1/reindex", {"restored": 2, "skipped": 1})
    assert run("gc", "--dry-run").out == "jobs/A/1-x\nwould free 2.0 KiB in 1 items\n"
    assert "2" in run("reindex").out


def test_sealed_text_is_opened_by_the_operators_key_alone(run, tmp_path):
    from shared.sealed import make_key, read_key

    for name in ("key", "other"):
        make_key(tmp_path / name)
    (tmp_path / "suffixes.enc").write_bytes(read_key(tmp_path / "key").seal(b"kept back", "suffixes.enc"))
    opened = run("redteam", "open", str(tmp_path / "suffixes.enc"), "--key", str(tmp_path / "key"))
    assert (opened.code, opened.out) == (0, "kept back\n")
    refused = run("redteam", "open", str(tmp_path / "suffixes.enc"), "--key", str(tmp_path / "other"))
    assert (refused.code, refused.out) == (1, "")
    assert "another key" in refused.err


def test_a_model_is_allowed_with_the_digest_of_its_weights(run, server):
    server.on("PUT", "/v1/redteam/allowed/far", {"name": "far", "ref": "hub:lab/far", "digest": "d" * 64})
    assert run("redteam", "allow", "far", "hub:lab/far", "--digest", "d" * 64).code == 0
    assert server.asked[0].json == {"ref": "hub:lab/far", "digest": "d" * 64}
