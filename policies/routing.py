"""Which model an exchange begins with, and why: `needs(route)` names the facts, `choose(route, facts)` decides.

The order of decision, each part taking only what the one before it left:

    1  hard constraints  window, abilities, tags, key policy, price ceiling, health     -> excluded
    2  declared step     `X-Tailrace-Step`, the run's state, the route's `match` rules   -> step, ladder
    3  evidence          the calibration's plan for the step, and whether starting cheap
                         is cheaper at all once failed calls are paid for               -> start
    4  content score     only where the plan says so, and never where the scorer abstains
    5  the conversation  stays on its model unless leaving its prompt cache pays

After the call `policies/doubts` says whether a valid answer is believed, where the plan goes by that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Final

from policies.chat import Usage
from policies.constraints import RESERVED_OUTPUT_TOKENS, Excluded, sift
from policies.facts import Evidence, Facts, Plan
from policies.money import cost_nanousd, usd_text
from policies.route import Route, When
from schemas.values import dataclass

ENOUGH: Final = 20.0
"""Evidence of fewer exchanges than this does not turn a ladder round."""
_LOOKS: Final = tuple(field.name for field in fields(When))
"""What a rule may look at."""


_DECISIVE: Final = frozenset(
    (
        "pinned",
        "cheapest_able",
        "floor",
        "drift",
        "score",
        "suspicion",
        "evidence",
        "sticky",
        "holdout",
        "agree",
    )
)
"""Facts that say where an exchange begins; the others say of which step it is, and what may not be asked."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One fact that bore on the decision, and what it said. Holds no text of the prompt."""

    fact: str
    says: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision. `model` None: no model of the ladder may be asked, `excluded` says why of each.

    `ladder` is what is left to climb after `model`. `propensity` is the probability that these facts lead
    to this model. `climb_above` is the suspicion from which a valid answer is not believed; `together` are
    two models to ask at once and compare; `shadow` is asked besides, for the log alone.
    """

    model: str | None
    ladder: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    propensity: float = 1.0
    excluded: tuple[Excluded, ...] = ()
    step: str = "*"
    climb_above: float | None = None
    together: tuple[str, str] | None = None
    shadow: str | None = None
    holdout: bool = False
    retry_after_s: float | None = None
    """Where only health stands in the way: when the first of them may be tried again."""

    @property
    def because(self) -> str | None:
        """The last thing that bore on where it begins; None where that is the foot of the ladder, by the ladder's rule."""
        decisive = [r for r in self.reasons if r.fact in _DECISIVE]
        return f"{decisive[-1].fact}: {decisive[-1].says}" if decisive else None


_NOTHING: Final[frozenset[str]] = frozenset()


def needs(route: Route) -> frozenset[str]:
    """The names of the `Facts` that `choose` looks at for `route`, besides those of hard constraints.

    A route that neither matches nor learns wants none, and its facts cost nothing to gather.
    """
    if not (route.match or route.sticky or route.holdout or route.shadow) and route.choose == "ladder":
        return _NOTHING
    wanted: set[str] = set()
    for rule in route.match:
        wanted.update(name for name in _LOOKS if getattr(rule.when, name) is not None)
    if wanted & {"tool"}:
        wanted = wanted - {"tool"} | {"tools"}
    if route.match or route.choose == "learned":
        wanted |= {"step", "state"}
    if route.choose == "learned":
        wanted |= {"plans", "evidence", "drifted", "score", "prompt_tokens"}
    if route.choose == "cheapest_able":
        wanted |= {"evidence", "prompt_tokens"}
    if route.sticky:
        wanted |= {"current", "turns_left", "cached_tokens", "prompt_tokens"}
    if route.holdout or route.shadow:
        wanted.add("draws")
    return frozenset(wanted)


