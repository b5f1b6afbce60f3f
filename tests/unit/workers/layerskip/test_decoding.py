"""The micro-model's published runs, token for token and step for step; sampling; edge cases of the loop."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from scipy import stats

from shared.models.llama import LlamaConfig
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.batching import BatchDecoding
from workers.layerskip.decoding import Decoding
from workers.layerskip.policies import Plan, Static
from workers.layerskip.simulation import agrees, record, simulate
from workers.layerskip.verification import acceptance, keep_sampled, residual
from workers.layerskip.warping import Sampling, repeated

PROMPT, END, NEW = [3, 1, 4, 1, 5], 31, 24
FULL = "3 2 21 3 2 21 3 2 24 25 21 3 2 21 3 2 21 3 2 21 3 28 3 2"
EXITS = {
    1: "3 2 24 25 21 3 2 24 3 2 21 3 2 24 3 2 21 3 2 24 3 2 21 3",
    2: "3 2 21 3 2 21 3 2 24 25 21 3 2 24 3 2 21 3 2 24 3 2 21 3",
    3: "3 2 21 3 2 21 3 2 24 25 21 3 2 21 3 2 21 3 2 24 3 2 21 3",
}
STEPS = {
    (1, 1): "1/1 0/1 1/1 1/1 1/1 1/1 1/1 0/1 1/1 1/1 1/1 1/1 1/1",
    (1, 4): "2/4 4/4 4/4 0/4 4/4 0/4 1/3 1/1",
    (2, 3): "3/3 3/3 3/3 1/3 3/3 1/3 1/3 1/1",
    (2, 6): "6/6 6/6 5/6 1/3 1/1",
    (3, 6): "6/6 6/6 5/6 1/3 1/1",
    (3, 2): "2/2 2/2 2/2 2/2 2/2 2/2 1/2 1/2 1/1",
}


def ids(text):
    return [int(token) for token in text.split()]


def new(limit=NEW, prompt=PROMPT, ends=(END,)):
    return Answer(prompt, limit, Stopping(limit, frozenset(ends)))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["skinny", "plain"])
def decoding(request, micro_decoder):
    decoder = micro_decoder(2, request.param == "skinny")
    if request.param == "skinny" and decoder.kernel is None:
        pytest.skip("no C++ compiler")
    return Decoding(decoder, Sampling(), 64)


def test_the_micro_models_weights_and_logits_are_the_published_ones(micro_model):
    model = micro_model(2)
    embedding, head = model.model.embed_tokens.weight[0, :4], model.lm_head.weight[31, -2:]
    assert embedding.tolist() == pytest.approx([0.163309544, -0.514867723, 0.806954980, 0.128777727], abs=1e-8)
    assert head.tolist() == pytest.approx([-0.590754569, 0.202339068], abs=1e-8)
    with torch.inference_mode():
        logits = model(torch.tensor([PROMPT]))[0, -1, :4]
    assert logits.tolist() == pytest.approx([-0.802117, 1.639475, -0.806555, 1.892369], abs=2e-6)


def test_plain_decoding_gives_the_published_tokens(decoding):
    assert decoding.plain(new(), rng()).emitted == ids(FULL)


@pytest.mark.parametrize("exit_layer", [1, 2, 3])
def test_an_early_exit_gives_its_published_tokens(decoding, exit_layer):
    assert decoding.plain(new(), rng(), exit_layer=exit_layer).emitted == ids(EXITS[exit_layer])


@pytest.mark.parametrize("place", STEPS, ids=lambda place: f"E{place[0]}K{place[1]}")
def test_self_speculation_gives_the_plain_tokens_in_the_published_steps(decoding, place):
    answer = decoding.speculative(new(), Static(*place), rng())
    assert answer.emitted == ids(FULL)
    assert " ".join(f"{step.accepted}/{step.drafted}" for step in answer.steps) == STEPS[place]


def test_the_pooled_rate_is_the_published_one(decoding):
    answer = decoding.speculative(new(), Static(2, 3), rng())
    assert answer.accepted / answer.drafted == pytest.approx(0.727273, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exit_layer", [1, 2, 3])
def test_one_plain_pass_tells_every_speculative_run(micro_decoder, seed, exit_layer):
    decoding = Decoding(micro_decoder(seed), Sampling(), 64)
    recorded = record(decoding, new(), rng())
    plain = decoding.plain(new(), rng())
    for drafts in (1, 2, 3, 4, 6):
        real = decoding.speculative(new(), Static(exit_layer, drafts), rng())
        assert real.emitted == plain.emitted
        assert agrees(real.steps, simulate(recorded, exit_layer, drafts))


def test_a_run_that_meets_its_end_is_simulated_too(micro_decoder):
    """Some token of the plain run becomes the end: accepted ends stop the draft, without a bonus."""
    met = set()
    for end in (2, 21, 24, 25, 28):
        decoding = Decoding(micro_decoder(2), Sampling(), 64)
        recorded = record(decoding, new(ends=(end,)), rng())
        assert recorded.ended
        for place in ((e, k) for e in (1, 2, 3) for k in (1, 2, 3, 4, 6)):
            real = decoding.speculative(new(ends=(end,)), Static(*place), rng())
            assert real.finish == "eos"
            assert real.emitted == recorded.tokens[:-1]
            assert agrees(real.steps, simulate(recorded, *place))
            met.add(real.steps[-1].accepted == real.steps[-1].drafted)
    assert met == {True, False}


def test_layer_tokens_are_those_of_the_formula(decoding):
    """After the first step: k + 1 tokens in each layer, k + 1 early calls, one late call."""
    answer = decoding.speculative(new(), Static(1, 3), rng())
    early_calls = sum(step.drafted + 1 for step in answer.steps)
    tokens = sum(step.drafted + 1 for step in answer.steps) + len(PROMPT) - 1
    assert answer.layer_calls == early_calls * 1 + len(answer.steps) * 3
    assert answer.layer_tokens == tokens * 4


# Edge cases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("drafts", [0, 1, 4])
def test_one_and_two_new_tokens_are_the_plain_ones(decoding, limit, drafts):
    assert decoding.speculative(new(limit), Static(2, drafts), rng()).emitted == ids(FULL)[:limit]


def test_no_drafts_are_plain_decoding(decoding):
    answer = decoding.speculative(new(), Static(2, 0), rng())
    assert (answer.emitted, answer.drafted, len(answer.steps)) == (ids(FULL), 0, NEW)


def test_a_prompt_of_one_token_is_decoded(decoding):
    plain = decoding.plain(new(prompt=[7]), rng()).emitted
    assert decoding.speculative(new(prompt=[7]), Static(1, 4), rng()).emitted == plain


def test_an_end_as_the_first_token_gives_an_empty_answer(decoding):
    answer = decoding.speculative(new(ends=(3,)), Static(2, 4), rng())
    assert (answer.emitted, answer.finish, answer.drafted) == ([], "eos", 1)


def test_a_drafted_end_that_is_refused_does_not_stop(decoding):
    # Trap: after 3 2 the first layer says 24, here an end token, and the whole model 21.
    answer = decoding.speculative(new(8, ends=(24,)), Static(1, 4), rng())
    assert (answer.emitted, answer.finish) == (ids(FULL)[:8], "length")
    cut = [step for step in answer.steps if step.accepted < step.drafted < 4]
    assert cut  # the draft ended with it, the answer did not


def test_stale_rows_of_rejected_drafts_are_overwritten(micro_decoder):
    # Trap: what a rejected draft left in the cache must not be seen. A cache full of NaN would show it.
    decoding = Decoding(micro_decoder(2), Sampling(), 64)
    for tensor in (*decoding.cache.keys, *decoding.cache.values):
        tensor.fill_(float("nan"))
    assert decoding.speculative(new(), Static(1, 4), rng()).emitted == ids(FULL)


def test_a_cache_is_used_again_for_the_next_prompt(decoding):
    decoding.speculative(new(prompt=[9, 8, 7]), Static(1, 4), rng())
    assert decoding.speculative(new(), Static(1, 4), rng()).emitted == ids(FULL)


# Batches --------------------------------------------------------------------------------------------------------------

PROMPTS = [PROMPT, [7], [9, 8, 7, 6, 5, 4, 3, 2], [1, 2]]


@pytest.mark.parametrize("drafts", [None, 0, 1, 3, 6])
def test_a_batch_of_unlike_prompts_gives_each_its_own_answer_and_steps(micro_decoder, drafts):
    decoder = micro_decoder(2)
    single = Decoding(decoder, Sampling(), 64)
    answers = [new(prompt=prompt, limit=NEW - number) for number, prompt in enumerate(PROMPTS)]
    batch = BatchDecoding(decoder, Sampling(), 64, len(PROMPTS))
    rngs, emits = [rng()] * 4, [lambda tokens: None] * 4
    if drafts is None:
        batch.plain(answers, rngs, emits)
    else:
        batch.speculative(answers, 2, drafts, rngs, emits)
    for number, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True)):
        alone = new(prompt=prompt, limit=NEW - number)
        alone = single.plain(alone, rng()) if drafts is None else single.speculative(alone, Static(2, drafts), rng())
        assert answer.emitted == alone.emitted
        assert answer.steps == alone.steps
        assert (answer.layer_calls, answer.layer_tokens) == (alone.layer_calls, alone.layer_tokens)


def test_a_sampled_batch_draws_what_each_prompt_alone_would(micro_decoder):
    decoder, sampling = micro_decoder(2), Sampling(sample=True, temperature=1.0, top_p=1.0)
    answers = [new(prompt=prompt) for prompt in PROMPTS]
    BatchDecoding(decoder, sampling, 64, 4).speculative(
        answers, 2, 3, [rng(n) for n in range(4)], [lambda tokens: None] * 4
    )
    single = Decoding(decoder, sampling, 64)
    for number, answer in enumerate(answers):
        alone = single.speculative(new(prompt=PROMPTS[number]), Static(2, 3), rng(number))
        assert answer.emitted == alone.emitted


# Sampling -------------------------------------------------------------------------------------------------------------

P, Q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])


def test_acceptance_and_residual_are_those_worked_by_hand():
    assert float(acceptance(P, Q)) == pytest.approx(0.7)
    torch.testing.assert_close(residual(P, Q), torch.tensor([1.0, 0.0, 0.0]))


def test_accepting_or_resampling_gives_back_the_whole_models_distribution():
    kept = torch.minimum(P, Q)
    torch.testing.assert_close(kept + (1 - kept.sum()) * residual(P, Q), P)


def test_equal_distributions_refuse_nothing_and_their_residual_is_themselves():
    assert torch.equal(residual(P, P), P)
    assert keep_sampled([1, 2], torch.stack([P] * 3), torch.stack([P] * 2), rng()).accepted == 2


def test_a_hundred_thousand_draws_are_distributed_as_the_whole_model():
    generator, counts = rng(1), Counter()
    drafts = torch.multinomial(Q, 100_000, replacement=True, generator=generator).tolist()
    p, q = torch.stack([P, P]), Q[None]
    for draft in drafts:
        accepted, token = keep_sampled([draft], p, q, generator)
        counts[draft if accepted else token] += 1
    for token, chance in enumerate(P.tolist()):
        assert counts[token] / 100_000 == pytest.approx(chance, abs=0.005)


@pytest.mark.parametrize("place", [(1, 3), (3, 2)], ids=["E1K3", "E3K2"])
def test_sampled_speculation_follows_the_models_distribution(micro_decoder, place):
    """Chi-square of the second token over the vocabulary, given its exact distribution (summed over the first)."""
    decoder = micro_decoder(2)
    sampling = Sampling(sample=True, temperature=1.0, top_p=1.0, top_k=6)
    decoding = Decoding(decoder, sampling, 16)
    draws, counts = 3_000, Counter()
    for number in range(draws):
        counts[tuple(decoding.speculative(new(2), Static(*place), rng(number)).emitted[:2])] += 1
    expected = _two_tokens(decoder, sampling)
    common = {pair: chance * draws for pair, chance in expected.items() if chance * draws >= 5}
    seen = [counts[pair] for pair in common]
    rest = draws - sum(common.values())
    if rest >= 5:
        seen, common = [*seen, draws - sum(seen)], {**common, "rest": rest}
    total = sum(common.values())
    found = stats.chisquare(seen, [value * sum(seen) / total for value in common.values()])
    assert found.pvalue > 0.001


def _two_tokens(decoder, sampling):
    """The exact distribution of the first two tokens (end tokens aside, which end an answer)."""

    def after(prompt):
        cache = decoder.cache(16)
        with torch.inference_mode():
            x = decoder.run(decoder.embed(torch.tensor(prompt)), cache, 0, 4, 0)
            return sampling.probabilities(decoder.head(x[-1:])[0], prompt)

    pairs = {}
    for first, chance in enumerate(after(PROMPT).tolist()):
        if chance and first == END:
            pairs[()] = chance
        elif chance:
            for second, then in enumerate(after([*PROMPT, first]).tolist()):
                if then:
                    key = (first,) if second == END else (first, second)
                    pairs[key] = pairs.get(key, 0) + chance * then
    return pairs


def test_temperature_zero_is_greedy(micro_decoder):
    decoding = Decoding(micro_decoder(2), Sampling(sample=True, temperature=0), 64)
    assert decoding.speculative(new(), Static(2, 3), rng()).emitted == ids(FULL)


def test_top_k_and_top_p_keep_the_likeliest():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    kept = Sampling(sample=True, temperature=1.0, top_p=1.0, top_k=2).probabilities(logits, [])
    torch.testing.assert_close(kept, torch.tensor([0.625, 0.375, 0, 0]))
    kept = Sampling(sample=True, temperature=1.0, top_p=0.7).probabilities(logits, [])
    torch.testing.assert_close(kept, torch.tensor([0.625, 0.375, 0, 0]))


# Histories ------------------------------------------------------------------------------------------------------------


def test_no_ngram_comes_twice_and_speculation_sees_the_true_prefix(micro_decoder):
    # Trap: processors that see only the newest token do nothing, or part the speculative run from the plain one.
    decoding = Decoding(micro_decoder(2), Sampling(no_repeat_ngram_size=2), 64)
    plain = decoding.plain(new(), rng()).emitted
    pairs = list(pairwise([*PROMPT, *plain]))
    assert len(pairs) == len(set(pairs))
    assert plain != ids(FULL)
    for place in ((1, 3), (2, 4), (3, 6)):
        assert decoding.speculative(new(), Static(*place), rng()).emitted == plain


def test_banned_tokens_are_those_that_would_complete_a_seen_ngram():
    assert repeated([1, 2, 3, 1, 2], 3) == [3]
    assert repeated([1, 2, 3], 0) == []
    assert repeated([1], 2) == []


# Exits are looked at --------------------------------------------------------------------------------------------------


class Looking(Static):
    """Keeps what every exit's matches were."""

    def __init__(self, exit_layer, drafts):
        super().__init__(exit_layer, drafts)
        self.seen = []

    def plan(self):
        return Plan(self.exit_layer, self.drafts, look=True)

    def learn(self, step, matches):
        self.seen.append((step, matches))


@pytest.mark.parametrize("place", [(1, 3), (2, 4), (3, 2)], ids=str)
def test_shadow_matches_of_every_exit_are_those_of_the_plain_pass(micro_decoder, place):
    decoding = Decoding(micro_decoder(2), Sampling(), 64)
    recorded = record(decoding, new(), rng())
    policy = Looking(*place)
    decoding.speculative(new(), policy, rng())
    for exit_layer in (1, 2, 3):
        shadow = [match for _, matches in policy.seen for match in matches[exit_layer - 1]]
        assert shadow == recorded.matches(exit_layer)


def test_a_configuration_says_its_shape():
    assert LlamaConfig(32, 16, 24, 4, 2, 2, 8).tied is False
