"""A client's request as a value: what it asks for, what of it is addressed to us."""

from typing import Any, Final, Literal

from proxy.wire.body import REMOVE, NotJson, read_json
from proxy.wire.errors import bad_request
from schemas.values import dataclass

Progress = Literal["off", "comment", "chunk"]
_CONTROLS: Final = ("route", "run", "step", "progress", "explain", "max_cost_usd")

_HEADERS: Final = tuple(("x-tailrace-" + name.replace("_", "-"), name) for name in _CONTROLS)


@dataclass(frozen=True, slots=True)
class Controls:
    """What a client asks of Tailrace itself, by header or in the body object `tailrace`."""

    route: str | None = None
    run: str | None = None
    step: str | None = None
    progress: Progress = "comment"
    explain: bool = False
    max_cost_usd: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a model endpoint. `doc` is `body` parsed; neither is ever changed.

    `own` are the changes that take out of the body what was addressed to us.
    """

    endpoint: str
    body: bytes
    doc: dict[str, Any]
    controls: Controls
    own: dict[str, Any]
    model: str | None
    stream: bool
    include_usage: bool

    @property
    def messages(self) -> list[Any]:
        """The conversation; empty for endpoints that have none."""
        found = self.doc.get("messages")
        return found if isinstance(found, list) else []


def read_ask(endpoint: str, body: bytes, headers: dict[str, str], route_in_path: str | None) -> Ask:
    """The request in `body`. `headers` are by lower-case name. Raises ApiError (400)."""
    try:
        doc = read_json(body)
    except NotJson as error:
        raise bad_request(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(doc, dict):
        raise bad_request(f"The request body must be a JSON object, not {_kind(doc)}.")
    model = doc.get("model")
    if model is not None and not isinstance(model, str):
        raise bad_request(f"'model' must be a string, not {_kind(model)}.", param="model")
    stream = _flag(doc, "stream")
    if endpoint == "chat/completions":
        _check_messages(doc)
    options = doc.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request(
            f"'stream_options' must be an object, not {_kind(options)}.", param="stream_options"
        )
    include_usage = bool(options and options.get("include_usage") is True)
    own: dict[str, Any] = {}
    controls = read_controls(doc, headers, route_in_path, own)
    return Ask(endpoint, body, doc, controls, own, model, stream, include_usage)


def read_controls(
    doc: dict[str, Any], headers: dict[str, str], route_in_path: str | None, own: dict[str, Any]
) -> Controls:
    """Our controls from path, headers, `tailrace` and `metadata.tailrace_route`, in this order of strength.

    Fills `own` with the changes that strip them from the body.
    """
    inside = doc.get("tailrace")
    if inside is not None:
        if not isinstance(inside, dict):
            raise bad_request(f"'tailrace' must be an object, not {_kind(inside)}.", param="tailrace")
        unknown = [k for k in inside if k not in _CONTROLS]
        if unknown:
            known = ", ".join(_CONTROLS)
            raise bad_request(f"'tailrace.{unknown[0][:40]}' is unknown; known: {known}.", param="tailrace")
        own["tailrace"] = REMOVE
    found: dict[str, Any] = dict(inside or {})
    for header, name in _HEADERS:
        if header in headers:
            found[name] = headers[header]
    if route_in_path is not None:
        found["route"] = route_in_path
    metadata = doc.get("metadata")
    if isinstance(metadata, dict) and "tailrace_route" in metadata:
        rest = {k: v for k, v in metadata.items() if k != "tailrace_route"}
        own["metadata"] = rest or REMOVE
        found.setdefault("route", metadata["tailrace_route"])
    return _controls(found) if found else _NONE


_NONE: Final = Controls()


def _controls(found: dict[str, Any]) -> Controls:
    for name in ("route", "run", "step"):
        value = found.get(name)
        if value is not None and not (isinstance(value, str) and 0 < len(value) <= 200):
            raise bad_request(f"'{name}' must be a string of 1 to 200 characters.", param=f"tailrace.{name}")
    progress = found.get("progress", "comment")
    if progress not in ("off", "comment", "chunk"):
        raise bad_request("'progress' must be one of off, comment, chunk.", param="tailrace.progress")
    cost = found.get("max_cost_usd")
    if cost is not None:
        cost = str(cost)
        if not cost.replace(".", "", 1).isdecimal() or len(cost) > 20:
            message = "'max_cost_usd' must be a decimal number of US dollars, like 0.05."
            raise bad_request(message, param="tailrace.max_cost_usd")
    explain = found.get("explain") in (True, 1, "1", "true")
    return Controls(found.get("route"), found.get("run"), found.get("step"), progress, explain, cost)


def _check_messages(doc: dict[str, Any]) -> None:
    if "messages" not in doc:
        raise bad_request("'messages' is missing: an array of messages is required.", param="messages")
    messages = doc["messages"]
    if not isinstance(messages, list):
        raise bad_request(f"'messages' must be an array, not {_kind(messages)}.", param="messages")
    if not messages:
        raise bad_request("'messages' is empty: at least one message is required.", param="messages")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            where = f"messages[{i}]"
            raise bad_request(f"'{where}' must be an object, not {_kind(message)}.", param=where)


def _flag(doc: dict[str, Any], name: str) -> bool:
    value = doc.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise bad_request(f"'{name}' must be true or false, not {_kind(value)}.", param=name)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