@dataclass(frozen=True, slots=True)
class _Case:
    """One decision in work. `known` is the evidence of its step; `reasons` grows as parts of it are decided."""

    route: Route
    facts: Facts
    step: str
    able: tuple[str, ...]
    strong: str
    known: Mapping[str, Evidence]
    reasons: list[Reason]

    def note(self, fact: str, says: str) -> None:
        self.reasons.append(Reason(fact, says))


def choose(route: Route, facts: Facts) -> Choice:
    """The model that `route` begins with under these facts, with a reason for each part of the decision."""
    reasons: list[Reason] = []
    step, ladder = _declared(route, facts, reasons)
    if facts.pinned is not None:
        ladder = (facts.pinned,)
        reasons.append(Reason("pinned", f"the client asked for {facts.pinned}"))
    able, excluded = sift(ladder, route, facts)
    reasons.extend(Reason(gone.why, f"{gone.model}: {gone.says}") for gone in excluded)
    if not able:
        waits = [facts.models[gone.model].retry_after_s for gone in excluded if gone.why == "health"]
        wait = min((w for w in waits if w is not None), default=None)
        return Choice(None, (), tuple(reasons), 1.0, excluded, step, retry_after_s=wait)
    if facts.pinned is not None:
        return Choice(able[0], (), tuple(reasons), 1.0, excluded, step)
    known = facts.evidence.get(step) or facts.evidence.get("*") or {}
    if route.choose == "cheapest_able":
        ranks = {alias: _rank(_call_cost(alias, facts, known), rung) for rung, alias in enumerate(able)}
        able = tuple(sorted(able, key=ranks.__getitem__))
    strong = route.floor.of if route.floor and route.floor.of in able else able[-1]
    case = _Case(route, facts, step, able, strong, known, reasons)
    planned, climb_above = _start(case)
    start = _sticky(case, planned)
    return _drawn(case, start, climb_above if start == planned else None, excluded)


def declared_step(route: Route, facts: Facts) -> str | None:
    """The step that the client, the run or a rule of `match` names; None where none does."""
    step, _ = _declared(route, facts, [])
    return None if step == "*" else step


def _declared(route: Route, facts: Facts, reasons: list[Reason]) -> tuple[str, tuple[str, ...]]:
    """The step and its ladder: as declared, else by the run's state, else by the first rule that fits."""
    step, ladder = facts.step or facts.state, route.ladder
    if step is not None:
        reasons.append(Reason("step", f"declared: {step}" if facts.step else f"the run's state: {step}"))
    for number, rule in enumerate(route.match, 1):
        if fits(rule.when, facts):
            says = f"rule {number} of match fits"
            if facts.step is None and rule.step is not None:
                step = rule.step
                says += f": step {step}"
            if rule.ladder:
                ladder = rule.ladder
                says += f": ladder {', '.join(ladder)}"
            reasons.append(Reason("match", says))
            break
    return step or "*", ladder


def fits(when: When, facts: Facts) -> bool:
    """Whether every condition that `when` gives holds."""
    return (
        _named(when.step, facts.step)
        and _named(when.state, facts.state)
        and _named(when.schema, facts.schema)
        and (when.fingerprint is None or when.fingerprint == facts.fingerprint)
        and (when.system is None or when.system in facts.system)
        and (when.tool is None or any(fnmatchcase(name, when.tool) for name in facts.tools))
    )


def _named(pattern: str | None, name: str | None) -> bool:
    return pattern is None or (name is not None and fnmatchcase(name, pattern))


def _start(case: _Case) -> tuple[str, float | None]:
    """(where to begin on the ladder, the suspicion from which an answer is not believed)."""
    if case.route.choose == "learned":
        planned, climb_above = _planned(case)
        start = _worth_it(case, planned)
        return start, climb_above if start == planned else None
    says = "begins at its foot" if case.route.choose == "ladder" else "the least for this request"
    case.note(case.route.choose, f"{says}: {case.able[0]}")
    return case.able[0], None


