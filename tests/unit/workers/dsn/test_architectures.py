"""Other models than the stand-in: sliding windows, alternating attention, scaled embeddings, bfloat16."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from workers.dsn.candidate_losses import CandidateLosses
from workers.dsn.conversation import Conversation, Parts
from workers.dsn.gradient import CandidateGradient
from workers.dsn.prompts import Objective, Prompt
from workers.dsn.search import Search, Width, prefix_reuse_is_exact

V, WINDOW = 60, 6
SIZES = {"vocab_size": V, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "max_position_embeddings": 64}  # fmt: skip
ONE = Conversation(tuple(range(10, 20)), (1, 2, 3, 4, 5), (8, 9), (20, 21, 22), Parts("", ""))
OTHER = Conversation(tuple(range(30, 37)), (1, 2, 3, 4, 5), (8, 9), (20, 23, 22), Parts("", ""))
DSN = Objective(10.0, True)


def build(kind):
    torch.manual_seed(0)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES))
    if kind == "sliding window":
        return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW, head_dim=8))
    if kind == "alternating attention":
        return Gemma2ForCausalLM(Gemma2Config(**SIZES, sliding_window=WINDOW, head_dim=8, query_pre_attn_scalar=8))
    if kind == "scaled embeddings":
        return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=WINDOW, head_dim=8))
    return GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=16, n_layer=2, n_head=2, n_positions=64))


KINDS = ("llama", "sliding window", "alternating attention", "scaled embeddings", "learned positions")


@pytest.fixture(params=KINDS)
def model(request):
    made = build(request.param).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)  # wide, so that losses differ
    return made


@pytest.fixture
def prompts(model):
    return [Prompt(model, one, [[40, 41], [42]], cosine_decay=True) for one in (ONE, OTHER)]


def candidates(count=40):
    generator = torch.Generator().manual_seed(1)
    drawn = torch.tensor([ONE.suffix] * count)
    drawn[torch.arange(count), torch.arange(count) * 5 // count] = torch.randint(10, V, (count,), generator=generator)
    return drawn


@pytest.mark.parametrize("groups", [1, 4])
def test_a_cached_prefix_changes_no_loss_whatever_the_attention(model, prompts, groups):
    plain = CandidateLosses(model, prompts, reuse=False).of(candidates())
    if not prefix_reuse_is_exact(model, prompts[0]):
        pytest.fail("reuse is off for this kind of model")
    reused = CandidateLosses(model, prompts, groups=groups).of(candidates(), ONE.suffix)
    torch.testing.assert_close(plain.total(10), reused.total(10), atol=2e-4, rtol=1e-4)


def test_the_gradient_is_that_of_the_one_hot_rows_whatever_scales_the_embeddings(model, prompts):
    """Against a small step along one token's direction: G[l, v] is the slope of the loss."""
    ours = CandidateGradient(model, prompts, DSN).of(ONE.suffix)
    plain = CandidateGradient(model, prompts, DSN, reuse=False).of(ONE.suffix)
    torch.testing.assert_close(ours, plain, atol=1e-3, rtol=1e-3)
    embed, step = model.get_input_embeddings(), 1e-3
    rows = embed(torch.arange(V)).detach()

    def loss(shift):
        total = 0.0
        for prompt in prompts:
            before = embed(prompt.before)
            inside = embed(torch.tensor([ONE.suffix])) + shift
            out = model(inputs_embeds=torch.cat([before, inside, embed(prompt.end)[None]], 1)).logits[:, -prompt.rows :]
            total += float(prompt.losses(out, with_refusal=False).target)
        return total

    for place, token in ((0, 7), (3, 50)):
        shift = torch.zeros(1, 5, rows.shape[1])
        shift[0, place] = step * rows[token]
        slope = (loss(shift) - loss(-shift)) / (2 * step)
        assert float(ours[place, token]) == pytest.approx(slope, rel=0.05, abs=0.05)


def test_a_search_in_bfloat16_runs_with_reuse_and_finite_losses(model):
    half = model.to(torch.bfloat16)
    prompts = [Prompt(half, one, [[40, 41], [42]], cosine_decay=True) for one in (ONE, OTHER)]
    search = Search(half, prompts, DSN, Width(32, 20), torch.zeros(V, dtype=torch.bool), None)
    search.begin(ONE.suffix, 0)
    steps = [search.step() for _ in range(3)]
    assert all(abs(step.total) < 1e3 for step in steps)
    assert steps[-1].best_total <= steps[0].total
