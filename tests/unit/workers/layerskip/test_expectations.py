"""What training with the recipe is worth, on real text: the specification's ranges, paired by seed. Minutes of CPU.

The models are those of `tests/bench/layerskip_models.py`: trained at the first run and kept.
"""

import itertools

import pytest
import torch

from shared.data.builtin import shipped
from shared.jobs.catalog.layerskip import TuneParams
from shared.jobs.local import LocalContext
from shared.models.llama_checkpoint import load_llama
from shared.models.llama_decoder import LlamaDecoder
from tests.bench import layerskip_models
from tests.bench.bench_layerskip_recipe import rows_of, study
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.decoding import Decoding
from workers.layerskip.jobs import tune
from workers.layerskip.policies import Static
from workers.layerskip.simulation import agrees, record, simulate
from workers.layerskip.warping import Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MARGIN = 1e-4


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def held_out():
    return shipped("stdlib-valid", layerskip_models.KEPT / "builtin").read_bytes()


@pytest.fixture
def decoder(kernel):
    return LlamaDecoder(load_llama(layerskip_models.trained("python", "trl").folder), kernel)


def test_exits_become_usable_and_the_last_layer_loses_nothing():
    goals = [row["goal"] for row in rows_of("python", study("python", tuple(layerskip_models.ARMS))) if row["goal"]]
    assert len(goals) == 11
    assert [goal for goal in goals if not goal.endswith("holds")] == []


def test_two_hundred_prompts_speculate_to_the_plain_tokens_and_the_simulated_counts(decoder, held_out):
    """Any divergence must have a top-2 margin of at most 1e-4."""
    decoding, diverged = Decoding(decoder, Sampling(), 128), []
    for number in range(200):
        prompt = list(held_out[1_900 * number : 1_900 * number + 64])
        answers = [Answer(prompt, 64, Stopping(64)) for _ in range(2)]
        recorded = record(decoding, answers[0], torch.Generator())
        place = ((1, 6), (2, 4), (4, 3))[number % 3]
        ours = decoding.speculative(answers[1], Static(*place), torch.Generator())
        if ours.emitted == recorded.tokens:
            assert agrees(ours.steps, simulate(recorded, *place))
            continue
        at = next(i for i, (a, b) in enumerate(zip(ours.emitted, recorded.tokens, strict=True)) if a != b)
        diverged.append((number, at, recorded.margins[at]))
    assert all(margin <= MARGIN for *_, margin in diverged), diverged


@pytest.mark.parametrize("ends", [frozenset(), frozenset(b"\n")], ids=["to the limit", "to the line's end"])
def test_every_exit_and_draft_length_of_a_trained_model_runs_as_simulated(decoder, held_out, ends):
    decoding = Decoding(decoder, Sampling(), 112)
    for number in range(6):
        prompt = list(held_out[50_000 * number : 50_000 * number + 48])
        recorded = record(decoding, Answer(prompt, 64, Stopping(64, ends)), torch.Generator())
        plain = recorded.tokens[:-1] if recorded.ended else recorded.tokens
        for place in itertools.product(range(1, 8), range(1, 13)):
            real = decoding.speculative(Answer(prompt, 64, Stopping(64, ends)), Static(*place), torch.Generator())
            assert real.emitted == plain
            assert agrees(real.steps, simulate(recorded, *place)), (number, place)


def test_on_snips_the_recipe_pays_and_the_baseline_does_not(tmp_path, real_data):
    del real_data  # skips where there is none
    given = {"prompts": layerskip_models.snips_prompts(12), "stop_token_ids": [10], "max_new_tokens": 200}
    found = {}
    for arm in ("baseline", "trl"):
        ctx = LocalContext(tmp_path / arm, cache=layerskip_models.KEPT)
        params = TuneParams(model=layerskip_models.trained("snips", arm).ref, exit_layers=[1, 2], repeats=3, **given)
        found[arm] = tune(params, ctx)
        ctx.close()
        assert found[arm].counts_equal
        assert found[arm].ids_equal
    rates = {
        arm: next(each.acceptance_rate for each in result.best if (each.exit_layer, each.num_speculations) == (2, 4))
        for arm, result in found.items()
    }
    assert rates["baseline"] <= 0.25
    assert rates["trl"] >= 0.40
    assert not found["baseline"].pays
    assert found["trl"].pays
