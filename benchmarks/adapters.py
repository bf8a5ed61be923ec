"""What the outside harnesses call: plain functions over the project's own, imported when first used."""

import functools
import json
import math
import time
from typing import Any


def repair(text: str, schema: Any) -> Any:
    """The value that mending makes of `text`; raises ValueError where the verdict is "invalid".

    `repair.us` holds the microseconds of the last call, without compiling the schema: a proxy does that once.
    """
    from schemas.mend import mend  # noqa: PLC0415 - each harness pays for its own part only

    compiled = _compiled(schema)
    started = time.perf_counter()
    mended = mend(text, compiled)
    repair.us = (time.perf_counter() - started) * 1e6  # type: ignore[attr-defined]
    if mended.verdict == "invalid":
        raise ValueError(mended.problems[0].message)
    return mended.value


def trim(messages: Any, budget_tokens: int, model: str) -> Any:  # noqa: ARG001 -- the harness gives it
    """The messages that go upstream, within `budget_tokens`; a conversation that goes on keeps its prefix.

    `trim.last` is the whole decision of the last call; `trim.reset()` forgets all conversations.
    """
    from policies.index import Index  # noqa: PLC0415 - as above
    from policies.prefix import trim_on  # noqa: PLC0415 - as above

    begin = json.dumps(messages[:2])
    index, sent = _CONVERSATIONS.pop(begin, None) or (Index(_counter()), None)
    decided = trim_on(messages, budget_tokens, index=index, sent=sent)
    _CONVERSATIONS[begin] = (index, decided.sent)
    while len(_CONVERSATIONS) > 8:
        del _CONVERSATIONS[next(iter(_CONVERSATIONS))]
    trim.last = decided  # type: ignore[attr-defined]
    return list(decided.trimmed.messages)


_CONVERSATIONS: dict[str, tuple[Any, Any]] = {}
trim.reset = _CONVERSATIONS.clear  # type: ignore[attr-defined]


@functools.cache
def _counter() -> Any:
    from proxy.counters import Counter  # noqa: PLC0415 - as above

    counter = Counter()
    counter.warm()
    return counter


_BY_IDENTITY: dict[int, tuple[Any, Any]] = {}


def _compiled(schema: Any) -> Any:
    """The compiled schema, made once for each schema object: a proxy compiles at registration."""
    known = _BY_IDENTITY.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    compiled = _compile("true" if schema is None else json.dumps(schema))
    _BY_IDENTITY[id(schema)] = (schema, compiled)
    return compiled


@functools.cache
def _compile(schema: str) -> Any:
    from schemas.compiled import compile_schema  # noqa: PLC0415 - as above

    return compile_schema(json.loads(schema))


class Router:
    """A scorer fitted on the harness's rows, as `python -m proxy calibrate` fits one on a route's log.

    A scorer belongs to one route. Rows of several data sets are logs of several routes with other models each:
    nothing is fitted across them, and the score is the same for every request.
    """

    needs_fit = True

    def __init__(self, rows: Any) -> None:
        from policies.fitting import fit  # noqa: PLC0415 - as above

        alone = len({row.get("ds") for row in rows}) == 1
        self.scorer = fit([_sample(row) for row in rows]) if alone else None
        self.steps = _gains(rows) if alone else {}

    def __call__(self, messages: Any, request: Any) -> float:
        """How much the request needs the strong model, 0 to 1; its declared step's, or all steps', where the scorer abstains."""
        from policies.scorer import score as content_score  # noqa: PLC0415 - as above

        if self.scorer is None:
            return 0.5
        step = _declared_step(request)
        gain = content_score(self.scorer, messages, request.get("tools"), step)
        gain = self.steps.get(step, self.scorer.mean) if gain is None else gain
        return 1 / (1 + math.exp(-4 * max(-8.0, min(8.0, gain))))


def _gains(rows: Any) -> dict[str, float]:
    """The step table: mean gain by step, a few outcomes leaning on none."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.get("task"), []).append(row["qs"] - row["qw"])
    return {step: sum(gains) / (len(gains) + 2) for step, gains in found.items()}


def _sample(row: Any) -> Any:
    from policies.fitting import Sample  # noqa: PLC0415 - as above

    return Sample(
        messages=row["messages"],
        tools=_tools(row),
        step=row.get("task"),
        cheap=row["qw"],
        strong=row["qs"],
        cheap_nanousd=row["cw"] * 1e9,
        strong_nanousd=row["cs"] * 1e9,
    )


def _tools(row: Any) -> list[Any]:
    return [{"type": "function", "function": tool} for tool in row.get("tools", [])]


def _declared_step(request: Any) -> str | None:
    """The step as a client declares it in the body, where the harness gives one."""
    for holder in (request.get("tailrace"), request.get("metadata"), request):
        if isinstance(holder, dict):
            for name in ("step", "tailrace_step", "task"):
                if isinstance(holder.get(name), str):
                    return holder[name]
    return None


def score(messages: Any, request: Any) -> float:
    """Without a log there is no content score: every request is alike, and the step and the ladder decide."""
    del messages, request
    return 0.5


def suspicion(row: Any) -> Any:
    """How doubtful the cheap answer of `row` is, by rules alone; given a list of rows, a function fitted on them."""
    from policies.suspicion import doubt, learned_doubt  # noqa: PLC0415 - as above

    if isinstance(row, list):
        from policies.fitting import fit_doubter  # noqa: PLC0415 - as above

        doubter = fit_doubter([_seen(r) for r in row], [r["qs"] - r["qw"] for r in row])
        return lambda one: learned_doubt(doubter, *_seen(one))
    return doubt(*_seen(row))


suspicion.needs_fit = True  # type: ignore[attr-defined]  # a harness that fits may; one that does not gets the rules


def _seen(row: Any) -> tuple[Any, Any]:
    """The signals that the harness recorded of the cheap answer, and the request's features."""
    from policies.features import features  # noqa: PLC0415 - as above
    from policies.suspicion import Signals  # noqa: PLC0415 - as above

    v = row.get("vw") or {}
    found = features(row["messages"], _tools(row))
    if "tools" in row:
        parts = [bool(v.get(name, name == "enum")) for name in ("parse", "name", "args", "typ", "enum")]
        return Signals(all(parts), parts[0], int(v.get("n", 0)), *parts[1:]), found
    valid = all(v.get(name) for name in ("tol", "keys", "typ"))
    return Signals(valid, bool(v.get("strict")), chars=int(v.get("len", 0))), found
