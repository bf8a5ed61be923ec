import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.balance import (
    Load,
    Standing,
    answered,
    at_fault,
    elect,
    ended,
    expected_s,
    pick,
    recovered,
    slowed,
    started,
)
from policies.chat import Failure

OPEN, DUE, HELD, TRIED = (
    Standing(refused=True),
    Standing(due=True),
    Standing(held_s=3.0),
    Standing(tried=True),
)
WELL = Standing()


def called(load, latency_s, now_s):
    """`load` after a call that began at `now_s` and was answered `latency_s` later."""
    end_s = now_s + latency_s
    return ended(answered(started(load, now_s), latency_s=latency_s, now_s=end_s), waited=False)


def test_the_one_with_fewer_calls_in_work_is_picked():
    busy, idle = Load(0.1, 0.0, 5), Load(0.1, 0.0, 0)
    assert pick([busy, idle], 0.0, 0.0, 0.0) == 1
    assert pick([idle, busy], 0.0, 0.0, 0.0) == 0


def test_one_that_bears_more_takes_more():
    busy, idle = Load(0.1, 0.0, 5), Load(0.1, 0.0, 1)
    assert pick([busy, idle], 0.0, 0.0, 0.0, [4.0, 1.0]) == 0


def test_a_slow_call_is_seen_at_once_and_forgotten_slowly():
    load = called(Load(0.1, 0.0), 3.0, 1.0)
    assert load == Load(3.0, 4.0)
    calmer = called(load, 0.1, 5.0)
    assert 2.0 < calmer.latency_s < 3.0
    assert expected_s(load, 64.0) < 0.1


def test_one_that_refuses_at_once_does_not_look_fast():
    broken = ended(slowed(started(Load(), 0.0), latency_s=5.0, now_s=0.001), waited=True)
    assert pick([broken, called(Load(), 0.8, 0.0)], 0.0, 0.0, 1.0) == 1


def test_one_that_hangs_does_not_look_as_fast_as_it_was():
    fast, steady = Load(0.001, 0.0), Load(0.1, 0.0)
    hanging = started(started(fast, 0.0), 0.0)
    assert pick([hanging, steady], 0.0, 0.0, 0.01) == 0
    assert pick([hanging, steady], 0.0, 0.0, 0.5) == 1
    assert expected_s(hanging, 30.0) == pytest.approx(90.0)


def test_a_long_stream_that_has_begun_is_no_silence():
    streaming = answered(started(Load(), 0.0), latency_s=0.2, now_s=0.2)
    assert (streaming.in_work, streaming.waiting) == (1, 0)
    assert expected_s(streaming, 30.0) < 0.1


def test_after_a_good_probe_the_time_before_is_forgotten():
    ill = slowed(Load(), latency_s=60.0, now_s=0.0)
    assert expected_s(recovered(ill, latency_s=0.1, now_s=5.0), 5.0) == pytest.approx(0.1, rel=0.01)


def test_an_unknown_deployment_is_tried():
    assert pick([Load(0.2, 0.0, 0), Load()], 0.0, 0.0, 0.0) == 1


def test_an_unknown_deployment_that_answers_nothing_gets_few_calls():
    hanging, steady = Load(), called(Load(), 0.01, 0.0)
    taken = 0
    for tick in range(100):
        now = 0.02 + tick * 0.001
        if pick([hanging, steady], 0.0, 0.0, now) == 0:
            hanging, taken = started(hanging, now), taken + 1
    assert taken <= 5


def test_nothing_to_pick_from_is_an_error():
    with pytest.raises(ValueError, match="no deployment"):
        pick([], 0.1, 0.2, 0.0)