def _planned(case: _Case) -> tuple[str, float | None]:
    """Where the calibration lets the step begin. Without a floor the foot of the ladder is always allowed."""
    step, strong, facts = case.step, case.strong, case.facts
    if case.route.floor is None:
        return case.able[0], None
    name = step if step in facts.plans else "*"
    plan = facts.plans.get(name)
    if plan is None or not plan.certified:
        case.note("floor", f"no saving certified for step {step}: {strong}")
        return strong, None
    if facts.drifted & {name, step}:
        case.note("drift", f"step {step} no longer looks like its calibration: {strong}")
        return strong, None
    if plan.start not in case.able:
        case.note("floor", f"certified for {plan.start}, which is not able: {strong}")
        return strong, None
    case.note("floor", f"step {step} certified on {plan.n} outcomes to begin at {plan.start}, by {plan.by}")
    if plan.by == "score":
        return _scored(case, plan), None
    if plan.by == "suspicion":
        case.note("suspicion", f"an answer that reaches {plan.threshold:.3f} is not believed: {strong}")
        return plan.start, plan.threshold
    return plan.start, None


def _scored(case: _Case, plan: Plan) -> str:
    score = case.facts.score
    if score is None:
        start = plan.start if case.step in plan.abstaining else case.strong
        table = f", step {case.step} stays at" if case.step in plan.abstaining else ":"
        case.note("score", f"abstains, the request is unlike its log{table} {start}")
        return start
    start = case.strong if score >= plan.threshold else plan.start
    case.note("score", f"{score:.3f} against {plan.threshold:.3f}: {start}")
    return start


def _worth_it(case: _Case, start: str) -> str:
    """`start`, or a model above it (up to the strong one) where beginning there is cheaper, failures paid for.

    Under a floor only these two: nothing is certified of the models between them.
    """
    first, last = case.able.index(start), case.able.index(case.strong)
    rungs = case.able[first : last + 1] if last >= first else (start,)
    if case.route.floor is not None and last > first:
        rungs = (start, case.strong)
    costs = expected_costs(rungs, case.facts, case.known)
    if costs is None:
        return start
    best = min(range(len(rungs)), key=costs.__getitem__)
    if best:
        spent = f"{usd_text(round(costs[0]))} USD expected from {start}, {usd_text(round(costs[best]))} from {rungs[best]}"
        case.note("evidence", f"beginning cheap loses money: {spent}")
    return rungs[best]


def expected_costs(
    rungs: Sequence[str], facts: Facts, known: Mapping[str, Evidence]
) -> tuple[float, ...] | None:
    """Nano-USD that an exchange costs in the mean when it begins at each of `rungs`, all later calls included.

    A rung costs its calls, re-asks included, and with the probability that it fails the next rung as well.
    None where a price is missing or there is too little evidence to say.
    """
    above, costs = 0.0, []
    for number, alias in enumerate(reversed(rungs)):
        own = _call_cost(alias, facts, known)
        seen = known.get(alias)
        if own is None or (number > 0 and (seen is None or seen.n < ENOUGH)):
            return None
        above = own * (seen.calls if seen else 1.0) + (1.0 - seen.success if seen and number else 0.0) * above
        costs.append(above)
    return tuple(reversed(costs))


def _sticky(case: _Case, start: str) -> str:
    """`start`, or the conversation's model where that is as strong and leaving its prompt cache does not pay."""
    here, able, facts = case.facts.current, case.able, case.facts
    if not case.route.sticky or here is None or here not in able or here == start:
        return start
    if able.index(here) < able.index(start):
        case.note("sticky", f"leaves {here}: {start} is needed")
        return start
    stay, leave = _turns_cost(here, facts), _turns_cost(start, facts)
    if stay is None or leave is None or stay > leave:
        case.note("sticky", f"leaves {here}: its cached prompt saves less than {start} does")
        return start
    lost = f"{usd_text(round(leave - stay))} USD with {facts.models[here].cached_tokens} cached tokens"
    case.note("sticky", f"stays at {here}: leaving loses {lost}")
    return here


