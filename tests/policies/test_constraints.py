from dataclasses import replace

import pytest

from policies.cards import ModelCard, Price
from policies.constraints import sift
from policies.facts import Candidate, Facts
from policies.route import Route

CARD = ModelCard("mini", "p", "m", Price(1_000_000, 4_000_000), 1000, 500, frozenset({"tools"}))
ROUTE = Route("r", ("mini",))


def facts(candidate, **known):
    return Facts({"mini": candidate}, **known)


@pytest.mark.parametrize(
    ("candidate", "known", "why"),
    [
        pytest.param(Candidate(CARD), {"prompt_tokens": 875}, None, id="prompt-and-room-just-fit"),
        pytest.param(Candidate(CARD), {"prompt_tokens": 876}, "window", id="one-token-more-does-not"),
        pytest.param(
            Candidate(CARD),
            {"prompt_tokens": 600, "max_output_tokens": 401},
            "window",
            id="the-asked-output-counts",
        ),
        pytest.param(
            Candidate(CARD),
            {"prompt_tokens": 9000, "min_prompt_tokens": 700},
            None,
            id="trimming-may-make-it-fit",
        ),
        pytest.param(Candidate(CARD), {"max_output_tokens": 501}, "output", id="cannot-write-that-much"),
        pytest.param(Candidate(CARD), {"abilities": frozenset({"vision"})}, "ability", id="lacks-an-ability"),
        pytest.param(
            Candidate(replace(CARD, can=None)),
            {"abilities": frozenset({"vision"})},
            None,
            id="unknown-abilities-exclude-nothing",
        ),
        pytest.param(Candidate(CARD, allowed=False), {}, "key", id="the-key-may-not"),
        pytest.param(Candidate(CARD), {"require": frozenset({"eu"})}, "tag", id="wrong-region"),
        pytest.param(
            Candidate(replace(CARD, tags=frozenset({"eu"}))),
            {"require": frozenset({"eu"})},
            None,
            id="right-region",
        ),
        pytest.param(
            Candidate(CARD),
            {"prompt_tokens": 100, "max_output_tokens": 100, "max_cost_nanousd": 499_999},
            "price",
            id="one-nano-above-the-ceiling",
        ),
        pytest.param(
            Candidate(CARD),
            {"prompt_tokens": 100, "max_output_tokens": 100, "max_cost_nanousd": 500_000},
            None,
            id="exactly-the-ceiling",
        ),
        pytest.param(
            Candidate(replace(CARD, price=None)),
            {"max_cost_nanousd": 10**9},
            "price",
            id="unpriced-is-not-free",
        ),
        pytest.param(Candidate(replace(CARD, price=None)), {}, None, id="unpriced-without-ceiling"),
        pytest.param(Candidate(CARD, retry_after_s=3.0), {}, "health", id="open-breaker"),
        pytest.param(
            Candidate(CARD, allowed=False, retry_after_s=3.0), {}, "key", id="what-lasts-is-told-first"
        ),
    ],
)
def test_what_excludes_a_model(candidate, known, why):
    able, excluded = sift(ROUTE.ladder, ROUTE, facts(candidate, **known))
    assert able == (("mini",) if why is None else ())
    assert [gone.why for gone in excluded] == ([] if why is None else [why])


def test_a_model_that_is_not_configured_is_excluded():
    _, excluded = sift(("ghost",), ROUTE, facts(Candidate(CARD)))
    assert excluded[0].why == "unknown"


def test_tags_of_the_route_and_of_the_key_are_both_required():
    route = replace(ROUTE, require=frozenset({"eu"}))
    able, _ = sift(
        route.ladder,
        route,
        facts(Candidate(replace(CARD, tags=frozenset({"hipaa"}))), require=frozenset({"hipaa"})),
    )
    assert able == ()


def ladder(**rests_s):
    models = {
        alias: Candidate(replace(CARD, alias=alias), rests_s=rests_s.get(alias, 0.0)) for alias in "abc"
    }
    return sift("abc", ROUTE, Facts(models))


@pytest.mark.parametrize(
    ("rests", "able"),
    [
        pytest.param({"a": 2.0}, "bc", id="the-foot-rests"),
        pytest.param({"a": 2.0, "b": 1.0}, "c", id="only-the-last-does-not"),
        pytest.param({"c": 2.0}, "abc", id="the-last-is-not-asked-yet"),
        pytest.param({"a": 1.0, "c": 2.0}, "bc", id="one-below-a-waking-one"),
        pytest.param({"a": 1.0, "b": 1.0, "c": 2.0}, "abc", id="where-all-rest-nobody-is-spared"),
    ],
)
def test_who_asked_to_be_left_alone_is_while_there_is_another(rests, able):
    found, excluded = ladder(**rests)
    assert "".join(found) == able
    assert all(gone.why == "rest" for gone in excluded)
