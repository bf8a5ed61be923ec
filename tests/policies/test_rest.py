import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.chat import Failure
from policies.rest import LONGEST_S, Rest, asks_for_rest, rested


def busy(after_s=None, status=429):
    return Failure("status", "", status, retryable=True, retry_after_s=after_s)


@pytest.mark.parametrize(
    ("failure", "asks"),
    [
        pytest.param(busy(), True, id="429"),
        pytest.param(busy(3.0, 503), True, id="503-with-a-time"),
        pytest.param(busy(None, 503), False, id="503-without-one"),
        pytest.param(busy(0.0, 503), False, id="at-once-is-no-rest"),
        pytest.param(Failure("status", "", 429), False, id="429-that-no-retry-helps"),
        pytest.param(Failure("breaker", "", retryable=True, retry_after_s=4.0), False, id="our-own-breaker"),
    ],
)
def test_who_asks_to_be_left_alone(failure, asks):
    assert asks_for_rest(failure) is asks


def test_it_rests_as_long_as_it_says():
    assert rested(None, busy(7.0), 100.0) == Rest(107.0)


def test_a_shorter_time_of_a_call_from_before_does_not_end_a_rest():
    assert rested(Rest(107.0), busy(1.0), 101.0).until_s == 107.0


def test_a_guess_doubles_while_it_goes_on_refusing():
    rest, now, guesses = None, 0.0, []
    for _ in range(8):
        rest = rested(rest, busy(), now)
        guesses.append(rest.until_s - now)
        now = rest.until_s
    assert guesses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_refusals_that_come_together_are_one():
    rest = rested(None, busy(), 0.0)
    assert rested(rested(rest, busy(), 0.1), busy(), 0.9) == rest


@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 1e9)), max_size=30))
def test_no_rest_is_longer_than_a_minute(refusals):
    rest, now = None, 0.0
    for wait, after in refusals:
        now += wait
        rest = rested(rest, busy(after), now)
        assert rest.until_s <= now + LONGEST_S
