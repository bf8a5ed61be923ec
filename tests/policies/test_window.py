from hypothesis import given
from hypothesis import strategies as st

from policies.window import add, totals


def test_counts_of_one_second_share_a_slot():
    window = add(add((), 3.1, 10, all=1), 3.9, 10, all=1, marked=1)
    assert len(window) == 1
    assert totals(window, 3.95, 10) == (2, 1)


def test_what_is_older_than_the_span_is_forgotten():
    window = add((), 0.5, 10, all=7)
    assert totals(window, 9.9, 10) == (7, 0)
    assert totals(window, 10.0, 10) == (0, 0)


def test_a_clock_that_goes_back_loses_nothing():
    window = add(add((), 20.0, 10, all=1), 19.0, 10, all=1)
    assert totals(window, 20.0, 10) == (2, 0)


@given(st.lists(st.floats(0, 1000), max_size=200), st.integers(1, 20))
def test_a_window_never_holds_more_slots_than_seconds(times, span):
    window = ()
    for now in sorted(times):
        window = add(window, now, span, all=1)
        assert len(window) <= span
        assert totals(window, now, span)[0] == sum(slot.all for slot in window)
