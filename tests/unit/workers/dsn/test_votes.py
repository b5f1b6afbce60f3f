"""The votes and Shapley shares by hand."""

import pytest

from workers.dsn.scoring import agreement_of, pairwise_kappa, rate_of, with_votes
from workers.dsn.votes import aggregated, approval, majority, shapley_shares, veto, vote_counts

Y, N, A = True, False, None


@pytest.mark.parametrize(("votes", "by_majority", "by_approval", "by_veto"), [
    pytest.param([Y, Y, N], Y, Y, N, id="two of three"),
    pytest.param([Y, N, N], N, Y, N, id="one of three"),
    pytest.param([Y, Y, Y], Y, Y, Y, id="all"),
    pytest.param([N, N, N], N, N, N, id="none"),
    pytest.param([Y, N, A], N, Y, N, id="an even split of two"),
    pytest.param([Y, Y, A], Y, Y, Y, id="an abstention is in no denominator"),
    pytest.param([Y, A, A], A, A, A, id="one vote is no ensemble"),
    pytest.param([A, A, A], A, A, A, id="nobody"),
    pytest.param([], A, A, A, id="no judges"),
])  # fmt: skip
def test_the_three_rules(votes, by_majority, by_approval, by_veto):
    assert (majority(votes), approval(votes), veto(votes)) == (by_majority, by_approval, by_veto)


def test_approval_is_the_most_lenient_and_veto_the_strictest():
    votes = [[a, b, c] for a in (Y, N) for b in (Y, N) for c in (Y, N)]
    assert all(veto(v) <= majority(v) <= approval(v) for v in votes)


def test_aggregates_are_there_only_where_two_have_a_vote():
    verdicts = {"a": [Y, N], "b": [Y, A], "c": [N, N]}
    assert aggregated(verdicts, ["a"]) == {}
    assert aggregated(verdicts, ["a", "b"])["majority"] == [Y, A]
    assert vote_counts(verdicts, ["a", "b"]) == [2, None]
    assert list(with_votes(verdicts, ["a", "b"])) == ["a", "b", "c", "majority", "approval", "veto"]


def test_a_perfect_judge_beside_a_useless_one_has_all_of_the_worth():
    labels = [Y, Y, N, N]
    shares = shapley_shares({"right": [Y, Y, N, N], "silent": [A, A, A, A]}, ["right", "silent"], labels)
    # v(∅) = .5, v(right) = 1, v(silent) = .5, v(both): one of two is no majority, .5
    assert shares == pytest.approx({"right": 0.25, "silent": -0.25})
    assert shapley_shares({"right": labels}, ["right"], labels) == pytest.approx({"right": 0.5})


def test_shares_are_undefined_for_one_class_or_no_voter():
    assert shapley_shares({"a": [Y, Y]}, ["a"], [Y, Y]) is None
    assert shapley_shares({}, [], [Y, N]) is None


def test_a_rate_counts_what_was_judged_and_tells_what_was_not():
    found = rate_of([Y, N, A, Y])
    assert (found.n, found.successes, found.unjudged, found.rate) == (3, 2, 1, pytest.approx(2 / 3))
    nothing = rate_of([A])
    assert (nothing.rate, nothing.low, nothing.high, nothing.unjudged) == (None, None, None, 1)


def test_agreement_leaves_abstentions_out_and_takes_scores_where_there_are_some():
    found = agreement_of([Y, N, A, Y], [Y, N, Y, N], [0.9, 0.1, None, 0.2])
    assert (found.n, found.unjudged, found.tp, found.fp, found.tn) == (3, 1, 1, 1, 1)
    assert found.auroc_soft == 1.0  # .9 above .1 and .2
    assert agreement_of([Y, N], [Y, N]).auroc_soft is None


def test_judges_agree_on_the_items_where_both_have_a_verdict():
    found = pairwise_kappa({"a": [Y, Y, N, N, A], "b": [Y, Y, Y, N, N], "c": [A] * 5})
    assert found["a|b"] == pytest.approx(0.5)
    assert found["a|c"] is None
