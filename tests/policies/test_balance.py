import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.balance import Load, ended, expected_s, pick, started


def test_the_one_with_fewer_calls_in_work_is_picked():
    busy, idle = Load(0.1, 0.0, 5), Load(0.1, 0.0, 0)
    assert pick([busy, idle], 0.0, 0.0, 0.0) == 1
    assert pick([idle, busy], 0.0, 0.0, 0.0) == 0


def test_a_slow_call_is_seen_at_once_and_forgotten_slowly():
    load = ended(Load(0.1, 0.0, 1), latency_s=3.0, ok=True, now_s=1.0)
    assert load.latency_s == 3.0
    calmer = ended(started(load), latency_s=0.1, ok=True, now_s=2.0)
    assert 2.0 < calmer.latency_s < 3.0
    assert expected_s(load, 60.0) < 0.1


def test_one_that_refuses_at_once_does_not_look_fast():
    broken = ended(started(Load()), latency_s=0.001, ok=False, now_s=0.0)
    working = ended(started(Load()), latency_s=0.8, ok=True, now_s=0.0)
    assert pick([broken, working], 0.0, 0.0, 0.0) == 1


def test_an_unknown_deployment_is_tried():
    assert pick([Load(0.2, 0.0, 0), Load()], 0.0, 0.0, 0.0) == 1


def test_nothing_to_pick_from_is_an_error():
    with pytest.raises(ValueError, match="no deployment"):
        pick([], 0.1, 0.2, 0.0)


def test_calls_follow_capacity():
    """One of three deployments is ten times slower: it gets far less than its third."""
    dice, loads, taken = random.Random(5), [Load(), Load(), Load()], [0, 0, 0]
    running = []
    for tick in range(3000):
        now = tick * 0.01
        for end, i, took in [r for r in running if r[0] <= now]:
            loads[i] = ended(loads[i], latency_s=took, ok=True, now_s=now)
            running.remove((end, i, took))
        i = pick(loads, dice.random(), dice.random(), now)
        taken[i] += 1
        loads[i] = started(loads[i])
        took = 1.0 if i == 2 else 0.1
        running.append((now + took, i, took))
    assert taken[2] < 0.12 * sum(taken)
    assert min(taken[:2]) > 0.3 * sum(taken)


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
