"""SiLU's stop shows facts and refuted claims."""

from services.local.tour import Row, silu
from tests.unit.services.api_server import Answer, job

RESULT = {
    "passed": 2, "failed": 0, "properties": [{"error": 1e-12}, {"error": 3e-16}],
    "claims": [{"claim": "it is monotone", "verdict": "false", "evidence": "it falls"},
               {"claim": "it is smooth", "verdict": "true", "evidence": "it is"}],
}  # fmt: skip


def test_the_stop_counts_facts_and_names_what_fell(server, tenfold):
    server.on("POST", "/v1/jobs", Answer(job(), 202))
    rows = silu.run(
        tenfold, lambda jobs: [each.model_copy(update={"state": "succeeded", "result": RESULT}) for each in jobs]
    )
    assert rows == [
        Row("facts", "hold", "2 of 2, largest error 1e-12"),
        Row("refuted", "“it is monotone”", "it falls"),
    ]
