"""What becomes of one prompt: ends, stop words, limits, counts; and which drafts stand."""

from collections import Counter

import pytest
import torch

from workers.layerskip.answers import Answer, Step, Stopping
from workers.layerskip.tokenising import Bytes
from workers.layerskip.verification import Verified, acceptance, drawn, keep_greedy, keep_sampled, residual
from workers.layerskip.warping import Sampling, nucleus, repeated


def answer(limit=10, ends=(), words=(), asked=None, prompt=(1, 2)):
    stopping = Stopping(limit if asked is None else asked, frozenset(ends), tuple(words))
    return Answer(list(prompt), limit, stopping, Bytes())


def text(said):
    return list(said.encode())


# Ends -----------------------------------------------------------------------------------------------------------------


def test_tokens_are_taken_up_to_the_limit_and_no_further():
    found = answer(limit=3)
    assert found.commit([5, 6]) == [5, 6]
    assert found.finish is None
    assert found.commit([7, 8, 9]) == [7]
    assert (found.emitted, found.finish, found.left) == ([5, 6, 7], "length", 0)


def test_a_limit_that_is_the_contexts_says_so():
    found = answer(limit=3, asked=100)
    found.commit([5, 6, 7])
    assert found.finish == "context"


def test_an_end_token_is_not_emitted_and_hides_what_follows():
    found = answer(ends=(9,))
    assert found.commit([5, 9, 6, 9]) == [5]
    assert (found.emitted, found.finish, found.uncut) == ([5], "eos", 4)


def test_any_of_several_ends_ends():
    for end in (8, 9):
        found = answer(ends=(8, 9))
        found.commit([end])
        assert (found.emitted, found.finish) == ([], "eos")


def test_an_end_beyond_the_limit_is_not_met():
    found = answer(limit=1, ends=(9,))
    found.commit([5, 9])
    assert found.finish == "length"


# Stop words -----------------------------------------------------------------------------------------------------------


def test_text_is_cut_where_a_stop_word_begins():
    found = answer(limit=50, words=("def",))
    found.commit(text("x = 1\ndef f"))
    assert (found.text, found.finish) == ("x = 1\n", "stop")
    assert Bytes().decode(found.emitted) == "x = 1\n"


def test_a_stop_word_may_come_in_pieces_over_several_steps():
    found = answer(limit=50, words=("stop",))
    for piece in ("go st", "o", "p here"):
        found.commit(text(piece))
        if found.finish:
            break
    assert (found.text, found.finish) == ("go ", "stop")


def test_the_first_of_several_stop_words_counts():
    found = answer(limit=50, words=("zz", "b"))
    found.commit(text("aab zz"))
    assert found.text == "aa"


def test_a_stop_word_at_once_leaves_nothing():
    found = answer(limit=50, words=("a",))
    found.commit(text("abc"))
    assert (found.text, found.emitted) == ("", [])


def test_tokens_after_a_stop_word_in_an_accepted_run_do_not_count():
    found = answer(limit=50, words=("!",))
    assert found.commit(text("hi! more")) == text("hi")


# Counts ---------------------------------------------------------------------------------------------------------------


def test_drafts_and_calls_are_summed_over_steps():
    found = answer()
    found.steps += [Step(2, 4, 3), Step(2, 4, 0), Step(2, 1, 1)]
    found.ran(2, 5)
    found.ran(6, 1)
    assert (found.drafted, found.accepted) == (9, 4)
    assert (found.layer_calls, found.layer_tokens) == (8, 16)


def test_the_history_is_prompt_and_answer():
    found = answer(prompt=(1, 2))
    found.commit([3])
    assert found.history == [1, 2, 3]


# Which drafts stand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drafts", "targets", "accepted", "then"),
    [
        pytest.param([1, 2, 3], [1, 2, 3, 4], 3, 4, id="all-and-a-bonus"),
        pytest.param([1, 2, 3], [1, 9, 3, 4], 1, 9, id="up-to-the-first-wrong-one"),
        pytest.param([1, 2, 3], [9, 2, 3, 4], 0, 9, id="none"),
        pytest.param([], [7], 0, 7, id="no-drafts-are-a-plain-step"),
    ],
)
def test_greedy_drafts_stand_up_to_the_first_that_differs(drafts, targets, accepted, then):
    assert keep_greedy(drafts, targets) == Verified(accepted, then)


