"""One search step against a plain one, and the engine's parts: positions, draws, filter, batches, resuming."""

import copy
from itertools import pairwise

import pytest
import torch

from shared.jobs.errors import InvalidInput, Permanent
from workers.dsn import candidate_losses
from workers.dsn.candidate_losses import CandidateLosses
from workers.dsn.candidates import draw, forbidden_tokens, normalised, positions, top_tokens
from workers.dsn.gradient import CandidateGradient
from workers.dsn.objective import RefusalWeights, decay_weights, window_losses
from workers.dsn.prefix import expanded, extended, prefix_cache
from workers.dsn.prompts import Objective, Prompt
from workers.dsn.reachability import Reachability
from workers.dsn.search import Search, Width

GCG, DSN = Objective(0.0, False), Objective(10.0, True)
BANGS = "! ! ! ! ! !"


@pytest.fixture(scope="module")
def conversations(chat, restricted):
    """Three phrasings: three lengths."""
    return [chat.conversation(restricted[n].text, BANGS, restricted[n].target) for n in (0, 61, 122)]


@pytest.fixture(scope="module")
def forbidden(loaded):
    return forbidden_tokens(loaded.tokenizer, 226, allow_non_ascii=False)


@pytest.fixture(scope="module")
def prompts(loaded, conversations, keywords):
    def make(objective):
        return [Prompt(loaded.model, one, keywords, cosine_decay=objective.cosine_decay) for one in conversations]

    return {objective: make(objective) for objective in (GCG, DSN)}


@pytest.fixture
def make_search(loaded, prompts, forbidden, chat, conversations):
    def make(objective=DSN, width=Width(32, 48), filtered=True, seed=3):  # noqa: B008
        reachability = Reachability(chat, conversations) if filtered else None
        base = objective if objective in prompts else DSN
        search = Search(loaded.model, prompts[base], objective, width, forbidden, reachability)
        search.begin(conversations[0].suffix, seed)
        return search

    return make


# The plain form of one step, as the paper's algorithm reads -----------------------------------------------------------


def plain_loss(model, conversation, suffix, keywords, objective):
    """Target and refusal loss of one whole conversation, from all of its logits."""
    ids = torch.tensor([[*conversation.before, *suffix, *conversation.after, *conversation.target]])
    rows = len(conversation.target) + 1
    logits = model(input_ids=ids).logits[:, -rows:]
    decay = decay_weights(rows - 1) if objective.cosine_decay else torch.ones(rows - 1)
    return window_losses(logits, torch.tensor(conversation.target), decay, RefusalWeights.build(keywords, rows))


def plain_gradient(model, conversations, suffix, objective):
    """d target loss / d one-hot, with one-hot rows times the whole embedding matrix."""
    total = torch.zeros(len(suffix), 226)
    matrix = model.get_input_embeddings().weight.detach()
    for one in conversations:
        hot = torch.nn.functional.one_hot(torch.tensor(suffix), 226).float().requires_grad_()
        parts = [matrix[list(one.before)], hot @ matrix, matrix[[*one.after, *one.target]]]
        rows = len(one.target) + 1
        logits = model(inputs_embeds=torch.cat(parts)[None]).logits[:, -rows:]
        decay = decay_weights(rows - 1) if objective.cosine_decay else torch.ones(rows - 1)
        loss = window_losses(logits, torch.tensor(one.target), decay, None).target
        total += torch.autograd.grad(loss.sum(), hot)[0]
    return total


@pytest.mark.parametrize("objective", [GCG, DSN], ids=["gcg", "dsn"])
def test_one_full_step_equals_the_plain_form(
    loaded, prompts, conversations, keywords, forbidden, make_search, objective
):
    """Gradient, allowed top tokens, drawn candidates, losses and the chosen tokens."""
    model, suffix = loaded.model, conversations[0].suffix
    gradient = plain_gradient(model, conversations, suffix, objective)
    ours = CandidateGradient(model, prompts[objective], objective).of(suffix)
    torch.testing.assert_close(ours, gradient, atol=1e-5, rtol=1e-4)
    scaled = gradient / gradient.norm(dim=-1, keepdim=True)
    scaled[:, forbidden] = float("inf")
    top = (-scaled).topk(48).indices
    generator = torch.Generator().manual_seed(3)
    picks = torch.randint(0, 48, (32,), generator=generator)
    drawn = []
    for i in range(32):
        at = i * len(suffix) // 32
        candidate = list(suffix)
        candidate[at] = int(top[at, picks[i]])
        if tuple(candidate) != suffix and tuple(candidate) not in drawn:
            drawn.append(tuple(candidate))
    search = make_search(objective)
    assert search.draw() == drawn
    with torch.no_grad():
        losses = [[plain_loss(model, one, c, keywords, objective) for one in conversations] for c in drawn]
    totals = [sum(float(each.total(objective.alpha)) for each in row) / 3 for row in losses]
    step = make_search(objective).step()
    assert step.suffix == drawn[min(range(len(totals)), key=totals.__getitem__)]
    assert step.total == pytest.approx(min(totals), abs=1e-5)


