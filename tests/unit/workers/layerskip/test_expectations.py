"""What training with the recipe is worth, on real text: the specification's ranges, paired by seed. Minutes of CPU."""

import statistics

import pytest
import torch

from shared.data.builtin import shipped
from shared.jobs.catalog.layerskip import TrainParams, TuneParams
from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.decoding import Decoding
from workers.layerskip.jobs import train, tune
from workers.layerskip.models import open_model
from workers.layerskip.policies import Static
from workers.layerskip.simulation import agrees, record, simulate
from workers.layerskip.warping import Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MODEL, DATA = "file:" + "a" * 64, "file:" + "b" * 64
SEEDS = (0, 1, 2)
ARMS = {
    "baseline": {"preset": "short", "p_max": 0.0, "e_scale": 0.0},
    "short": {"preset": "short"},
    "trl": {"preset": "trl"},
}
MARGIN = 1e-4


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def arms(tmp_path_factory, cache):
    """(result, model.tar) by arm and seed."""
    from shared.jobs.local import LocalContext

    found = {}
    for seed in SEEDS:
        for name, params in ARMS.items():
            folder = tmp_path_factory.mktemp(f"{name}-{seed}")
            ctx = LocalContext(folder, cache=cache)
            result = train(TrainParams(text="builtin:stdlib", seed=seed, **params), ctx)
            ctx.close()
            found[name, seed] = result, folder / "model.tar"
    return found


def mean(arms, name, figure):
    return statistics.mean(figure(arms[name, seed][0].exits) for seed in SEEDS)


def test_exits_become_usable_and_the_last_layer_loses_nothing(arms):
    agreement = {
        (name, E): mean(arms, name, lambda exits, E=E: exits[E - 1].agreement) for name in ARMS for E in (2, 4)
    }
    last = {name: mean(arms, name, lambda exits: exits[-1].loss) for name in ARMS}
    gap = {name: mean(arms, name, lambda exits: exits[1].loss - exits[-1].loss) for name in ARMS}
    assert agreement["baseline", 2] <= 0.52
    assert agreement["trl", 2] >= 0.64
    assert agreement["trl", 4] >= 0.75
    assert agreement["trl", 4] >= agreement["baseline", 4] + 0.2
    assert agreement["short", 4] >= agreement["baseline", 4] + 0.12
    assert all(last[name] <= last["baseline"] + 0.06 for name in ARMS)
    assert gap["baseline"] >= 0.6
    assert gap["trl"] <= 0.4


def test_two_hundred_prompts_speculate_to_the_plain_tokens_and_the_simulated_counts(arms, context, tmp_path, kernel):
    """Any divergence must have a top-2 margin of at most 1e-4."""
    opened = open_model(MODEL, context(tmp_path / "ctx", {MODEL: arms["trl", 0][1]}))
    decoder = LlamaDecoder(opened.load(torch.float32, "cpu"), kernel)
    text = shipped("stdlib-valid", tmp_path).read_bytes()
    decoding, diverged = Decoding(decoder, Sampling(), 128), []
    for number in range(200):
        prompt = list(text[1_900 * number : 1_900 * number + 64])
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


def test_on_snips_the_recipe_pays_and_the_baseline_does_not(context, tmp_path, real_data, cache):
    import json

    prompts = [
        json.loads(line)["prompt"] + "\t" for line in (real_data / "snips_parse_test.jsonl").read_text().splitlines()
    ]
    given = {"prompts": prompts[::30][:12], "stop_token_ids": [10], "max_new_tokens": 200, "speculations": [2, 4]}
    rates = {}
    for name in ("baseline", "trl"):
        ctx = context(tmp_path / name, {DATA: real_data / "snips_parse_train.jsonl"})
        train(TrainParams(data=DATA, loss_on="all", seed=0, **ARMS[name]), ctx)
        ctx.close()
        ctx = context(tmp_path / f"{name}-tune", {MODEL: tmp_path / name / "model.tar"})
        result = tune(TuneParams(model=MODEL, exit_layers=[2], confirm=2, repeats=3, **given), ctx)
        ctx.close()
        assert result.counts_equal
        assert result.ids_equal
        rates[name] = next(each.acceptance_rate for each in result.best if each.num_speculations == 4)
    assert rates["baseline"] <= 0.25
    assert rates["trl"] >= 0.40
