from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.cards import ModelCard, Price
from policies.facts import Candidate, Draws, Evidence, Facts, Plan
from policies.route import Floor, Match, Route, When
from policies.routing import choose, declared_step, expected_costs, explain, needs

PRICES = {"mini": 150_000, "middle": 1_000_000, "flagship": 2_500_000}


def candidate(alias, **known):
    price = Price(PRICES[alias], 4 * PRICES[alias], PRICES[alias] // 10)
    return Candidate(ModelCard(alias, "p", alias, price, 128_000), **known)


MODELS = {alias: candidate(alias) for alias in PRICES}
ROUTE = Route("r", ("mini", "middle", "flagship"))
LEARNED = replace(ROUTE, choose="learned", floor=Floor("flagship"))
CERTIFIED = {"extract": Plan("mini", certified=True, n=400)}
FACTS = Facts(MODELS, prompt_tokens=1000)


def known(**facts):
    return replace(FACTS, **facts)


def says(choice, fact):
    return [reason.says for reason in choice.reasons if reason.fact == fact]


def test_a_plain_route_begins_at_the_foot_of_its_ladder_and_needs_no_facts():
    choice = choose(ROUTE, FACTS)
    assert (choice.model, choice.ladder, choice.propensity) == ("mini", ("middle", "flagship"), 1.0)
    assert needs(ROUTE) == frozenset()


def test_an_excluded_foot_moves_the_start_up_and_is_told():
    models = {**MODELS, "mini": candidate("mini", retry_after_s=2.0)}
    choice = choose(ROUTE, known(models=models))
    assert choice.model == "middle"
    assert [(gone.model, gone.why) for gone in choice.excluded] == [("mini", "health")]


def test_where_only_health_stands_in_the_way_the_shortest_wait_is_told():
    models = {alias: candidate(alias, retry_after_s=float(i + 2)) for i, alias in enumerate(PRICES)}
    choice = choose(ROUTE, known(models=models))
    assert (choice.model, choice.retry_after_s) == (None, 2.0)


def test_a_pinned_model_is_taken_and_never_left():
    choice = choose(replace(LEARNED, holdout=1.0), known(pinned="middle"))
    assert (choice.model, choice.ladder) == ("middle", ())


@pytest.mark.parametrize(
    ("when", "facts", "fits"),
    [
        pytest.param(When(step="plan*"), {"step": "planning"}, True, id="declared-step-with-star"),
        pytest.param(When(step="plan"), {}, False, id="no-step-declared"),
        pytest.param(When(state="review"), {"state": "review"}, True, id="run-state"),
        pytest.param(When(tool="search_*"), {"tools": ("book", "search_web")}, True, id="one-of-the-tools"),
        pytest.param(When(tool="search_*"), {"tools": ()}, False, id="no-tools"),
        pytest.param(When(system="planner"), {"system": "You are a planner."}, True, id="system-contains"),
        pytest.param(When(schema="invoice"), {"schema": "invoice"}, True, id="schema-name"),
        pytest.param(When(fingerprint="ab12"), {"fingerprint": "ab12"}, True, id="fingerprint"),
        pytest.param(When(fingerprint="ab12"), {"fingerprint": "ab13"}, False, id="other-fingerprint"),
        pytest.param(
            When(system="planner", schema="invoice"),
            {"system": "a planner"},
            False,
            id="every-condition-must-hold",
        ),
    ],
)
def test_match_rules(when, facts, fits):
    route = replace(ROUTE, match=(Match(when, step="seen", ladder=("flagship",)),))
    choice = choose(route, known(**facts))
    assert (choice.model == "flagship") is fits


def test_the_first_rule_that_fits_wins():
    rules = (Match(When(schema="*"), "first", ("middle",)), Match(When(), "second", ("flagship",)))
    route = replace(ROUTE, match=rules)
    assert choose(route, known(schema="x")).step == "first"
    assert choose(route, FACTS).step == "second"


def test_a_declared_step_is_not_renamed_by_a_rule():
    route = replace(ROUTE, match=(Match(When(), "other", ("middle",)),))
    choice = choose(route, known(step="extract"))
    assert (choice.step, choice.model) == ("extract", "middle")


def test_the_state_of_a_run_is_a_step():
    assert choose(LEARNED, known(state="extract", plans=CERTIFIED)).model == "mini"


def test_without_certificate_the_floor_model_answers():
    choice = choose(LEARNED, known(step="extract"))
    assert choice.model == "flagship"
    assert says(choice, "floor") == ["no saving certified for step extract: flagship"]


def test_an_uncertified_plan_saves_nothing():
    assert choose(LEARNED, known(step="s", plans={"s": Plan("mini", n=3)})).model == "flagship"


def test_a_certified_step_begins_cheap_and_others_do_not():
    assert choose(LEARNED, known(step="extract", plans=CERTIFIED)).model == "mini"
    assert choose(LEARNED, known(step="reason", plans=CERTIFIED)).model == "flagship"


def test_the_plan_of_the_whole_route_serves_a_step_without_its_own():
    assert choose(LEARNED, known(step="new", plans={"*": Plan("middle", certified=True)})).model == "middle"


def test_drift_suspends_a_certificate():
    facts = known(step="extract", plans=CERTIFIED, drifted=frozenset({"extract"}))
    assert choose(LEARNED, facts).model == "flagship"


def test_a_certificate_says_nothing_of_another_model():
    models = {**MODELS, "mini": candidate("mini", retry_after_s=9.0)}
    assert choose(LEARNED, known(models=models, step="extract", plans=CERTIFIED)).model == "flagship"


@pytest.mark.parametrize(
    ("score", "model"),
    [
        pytest.param(0.2, "mini", id="easy-goes-cheap"),
        pytest.param(0.4, "flagship", id="at-the-threshold-goes-strong"),
        pytest.param(None, "flagship", id="abstaining-goes-strong"),
    ],
)
def test_the_content_scorer_decides_only_where_the_plan_says_so(score, model):
    by_score = {"extract": Plan("mini", "score", 0.4, certified=True)}
    assert choose(LEARNED, known(step="extract", plans=by_score, score=score)).model == model
    assert choose(LEARNED, known(step="extract", plans=CERTIFIED, score=score)).model == "mini"


def test_cheap_first_is_skipped_where_it_loses_money():
    failing = {"extract": {"mini": Evidence(0.02, 2.0, 500, 90), "middle": Evidence(0.9, 1.0, 200, 90)}}
    choice = choose(replace(LEARNED, floor=None), known(step="extract", evidence=failing))
    assert choice.model == "middle"
    assert "loses money" in says(choice, "evidence")[0]


def test_under_a_floor_nothing_begins_at_a_model_that_nothing_is_certified_of():
    failing = {"extract": {"mini": Evidence(0.02, 2.0, 500, 90), "middle": Evidence(0.9, 1.0, 200, 90)}}
    assert (
        choose(LEARNED, known(step="extract", plans=CERTIFIED, evidence=failing, prompt_tokens=1)).model
        == "flagship"
    )


def test_thin_evidence_does_not_turn_the_ladder_round():
    failing = {"extract": {"mini": Evidence(0.0, 2.0, 500, 5), "middle": Evidence(0.9, 1.0, 200, 5)}}
    assert choose(LEARNED, known(step="extract", plans=CERTIFIED, evidence=failing)).model == "mini"


def test_expected_cost_counts_failed_calls_and_what_follows_them():
    seen = {"mini": Evidence(0.5, 2.0, 0, 50)}
    costs = expected_costs(("mini", "flagship"), known(max_output_tokens=0), seen)
    assert costs == (2 * 150_000 + 0.5 * 2_500_000, 2_500_000)


def test_an_unpriced_model_is_never_reckoned_with():
    models = {**MODELS, "mini": Candidate(ModelCard("mini", "p", "m"))}
    assert expected_costs(("mini", "flagship"), known(models=models), {}) is None


def test_cheapest_able_takes_the_least_for_this_request():
    """The one with the dearer input is cheaper where the answer is short and the prompt is cached."""
    models = {**MODELS, "middle": candidate("middle", cached_tokens=1000)}
    route = replace(ROUTE, choose="cheapest_able")
    assert choose(route, FACTS).model == "mini"
    short = known(models=models, max_output_tokens=1)
    assert choose(route, short).model == "middle"
    assert choose(route, short).ladder == ("mini", "flagship")


def test_cheapest_able_asks_an_unpriced_model_last():
    models = {**MODELS, "mini": Candidate(ModelCard("mini", "p", "m"))}
    choice = choose(replace(ROUTE, choose="cheapest_able"), known(models=models))
    assert (choice.model, choice.ladder) == ("middle", ("flagship", "mini"))


STICKY = replace(ROUTE, sticky=True)


def test_a_conversation_stays_where_its_prompt_is_cached():
    models = {**MODELS, "middle": candidate("middle", cached_tokens=100_000)}
    facts = known(models=models, prompt_tokens=100_000, max_output_tokens=10, current="middle")
    assert choose(STICKY, facts).model == "middle"
    assert choose(ROUTE, facts).model == "mini"


def test_it_leaves_where_leaving_pays_in_the_long_run():
    models = {**MODELS, "middle": candidate("middle", cached_tokens=100_000)}
    facts = known(models=models, prompt_tokens=100_000, max_output_tokens=10, current="middle", turns_left=20)
    assert choose(STICKY, facts).model == "mini"


def test_it_leaves_a_model_that_is_too_weak_whatever_is_cached():
    models = {**MODELS, "mini": candidate("mini", cached_tokens=100_000)}
    route = replace(LEARNED, sticky=True)
    facts = known(models=models, prompt_tokens=100_000, current="mini", step="reason")
    assert choose(route, facts).model == "flagship"


def test_the_holdout_goes_to_the_strong_model_with_its_propensity():
    route = replace(ROUTE, holdout=0.01)
    drawn = choose(route, known(draws=Draws(holdout=0.009)))
    assert (drawn.model, drawn.holdout, drawn.propensity) == ("flagship", True, 0.01)
    usual = choose(route, known(draws=Draws(holdout=0.01)))
    assert (usual.model, usual.holdout, usual.propensity) == ("mini", False, 0.99)


def test_a_strong_choice_has_propensity_one_and_no_holdout():
    choice = choose(replace(LEARNED, holdout=0.5), known(draws=Draws(holdout=0.1)))
    assert (choice.model, choice.holdout, choice.propensity) == ("flagship", False, 1.0)


def test_the_shadow_is_the_other_end_of_the_ladder():
    route = replace(ROUTE, shadow=0.02)
    assert choose(route, known(draws=Draws(shadow=0.01))).shadow == "flagship"
    assert choose(route, known(draws=Draws(shadow=0.5))).shadow is None
    learned = replace(LEARNED, shadow=0.02)
    assert choose(learned, known(draws=Draws(shadow=0.01))).shadow == "mini"


def test_two_cheap_models_are_asked_together_and_not_again():
    choice = choose(replace(ROUTE, agree=("mini", "middle")), FACTS)
    assert (choice.together, choice.ladder) == (("mini", "middle"), ("flagship",))


def test_where_one_of_the_pair_is_not_able_the_other_is_not_believed_alone():
    models = {**MODELS, "middle": candidate("middle", allowed=False)}
    choice = choose(replace(ROUTE, agree=("mini", "middle")), known(models=models))
    assert (choice.together, choice.model, choice.ladder) == (None, "flagship", ())


DOUBTED = {"extract": Plan("mini", "suspicion", 0.5, certified=True)}


def test_by_suspicion_it_begins_cheap_and_climbs_to_the_model_it_was_certified_against():
    choice = choose(LEARNED, known(step="extract", plans=DOUBTED))
    assert (choice.model, choice.climb_above, choice.ladder) == ("mini", 0.5, ("flagship",))
    assert says(choice, "suspicion") == ["an answer that reaches 0.500 is not believed: flagship"]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"draws": Draws(holdout=0.0)}, id="held-out"),
        pytest.param({"step": "other"}, id="uncertified-step"),
        pytest.param({"drifted": frozenset({"extract"})}, id="drifted"),
        pytest.param({"models": {**MODELS, "mini": candidate("mini", allowed=False)}}, id="not-able"),
    ],
)
def test_the_strong_model_is_never_doubted(facts):
    choice = choose(replace(LEARNED, holdout=0.1), known(**{"step": "extract", "plans": DOUBTED, **facts}))
    assert (choice.model, choice.climb_above) == ("flagship", None)


