"""Parallel calls stay within a budget together; rates let a minute's worth through in any minute."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits import (
    BudgetMeter,
    BudgetRule,
    Claim,
    Granted,
    Meters,
    RateRule,
    Refused,
    period_bounds,
    reserve,
    settle,
)

SECOND = 1_000_000_000
NOW = int(datetime(2026, 11, 18, 14, 35, 7, tzinfo=UTC).timestamp()) * SECOND  # a Wednesday
EMPTY = Meters({}, {})
DAILY = BudgetRule("key", "team-a", 100)


class Book:
    """Meters kept as a limiter keeps them."""

    def __init__(self) -> None:
        self.budgets: dict[str, BudgetMeter] = {}
        self.rates: dict[str, int] = {}

    def keep(self, changed: Meters) -> None:
        self.budgets.update(changed.budgets)
        self.rates.update(changed.rates)

    def reserve(self, rules, claim, now_ns=NOW):
        found = reserve(rules, claim, Meters(self.budgets, self.rates), now_ns)
        if isinstance(found, Refused):
            return found
        granted, changed = found
        self.keep(changed)
        return granted

    def settle(self, granted, nanousd, tokens=0):
        self.keep(settle(granted, nanousd, tokens, Meters(self.budgets, self.rates)))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("per", "now", "start", "end"),
    [
        ("hour", "2026-11-18T14:35:07", "2026-11-18T14:00", "2026-11-18T15:00"),
        ("day", "2026-11-18T14:35:07", "2026-11-18", "2026-11-19"),
        ("week", "2026-11-18T14:35:07", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-22T23:59:59", "2026-11-16", "2026-11-23"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-29T00:00:00", "2028-02-01", "2028-03-01"),
        ("day", "2026-11-18T00:00:00", "2026-11-18", "2026-11-19"),
    ],
)
def test_periods_are_of_the_calendar_in_utc(per, now, start, end):
    assert period_bounds(per, at(now)) == (at(start), at(end))


def test_total_never_ends():
    assert period_bounds("total", NOW) == (0, None)


@given(st.sampled_from(["hour", "day", "week", "month"]), st.integers(0, 4 * 10**18))
def test_every_moment_is_in_one_period_and_the_next_begins_where_it_ends(per, now_ns):
    start, end = period_bounds(per, now_ns)
    assert start <= now_ns < end
    assert period_bounds(per, start) == (start, end)
    assert period_bounds(per, end)[0] == end


class TestBudgets:
    def test_sixty_four_parallel_calls_against_a_budget_for_ten_let_ten_through(self):
        book = Book()
        answers = [book.reserve([DAILY], Claim(10)) for _ in range(64)]
        assert [isinstance(a, Granted) for a in answers].count(True) == 10
        assert {a.reason for a in answers[10:]} == {"held"}

    def test_what_was_held_and_not_spent_can_be_had_again(self):
        book = Book()
        first = book.reserve([DAILY], Claim(100))
        assert book.reserve([DAILY], Claim(60)).reason == "held"
        book.settle(first, 40)
        assert isinstance(book.reserve([DAILY], Claim(60)), Granted)
        assert book.reserve([DAILY], Claim(1)).reason == "held"

    def test_a_spent_budget_says_when_the_next_one_begins(self):
        book = Book()
        book.settle(book.reserve([DAILY], Claim(100)), 100)
        refused = book.reserve([DAILY], Claim(1))
        assert (refused.reason, refused.rule) == ("spent", DAILY)
        assert refused.retry_after_s == (period_bounds("day", NOW)[1] - NOW) / SECOND
        total = BudgetRule("run", "r1", 5, "total")
        assert book.reserve([total], Claim(6)) == Refused("spent", total, None)

    def test_a_new_period_begins_with_nothing_spent(self):
        book = Book()
        book.settle(book.reserve([DAILY], Claim(100)), 100)
        assert isinstance(book.reserve([DAILY], Claim(100), NOW + 86_400 * SECOND), Granted)

    def test_a_call_over_midnight_is_charged_to_the_day_it_began_in(self):
        book = Book()
        night = book.reserve([DAILY], Claim(100))
        tomorrow = NOW + 86_400 * SECOND
        morning = book.reserve([DAILY], Claim(30), tomorrow)
        book.settle(night, 100)
        book.settle(morning, 20)
        assert book.budgets[DAILY.meter] == BudgetMeter(period_bounds("day", tomorrow)[0], 20, 0)

    def test_an_unpriced_call_is_refused_only_where_a_budget_asks(self):
        assert reserve([DAILY], Claim(None), EMPTY, NOW) == Refused("unpriced", DAILY, None)
        assert isinstance(Book().reserve([RateRule("key", "a", "requests", 5)], Claim(None)), Granted)
        assert isinstance(Book().reserve([], Claim(None)), Granted)

    def test_a_cost_that_is_not_known_after_all_is_what_was_held(self):
        book = Book()
        book.settle(book.reserve([DAILY], Claim(70)), None)
        assert book.budgets[DAILY.meter].spent == 70

    def test_a_call_that_can_stop_early_gets_what_is_left(self):
        book = Book()
        assert book.reserve([DAILY], Claim(1000, least_nanousd=10)).nanousd == 100
        assert book.reserve([DAILY], Claim(1000, least_nanousd=10)).reason == "held"

    def test_the_tightest_of_several_budgets_decides_and_the_others_hold_no_more(self):
        book = Book()
        route = BudgetRule("route", "chat", 30, "hour")
        granted = book.reserve([DAILY, route], Claim(1000, least_nanousd=1))
        assert granted.nanousd == 30
        assert [part.nanousd for part in granted.held] == [30, 30]
        assert book.reserve([DAILY, route], Claim(1)).rule == route

    def test_what_costs_nothing_may_start_when_all_is_spent(self):
        book = Book()
        book.settle(book.reserve([DAILY], Claim(100)), 250)
        assert isinstance(book.reserve([DAILY], Claim(0)), Granted)
        assert book.reserve([DAILY], Claim(1)).reason == "spent"

    def test_a_refused_call_takes_nothing_from_any_rule(self):
        book = Book()
        rate = RateRule("key", "team-a", "requests", 2)
        for _ in range(5):
            assert isinstance(book.reserve([rate, DAILY], Claim(101)), Refused)
        assert (book.budgets, book.rates) == ({}, {})

    def test_a_changed_limit_keeps_what_was_spent(self):
        book = Book()
        book.settle(book.reserve([DAILY], Claim(100)), 100)
        more = BudgetRule("key", "team-a", 150)
        assert book.reserve([more], Claim(51)).reason == "spent"
        assert isinstance(book.reserve([more], Claim(50)), Granted)

    def test_two_rules_on_one_meter_are_the_stricter_one(self):
        book = Book()
        twice = [DAILY, BudgetRule("key", "team-a", 40)]
        assert isinstance(book.reserve(twice, Claim(40)), Granted)
        assert book.budgets[DAILY.meter].held == 40
        assert book.reserve(twice, Claim(1)).rule.nanousd == 40

    def test_a_clock_set_back_opens_no_new_budget(self):
        book = Book()
        book.settle(book.reserve([DAILY], Claim(100)), 100)
        assert isinstance(book.reserve([DAILY], Claim(1), NOW - 86_400 * SECOND), Refused)
        granted = book.reserve([BudgetRule("key", "team-a", 200)], Claim(50), NOW - 86_400 * SECOND)
        book.settle(granted, 50)
        assert book.budgets[DAILY.meter].spent == 150


class TestRates:
    def test_a_minutes_worth_passes_at_once_and_the_next_waits_for_its_turn(self):
        book = Book()
        rate = RateRule("key", "a", "requests", 6)
        assert all(isinstance(book.reserve([rate], Claim(0)), Granted) for _ in range(6))
        refused = book.reserve([rate], Claim(0))
        assert (refused.reason, refused.retry_after_s) == ("requests", 10.0)
        assert isinstance(book.reserve([rate], Claim(0), NOW + 9 * SECOND), Refused)
        assert isinstance(book.reserve([rate], Claim(0), NOW + 10 * SECOND), Granted)

    @given(st.integers(1, 1000), st.lists(st.integers(0, 5 * SECOND), max_size=60))
    def test_refused_calls_pass_after_the_time_they_were_told(self, limit, gaps):
        book, now = Book(), NOW
        rate = RateRule("key", "a", "requests", limit)
        for gap in gaps:
            now += gap
            found = book.reserve([rate], Claim(0), now)
            if isinstance(found, Refused):
                again = now + int(found.retry_after_s * SECOND) + 1000  # floats end before nanoseconds do
                assert isinstance(reserve([rate], Claim(0), Meters({}, book.rates), again), tuple)

    @given(st.integers(1, 50), st.lists(st.integers(0, 20 * SECOND), max_size=200))
    def test_no_minute_sees_more_than_two_minutes_worth_and_in_the_long_run_the_limit_holds(
        self, limit, gaps
    ):
        book, now = Book(), NOW
        rate = RateRule("key", "a", "requests", limit)
        passed = []
        for gap in gaps:
            now += gap
            if isinstance(book.reserve([rate], Claim(0), now), Granted):
                passed.append(now)
        for start in passed:
            assert sum(start <= t < start + 60 * SECOND for t in passed) <= 2 * limit
        assert len(passed) <= limit + limit * (now - NOW) // (60 * SECOND) + 1

    def test_tokens_are_taken_before_and_corrected_after(self):
        book = Book()
        rate = RateRule("key", "a", "tokens", 1000)
        first = book.reserve([rate], Claim(0, tokens=900))
        assert book.reserve([rate], Claim(0, tokens=200)).reason == "tokens"
        book.settle(first, 0, tokens=300)
        assert isinstance(book.reserve([rate], Claim(0, tokens=700)), Granted)
        assert book.reserve([rate], Claim(0, tokens=1)).reason == "tokens"

    def test_more_tokens_than_were_taken_are_owed(self):
        book = Book()
        rate = RateRule("key", "a", "tokens", 600)
        book.settle(book.reserve([rate], Claim(0, tokens=100)), 0, tokens=1200)
        assert book.reserve([rate], Claim(0, tokens=1)).retry_after_s == pytest.approx(60.1)

    def test_a_call_larger_than_the_limit_takes_the_whole_minute(self):
        book = Book()
        rate = RateRule("key", "a", "tokens", 1000)
        assert isinstance(book.reserve([rate], Claim(0, tokens=50_000)), Granted)
        assert book.reserve([rate], Claim(0, tokens=1)).reason == "tokens"

    def test_a_limit_of_nothing_lets_nothing_through(self):
        rate = RateRule("key", "a", "requests", 0)
        assert reserve([rate], Claim(0), EMPTY, NOW) == Refused("requests", rate, None)


calls = st.lists(
    st.tuples(st.integers(0, 60), st.none() | st.integers(0, 60), st.sampled_from(["start", "end"])),
    max_size=60,
)


@given(calls, st.integers(0, 200))
def test_no_order_of_calls_overshoots_a_budget(script, limit):
    book, rule, running, spent = Book(), BudgetRule("key", "a", limit), [], 0
    for worst, least, step in script:
        if step == "start":
            granted = book.reserve([rule], Claim(worst, least_nanousd=least))
            if isinstance(granted, Granted):
                running.append(granted)
        elif running:
            granted = running.pop(0)
            cost = granted.nanousd if least is None else min(least, granted.nanousd)
            book.settle(granted, cost)
            spent += cost
        meter = book.budgets.get(rule.meter, BudgetMeter(0))
        assert meter.spent == spent
        assert meter.held == sum(granted.nanousd for granted in running)
        assert meter.spent + meter.held <= limit
