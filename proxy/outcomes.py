"""The log of outcomes: what routes that compare (`shadow`, `holdout`) did and what came of it, as `calibrate` reads it.

JSON Lines beside the ledger's file, bounded by one older file of the same size. Prompts are in it only where a
route says `log_prompts`; answers never are.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from policies.chat import Reply
from policies.consensus import consensus
from policies.doubts import signals_of
from policies.ladder import Accept, Attempt
from proxy.exchange import Outcome
from proxy.wire.body import dump

MAX_BYTES = 256 * 1024 * 1024
WAITING = 2_000
"""Rows that may wait for the disk; beyond that the oldest are lost."""
_SQLITE = "sqlite:///"


class OutcomeLog:
    """Rows wait in memory until `save` appends them. Without a ledger on the disk there is no file either."""

    def __init__(self, store: str = "memory:") -> None:
        """`store` is the configuration's URL of the store."""
        self.path: Path | None = None
        if store.startswith(_SQLITE):
            self.path = Path(unquote(store.removeprefix(_SQLITE)) + ".outcomes.jsonl")
        self.waiting: deque[bytes] = deque(maxlen=WAITING)

    def note(self, row: Mapping[str, Any]) -> None:
        """Keep one row for the next `save`."""
        self.waiting.append(dump(row) + b"\n")

    async def save(self) -> None:
        """Append what waits. A disk that refuses loses it: outcomes are worth less than answers."""
        rows = b"".join(self.waiting)
        if self.path is None or not rows:
            return
        self.waiting.clear()
        try:
            await asyncio.to_thread(_append, self.path, rows)
        except OSError:
            return


def _append(path: Path, rows: bytes) -> None:
    with path.open("ab") as file:  # whole lines in one write: several workers may share the file
        file.write(rows)
        full = file.tell() > MAX_BYTES
    if full:
        os.replace(path, path.with_name(path.name + ".1"))  # noqa: PTH105  replaces what is there, on every system


def row_of(
    exchange_id: str, outcome: Outcome, shadow: Attempt | None, prompt: Mapping[str, Any] | None
) -> dict[str, Any]:
    """One exchange as a row. `prompt` has its messages and tools, where they may be written down.

    `answers` holds what can be judged: with a contract, whether an answer is valid, and where a second model was
    asked besides (`compared`), whether the cheaper one says what the stronger one says.
    """
    plan, choice = outcome.plan, outcome.plan.choice
    assert choice is not None
    kept = outcome.last if isinstance(outcome.end, Accept) else None
    calls = [*outcome.history, *([] if shadow is None else [shadow])]
    compared, answers = _answers(outcome, shadow)
    return {
        "ts": time.time(),
        "id": exchange_id,
        "route": plan.route,
        "step": choice.step,
        "model": choice.model,
        "kept": None if kept is None else kept.model,
        "propensity": choice.propensity,
        "reason": choice.because,
        "holdout": choice.holdout,
        "verdict": outcome.last.verdict.kind,
        "repairs": [change.operation for change in outcome.last.verdict.changes],
        "escalations": sum(a.purpose == "escalate" for a in outcome.history),
        "calls": [_call(a) for a in calls],
        "compared": compared,
        "answers": answers,
        **(prompt or {}),
    }


def feedback_of(exchange_id: str, route: str, score: float) -> dict[str, Any]:
    """What a client said of an exchange, as a row of its own: it comes long after the exchange's."""
    return {"ts": time.time(), "route": route, "feedback": exchange_id, "score": score}


def _call(attempt: Attempt) -> dict[str, Any]:
    usage = attempt.usage
    return {
        "model": attempt.model,
        "purpose": attempt.purpose,
        "input_tokens": usage.input_tokens if usage else 0,
        "output_tokens": usage.output_tokens if usage else 0,
        "cost_nanousd": attempt.cost_nanousd,
        "failure": None if attempt.failure is None else attempt.failure.kind,
    }


def _answers(outcome: Outcome, shadow: Attempt | None) -> tuple[bool, dict[str, Any]]:
    """Whether two answers were compared, and of each model its last answer's quality, its calls' cost, what was seen.

    Where nothing is promised of answers nothing is known of their quality: clients may tell.
    """
    contract = outcome.plan.contract
    attempts = [a for a in (*outcome.history, *([] if shadow is None else [shadow])) if a.reply is not None]
    if any(a.cost_nanousd is None for a in attempts):
        return False, {}
    by_model: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_model.setdefault(attempt.model, []).append(attempt)
    good: dict[str, float | None] = {
        model: (1.0 if of[-1].verdict.acceptable else 0.0) if contract.binds else None
        for model, of in by_model.items()
    }
    pair = _pair(outcome, shadow) if contract.binds else None
    if pair is not None and good.get(pair[0].model) and good.get(pair[1].model):
        low, high = pair
        good[low.model] = float(consensus(_judged(low), _judged(high), contract))
    else:
        pair = None
    return pair is not None, {
        model: {
            "quality": good[model],
            "cost_nanousd": sum(a.cost_nanousd or 0 for a in of),
            "signals": _signals(of[-1]),
        }
        for model, of in by_model.items()
    }


def _pair(outcome: Outcome, shadow: Attempt | None) -> tuple[Attempt, Attempt] | None:
    """The cheaper model's answer and the stronger one's, where both are there.

    The shadow is the strong model's unless the exchange's own is; an answer that was not believed is compared with
    the one that was asked for instead.
    """
    last, choice = outcome.last, outcome.plan.choice
    if last.reply is None:
        return None
    doubted = [a for a in outcome.history if a.set_aside == "suspicion" and a.model != last.model]
    if doubted:
        return doubted[-1], last
    if shadow is None or shadow.reply is None:
        return None
    return (last, shadow) if choice is not None and shadow.model in choice.ladder else (shadow, last)


def _judged(attempt: Attempt) -> tuple[Reply, Any]:
    assert attempt.reply is not None
    return attempt.reply, attempt.verdict


def _signals(attempt: Attempt) -> dict[str, Any]:
    assert attempt.reply is not None
    seen = signals_of(attempt.reply, attempt.verdict)
    return {"valid": seen.valid, "strict": seen.strict, "calls": seen.calls, "chars": seen.chars}
