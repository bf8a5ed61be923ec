"""What is being asked: the question in a conversation, and the question inside a huge message."""

import re
from collections.abc import Sequence

from policies.passages import LONG
from policies.units import Message, last_user, long_text, text_of

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
_ASKS = re.compile(
    r"\?\s*[\"')”]?\s*$|\?\s|^\W*(?:please|question|task|instructions?|answer|find|list|highlight|summari[sz]e|explain"
    r"|describe|tell|show|what|which|who|when|where|why|how|is|are|do|does|did|can|could|should|would|extract|identify"
    r"|compare|translate|write|rewrite|check|review|analy[sz]e|give|based on|using|according to)\b",
    re.IGNORECASE,
)
_EDGE_PARAGRAPHS = 3
_LONGEST = 2_000
"""Characters of a paragraph that is taken for a question or an instruction at all."""


def question_spans(text: str) -> list[tuple[int, int]]:
    """Where a long message asks: paragraphs at its begin and its end that read like a question or an order.

    People put what they want before or after what they paste. Where nothing reads like it, the first and the
    last paragraph are taken, each shortened to a bounded length.
    """
    if len(text) <= LONG:
        return [(0, len(text))]
    head, tail = _first_paragraphs(text), _last_paragraphs(text)
    asking = [
        (start, end)
        for start, end in dict.fromkeys([*head, *tail])
        if end - start <= _LONGEST and _ASKS.search(text[start:end])
    ]
    if asking:
        return sorted(asking)
    return [
        (head[0][0], min(head[0][1], head[0][0] + LONG // 2)),
        (max(tail[-1][0], tail[-1][1] - LONG // 2), tail[-1][1]),
    ]


def question_of(messages: Sequence[Message]) -> str:
    """The text of what is asked: the last user message, or the question inside it where it is long."""
    at = last_user(messages)
    if at is None:
        return ""
    message = messages[at]
    text = text_of(message)
    if len(text) <= LONG:
        return text
    long = long_text(message)
    asked = "\n".join(long[start:end] for start, end in question_spans(long))
    return asked if len(text) == len(long) else f"{text.replace(long, '', 1)[:_LONGEST]}\n{asked}"


def _first_paragraphs(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start = 0
    while len(found) < _EDGE_PARAGRAPHS and start < len(text):
        border = _PARAGRAPH.search(text, start)
        end = border.start() if border else len(text)
        if text[start:end].strip():
            found.append((start, end))
        start = border.end() if border else len(text)
    return found or [(0, len(text))]


def _last_paragraphs(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    end = len(text)
    while len(found) < _EDGE_PARAGRAPHS and end > 0:
        start = text.rfind("\n\n", 0, end) + 2 if "\n\n" in text[:end] else 0
        if text[start:end].strip():
            found.append((start, end))
        end = max(0, start - 2)
    return found[::-1] or [(0, len(text))]