def _turns_cost(alias: str, facts: Facts) -> float | None:
    """Nano-USD of the conversation's turns with `alias`: the first with what is cached now, the later ones all cached."""
    candidate = facts.models[alias]
    output = RESERVED_OUTPUT_TOKENS if facts.max_output_tokens is None else facts.max_output_tokens
    prompt = candidate.tokens(facts.prompt_tokens)
    costs = [
        cost_nanousd(Usage(prompt, output, cached), candidate.card.price)
        for cached in (min(candidate.cached_tokens, prompt), prompt)
    ]
    if costs[0] is None or costs[1] is None:
        return None
    return costs[0] + max(0.0, facts.turns_left - 1.0) * costs[1]


def _drawn(case: _Case, start: str, climb_above: float | None, excluded: tuple[Excluded, ...]) -> Choice:
    """The choice after the dice: the randomised holdout, the shadow call, the pair that must agree."""
    route, draws, able, strong = case.route, case.facts.draws, case.able, case.strong
    propensity, held = 1.0, False
    if route.holdout > 0 and start != strong:
        held = draws.holdout < route.holdout
        propensity = route.holdout if held else 1.0 - route.holdout
        if held:
            case.note("holdout", f"drawn for comparison: {strong} instead of {start}")
            start = strong
    if start == strong:
        climb_above = None
    together, start = (None, start) if climb_above is not None else _paired(case, start)
    other = strong if start != strong else able[0]
    shadow = other if draws.shadow < route.shadow and other != start else None
    if shadow:
        case.note("shadow", f"{shadow} is asked besides, for the log alone")
    above = able[able.index(start if climb_above is None else strong) + (climb_above is None) :]
    return Choice(
        model=start,
        ladder=tuple(alias for alias in above if alias not in (together or ())),
        reasons=tuple(case.reasons),
        propensity=propensity,
        excluded=excluded,
        step=case.step,
        climb_above=climb_above,
        together=together,
        shadow=shadow,
        holdout=held,
    )


def _paired(case: _Case, start: str) -> tuple[tuple[str, str] | None, str]:
    """The two models that are asked together, and where to begin: above them where one of them is not able."""
    pair, able = case.route.agree, case.able
    if not pair or start == case.strong:
        return None, start
    if not sift(pair, case.route, case.facts)[1]:
        case.note("agree", f"{pair[0]} and {pair[1]} are asked together")
        return (pair[0], pair[1]), start
    above = next((alias for alias in able[able.index(start) :] if alias not in pair), start)
    if above == start:
        return None, start
    case.note("agree", f"there is nobody to agree with {start}: {above}")
    return None, above


def explain(choice: Choice) -> str:
    """The decision as lines of text, fact by fact."""
    lines = [f"{reason.fact:14} {reason.says}" for reason in choice.reasons]
    then = f", then {', '.join(choice.ladder)}" if choice.ladder else ""
    end = "no model may be asked" if choice.model is None else f"{choice.model}{then}"
    return "\n".join(
        [*lines, f"{'chosen':14} {end} (step {choice.step}, propensity {choice.propensity:.3g})"]
    )


def _call_cost(alias: str, facts: Facts, known: Mapping[str, Evidence]) -> float | None:
    """Nano-USD that one call costs in the mean; None where the model is unpriced."""
    candidate = facts.models[alias]
    seen = known.get(alias)
    output = round(seen.output_tokens) if seen else RESERVED_OUTPUT_TOKENS
    if facts.max_output_tokens is not None:
        output = min(output, facts.max_output_tokens)
    prompt = candidate.tokens(facts.prompt_tokens)
    usage = Usage(prompt, output, min(candidate.cached_tokens, prompt))
    return cost_nanousd(usage, candidate.card.price)


def _rank(cost: float | None, rung: int) -> tuple[bool, float, int]:
    """Sorts by cost, the unpriced last, and equal ones as the ladder has them."""
    return cost is None, cost or 0.0, rung
