import logging

import pytest

from policies.facts import Plan
from policies.route import Floor, Route
from proxy.drift import Drifts
from proxy.stores.memory import MemoryStore

EXPECTED = {"valid": 0.95, "feedback": 0.9}


def route(calibration="a", **plans):
    plans = plans or {step: Plan("mini", certified=True, expected=EXPECTED) for step in ("read", "*")}
    floor = Floor("big", plans=plans, calibration=calibration)
    return Route("r", ("mini", "big"), choose="learned", floor=floor)


def watching(*routes, **rest):
    drifts = Drifts(**rest)
    drifts.begin({r.name: r for r in routes})
    return drifts


def fail(drifts, of, n=40, step="read", model="mini", kind="feedback"):
    for _ in range(n):
        drifts.saw(of, step, model, kind, 0.0)


def test_a_step_that_gets_worse_is_noticed_and_others_are_not_touched():
    told = []
    one = route()
    drifts = watching(one, told=lambda counts: told.append(dict(counts)))
    fail(drifts, one, 3)
    assert drifts.of(one) == frozenset()
    fail(drifts, one)
    assert drifts.of(one) == {"read"}
    assert told == [{"r": 0}, {"r": 1}]


def test_it_is_told_once_in_the_log(caplog):
    one = route()
    drifts = watching(one)
    with caplog.at_level(logging.WARNING, "tailrace"):
        fail(drifts, one, 200)
    (record,) = caplog.records
    assert record.getMessage() == (
        "route r, step 'read': answers of mini are worse than calibrated (feedback); "
        "it goes to big until it is calibrated again"
    )


def test_what_is_as_good_as_calibrated_raises_no_alarm():
    one = route()
    drifts = watching(one)
    for n in range(3000):
        drifts.saw(one, "read", "mini", "feedback", 0.0 if n % 10 == 0 else 1.0)
        drifts.saw(one, "read", "mini", "valid", 0.0 if n % 25 == 0 else 1.0)
    assert drifts.of(one) == frozenset()


def test_scores_between_count_by_their_mean():
    one = route()
    drifts = watching(one)
    for _ in range(3000):
        drifts.saw(one, "read", "mini", "feedback", 0.9)
    assert drifts.of(one) == frozenset()
    for _ in range(300):
        drifts.saw(one, "read", "mini", "feedback", 0.6)
    assert drifts.of(one) == {"read"}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"model": "big"}, id="another-model"),
        pytest.param({"kind": "comparison"}, id="nothing-is-expected-of-it"),
        pytest.param({"of": route("b")}, id="an-exchange-of-an-earlier-calibration"),
        pytest.param({"of": Route("other", ("mini",))}, id="a-route-without-calibration"),
    ],
)
def test_what_the_calibration_does_not_speak_of_is_not_watched(changed):
    one = route()
    drifts = watching(one)
    fail(drifts, **{"of": one, **changed})
    assert drifts.of(one) == frozenset()


def test_a_step_without_a_plan_counts_for_the_route():
    one = route()
    drifts = watching(one)
    fail(drifts, one, step="new")
    assert drifts.of(one) == {"*"}


def test_an_alarm_stands_until_the_calibration_is_another_one():
    one, two = route(), route("b")
    drifts = watching(one)
    fail(drifts, one)
    drifts.begin({"r": one})
    assert drifts.of(one) == {"read"}
    drifts.begin({"r": two})
    assert drifts.of(two) == frozenset()
    drifts.begin({})
    assert drifts.listed() == []


async def test_all_workers_and_the_next_start_know_of_an_alarm():
    store, one = MemoryStore(), route()
    drifts, other = watching(one), watching(one)
    fail(drifts, one)
    fail(other, one, step="*")
    await drifts.share(store)
    await other.share(store)
    await drifts.share(store)
    later = watching(one)
    await later.share(store)
    assert drifts.of(one) == other.of(one) == later.of(one) == {"read", "*"}
    (first, _) = sorted(later.listed(), key=lambda found: -len(found["step"]))
    assert (first["route"], first["step"], first["kind"], first["expected"]) == ("r", "read", "feedback", 0.9)
    assert first["since"].endswith("+00:00")
    again = watching(route("b"))
    await again.share(store)
    assert again.of(route("b")) == frozenset()


@pytest.mark.parametrize(
    "note",
    [
        7,
        {"of": "a"},
        {"of": "a", "alarms": 7},
        {"of": "a", "alarms": {"read": 7}},
        {"of": "a", "alarms": {"read": ["x", "y"]}},
        {"of": "a", "alarms": {"no such step": ["valid", 1.0]}},
    ],
)
async def test_notes_that_cannot_be_read_are_forgotten(note):
    store, one = MemoryStore(), route()
    await store.put_note("drift/r", note)
    drifts = watching(one)
    await drifts.share(store)
    assert (drifts.of(one), drifts.listed()) == (frozenset(), [])
