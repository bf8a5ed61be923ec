"""Whole replies of `/v1/responses`: their text read and written back, as `proxy/wire/chat.py` does for chat."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policies.chat import Choice, Reply
from policies.contract import Verdict
from policies.money import usage_of
from proxy.wire.body import dump
from proxy.wire.chat import Whole, read_object

_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}


def schema_of(doc: Mapping[str, Any]) -> Any:
    """The JSON Schema in a request's `text.format`, or None."""
    text = doc.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    return wanted.get("schema")


def conversation(doc: Mapping[str, Any]) -> list[Any]:
    """A request's input as items; a text is the user's."""
    given = doc.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(given) if isinstance(given, list) else []


def read_response(body: bytes) -> Reply:
    """The reply in a whole body: one choice, whose text is that of all its messages. Raises Unreadable."""
    doc = read_object(body)
    parts = list(_parts(doc))
    texts = [p["text"] for p in parts if p.get("type") == "output_text" and isinstance(p.get("text"), str)]
    refusal = next((p.get("refusal") for p in parts if p.get("type") == "refusal"), None)
    why = doc.get("incomplete_details")
    finish = _FINISH.get(str(why.get("reason"))) if isinstance(why, dict) else "stop"
    only = Choice(
        0, "".join(texts) if texts else None, finish, refusal=refusal if isinstance(refusal, str) else None
    )
    return Reply((only,) if parts else (), usage_of(doc.get("usage")), Whole(body, doc))


def _parts(doc: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    output = doc.get("output")
    for item in output if isinstance(output, list) else ():
        content = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
        yield from (part for part in (content if isinstance(content, list) else ()) if isinstance(part, dict))


def with_mended_response(whole: Whole, verdict: Verdict, extra: Mapping[str, Any]) -> bytes:
    """The body with the mended text in its first text part, the others emptied; unchanged bytes where nothing was."""
    text = verdict.texts.get(0)
    if text is None and not extra:
        return whole.body
    doc = dict(whole.doc)
    if text is not None:
        doc["output"] = _rewritten(doc["output"], text)
    return dump(doc | dict(extra))


def _rewritten(output: Sequence[Any], text: str) -> list[Any]:
    left = text
    items = []
    for item in output:
        if (
            not isinstance(item, dict)
            or item.get("type") != "message"
            or not isinstance(item.get("content"), list)
        ):
            items.append(item)
            continue
        parts = []
        for part in item["content"]:
            if isinstance(part, dict) and part.get("type") == "output_text":
                parts.append(part | {"text": left})
                left = ""
            else:
                parts.append(part)
        items.append(item | {"content": parts})
    return items
