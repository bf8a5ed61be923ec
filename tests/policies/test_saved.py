"""Savings are against one untrimmed call to the last model, net of every attempt, and add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.cards import Price
from policies.chat import Purpose, Usage
from policies.money import cost_nanousd
from policies.saved import Saved, Spent, saved, saved_by_cache

MINI = Price(1_000_000, 4_000_000)
BIG = Price(10_000_000, 40_000_000)


def spent(
    purpose: Purpose = "answer", prompt: int = 1000, out: int = 100, price: Price | None = MINI
) -> Spent:
    return Spent(purpose, Usage(prompt, out), price)


@pytest.mark.parametrize(
    ("attempts", "answer", "dropped", "levers"),
    [
        pytest.param([spent(price=BIG)], 0, 0, Saved(), id="one-call-to-the-last-model-saves-nothing"),
        pytest.param(
            [spent()], 0, 0, Saved(routing=14_000_000 - 1_400_000), id="a-cheaper-model-saves-by-routing"
        ),
        pytest.param(
            [spent(price=BIG)],
            0,
            500,
            Saved(trimming=5_000_000),
            id="dropped-tokens-save-on-the-model-that-answered",
        ),
        pytest.param(
            [spent()],
            0,
            500,
            Saved(routing=(19_000_000 - 1_900_000), trimming=500_000),
            id="routing-and-trimming-share-without-overlap",
        ),
        pytest.param(
            [spent(), spent("escalate", price=BIG)],
            1,
            0,
            Saved(routing=-1_400_000),
            id="climbing-to-the-last-model-loses-the-first-call",
        ),
        pytest.param(
            [spent(), spent("reask", prompt=1200)],
            1,
            0,
            Saved(routing=14_000_000 - 1_400_000 - 1_600_000),
            id="a-re-ask-is-taken-off-and-its-longer-prompt-is-not-the-clients",
        ),
        pytest.param(
            [spent(prompt=600, out=20, price=BIG), spent("recall", prompt=800, price=BIG)],
            1,
            500,
            Saved(trimming=5_000_000 - 6_800_000 - 2_000_000),
            id="looking-up-what-was-dropped-is-taken-off-what-that-saved",
        ),
        pytest.param(
            [spent("summary", prompt=600, out=50), spent(price=BIG)],
            1,
            500,
            Saved(trimming=5_000_000 - 800_000),
            id="a-summary-is-taken-off-trimming",
        ),
        pytest.param(
            [spent(price=BIG), spent("patch", prompt=1300, out=10, price=BIG)],
            0,
            0,
            Saved(routing=-(13_000_000 + 4_000_000), patch=90 * 40_000),
            id="a-patch-saves-against-writing-it-all-again",
        ),
        pytest.param(
            [spent(), spent("reask")], None, 0, Saved(routing=-2_800_000), id="no-answer-and-all-is-lost"
        ),
        pytest.param([], None, 0, Saved(), id="nothing-tried-nothing-lost"),
        pytest.param(
            [spent(prompt=0, out=0), spent("retry")],
            1,
            0,
            Saved(routing=12_600_000),
            id="a-call-that-never-arrived-has-no-prompt",
        ),
    ],
)
def test_levers(attempts, answer, dropped, levers):
    assert saved(attempts, answer, BIG, dropped) == levers


@pytest.mark.parametrize(
    ("attempts", "flagship"),
    [([spent()], None), ([spent(price=None)], BIG), ([spent(), spent("reask", price=None)], BIG)],
    ids=["flagship", "the-answering-model", "an-attempt-in-vain"],
)
def test_an_unknown_price_makes_savings_unknown(attempts, flagship):
    assert saved(attempts, 0, flagship) is None


def test_an_answer_from_our_cache_saves_the_whole_call():
    assert saved_by_cache(Usage(1000, 100), BIG) == Saved(caching=14_000_000)
    assert saved_by_cache(Usage(1000, 100), None) is None


def test_the_providers_prompt_cache_is_not_claimed():
    price = Price(10_000_000, 40_000_000, cached_input=1_000_000)
    assert saved([Spent("answer", Usage(1000, 100, 900), price)], 0, price) == Saved()


prices = st.builds(Price, st.integers(0, 10**8), st.integers(0, 10**8), st.none() | st.integers(0, 10**8))
attempts_of = st.lists(
    st.builds(
        Spent,
        st.sampled_from(
            ["answer", "retry", "reask", "patch", "escalate", "hedge_loser", "cancelled", "summary", "route"]
        ),
        st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**5)),
        prices,
    ),
    min_size=1,
    max_size=5,
)


@given(attempts_of, st.data(), prices, st.integers(0, 10**6))
def test_the_levers_add_up_to_the_counterfactual_less_all_that_was_spent(attempts, data, flagship, dropped):
    answer = data.draw(st.none() | st.integers(0, len(attempts) - 1))
    levers = saved(attempts, answer, flagship, dropped)
    paid = sum(cost_nanousd(a.usage, a.price) for a in attempts)
    if answer is None:
        assert levers.total == -paid
        return
    written = attempts[answer].usage
    own = [a.usage for a in attempts if a.purpose not in {"summary", "route", "patch", "reask"}]
    prompt = next((usage.input_tokens for usage in own if usage.input_tokens), written.input_tokens)
    assert levers.total == cost_nanousd(Usage(prompt + dropped, written.output_tokens), flagship) - paid
    assert levers.caching == 0


def test_tokens_that_would_have_been_cached_are_not_claimed_at_full_price():
    price = Price(1_000_000, 1_000_000, cached_input=100_000)
    attempt = Spent("answer", Usage(2_000, 100, 1_000), price)
    cold = saved([attempt], 0, price, 8_000)
    warm = saved([attempt], 0, price, 8_000, 9_000)
    assert cold == Saved(trimming=8_000_000)
    assert warm == Saved(trimming=800_000)  # 9,000 cached and 1,000 new, against 1,000 cached and 1,000 new


def test_a_trim_that_spoils_the_cache_has_lost_money_and_says_so():
    price = Price(1_000_000, 1_000_000, cached_input=100_000)
    lost = saved([Spent("answer", Usage(4_000, 0), price)], 0, price, 6_000, 10_000)
    assert lost == Saved(trimming=1_000_000 - 4_000_000)
