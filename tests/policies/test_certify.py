import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.certify import (
    Trial,
    betting_p,
    binomial_tail,
    certify,
    margins,
    share_interval,
)


@pytest.mark.parametrize(
    ("hits", "n", "share", "p"),
    [
        pytest.param(0, 10, 0.5, 1.0, id="none-needed"),
        pytest.param(10, 10, 0.5, 0.5**10, id="all-of-ten"),
        pytest.param(9, 10, 0.5, 11 * 0.5**10, id="nine-of-ten"),
        pytest.param(3, 3, 0.0, 0.0, id="impossible"),
        pytest.param(5, 5, 1.0, 1.0, id="certain"),
    ],
)
def test_the_binomial_tail_is_exact(hits, n, share, p):
    assert binomial_tail(hits, n, share) == pytest.approx(p)


def test_the_interval_is_clopper_pearsons():
    found = share_interval(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4439, abs=1e-4), pytest.approx(0.9748, abs=1e-4))
    assert share_interval(0, 0).high == 1.0
    assert share_interval(10, 10).high == 1.0
    assert share_interval(0, 10).low == 0.0


@given(st.integers(0, 200), st.integers(1, 200))
def test_an_interval_holds_its_share(hits, n):
    hits = min(hits, n)
    found = share_interval(hits, n)
    assert 0.0 <= found.low <= hits / n <= found.high <= 1.0


def test_under_the_hypothesis_small_p_values_are_as_rare_as_they_say():
    """A mean of exactly 0, as skewed as margins are: 0.02 mostly, -0.98 at times."""
    dice = random.Random(3)
    small = 0
    for _ in range(600):
        small += betting_p([-0.98 if dice.random() < 0.02 else 0.02 for _ in range(300)], -0.98) <= 0.05
    assert small <= 600 * 0.05 + 3 * math.sqrt(600 * 0.05 * 0.95)


def test_a_clear_surplus_is_found_with_a_few_hundred_outcomes():
    assert betting_p([0.02] * 300, -0.98) < 0.02
    assert betting_p([0.02] * 50, -0.98) > 0.05


@given(st.lists(st.floats(-0.98, 1.0), max_size=200))
def test_a_p_value_is_a_probability(values):
    assert 0.0 <= betting_p(values, -0.98) <= 1.0


def test_margins_measure_against_the_floor():
    assert margins([1.0, 0.0], [1.0, 1.0], 0.98) == pytest.approx([0.02, -0.98])


def traffic(n, seed, hard=0.2):
    """The score tells the hard fifth, where the cheap model always fails, from the rest, where it never does."""
    dice = random.Random(seed)
    trials = []
    for _ in range(n):
        needy = dice.random() < hard
        score = dice.uniform(0.6, 1.0) if needy else dice.uniform(0.0, 0.7)
        trials.append(Trial(score, 0.0 if needy else 1.0, 1.0, 1.0, 10.0))
    return trials


def test_a_scorer_that_knows_the_hard_ones_is_certified_to_save():
    found = certify(traffic(1500, 1), keep=0.98, risk=0.05)
    assert found.certified
    assert found.quality >= 0.98
    assert found.saved > 0.5


def test_a_cascade_pays_for_both_calls():
    trials = traffic(1500, 1)
    alone, both = (certify(trials, keep=0.98, risk=0.05, cascade=c) for c in (False, True))
    assert both.saved == pytest.approx(alone.saved - 0.1 * alone.to_strong)


def test_a_cascade_that_costs_more_than_it_saves_is_not_certified():
    trials = [Trial(t.score, t.cheap, t.strong, 9.9, 10.0) for t in traffic(1500, 1)]
    assert certify(trials, keep=0.98, risk=0.05).certified
    assert not certify(trials, keep=0.98, risk=0.05, cascade=True).certified


@pytest.mark.parametrize("n", [0, 1, 20, 60])
def test_with_too_little_data_no_saving_is_certified(n):
    found = certify(traffic(n, 1), keep=0.98, risk=0.05)
    assert not found.certified
    assert (found.to_strong, found.saved) == (1.0, 0.0)


def test_equal_scores_are_one_setting():
    trials = [Trial(0.5, float(i % 2), 1.0) for i in range(1000)]
    assert not certify(trials, keep=0.98, risk=0.05).certified


def test_a_cheap_model_that_is_as_good_takes_all_of_the_traffic():
    found = certify([Trial(0.5, 1.0, 1.0, 1.0, 10.0)] * 400, keep=0.98, risk=0.05)
    assert (found.to_strong, found.saved) == (0.0, pytest.approx(0.9))


def test_the_certified_floor_is_broken_at_most_as_often_as_the_risk_says():
    """Truth is known here: the cheap model fails with the score as probability, so that each threshold has a mean."""
    broken = 0
    for seed in range(120):
        dice = random.Random(seed)
        trials = []
        for _ in range(400):
            score = dice.random() ** 4
            trials.append(Trial(score, float(dice.random() >= score), 1.0))
        found = certify(trials, keep=0.9, risk=0.1)
        if found.certified:  # E[loss below t] = integral of u^4 for u from 0 to t^(1/4) = t^(5/4) / 5
            broken += min(found.threshold, 1.0) ** 1.25 / 5 > 0.1
    assert broken <= 120 * 0.1 + 3 * math.sqrt(120 * 0.09)


def test_strong_answers_that_are_only_assumed_right_make_the_floor_harder_never_easier():
    """Truth is known here: the strong model is right in nine of ten, which the certificate is not told."""
    saved = 0
    for seed in range(40):
        dice = random.Random(seed)
        trials, truth = [], []
        for _ in range(300):
            needy, right = dice.random() < 0.3, float(dice.random() < 0.9)
            score = dice.uniform(0.5, 1.0) if needy else dice.uniform(0.0, 0.6)
            cheap = 0.0 if needy and dice.random() < 0.6 else right
            trials.append(Trial(score, cheap, 1.0, assumed=True))
            truth.append(Trial(score, cheap, right))
        found = certify(trials, keep=0.75, risk=0.1)
        told = certify(truth, keep=0.75, risk=0.1)
        saved += found.certified
        assert found.to_strong >= told.to_strong - 0.05
    assert saved > 20
