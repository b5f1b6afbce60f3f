"""The endpoint of the bench answers in form, and a society of it costs what the bench says."""

import asyncio
from types import SimpleNamespace

import pytest

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.local import LocalContext
from shared.llm.scripted import ScriptedChat
from tests.bench.bench_govsim_clone import expectation
from tests.bench.bench_govsim_llm import ENDPOINT, ROUNDS_A_MONTH, polite, society_rows
from tests.unit.workers.govsim.scripted import LetterEncoder
from workers.govsim.jobs import talk_through


class Rounds(ScriptedChat):
    """Answers everything that waits at once, and counts how often."""

    def __init__(self):
        super().__init__(lambda call: polite(SimpleNamespace(key=call.key)))
        self.rounds, self._waiting = 0, None

    async def reply(self, call):
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_task(self._answer())
        await asyncio.shield(self._waiting)
        return await super().reply(call)

    async def _answer(self):
        await asyncio.sleep(0.3)
        self.rounds, self._waiting = self.rounds + 1, None


def test_a_month_takes_fourteen_rounds_whatever_the_number_of_runs(tmp_path):
    model = Rounds()
    ctx = LocalContext(tmp_path)
    params = SimulateParams(policies={"type": "llm", "model": ENDPOINT}, months=1, runs=3)
    result = asyncio.run(talk_through(params, ctx, {ENDPOINT: model}, LetterEncoder()))
    ctx.close()
    assert (result.model_calls, result.fallback_rate) == (3 * 56, 0)
    assert model.rounds == ROUNDS_A_MONTH


@pytest.mark.parametrize(
    ("condition", "months", "is_met"),
    [
        pytest.param("default", 1.5, True, id="default-at-most"),
        pytest.param("default", 1.6, False, id="default-above"),
        pytest.param("universalization", 4.0, True, id="universalization-at-least"),
        pytest.param("universalization", 3.9, False, id="universalization-below"),
    ],
)
def test_the_clones_expectations_are_the_stated_ones(condition, months, is_met):
    assert (expectation(condition, months)[1] >= 1) is is_met


@pytest.mark.slow
def test_the_bench_runs():
    assert [row["unit"] for row in society_rows(quick=True)] == ["s", "s"]
