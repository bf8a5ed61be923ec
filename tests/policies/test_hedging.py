import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.hedging import ENOUGH, hedged_after_s
from policies.route import Hedge


def test_a_time_that_is_given_is_the_time():
    assert hedged_after_s(Hedge(0.8), [9.0] * 100) == 0.8


def test_the_models_own_tail_begins_after_95_of_100_calls():
    assert hedged_after_s(Hedge(), [n / 100 for n in range(1, 101)]) == 0.95


def test_too_few_calls_say_nothing():
    assert hedged_after_s(Hedge(), [1.0] * (ENOUGH - 1)) is None
    assert hedged_after_s(Hedge(), [1.0] * ENOUGH) == 1.0


@given(st.lists(st.floats(0, 600), min_size=ENOUGH, max_size=200))
def test_at_most_a_twentieth_is_later(seen):
    after = hedged_after_s(Hedge(), seen)
    assert sum(one > after for one in seen) <= 0.05 * len(seen)


@pytest.mark.parametrize(
    "order", [sorted, lambda seen: sorted(seen, reverse=True)], ids=["rising", "falling"]
)
def test_the_order_of_calls_does_not_matter(order):
    assert hedged_after_s(Hedge(), order([0.1] * 30 + [5.0])) == 0.1
