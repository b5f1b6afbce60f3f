"""LayerSkip's stop submits what needs the model at once, and shows equality, acceptance and verdict."""

from services.local.tour import Row, layerskip
from tests.unit.services.api_server import Answer, job

OUTPUTS = {"outputs": [{"token_ids": [1, 2]}], "outputs_total": 1, "acceptance_micro": 0.75}
RESULTS = {
    "TRAIN": {"exits": [{"agreement": 0.6}, {"agreement": 0.71}]},
    "PLAIN": OUTPUTS,
    "OURS": OUTPUTS,
    "TUNE": {"verdict": "speculate", "counts_equal": True},
}


def test_the_stop_compares_both_ways_of_decoding(server, tenfold):
    server.on("POST", "/v1/jobs", *(Answer(job(id=name), 202) for name in RESULTS))

    def follow(jobs):
        timings = {"PLAIN": {"decode": 3.0}, "OURS": {"decode": 2.0}}
        return [
            each.model_copy(update={
                "state": "succeeded", "result": RESULTS[each.id], "timings": timings.get(each.id, {}),
            }) for each in jobs
        ]  # fmt: skip

    rows = layerskip.run(tenfold, follow)
    asked = [request.json for request in server.asked]
    assert [body["kind"] for body in asked] == [
        "layerskip.train", "layerskip.generate", "layerskip.generate", "layerskip.tune",
    ]  # fmt: skip
    assert all(body["params"]["model"] == "job:TRAIN/model.tar" for body in asked[1:])
    assert rows == [
        Row("stdlib-lm", "exit 2 says what the last layer says", "71 % of held-out bytes"),
        Row("self-speculation", "outputs equal to plain decoding", "1 of 1"),
        Row("self-speculation", "drafts accepted", "75 %"),
        Row("self-speculation", "against plain decoding", "1.50×"),
        Row("tuning", "verdict", "speculate"),
        Row("tuning", "simulated counts equal real ones", "yes"),
    ]
