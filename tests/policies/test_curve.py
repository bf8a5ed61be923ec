import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.certify import Trial
from policies.curve import apgr, as_svg, as_text, cheapest, curve

TRIALS = [
    Trial(0.9, 0.0, 1.0, 1.0, 10.0),
    Trial(0.5, 1.0, 1.0, 1.0, 10.0),
    Trial(0.1, 1.0, 1.0, 1.0, 10.0),
    Trial(0.1, 1.0, 1.0, 1.0, 10.0),
]


def test_each_distinct_score_is_a_setting():
    points = curve(TRIALS)
    assert [(p.strong, p.quality, p.cost_nanousd) for p in points] == [
        (0.0, 0.75, 1.0),
        (0.25, 1.0, 3.25),
        (0.5, 1.0, 5.5),
        (1.0, 1.0, 10.0),
    ]


def test_a_cascade_pays_for_both_calls():
    assert curve(TRIALS, cascade=True)[-1].cost_nanousd == 11.0


def test_scores_that_say_nothing_recover_half_the_gap():
    assert apgr(curve([Trial(0.0, t.cheap, t.strong) for t in TRIALS])) == pytest.approx(0.5)


def test_no_gap_is_half_of_it():
    assert apgr(curve([Trial(0.0, 1.0, 1.0)])) == 0.5


def test_the_best_order_recovers_more_and_the_worst_less():
    best = apgr(curve(TRIALS))
    worst = apgr(curve([Trial(-t.score, t.cheap, t.strong) for t in TRIALS]))
    assert best > 0.8
    assert worst < 0.2


def test_the_cheapest_setting_of_a_quality():
    assert cheapest(curve(TRIALS), 1.0).cost_nanousd == 3.25
    assert cheapest(curve(TRIALS), 1.1) is None


@given(
    st.lists(
        st.builds(Trial, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 9), st.floats(0, 9)),
        min_size=1,
        max_size=40,
    )
)
def test_both_ends_are_the_two_models_alone_and_anything_can_be_drawn(trials):
    points = curve(trials)
    n = len(trials)
    assert points[0].quality == pytest.approx(sum(t.cheap for t in trials) / n)
    assert points[-1].quality == pytest.approx(sum(t.strong for t in trials) / n)
    assert points[-1].cost_nanousd == pytest.approx(sum(t.strong_nanousd for t in trials) / n)
    assert "<svg" in as_svg({"a <b>": points, "c": points[:1]})
    assert "&lt;b&gt;" in as_svg({"a <b>": points})
    assert as_text({"one": points}).count("\n") >= 16