def test_gcg_is_the_dsn_engine_without_decay_and_alpha(loaded, conversations, keywords, make_search, forbidden):
    """The same trajectory for the same seed, refusal weights or not."""
    with_keywords = make_search(GCG, filtered=False)
    bare = [Prompt(loaded.model, one, [], cosine_decay=False) for one in conversations]
    without = Search(loaded.model, bare, GCG, Width(32, 48), forbidden, None)
    without.begin(conversations[0].suffix, 3)
    for _ in range(5):
        one, other = with_keywords.step(), without.step()
        assert (one.suffix, one.total) == (other.suffix, pytest.approx(other.total, abs=1e-9))


def test_the_chosen_candidates_loss_is_what_a_fresh_computation_gives(loaded, conversations, keywords, make_search):
    search = make_search()
    for _ in range(3):
        step = search.step()
        with torch.no_grad():
            fresh = [plain_loss(loaded.model, one, step.suffix, keywords, DSN) for one in conversations]
        assert step.total == pytest.approx(sum(float(each.total(10)) for each in fresh) / 3, abs=1e-5)


def test_a_step_always_moves_and_the_best_is_kept_beside_it(make_search):
    search = make_search(width=Width(2, 200))
    steps = [search.step() for _ in range(12)]
    assert any(b.total > a.total for a, b in pairwise(steps))
    assert [s.best_total for s in steps] == [min(s.total for s in steps[: n + 1]) for n in range(12)]
    assert search.total(search.best_losses) == min(s.total for s in steps)


def test_permuting_prompts_changes_nothing(loaded, prompts, conversations):
    candidates = torch.tensor([conversations[0].suffix, tuple(range(100, 106))])
    one = CandidateLosses(loaded.model, prompts[DSN]).of(candidates)
    other = CandidateLosses(loaded.model, prompts[DSN][::-1]).of(candidates)
    torch.testing.assert_close(one.total(10), other.total(10))


def test_the_refusal_loss_enters_the_gradient_only_when_asked_to(loaded, prompts, conversations):
    suffix = conversations[0].suffix

    def gradient(objective):
        return CandidateGradient(loaded.model, prompts[DSN], objective).of(suffix)

    plain, with_refusal = gradient(DSN), gradient(Objective(10.0, True, True))
    torch.testing.assert_close(plain, gradient(Objective(99.0, True)))
    assert not torch.allclose(plain, with_refusal)
    own = gradient(Objective(10.0, True, True, grad_alpha=0.0))
    torch.testing.assert_close(plain, own)


# Reuse and batches ----------------------------------------------------------------------------------------------------


@pytest.fixture
def candidates(make_search):
    search = make_search(width=Width(120, 48), filtered=False)
    return torch.tensor(search.draw()), search.current


@pytest.mark.parametrize("groups", [1, 2, 4, 6])
def test_cached_and_uncached_losses_agree_in_every_grouping(loaded, prompts, candidates, groups):
    drawn, current = candidates
    plain = CandidateLosses(loaded.model, prompts[DSN], reuse=False).of(drawn)
    reused = CandidateLosses(loaded.model, prompts[DSN], groups=groups).of(drawn, current)
    torch.testing.assert_close(plain.total(10), reused.total(10), atol=1e-5, rtol=0)


