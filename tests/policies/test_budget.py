from hypothesis import given
from hypothesis import strategies as st

from policies.budget import RetryBudget, left, note_request, take_retry


def test_a_quiet_upstream_has_ten_retries():
    budget, granted = RetryBudget(), []
    for _ in range(12):
        budget, ok = take_retry(budget, 0.0)
        granted.append(ok)
    assert granted == [True] * 10 + [False] * 2


def test_each_five_requests_add_a_retry():
    budget = RetryBudget()
    for _ in range(50):
        budget = note_request(budget, 1.0)
    assert left(budget, 1.0) == 20


def test_the_budget_comes_back_after_ten_seconds():
    budget = RetryBudget()
    for _ in range(10):
        budget, _ = take_retry(budget, 0.0)
    assert left(budget, 9.9) == 0
    assert left(budget, 10.0) == 10


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=300))
def test_retries_never_exceed_a_fifth_of_requests_and_ten_in_any_window(events):
    budget, now, log = RetryBudget(), 0.0, []
    for wait, is_request in events:
        now += wait
        if is_request:
            budget = note_request(budget, now)
            log.append((now, "request"))
        else:
            budget, ok = take_retry(budget, now)
            if ok:
                log.append((now, "retry"))
                recent = [kind for at, kind in log if int(at) > int(now) - 10]
                assert recent.count("retry") <= 10 + 0.2 * recent.count("request")


def test_an_upstream_that_always_fails_gets_at_most_a_fifth_more_calls_in_steady_state():
    budget, retries = RetryBudget(), 0
    for i in range(10_000):  # 100 requests a second for 100 s, each wants one retry
        budget = note_request(budget, i / 100)
        budget, ok = take_retry(budget, i / 100)
        retries += ok
    assert retries <= 0.2 * 10_000 + 10 * 11
