import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.breaker import CLOSED, STANDARD, Breaker, admit, counts, is_open, record, release
from policies.chat import Failure


def play(events, breaker=CLOSED):
    """`events` are (now_s, ok); results of admitted calls only, the probe's as the probe's."""
    for now, ok in events:
        admission = admit(breaker, now)
        breaker = admission.breaker
        if admission.allowed:
            breaker = record(breaker, ok=ok, now_s=now, probe=admission.probe)
    return breaker


OPENED = play([(0.0, False)] * 5)


def test_five_failures_in_a_row_open_it():
    assert play([(0.0, False)] * 4).state == "closed"
    assert OPENED.state == "open"


def test_a_success_ends_the_row():
    assert play([(0.0, False)] * 4 + [(0.1, True)] + [(0.2, False)] * 4).state == "closed"


def test_half_of_twenty_calls_in_ten_seconds_open_it():
    alternating = [(0.2 * i, i % 2 == 0) for i in range(20)]
    assert play(alternating[:19]).state == "closed"
    assert play(alternating).state == "open"


def test_half_of_twenty_calls_in_a_longer_time_do_not():
    assert play([(1.1 * i, i % 2 == 0) for i in range(40)]).state == "closed"


def test_less_than_half_of_many_calls_does_not_open_it():
    assert play([(0.01 * i, i % 5 != 0) for i in range(500)]).state == "closed"


def test_open_refuses_and_says_how_long_to_wait():
    admission = admit(OPENED, 2.0)
    assert not admission.allowed
    assert admission.retry_after_s == pytest.approx(3.0)
    assert is_open(OPENED, 2.0)
    assert not is_open(OPENED, 5.0)


def test_exactly_one_probe_goes_through_half_open():
    first = admit(OPENED, 5.0)
    second = admit(first.breaker, 5.1)
    assert (first.allowed, first.probe, first.breaker.state) == (True, True, "half_open")
    assert not second.allowed


def test_a_good_probe_closes_it_with_a_clean_memory():
    probe = admit(OPENED, 5.0)
    assert record(probe.breaker, ok=True, now_s=5.2, probe=True) == CLOSED


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_minute():
    breaker, waits = OPENED, []
    for _ in range(6):
        probe = admit(breaker, breaker.until_s)
        breaker = record(probe.breaker, ok=False, now_s=breaker.until_s, probe=True)
        waits.append(breaker.open_s)
    assert waits == [10, 20, 40, 60, 60, 60]


def test_a_late_result_of_a_call_from_before_says_nothing():
    probing = admit(OPENED, 5.0).breaker
    assert record(probing, ok=True, now_s=5.1) == probing
    assert record(OPENED, ok=False, now_s=1.0) == OPENED


def test_a_probe_that_tells_nothing_is_replaced_after_its_time():
    probing = admit(OPENED, 5.0).breaker
    again = admit(probing, 5.0 + STANDARD.probe_s)
    assert again.allowed
    assert again.probe


def test_a_probe_whose_client_left_frees_its_place_at_once():
    probing = admit(OPENED, 5.0).breaker
    assert admit(release(probing, now_s=5.1, probe=True), 5.1).probe
    assert release(CLOSED, now_s=0.0, probe=True) == CLOSED


@pytest.mark.parametrize(
    ("failure", "counted"),
    [
        pytest.param(Failure("status", "", 500), True, id="500-counts"),
        pytest.param(Failure("status", "", 503), True, id="503-counts"),
        pytest.param(Failure("status", "", 429), False, id="429-is-about-the-rate"),
        pytest.param(Failure("status", "", 400), False, id="400-is-about-the-request"),
        pytest.param(Failure("connect", ""), True, id="refused-counts"),
        pytest.param(Failure("timeout", ""), True, id="timeout-counts"),
        pytest.param(Failure("broken", ""), True, id="reset-counts"),
        pytest.param(Failure("gone", ""), False, id="client-gone-is-ours"),
        pytest.param(Failure("budget", ""), False, id="budget-is-ours"),
        pytest.param(Failure("breaker", ""), False, id="breaker-is-ours"),
        pytest.param(Failure("too_large", ""), False, id="an-answer-too-large-is-no-illness"),
    ],
)
def test_what_counts_against_an_upstream(failure, counted):
    assert counts(failure) is counted


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=150))
def test_it_never_stays_shut_once_the_upstream_works(steps):
    now, breaker = 0.0, CLOSED
    for wait, ok in steps:
        now += wait
        breaker = play([(now, ok)], breaker)
        assert breaker.until_s <= now + STANDARD.longest_open_s
    after = max(now, breaker.until_s)
    assert play([(after, True), (after, True)], breaker).state == "closed"


@given(st.lists(st.booleans(), max_size=300))
def test_its_memory_is_bounded(results):
    breaker = Breaker()
    for i, ok in enumerate(results):
        breaker = play([(i * 0.3, ok)], breaker)
        assert len(breaker.window) <= STANDARD.span_s
