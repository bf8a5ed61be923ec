"""What an exchange came to, as headers, as an object in the body, and as an error."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from policies.ladder import Accept, Attempt, GiveUp
from policies.money import usd_text
from policies.plan import Plan
from proxy.exchange import Outcome
from proxy.wire.ask import Progress
from proxy.wire.body import dump
from proxy.wire.errors import NO_RETRY, ApiError, from_failure
from proxy.wire.sse import comment, frame
from schemas.check import Change, Problem

MAX_REPAIRS: Final = 12
MAX_PROBLEMS: Final = 20
Headers = list[tuple[str, str]]


def at_start(plan: Plan, model: str) -> Headers:
    """The headers that are known when a stream begins."""
    headers = [("x-tailrace-route", plan.route), ("x-tailrace-model", model)]
    return headers + _context(plan)


def at_end(outcome: Outcome) -> Headers:
    """All of an exchange's headers."""
    plan, last = outcome.plan, outcome.last
    headers = [
        ("x-tailrace-route", plan.route),
        ("x-tailrace-model", last.model),
        ("x-tailrace-attempts", str(len(outcome.history))),
        ("x-tailrace-schema", schema_word(outcome)),
        ("x-tailrace-cost-usd", cost_text(outcome)),
        ("x-tailrace-saved-usd", saved_text(outcome)),
    ]
    if looked_up := recalls(outcome):
        headers.append(("x-tailrace-recalls", str(looked_up)))
    if last.verdict.changes:
        headers.append(("x-tailrace-repairs", ",".join(repairs(last))))
    return headers + _context(plan)


def _context(plan: Plan) -> Headers:
    context = plan.context
    if context is None:
        return []
    told = context.told
    text = f"in={told(context.tokens_in)};out={told(context.tokens_out)};dropped={len(context.dropped)}"
    if context.net_tokens is not None:
        text += f";net={told(context.net_tokens)}"
    kept = [] if plan.record is None else [("x-tailrace-context-record", plan.record)]
    return [("x-tailrace-context", text), *kept]


def recalls(outcome: Outcome) -> int:
    """How often the model looked up what was left out of its prompt, and was asked again with what was found."""
    return sum(attempt.purpose == "recall" for attempt in outcome.history)


def schema_word(outcome: Outcome) -> str:
    """None | valid | repaired | reasked | escalated | failed (docs/headers.md).

    A cut, filtered or refused answer to a route that promises a schema is `failed`: the client is told by
    its finish_reason or refusal, and must not take it for a valid one.
    """
    last = outcome.last
    if not outcome.plan.contract.binds or last.verdict.kind == "none":
        return "none"
    if isinstance(outcome.end, GiveUp) or last.verdict.kind == "invalid":
        return "failed"
    if last.verdict.kind == "exempt":
        plain = outcome.plan.contract.schema is None or _called(last)
        return "none" if plain else "failed"
    if any(a.verdict.kind == "invalid" for a in outcome.history[:-1]):
        return "escalated" if last.model != outcome.history[0].model else "reasked"
    return last.verdict.kind


def _called(attempt: Attempt) -> bool:
    return attempt.reply is not None and any(c.tool_calls for c in attempt.reply.choices)


def repairs(attempt: Attempt) -> list[str]:
    """The operations that mended a reply, each once, in order."""
    return list(dict.fromkeys(change.operation for change in attempt.verdict.changes))[:MAX_REPAIRS]


def cost_text(outcome: Outcome) -> str:
    """All attempts together in US dollars; `unpriced` where one of them has no known price."""
    costs = [a.cost_nanousd for a in outcome.history if a.usage is not None]
    return "unpriced" if None in costs else usd_text(sum(c for c in costs if c is not None))


def saved_text(outcome: Outcome) -> str:
    """What was saved against one untrimmed call to the last model; negative where money was lost."""
    saved = outcome.last.saved_nanousd
    if saved is not None:
        return usd_text(saved)
    cost = cost_text(outcome)
    if cost == "unpriced":
        return cost
    return "0" if cost == "0" or isinstance(outcome.end, Accept) else f"-{cost}"


def in_short(outcome: Outcome) -> dict[str, Any]:
    """The headers' facts as an object."""
    looked_up = recalls(outcome)
    return {
        "route": outcome.plan.route,
        "model": outcome.last.model,
        "attempts": len(outcome.history),
        "schema": schema_word(outcome),
        "repairs": repairs(outcome.last),
        "cost_usd": cost_text(outcome),
        "saved_usd": saved_text(outcome),
        **({"recalls": looked_up} if looked_up else {}),
    }


def as_line(outcome: Outcome) -> str:
    """The same in one line, for a comment."""
    return dump(in_short(outcome)).decode()