@pytest.mark.parametrize(
    ("standings", "chosen"),
    [
        pytest.param([OPEN, WELL], 1, id="an-open-breaker-is-passed-over"),
        pytest.param([OPEN, OPEN], None, id="nobody-where-every-breaker-is-open"),
        pytest.param([HELD, WELL], 1, id="one-that-asked-for-rest-has-it"),
        pytest.param([replace(HELD, held_s=9.0), HELD], 1, id="where-all-rest-the-first-to-end-is-asked"),
        pytest.param([OPEN, HELD], 1, id="a-rest-is-no-refusal"),
        pytest.param([TRIED, WELL], 1, id="a-retry-goes-to-another-one"),
        pytest.param([TRIED, OPEN], 0, id="a-retry-goes-back-where-no-other-is"),
        pytest.param([TRIED, HELD], 0, id="a-retry-leaves-the-resting-one-alone"),
        pytest.param([WELL, DUE], 1, id="one-whose-breaker-waits-gets-the-probe"),
        pytest.param([WELL, replace(DUE, tried=True)], 0, id="but-not-from-whom-it-failed"),
        pytest.param([WELL, replace(DUE, held_s=1.0)], 0, id="nor-while-it-rests"),
    ],
)
def test_who_takes_the_call(standings, chosen):
    assert elect(standings, 0.0, 0.0, 0.0) == chosen


@pytest.mark.parametrize(
    ("failure", "at_home"),
    [
        pytest.param(Failure("status", "", 500), True, id="500"),
        pytest.param(Failure("status", "", 429), True, id="rate"),
        pytest.param(Failure("status", "", 401), True, id="its-key"),
        pytest.param(Failure("status", "", 404), True, id="no-such-model-there"),
        pytest.param(Failure("connect", ""), True, id="refused"),
        pytest.param(Failure("status", "", 400), False, id="the-request"),
        pytest.param(Failure("gone", ""), False, id="the-client-left"),
        pytest.param(Failure("window", ""), False, id="too-long-for-the-model"),
        pytest.param(Failure("unsupported", "", 400), False, id="what-we-added"),
    ],
)
def test_whose_fault_a_failure_is(failure, at_home):
    assert at_fault(failure) is at_home


def simulated(slow_s, weights=(1.0, 1.0, 1.0)):
    """How many calls each of three deployments takes; the third one needs `slow_s` for each."""
    dice, loads, taken = random.Random(5), [Load(), Load(), Load()], [0, 0, 0]
    running = []
    for tick in range(3000):
        now = tick * 0.01
        for end, i, took in [r for r in running if r[0] <= now]:
            loads[i] = ended(answered(loads[i], latency_s=took, now_s=now), waited=False)
            running.remove((end, i, took))
        i = pick(loads, dice.random(), dice.random(), now, weights)
        taken[i] += 1
        loads[i] = started(loads[i], now)
        took = slow_s if i == 2 else 0.1
        running.append((now + took, i, took))
    return taken


def test_calls_follow_capacity():
    """One of three deployments is ten times slower: it gets far less than its third."""
    taken = simulated(1.0)
    assert taken[2] < 0.12 * sum(taken)
    assert min(taken[:2]) > 0.3 * sum(taken)


def test_calls_follow_weights():
    taken = simulated(0.1, (1.0, 1.0, 3.0))
    assert taken[2] > 1.5 * max(taken[:2])


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 50)), min_size=2, max_size=9),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_the_picked_one_is_never_the_worst_alone(known, first, second):
    loads = [Load(latency, 0.0, work) for latency, work in known]
    costs = [expected_s(load, 0.0) for load in loads]
    i = pick(loads, first, second, 0.0)
    assert sum(cost >= costs[i] for cost in costs) >= 2


STANDINGS = st.builds(
    Standing,
    st.builds(Load, st.floats(0, 10), st.just(0.0), st.integers(0, 9)),
    st.floats(0.1, 9),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 2.0]),
    st.booleans(),
)


@given(
    st.lists(STANDINGS, min_size=1, max_size=6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_whoever_is_well_goes_first_and_whoever_is_refused_never(standings, first, second):
    chosen = elect(standings, first, second, 0.0)
    if chosen is None:
        assert all(one.refused for one in standings)
    else:
        assert not standings[chosen].refused
        assert standings[chosen].fresh or not any(one.fresh for one in standings)