def test_a_draft_the_whole_model_never_says_is_always_refused():
    p, q = torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    for seed in range(20):
        assert keep_sampled([0], p, q, torch.Generator().manual_seed(seed)) == Verified(0, 1)


def test_a_draft_the_whole_model_likes_better_is_always_accepted():
    p, q = torch.tensor([[0.9, 0.1], [0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    for seed in range(20):
        assert keep_sampled([0], p, q, torch.Generator().manual_seed(seed)) == Verified(1, 1)


def test_a_draft_is_accepted_as_often_as_the_ratio_says():
    p, q = torch.tensor([[0.25, 0.75], [0.0, 1.0]]), torch.tensor([[0.5, 0.5]])
    generator = torch.Generator().manual_seed(0)
    share = sum(keep_sampled([0], p, q, generator).accepted for _ in range(4000)) / 4000
    assert share == pytest.approx(0.5, abs=0.03)


def test_after_a_refusal_nothing_more_is_looked_at():
    p = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert keep_sampled([0, 0], p, q, torch.Generator().manual_seed(0)).accepted == 0


def test_the_residual_is_the_positive_part_normed():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.5, 0.1])
    torch.testing.assert_close(residual(p, q), torch.tensor([0.5, 0.0, 0.5]))


def test_expected_acceptance_is_the_common_mass_of_every_row():
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    q = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    torch.testing.assert_close(acceptance(p, q), torch.tensor([0.75, 0.0]))


def test_draws_follow_the_distribution_and_never_leave_its_support():
    generator = torch.Generator().manual_seed(0)
    chances = torch.tensor([0.0, 0.2, 0.0, 0.8, 0.0])
    counts = Counter(drawn(chances, generator) for _ in range(5000))
    assert set(counts) == {1, 3}
    assert counts[3] / 5000 == pytest.approx(0.8, abs=0.02)


# Warping --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "gap"), [(0.5, 2.0), (1.0, 1.0), (2.0, 0.5)])
def test_temperature_divides_the_logits(temperature, gap):
    sampling = Sampling(sample=True, temperature=temperature, top_p=1.0)
    found = sampling.probabilities(torch.tensor([1.0, 0.0]), [])
    assert float(torch.log(found[0] / found[1])) == pytest.approx(gap, abs=1e-5)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, [0]), (0.5, [0]), (0.51, [0, 1]), (0.8, [0, 1]), (0.81, [0, 1, 2]), (1.0, [0, 1, 2, 3])]
)
def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass(top_p, kept):
    found = nucleus(torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64), top_p)
    assert found.nonzero().flatten().tolist() == kept
    assert float(found.sum()) == pytest.approx(1.0)


def test_top_k_comes_before_top_p():
    sampling = Sampling(sample=True, temperature=1.0, top_k=2, top_p=0.6)
    found = sampling.probabilities(torch.log(torch.tensor([0.4, 0.35, 0.25])), [])
    assert found.nonzero().flatten().tolist() == [0, 1]  # of the two kept, .533 alone is below .6


def test_a_banned_token_has_no_chance_and_the_likeliest_other_is_best():
    sampling = Sampling(sample=True, temperature=1.0, top_p=1.0, no_repeat_ngram_size=2)
    logits, history = torch.tensor([0.0, 3.0, 1.0]), [2, 1, 2]
    assert float(sampling.probabilities(logits, history)[1]) == 0.0
    assert sampling.best(logits, history) == 2
    assert logits.tolist() == [0.0, 3.0, 1.0]  # left as they were


@pytest.mark.parametrize(
    ("history", "n", "banned"),
    [
        pytest.param([1, 2, 1], 2, [2], id="bigram"),
        pytest.param([1, 1, 1], 1, [1, 1, 1], id="unigrams-ban-all-that-was"),
        pytest.param([1, 2, 3, 1, 2, 4, 1, 2], 3, [3, 4], id="two-ways-on"),
        pytest.param([1, 2, 3], 4, [], id="too-short"),
    ],
)
def test_what_would_complete_a_seen_ngram_is_banned(history, n, banned):
    assert repeated(history, n) == banned


def test_greedy_sampling_is_said_by_the_flag_or_by_temperature_zero():
    assert Sampling().is_greedy
    assert Sampling(sample=True, temperature=0).is_greedy
    assert not Sampling(sample=True).is_greedy
