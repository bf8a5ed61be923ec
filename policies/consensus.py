"""Whether two judged replies say the same: what `agree` compares of them, by the schema they had to satisfy."""

import json
from typing import Any

from policies.agreement import agree, agree_texts
from policies.chat import Choice, Reply
from policies.contract import Contract, Verdict

Judged = tuple[Reply, Verdict]


def consensus(one: Judged, other: Judged, contract: Contract) -> bool:
    """Whether both are acceptable and each choice of one says what the same choice of the other says.

    Texts are compared as values where the contract has a schema, else as words; tool calls by name and
    arguments, in any order. What was cut, filtered or refused agrees with nothing.
    """
    if not (one[1].acceptable and other[1].acceptable):
        return False
    mine, theirs = _by_index(one[0]), _by_index(other[0])
    return bool(mine) and mine.keys() == theirs.keys() and all(
        _same((mine[i], one[1]), (theirs[i], other[1]), contract) for i in mine
    )  # fmt: skip


def _by_index(reply: Reply) -> dict[int, Choice]:
    return {choice.index: choice for choice in reply.choices}


def _same(one: tuple[Choice, Verdict], other: tuple[Choice, Verdict], contract: Contract) -> bool:
    if any(c.refusal is not None or c.finish_reason in ("length", "content_filter") for c, _ in (one, other)):
        return False
    calls, others = _calls(*one), _calls(*other)
    if calls is None or others is None or len(calls) != len(others):
        return False
    for call in calls:
        match = next((c for c in others if c[0] == call[0] and agree(c[1], call[1])), None)
        if match is None:
            return False
        others.remove(match)
    return bool(calls) or _same_text(_text(*one), _text(*other), contract)


def _calls(choice: Choice, verdict: Verdict) -> list[tuple[str, Any]] | None:
    """Names and arguments as values, as mended; None where they are no JSON."""
    try:
        return [
            (call.name, json.loads(verdict.arguments.get((choice.index, call.index), call.arguments)))
            for call in choice.tool_calls
        ]
    except (ValueError, RecursionError):
        return None


def _text(choice: Choice, verdict: Verdict) -> str:
    return verdict.texts.get(choice.index, choice.text or "")


def _same_text(one: str, other: str, contract: Contract) -> bool:
    if contract.schema is None:
        return bool(one.strip()) and agree_texts(one, other)
    try:
        return agree(json.loads(one), json.loads(other), contract.schema.schema)
    except (ValueError, RecursionError):
        return False