def test_a_pair_that_must_agree_is_not_asked_where_suspicion_was_certified():
    route = replace(LEARNED, agree=("mini", "middle"))
    choice = choose(route, known(step="extract", plans=DOUBTED))
    assert (choice.together, choice.climb_above) == (None, 0.5)


def test_where_the_scorer_abstains_the_step_table_of_its_calibration_decides():
    plans = {"*": Plan("mini", "score", 0.4, certified=True, abstaining=frozenset({"extract"}))}
    assert choose(LEARNED, known(step="extract", plans=plans)).model == "mini"
    assert choose(LEARNED, known(step="reason", plans=plans)).model == "flagship"
    assert choose(LEARNED, known(plans=plans)).model == "flagship"
    assert choose(LEARNED, known(step="extract", plans=plans, score=0.9)).model == "flagship"


def test_the_declared_step_is_the_clients_or_a_rules():
    route = replace(ROUTE, match=(Match(When(system="plan"), step="planning"),))
    assert declared_step(route, known(step="extract")) == "extract"
    assert declared_step(route, known(system="you plan")) == "planning"
    assert declared_step(route, FACTS) is None


def test_explain_tells_each_fact_in_a_line():
    models = {**MODELS, "middle": candidate("middle", allowed=False)}
    text = explain(choose(LEARNED, known(models=models, step="extract", plans=CERTIFIED)))
    assert text.splitlines() == [
        "step           declared: extract",
        "key            middle: the key may not use it",
        "floor          step extract certified on 400 outcomes to begin at mini, by start",
        "chosen         mini, then flagship (step extract, propensity 1)",
    ]


