"""Breakers and retry budgets of one app: what is admitted, what is told, and what bounds it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.breaker import STANDARD
from policies.cards import Deployment, ModelCard
from policies.chat import Failure
from proxy.health import MAX_BREAKERS, Health, Ticket

CARD = ModelCard("mini", "up", "up-mini")
DOWN = Failure("status", "no", status=503, retryable=True)
GONE = Failure("gone", "left")
BAD_REQUEST = Failure("status", "no", status=400)


def health(changes=None):
    return Health(lambda alias, state, _: None if changes is None else changes.append((alias, state)))


def opened(changes=None):
    found = health(changes)
    for _ in range(STANDARD.in_a_row):
        found.ended(found.admit(CARD, "up-mini", 0.0), DOWN, 0.0)
    return found


def test_five_failures_in_a_row_are_answered_at_once_from_then_on():
    changes = []
    found = opened(changes)
    refused = found.admit(CARD, "up-mini", 1.0)
    assert (refused.kind, refused.retry_after_s, refused.retryable) == ("breaker", 4.0, True)
    assert changes == [("mini", "open")]
    assert found.waits_for(CARD, "up-mini", 1.0) == 4.0


def test_another_model_of_the_same_provider_is_not_meant():
    assert isinstance(opened().admit(ModelCard("big", "up", "up-big"), "up-big", 1.0), Ticket)


def test_one_probe_closes_it():
    changes = []
    found = opened(changes)
    probe = found.admit(CARD, "up-mini", 6.0)
    assert probe.probe
    assert isinstance(found.admit(CARD, "up-mini", 6.0), Failure)
    found.ended(probe, None, 7.0)
    assert [state for _, state in changes] == ["open", "half_open", "closed"]
    assert found.waits_for(CARD, "up-mini", 7.0) == 0


def test_a_probe_whose_client_left_makes_room_for_the_next():
    found = opened()
    found.ended(found.admit(CARD, "up-mini", 6.0), GONE, 6.5)
    assert found.admit(CARD, "up-mini", 6.5).probe


def test_refused_requests_never_count():
    found = health()
    for _ in range(100):
        found.ended(found.admit(CARD, "up-mini", 0.0), BAD_REQUEST, 0.0)
    assert isinstance(found.admit(CARD, "up-mini", 0.0), Ticket)


def test_a_model_without_a_breaker_is_always_called():
    card = ModelCard("mini", "up", "up-mini", breaker=False)
    found = health()
    for _ in range(100):
        found.ended(found.admit(card, "up-mini", 0.0), DOWN, 0.0)
    assert isinstance(found.admit(card, "up-mini", 0.0), Ticket)


def test_names_that_clients_choose_are_bounded():
    found = health()
    for n in range(MAX_BREAKERS + 500):
        found.ended(found.admit(CARD, f"fx-{n}", 0.0), DOWN, 0.0)
    assert len(found._breakers) == MAX_BREAKERS


def test_reasks_leave_less_for_repetitions_and_are_never_refused():
    found = health()
    for _ in range(9):
        found.asked_anew("up", 0.0)
    assert found.may_repeat("up", 0.0)
    assert not found.may_repeat("up", 0.0)
    found.asked_anew("up", 0.0)
    assert found.may_repeat("other", 0.0)


PLACES = [ModelCard("mini", at, "m", deployment=f"{at}/m") for at in ("eu", "us", "asia")]
SPREAD = ModelCard("mini", "eu", "m", deployments=tuple(map(Deployment, PLACES)))
BUSY = Failure("status", "no", status=429, retryable=True, retry_after_s=30.0)


def ended(found, place, failure, now_s=0.0):
    """One call to `place` that came to `failure`."""
    found.ended(found.admit(place, "m", now_s), failure, now_s)


def test_a_breaker_is_of_one_deployment():
    changes = []
    found = Health(lambda *change: changes.append(change))
    for _ in range(STANDARD.in_a_row):
        ended(found, PLACES[0], DOWN)
    assert changes == [("mini", "open", "eu/m")]
    assert {found.place(SPREAD, (), 1.0).provider for _ in range(20)} <= {"us", "asia"}
    assert found.waits_for(SPREAD, "m", 1.0) == 0
    assert found.set_aside(PLACES[0], 1.0)
    assert not found.set_aside(PLACES[1], 1.0)


def test_a_model_is_left_alone_while_all_its_deployments_are():
    found = health()
    for late, place in enumerate(PLACES):
        for _ in range(STANDARD.in_a_row):
            ended(found, place, DOWN, float(late))
    refused = found.place(SPREAD, (), 3.0)
    assert (refused.kind, refused.retry_after_s) == ("breaker", 2.0)
    assert found.waits_for(SPREAD, "m", 3.0) == 2.0


def test_retry_after_of_one_deployment_holds_for_it_alone():
    found = health()
    ended(found, PLACES[0], BUSY)
    assert found.rests_for(SPREAD, "m", 1.0) == 0
    assert found.set_aside(PLACES[0], 1.0)
    assert not found.set_aside(PLACES[0], 31.0)
    for place in PLACES[1:]:
        ended(found, place, BUSY, 1.0)
    assert found.rests_for(SPREAD, "m", 2.0) == 28.0
    assert found.place(SPREAD, (), 2.0) == PLACES[0]


def test_a_success_ends_a_rest():
    found = health()
    found.ended(found.admit(CARD, "up-mini", 0.0), BUSY, 0.0)
    assert found.rests_for(CARD, "up-mini", 1.0) == 29.0
    found.ended(found.admit(CARD, "up-mini", 1.0), None, 1.0)
    assert found.rests_for(CARD, "up-mini", 1.0) == 0


def test_a_call_that_nobody_waited_for_is_remembered_as_slow():
    found = Health(lambda *_: None, chance=lambda: 0.0)
    lost = found.admit(PLACES[0], "m", 0.0)
    found.ended(lost, GONE, 3.0, lost=True)
    ended(found, PLACES[1], None, 3.0)
    assert found.place(SPREAD, (), 3.0) == PLACES[1]


class Spread(RuleBasedStateMachine):
    """Any order of calls to three deployments, their ends and time: who is chosen may be called, nothing is lost."""

    def __init__(self):
        super().__init__()
        self.health = health()
        self.now = 100.0
        self.tickets = []

    @rule(seconds=st.floats(0.01, 40))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(tried=st.sets(st.sampled_from(["eu", "us", "asia"])))
    def call(self, tried):
        failed = {(provider, "m") for provider in tried}
        placed = self.health.place(SPREAD, failed, self.now)
        if isinstance(placed, Failure):
            assert 0 < placed.retry_after_s <= max(STANDARD.longest_open_s, STANDARD.probe_s)
            return
        if self.health.elsewhere(SPREAD, failed, self.now):
            assert placed.provider not in tried
        ticket = self.health.admit(placed, "m", self.now)
        assert isinstance(ticket, Ticket)
        self.tickets.append(ticket)

    @precondition(lambda self: self.tickets)
    @rule(which=st.integers(0, 99))
    def first_byte(self, which):
        self.health.answered(self.tickets[which % len(self.tickets)], self.now)

    @precondition(lambda self: self.tickets)
    @rule(failure=st.sampled_from([None, DOWN, GONE, BAD_REQUEST, BUSY]), which=st.integers(0, 99))
    def end(self, failure, which):
        self.health.ended(self.tickets.pop(which % len(self.tickets)), failure, self.now)

    @invariant()
    def every_call_in_work_is_counted_once(self):
        for place in PLACES:
            load = self.health._loads.get((place.provider, "m"))
            running = [t for t in self.tickets if t.provider == place.provider]
            assert (load.in_work if load else 0) == len(running)
            assert (load.waiting if load else 0) == sum(not t.answered for t in running)


Spread.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestSpread = Spread.TestCase


class Walk(RuleBasedStateMachine):
    """Any order of calls, results and time: one probe at a time, and never more repetitions than the budget."""

    def __init__(self):
        super().__init__()
        self.health = health()
        self.now = 100.0
        self.tickets = []
        self.first: list[float] = []
        self.repeated: list[float] = []

    @rule(seconds=st.floats(0.01, 40))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def call(self):
        admitted = self.health.admit(CARD, "up-mini", self.now)
        if isinstance(admitted, Ticket):
            if admitted.probe:
                self.tickets = [
                    t for t in self.tickets if not t[0].probe or self.now - t[1] < STANDARD.probe_s
                ]
            self.tickets.append((admitted, self.now))
            self.health.called("up", self.now)
            self.first.append(self.now)
        else:
            assert 0 < admitted.retry_after_s <= max(STANDARD.longest_open_s, STANDARD.probe_s)

    @precondition(lambda self: self.tickets)
    @rule(failure=st.sampled_from([None, DOWN, GONE, BAD_REQUEST]), which=st.integers(0, 99))
    def end(self, failure, which):
        ticket, _ = self.tickets.pop(which % len(self.tickets))
        self.health.ended(ticket, failure, self.now)

    @rule()
    def repeat(self):
        if self.health.may_repeat("up", self.now):
            self.repeated.append(self.now)

    @invariant()
    def one_probe_at_a_time(self):
        assert sum(t.probe and self.now - at < STANDARD.probe_s for t, at in self.tickets) <= 1

    @invariant()
    def repetitions_stay_within_the_budget(self):
        calls = sum(at > self.now - 11 for at in self.first)
        assert sum(at > self.now - 9 for at in self.repeated) <= 10 + 0.2 * calls


Walk.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestWalk = Walk.TestCase