def explained(outcome: Outcome) -> dict[str, Any]:
    """Every attempt, repair and decision."""
    facts = in_short(outcome)
    facts["attempts"] = [_told(a, spoken=True) for a in sorted(outcome.history, key=lambda a: a.number)]
    facts["ladder"] = [rung.model for rung in outcome.plan.rungs]
    if outcome.plan.choice is not None:
        facts["decision"] = [{"fact": r.fact, "says": r.says} for r in outcome.plan.choice.reasons]
    if outcome.plan.context is not None:
        facts["context"] = outcome.plan.context.note
    return facts


def _told(attempt: Attempt, *, spoken: bool) -> dict[str, Any]:
    """One attempt. `spoken` False leaves out what quotes the model's text, and where it was asked."""
    usage = attempt.usage
    told: dict[str, Any] = {
        "number": attempt.number,
        "model": attempt.model,
        "purpose": attempt.purpose,
        "verdict": attempt.verdict.kind,
        "input_tokens": usage.input_tokens if usage else 0,
        "output_tokens": usage.output_tokens if usage else 0,
        "cost_usd": "unpriced" if attempt.cost_nanousd is None else usd_text(attempt.cost_nanousd),
        "seconds": round(attempt.ended_s - attempt.started_s, 3),
    }
    if spoken and attempt.deployment:
        told["deployment"] = attempt.deployment
    if attempt.failure is not None:
        told["failure"] = {"kind": attempt.failure.kind, "status": attempt.failure.status}
    if attempt.suspicion is not None:
        told["suspicion"] = round(attempt.suspicion, 4)
    if attempt.set_aside is not None:
        told["set_aside"] = attempt.set_aside
    if attempt.verdict.problems:
        told["problems"] = [_problem(p) for p in attempt.verdict.problems[:MAX_PROBLEMS]]
    if spoken and attempt.verdict.changes:
        told["repairs"] = [_change(c) for c in attempt.verdict.changes[:MAX_PROBLEMS]]
    return told


def _problem(problem: Problem) -> dict[str, str]:
    return {"pointer": problem.pointer, "keyword": problem.keyword, "message": problem.message}


def _change(change: Change) -> dict[str, Any]:
    return {
        "operation": change.operation,
        "class": change.kind,
        "span": list(change.span),
        "pointer": change.pointer,
        "before": change.before[:200],
        "after": change.after[:200],
    }


def waiting(progress: Progress, visit_id: str, attempt: Mapping[str, Any] | None) -> bytes:
    """What fills a silence: where the exchange stands, as comments, or as a chunk that says nothing.

    A chunk with an empty content and a member of its own passes every official client; a named event or a
    comment that ends in a blank line does not.
    """
    if progress == "off":
        return b""
    if progress == "comment" or attempt is None:
        told = b"" if attempt is None else comment("tailrace-progress " + dump(attempt).decode())
        return comment("keep-alive") + told
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
    head = {"id": visit_id, "object": "chat.completion.chunk", "created": 0, "model": attempt["model"]}
    return frame(dump(head | {"choices": [choice], "tailrace": {"progress": attempt}}))


def error_of(outcome: Outcome, *, retried: bool) -> ApiError:
    """The failure that an exchange ended with. `retried`: tell the client not to multiply our retries."""
    end = outcome.end
    assert isinstance(end, GiveUp)
    if end.reason == "contradiction":
        message = (
            "The answer turned out not to be valid, and the corrected one contradicts what was delivered."
        )
        return ApiError(422, message, "schema_unsatisfied", type="schema_error")
    if end.reason == "allowance":
        message = f"The model looked up what had been left out of its prompt, and had not answered yet: {end.detail}."
        return ApiError(502, message, "upstream_error", type="upstream_error", headers=NO_RETRY)
    if end.reason != "schema":
        failures = [a.failure for a in reversed(outcome.history) if a.failure is not None]
        # What an upstream said tells more than that the last model was too small to be asked.
        failed = next((f for f in failures if f.kind != "window"), failures[0])
        return from_failure(failed, retried=retried)
    judged = next(a for a in reversed(outcome.history) if a.verdict.kind == "invalid")
    problems = judged.verdict.problems[:MAX_PROBLEMS]
    first = problems[0] if problems else Problem("", "schema", "not valid")
    message = (
        f"No valid answer after {len(outcome.history)} attempts: the last one fails the schema at "
        f"{first.pointer or 'the root'} ({first.message})"
    )
    message += f"; {end.detail}." if end.detail else "."
    extra = {
        "problems": [_problem(p) for p in problems],
        "attempts": [_told(a, spoken=False) for a in outcome.history],
    }
    return ApiError(422, message, "schema_unsatisfied", type="schema_error", extra=extra, headers=NO_RETRY)


def with_facts(usage_event: bytes, facts: Mapping[str, Any]) -> bytes:
    """A stream's usage event with the exchange's facts in it."""
    return dump(orjson.loads(usage_event) | {"tailrace": facts})
