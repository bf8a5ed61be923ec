import random

import pytest

from policies.certify import Trial
from policies.curve import apgr, curve
from policies.features import features
from policies.fitting import Sample, fit, fit_doubter
from policies.scorer import familiarity, score
from policies.suspicion import Signals, learned_doubt

COLOURS = ["red", "green", "blue", "black", "white", "yellow", "violet", "orange", "brown", "grey"]
CITIES = ["Oslo", "Rome", "Paris", "Lima", "Cairo", "Delhi", "Tokyo", "Quito", "Accra", "Turin"]


def sample(dice, *, helpful=True):
    """Questions on colours are easy for both models; sums of many numbers only for the strong one."""
    if dice.random() < 0.5:
        text = f"Which of {', '.join(dice.sample(COLOURS, 4))} is the colour of the sky over {dice.choice(CITIES)}?"
        cheap, step = 1.0, "colour"
    else:
        text = f"Add {' + '.join(str(dice.randint(1, 999)) for _ in range(5))} and tell the sum to {dice.choice(CITIES)}."
        cheap, step = float(dice.random() < 0.2), "sum"
    if not helpful:
        cheap = float(dice.random() < 0.6)
    return Sample([{"role": "user", "content": text}], None, step, cheap, 1.0, 10.0, 200.0)


def samples(n, seed, **known):
    dice = random.Random(seed)
    return [sample(dice, **known) for _ in range(n)]


@pytest.fixture(scope="module")
def fitted():
    return fit(samples(300, 1))


def recovered(scorer, rows):
    scores = [score(scorer, row.messages, row.tools) for row in rows]
    trials = [
        Trial(scorer.mean if s is None else s, row.cheap, row.strong)
        for s, row in zip(scores, rows, strict=True)
    ]
    return apgr(curve(trials))


def test_it_knows_hard_requests_of_traffic_like_its_log(fitted):
    assert recovered(fitted, samples(200, 2)) > 0.7


def test_a_declared_step_counts_more_than_the_text(fitted):
    text = samples(1, 2)[0].messages
    as_colour, as_sum = (score(fitted, text, None, step) for step in ("colour", "sum"))
    assert as_sum > as_colour


def test_most_requests_like_the_log_get_a_score(fitted):
    rows = samples(200, 3)
    assert sum(score(fitted, row.messages) is not None for row in rows) > 180


@pytest.mark.parametrize(
    ("messages", "tools"),
    [
        pytest.param(
            [{"role": "user", "content": "Schreibe ein Gedicht über den Herbst am Meer."}],
            None,
            id="other-words",
        ),
        pytest.param([{"role": "user", "content": "def f(x):\n    return x[::-1]\n" * 40}], None, id="code"),
        pytest.param([], None, id="nothing"),
        pytest.param(
            samples(1, 2)[0].messages, [{"function": {"name": "sky"}}], id="tools-where-there-were-none"
        ),
    ],
)
def test_it_abstains_on_requests_unlike_its_log(fitted, messages, tools):
    assert score(fitted, messages, tools) is None


def test_without_skill_on_its_own_log_it_never_speaks():
    scorer = fit(samples(300, 4, helpful=False))
    assert not scorer.skilled
    assert score(scorer, samples(1, 4)[0].messages) is None


def test_fitting_twice_gives_the_same(fitted):
    again = fit(samples(300, 1))
    assert again.gain == fitted.gain
    assert again.grams == fitted.grams


def test_too_little_to_fit_is_an_error():
    with pytest.raises(ValueError, match="too few"):
        fit(samples(5, 1))


def test_a_log_of_one_step_or_none_can_be_fitted():
    rows = [Sample(row.messages, None, None, row.cheap, 1.0, 10.0, 200.0) for row in samples(150, 5)]
    assert fit(rows).steps == ("*",)


def test_familiarity_is_a_share(fitted):
    assert familiarity(fitted.seen, features([])) == 0.0
    assert 0.5 < familiarity(fitted.seen, features(samples(1, 9)[0].messages)) <= 1.0


def test_doubt_is_learned_from_what_came_of_it():
    dice = random.Random(3)
    rows, gains = [], []
    for row in samples(200, 6):
        short = dice.random() < 0.5
        rows.append((Signals(chars=5 if short else 500), features(row.messages)))
        gains.append(0.8 if short else 0.0)
    doubter = fit_doubter(rows, gains)
    found = rows[0][1]
    assert (
        learned_doubt(doubter, Signals(chars=5), found)
        > learned_doubt(doubter, Signals(chars=500), found) + 0.5
    )
