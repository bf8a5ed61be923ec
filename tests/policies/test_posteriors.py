import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.posteriors import HALF_LIFE_S, Drift, Outcome, Tally, drifted, learn, pooled, together, watch


def tally(good, bad, **known):
    return Tally(good, bad, **{"calls": good + bad, "output_tokens": 100 * (good + bad), **known})


def test_an_old_outcome_counts_half_after_the_half_life():
    seen = learn(learn(Tally(), Outcome(good=True), 0.0), Outcome(good=False), HALF_LIFE_S)
    assert (seen.good, seen.bad) == (0.5, 1.0)


def test_a_late_outcome_does_not_bring_the_past_back():
    seen = learn(learn(Tally(), Outcome(good=True), 1000.0), Outcome(good=True), 500.0)
    assert (seen.good, seen.stamp_s) == (2.0, 1000.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6), st.integers(0, 2)), max_size=30))
def test_counts_of_several_are_together_what_one_would_have_counted(outcomes):
    alone, parts, now = Tally(), [Tally()] * 3, 0.0
    for good, wait, worker in outcomes:
        now += wait
        alone = learn(alone, Outcome(good=good), now)
        parts[worker] = learn(parts[worker], Outcome(good=good), now)
    found = together(*parts)
    assert (found.good, found.bad) == pytest.approx((alone.good, alone.bad))
    assert (found.calls, found.stamp_s) == pytest.approx((alone.calls, alone.stamp_s if outcomes else 0.0))


def test_nothing_known_is_an_even_chance_with_no_weight():
    evidence = pooled({}, "s", "mini")
    assert (evidence.success, evidence.calls, evidence.n) == (0.5, 1.0, 0.0)


def test_a_new_step_leans_on_what_the_model_does_elsewhere():
    tallies = {(f"s{i}", "mini"): tally(90, 10) for i in range(4)}
    assert pooled(tallies, "new", "mini").success == pytest.approx(0.9, abs=0.01)


def test_steps_that_differ_lend_each_other_little():
    alike = {(f"s{i}", "m"): tally(50, 50) for i in range(4)} | {("new", "m"): tally(5, 0)}
    apart = {(f"s{i}", "m"): tally(100 * (i % 2), 100 * (1 - i % 2)) for i in range(4)} | {
        ("new", "m"): tally(5, 0)
    }
    assert pooled(alike, "new", "m").success < 0.6
    assert pooled(apart, "new", "m").success > 0.8


def test_another_model_lends_nothing():
    assert pooled({("s", "flagship"): tally(1000, 0)}, "s", "mini").success == 0.5


def test_calls_and_output_are_means_that_lean_on_the_model():
    tallies = {("s", "m"): tally(50, 50, calls=200.0, output_tokens=20_000.0)}
    evidence = pooled(tallies, "s", "m")
    assert evidence.calls == pytest.approx(2.0)
    assert evidence.output_tokens == pytest.approx(100.0)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from("mn")),
        st.builds(tally, st.floats(0, 1e4), st.floats(0, 1e4)),
    )
)
def test_what_is_pooled_is_always_a_probability_and_at_least_one_call(tallies):
    evidence = pooled(tallies, "a", "m")
    assert 0.0 < evidence.success < 1.0 or evidence.n == 0
    assert 0.0 <= evidence.success <= 1.0
    assert evidence.calls >= 1.0


def run(rate, expected, n, seed):
    dice, drift = random.Random(seed), Drift(expected)
    for i in range(n):
        drift = watch(drift, good=dice.random() < rate)
        if drifted(drift, 0.001):
            return i
    return None


def test_a_fall_by_a_tenth_is_noticed_within_some_hundred_outcomes():
    found = [run(0.8, 0.9, 1000, seed) for seed in range(50)]
    assert None not in found
    assert sorted(found)[25] < 250


def test_false_alarms_are_as_rare_as_promised():
    alarms = sum(run(0.9, 0.9, 500, seed) is not None for seed in range(200))
    assert alarms <= 200 * 500 * 0.001
    assert alarms < 20


def test_better_than_expected_is_no_alarm():
    assert all(run(0.97, 0.9, 2000, seed) is None for seed in range(20))