def test_gradients_agree_with_and_without_reuse(loaded, prompts, conversations):
    one, other = (
        CandidateGradient(loaded.model, prompts[DSN], DSN, reuse=r).of(conversations[0].suffix) for r in (0, 1)
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_prefix_is_not_lengthened_by_the_batches_that_use_it(loaded, conversations):
    ids = torch.tensor([conversations[0].before])
    cache = prefix_cache(loaded.model, ids)
    for _ in range(3):
        loaded.model(input_ids=torch.tensor([[7, 8]] * 4), past_key_values=expanded(cache, 4), use_cache=True)
        extended(loaded.model, cache, torch.tensor([[9]]))
    assert cache.get_seq_length() == ids.shape[1]


class Hungry:
    """A model that runs out of memory beyond so many rows."""

    def __init__(self, model, rows, error=torch.OutOfMemoryError):
        self.model, self.rows, self.error, self.batches = model, rows, error, []

    def __call__(self, **inputs):
        rows = inputs["input_ids"].shape[0]
        if rows > self.rows:
            raise self.error("DefaultCPUAllocator: can't allocate memory")
        self.batches.append(rows)
        return self.model(**inputs)

    def __getattr__(self, name):
        return getattr(self.model, name)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_batches_halve_when_memory_runs_out_and_nothing_else_changes(loaded, prompts, candidates, error):
    drawn, current = candidates
    whole = CandidateLosses(loaded.model, prompts[DSN]).of(drawn, current)
    hungry = CandidateLosses(Hungry(loaded.model, 9, error), prompts[DSN])
    found = hungry.of(drawn, current)
    torch.testing.assert_close(whole.total(10), found.total(10), atol=1e-5, rtol=0)
    assert hungry.most_rows <= 9
    assert max(hungry._model.batches) <= 9


class HungryBackward(Hungry):
    """Runs out of memory where more than so many prompts are in one pass, or were kept for one backward pass."""

    def __init__(self, model, prompts, at_once):
        super().__init__(model, prompts)
        self.at_once, self.held = at_once, 0

    def __call__(self, **inputs):
        rows = inputs["inputs_embeds"].shape[0]
        self.held += rows
        if rows > self.rows or self.held > self.at_once:
            self.held = 0
            raise torch.OutOfMemoryError
        self.batches.append(rows)
        return self.model(**inputs)


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("rows", [4, 2, 1])
def test_a_gradient_takes_fewer_prompts_at_a_time_when_memory_runs_out(loaded, chat, restricted, keywords, reuse, rows):
    """Seven prompts of two lengths, so two groups; the whole sum is the same."""
    made = [chat.conversation(restricted[n].text, BANGS, restricted[n].target) for n in (0, 3, 6, 9, 12, 1, 4)]
    prompts = [Prompt(loaded.model, one, keywords, cosine_decay=True) for one in made]
    suffix = made[0].suffix
    whole = CandidateGradient(loaded.model, prompts, DSN, reuse=reuse).of(suffix)
    short = CandidateGradient(loaded.model, prompts, DSN, reuse=reuse)
    hungry = HungryBackward(loaded.model, rows, 99)
    short._model = hungry
    torch.testing.assert_close(short.of(suffix), whole, atol=1e-5, rtol=1e-4)
    assert max(hungry.batches) <= rows
    assert short.most_prompts <= rows


def test_groups_go_backward_by_themselves_before_any_of_them_is_halved(loaded, chat, restricted, keywords):
    made = [chat.conversation(restricted[n].text, BANGS, restricted[n].target) for n in (0, 3, 1, 4)]
    prompts = [Prompt(loaded.model, one, keywords, cosine_decay=True) for one in made]
    gradient = CandidateGradient(loaded.model, prompts, DSN)
    whole = gradient.of(made[0].suffix)
    assert gradient.most_prompts is None
    gradient._model = HungryBackward(loaded.model, 99, 3)
    loss = gradient._loss

    def fresh(*args):
        if gradient.most_prompts is not None:
            gradient._model.held = 0  # each group's backward pass frees what it held
        return loss(*args)

    gradient._loss = fresh
    torch.testing.assert_close(gradient.of(made[0].suffix), whole, atol=1e-5, rtol=1e-4)
    assert gradient.most_prompts == 2


def test_a_prompt_whose_gradient_does_not_fit_alone_says_so_and_another_error_is_let_through(loaded, prompts):
    suffix = prompts[DSN][0].conversation.suffix
    gradient = CandidateGradient(loaded.model, prompts[DSN], DSN)
    gradient._model = HungryBackward(loaded.model, 0, 0)
    with pytest.raises(Permanent, match="not even one row"):
        gradient.of(suffix)
    gradient._loss = lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        gradient.of(suffix)


def test_how_many_prompts_go_together_is_part_of_what_a_search_resumes(make_search):
    search, resumed = make_search(), make_search(seed=9)
    search._gradient.take(1)
    search.step()
    resumed.restore(copy.deepcopy(search.state()))
    assert resumed._gradient.most_prompts == 1
    assert resumed.step() == search.step()


def test_one_row_that_does_not_fit_says_so_and_another_error_is_let_through(loaded, prompts, candidates):
    with pytest.raises(Permanent, match="not even one row"):
        CandidateLosses(Hungry(loaded.model, 0), prompts[DSN]).of(candidates[0])
    other = Hungry(loaded.model, 0, lambda _: RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        CandidateLosses(other, prompts[DSN]).of(candidates[0])


def test_a_model_whose_cache_works_otherwise_runs_without_reuse(loaded, prompts, conversations, forbidden, monkeypatch):
    from workers.dsn import search as searching

    monkeypatch.setattr(searching, "prefix_reuse_is_exact", lambda model, prompt: False)
    search = Search(loaded.model, prompts[DSN], DSN, Width(8, 48), forbidden, None)
    search.begin(conversations[0].suffix, 0)
    assert not search.reuses_prefix
    assert search.step().number == 1


def test_groups_are_used_where_they_keep_enough_rows(loaded, prompts):
    losses = CandidateLosses(loaded.model, prompts[DSN])
    few, many = torch.zeros(60, 20, dtype=torch.long), torch.zeros(432, 20, dtype=torch.long)
    for rows in (few, many):
        for n, at in enumerate(positions(20, len(rows))):
            rows[n, at] = 1
    current = [0] * 20
    assert len(losses._starts(few, current)) == 1
    starts = losses._starts(many, current)
    assert len(starts) == 432 // candidate_losses.GROUP_ROWS
    assert [shared for _, _, shared in starts] == [0, 4, 8, 12, 16]


# Candidates -----------------------------------------------------------------------------------------------------------


def test_positions_are_spread_by_integers():
    assert positions(4, 6) == [0, 0, 1, 2, 2, 3]


@pytest.mark.parametrize(("length", "batch"), [(9, 500), (11, 1000), (18, 500), (22, 1000), (36, 500), (8, 3)])
def test_there_is_one_position_per_candidate_for_every_pair(length, batch):
    """A float range over [0, L) in steps of L/B has B + 1 entries for these."""
    found = positions(length, batch)
    assert len(found) == batch
    assert max(found) < length


def test_drawn_candidates_differ_from_the_suffix_and_from_each_other_by_one_token():
    suffix = (1, 2, 3, 4)
    drawn = draw(suffix, torch.tensor([[1, 9], [2, 9], [3, 9], [4, 9]]), 64, torch.Generator().manual_seed(0))
    assert sorted(drawn) == sorted([(9, 2, 3, 4), (1, 9, 3, 4), (1, 2, 9, 4), (1, 2, 3, 9)])


def test_forbidden_tokens_are_never_among_the_top_and_k_shrinks_to_what_is_allowed():
    gradient = torch.tensor([[-9.0, 1.0, 0.5, -1.0]])
    forbidden = torch.tensor([True, False, False, True])
    assert top_tokens(gradient, forbidden, 10).tolist() == [[2, 1]]


def test_a_zero_gradient_row_stays_finite():
    assert normalised(torch.zeros(2, 3)).tolist() == [[0, 0, 0]] * 2


def test_special_tokens_and_ids_beyond_the_tokenizer_are_forbidden(loaded):
    forbidden = forbidden_tokens(loaded.tokenizer, 230, allow_non_ascii=True)
    assert forbidden.nonzero().squeeze(-1).tolist() == [0, 1, 2, 3, 4, 5, 226, 227, 228, 229]


# The filter -----------------------------------------------------------------------------------------------------------


def test_candidates_that_read_back_as_something_else_are_dropped(chat, conversations):
    reachability = Reachability(chat, conversations)
    readable, unknown = conversations[0].suffix, (*conversations[0].suffix[:-1], 1)  # <unk> reads back as itself
    special = (*conversations[0].suffix[:-1], 0)
    assert reachability.reachable([readable, special, unknown])[0] == readable
    assert reachability.reachable([(130, 131)]) == [(130, 131)]


def test_the_filter_asks_about_a_candidate_once_per_border(chat, conversations, monkeypatch):
    reachability = Reachability(chat, conversations)
    asked = []
    ask = reachability._ask
    monkeypatch.setattr(reachability, "_ask", lambda b, c, names: (asked.append(len(names)), ask(b, c, names)))
    reachability.reachable([(130, 131), (131, 130)])
    reachability.reachable([(130, 131)])
    borders = {(one.before[-1], one.after[0]) for one in conversations}
    assert asked == [2] * len(borders)


def test_without_a_survivor_it_draws_once_more_and_then_says_what_to_change(make_search, monkeypatch):
    search = make_search()
    monkeypatch.setattr(search._reachability, "reachable", lambda candidates: [])
    with pytest.raises(InvalidInput, match="suffix_init"):
        search.step()


# Resuming -------------------------------------------------------------------------------------------------------------


def test_a_restored_search_goes_on_to_the_same_bits(make_search):
    whole = make_search()
    first = [whole.step() for _ in range(3)]
    saved = copy.deepcopy(whole.state())
    rest = [whole.step() for _ in range(3)]
    resumed = make_search(seed=77)
    resumed.restore(saved)
    assert [resumed.step() for _ in range(3)] == rest
    assert first[-1].number == 3


def test_another_seed_gives_another_trajectory(make_search):
    assert [make_search(seed=1).step().suffix, make_search(seed=1).step().suffix].count(
        make_search(seed=1).step().suffix
    ) == 2
    assert make_search(seed=1).step().suffix != make_search(seed=2).step().suffix