@pytest.mark.parametrize(
    ("route", "wanted"),
    [
        pytest.param(
            replace(ROUTE, match=(Match(When(tool="x"), "s"),)), {"tools", "step"}, id="match-on-tools"
        ),
        pytest.param(replace(ROUTE, match=(Match(When(system="x"), "s"),)), {"system"}, id="match-on-system"),
        pytest.param(LEARNED, {"plans", "evidence", "score", "drifted"}, id="learned"),
        pytest.param(STICKY, {"current", "cached_tokens"}, id="sticky"),
        pytest.param(replace(ROUTE, holdout=0.1), {"draws"}, id="holdout"),
    ],
)
def test_a_route_needs_the_facts_it_looks_at(route, wanted):
    assert wanted <= needs(route)


ALIASES = st.sampled_from(["mini", "middle", "flagship"])


@given(
    st.builds(
        Facts,
        models=st.dictionaries(
            ALIASES,
            st.builds(
                lambda allowed, ill, cached: candidate(
                    "middle", allowed=allowed, retry_after_s=ill, cached_tokens=cached
                ),
                st.booleans(),
                st.none() | st.floats(0, 60),
                st.integers(0, 5000),
            ),
        ),
        prompt_tokens=st.integers(0, 200_000),
        max_output_tokens=st.none() | st.integers(0, 10_000),
        step=st.none() | st.just("extract"),
        plans=st.dictionaries(
            st.sampled_from(["extract", "*"]),
            st.builds(Plan, ALIASES, st.sampled_from(["start", "score"]), st.floats(0, 1), st.booleans()),
        ),
        score=st.none() | st.floats(0, 1),
        current=st.none() | ALIASES,
        draws=st.builds(Draws, st.floats(0, 1), st.floats(0, 1)),
    ),
    st.sampled_from(["ladder", "cheapest_able", "learned"]),
    st.booleans(),
)
def test_a_choice_is_always_able_and_its_propensities_sum_to_one(facts, rule, sticky):
    route = replace(ROUTE, choose=rule, floor=Floor("flagship"), sticky=sticky, holdout=0.25)
    choice = choose(route, facts)
    gone = {excluded.model for excluded in choice.excluded}
    assert choice.model is None or (choice.model not in gone and choice.model in facts.models)
    assert not gone & set(choice.ladder)
    assert (choice.model is None) == (gone == set(ROUTE.ladder))
    drawn = choose(route, replace(facts, draws=Draws(0.0)))
    usual = choose(route, replace(facts, draws=Draws(0.999)))
    if drawn.model != usual.model:
        assert drawn.propensity + usual.propensity == pytest.approx(1.0)
    else:
        assert usual.propensity == 1.0
