"""Gathers what a routing decision wants to know of a request and of the world, and nothing that it does not."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from policies import facts as request
from policies.facts import Candidate, Draws, Evidence, Facts
from policies.facts import Plan as Calibrated
from policies.plan import Counts
from policies.route import Route
from policies.routing import declared_step, needs
from policies.scorer import score
from proxy.homes import Home, turns_left
from proxy.learning import Learning
from proxy.selection import Selected
from proxy.wire.ask import Ask

EMULATED: Final = frozenset({"json_schema"})
"""Abilities that the proxy lends to a model: it asks for the shape by other means and checks the answer."""


def counts_wanted(route: Route, selected: Selected, body_bytes: int) -> bool:
    """Whether tokens have to be counted: a token is never shorter than a byte, so a small request fits any window."""
    if "prompt_tokens" in needs(route):
        return True
    return any(
        target.card.window_tokens is not None and body_bytes > target.card.window_tokens // 2
        for target in selected.targets
    )


def bound_of(doc: dict[str, Any]) -> int | None:
    """The tokens that the client allows an answer; None where it set no bound."""
    asked = doc.get("max_completion_tokens", doc.get("max_tokens"))
    return asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else None


def gather(
    route: Route,
    ask: Ask,
    selected: Selected,
    counts: Counts | None,
    ill: Mapping[str, tuple[float, float]],
    least_tokens: int | None = None,
    home: Home | None = None,
    learning: Learning | None = None,
    factor: Callable[[str], float] = lambda _: 1.0,
) -> Facts:
    """The facts of this request.

    `ill` has the seconds for which a model's breaker is open, and for which it rests, by the name it is asked by.
    `least_tokens` is what trimming can bring the prompt down to, `home` where the conversation is until now.
    `factor` says how many tokens the model of an alias makes of one that we count.
    """
    wanted = needs(route)
    chance = random.random  # choices are logged with their propensities; nothing secret hangs on them
    facts = Facts(
        models={
            t.asked: Candidate(
                t.card,
                retry_after_s=ill[t.asked][0] or None if t.asked in ill else None,
                cached_tokens=home.cached_tokens if home is not None and home.model == t.asked else 0,
                rests_s=ill[t.asked][1] if t.asked in ill else 0.0,
                token_factor=1.0 if counts is None else factor(t.card.alias),
            )
            for t in selected.targets
        },
        prompt_tokens=0 if counts is None else sum(counts.messages) + counts.overhead,
        min_prompt_tokens=least_tokens,
        max_output_tokens=bound_of(ask.doc),
        abilities=request.demands(ask.doc) - EMULATED,
        pinned=selected.pinned,
        step=ask.controls.step,
        system=request.system_text(ask.doc) if "system" in wanted else "",
        tools=request.tool_names(ask.doc) if "tools" in wanted else (),
        schema=request.schema_name(ask.doc) if "schema" in wanted else None,
        fingerprint=request.fingerprint(ask.doc) if "fingerprint" in wanted else None,
        plans=_plans(route, ask) if "plans" in wanted else {},
        evidence=_evidence(route, selected, learning) if "evidence" in wanted else {},
        drifted=learning.drifts.of(route) if learning is not None and "drifted" in wanted else frozenset(),
        current=None if home is None else home.model,
        turns_left=turns_left(ask.messages) if "turns_left" in wanted else 1.0,
        draws=Draws(chance(), chance()) if "draws" in wanted else Draws(),
    )
    scorer = route.floor.scorer if route.floor is not None else None
    if scorer is None or "score" not in wanted or facts.pinned is not None:
        return facts
    step = declared_step(route, facts)
    return replace(facts, score=score(scorer, ask.messages, ask.doc.get("tools"), step))


def _plans(route: Route, ask: Ask) -> Mapping[str, Calibrated]:
    """What the route's calibration allows here. Contents and answers were calibrated on conversations alone."""
    plans = route.floor.plans if route.floor is not None else {}
    if ask.endpoint == "chat/completions":
        return plans
    return {step: plan for step, plan in plans.items() if plan.by == "start"}


def _evidence(
    route: Route, selected: Selected, learning: Learning | None
) -> Mapping[str, Mapping[str, Evidence]]:
    """What is known of the route's models, by step and the name they are asked by."""
    if learning is None:
        return {}
    return learning.of(route.name, {t.asked: t.card.alias for t in selected.targets})
