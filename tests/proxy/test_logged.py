import json

import pytest

from proxy.logged import LEAST, LogRefused, counted, read

OPEN = {"mini": {"quality": None, "cost_nanousd": 10}, "big": {"quality": None, "cost_nanousd": 200}}
VALID = {"mini": {"quality": 1.0, "cost_nanousd": 10}, "big": {"quality": 1.0, "cost_nanousd": 200}}
DIFFER = {**VALID, "mini": {"quality": 0.0, "cost_nanousd": 10}}


def row(answers, kept="mini", **rest):
    return {"ts": 1.0, "id": "one", "route": "r", "kept": kept, "answers": answers, **rest}


def only(answers, model):
    return {model: answers[model]}


def said(score, of="one"):
    return {"ts": 2.0, "route": "r", "feedback": of, "score": score}


def found(*rows):
    """What is read of these rows, among enough others that come before them."""
    others = [row(VALID, ts=0.0, id=f"other {n}") for n in range(LEAST)]
    text = "\n".join(json.dumps(line) for line in [*others, *rows])
    return [e for e in read(text, "r", "mini", "big") if e.ts > 0]


@pytest.mark.parametrize(
    ("rows", "told", "cheap", "strong", "assumed"),
    [
        pytest.param([row(VALID)], "check", 1, 1, False, id="both-valid"),
        pytest.param([row(DIFFER, compared=True)], "comparison", 0, 1, False, id="they-differ"),
        pytest.param(
            [row(DIFFER, compared=True), said(1)], "feedback", 1, 1, False, id="the-client-knows-better"
        ),
        pytest.param([row(OPEN), said(0.25)], "feedback", 0.25, 1, True, id="nothing-promised"),
        pytest.param([said(0), row(OPEN)], "feedback", 0, 1, True, id="feedback-stands-before-it"),
        pytest.param([row(OPEN), said(1), said(0)], "feedback", 1, 1, True, id="the-first-word-counts"),
        pytest.param(
            [row(only(OPEN, "mini")), said(1)], "feedback", 1, 1, True, id="the-strong-one-was-not-asked"
        ),
        pytest.param(
            [row(VALID, "big", compared=True), said(0.5)],
            "comparison",
            0.5,
            0.5,
            False,
            id="both-say-the-same",
        ),
        pytest.param(
            [row(DIFFER, "big", compared=True), said(0.5)], "comparison", 0, 0.5, False, id="or-they-do-not"
        ),
        pytest.param(
            [row(only(OPEN, "big"), "big"), said(0.5)],
            "unknown",
            0,
            0.5,
            False,
            id="the-rule-went-to-the-strong",
        ),
    ],
)
def test_what_an_exchange_counts(rows, told, cheap, strong, assumed):
    (one,) = found(*rows)
    assert (one.told, one.sample.cheap, one.sample.strong, one.assumed) == (told, cheap, strong, assumed)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row(OPEN)], id="nothing-promised-and-nothing-said"),
        pytest.param([row(only(VALID, "mini"))], id="valid-alone-says-nothing-of-the-other"),
        pytest.param([row(only(OPEN, "big"), "big")], id="strong-and-nothing-said"),
        pytest.param([row(only(OPEN, "big"), "big", holdout=True), said(1)], id="the-random-holdout"),
        pytest.param([row({})], id="no-answers"),
        pytest.param([row(OPEN, route="other"), said(1)], id="another-route"),
        pytest.param([row(OPEN), {**said(1), "route": "other"}], id="feedback-of-another-route"),
    ],
)
def test_what_tells_nothing_is_left_out(rows):
    assert found(*rows) == []


def test_a_model_that_was_not_asked_costs_what_it_costs_in_the_mean():
    dear = {"big": {"quality": None, "cost_nanousd": 200 + 101 * 50}}
    (one,) = found(row(only(OPEN, "mini"), ts=1.0), said(1), row(dear, "mini", id="dear"))
    assert (one.sample.cheap_nanousd, one.sample.strong_nanousd) == (10, pytest.approx(250))


def test_a_step_that_nobody_declared_is_none():
    assert [e.sample.step for e in found(row(VALID, step="*"), row(VALID, step="read"))] == [None, "read"]


def test_what_was_counted_is_told():
    exchanges = found(row(VALID), row(OPEN, id="two"), said(1, "two"))
    assert counted(exchanges) == {"check": 1, "feedback": 1, "strong_assumed_right": 1}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        pytest.param(said(2), "quality 2", id="score-out-of-range"),
        pytest.param(said("x"), "TypeError", id="score-no-number"),
        pytest.param(row({**VALID, "mini": {"quality": 1.0}}), "cost_nanousd", id="no-cost"),
        pytest.param(row({**VALID, "mini": {"quality": 1.0, "cost_nanousd": -1}}), "no cost", id="negative"),
        pytest.param(row(VALID, ts="x"), "ValueError", id="no-time"),
        pytest.param(row(7), "line 101", id="answers-no-object"),
        pytest.param({**said(1), "feedback": []}, "TypeError", id="feedback-on-a-list"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(bad, says):
    with pytest.raises(LogRefused, match=says):
        found(bad)


def test_a_log_in_which_the_strong_model_never_answered_says_what_to_do():
    rows = [row(only(OPEN, "mini"), id=str(n)) for n in range(LEAST)] + [
        said(1, str(n)) for n in range(LEAST)
    ]
    with pytest.raises(LogRefused, match="set `shadow` or `holdout`"):
        read("\n".join(map(json.dumps, rows)), "r", "mini", "big")
