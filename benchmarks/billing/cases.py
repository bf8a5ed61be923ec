"""Requests of every kind that costs money, and clients that leave whenever they like."""

import asyncio
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.billing.upstream import CASE, WORDS, Biller, Play

CONFIG = """
server: {{hold_status_s: 1, keepalive_s: 5{server}}}
store: "{store}"
providers:
  up: {{base_url: "{url}", retries: 1}}
  second: {{base_url: "{url}", retries: 1}}  # so that re-asks do not use up the share of retries
models:
  mini: {{provider: up, name: up-mini, price: {{input: 0.15, output: 0.6, cached_input: 0.075}}}}
  big: {{provider: up, name: up-big, price: {{input: 2.5, output: 10, cached_input: 1.25}}}}
  odd: {{provider: up, name: up-odd, price: {{input: 0.123457, output: 0.765433, cached_input: 0.041153}}}}
  mini2: {{provider: second, name: up-mini, price: {{input: 0.15, output: 0.6, cached_input: 0.075}}}}
  big2: {{provider: second, name: up-big, price: {{input: 2.5, output: 10, cached_input: 1.25}}}}
  odd2: {{provider: second, name: up-odd, price: {{input: 0.123457, output: 0.765433, cached_input: 0.041153}}}}
schemas:
  person:
    type: object
    properties: {{name: {{type: string}}, age: {{type: integer}}}}
    required: [name, age]
    additionalProperties: false
routes:
  default: {{ladder: [mini]}}
  json: {{ladder: [mini2, big2], schema: person}}
  checked: {{ladder: [odd2, big2], schema: person, stream: checked}}
  pair: {{ladder: [big2], agree: [mini2, odd2], schema: person}}
  shadowed: {{ladder: [mini2, big2], shadow: 1.0}}
  kept: {{ladder: [odd], cache: {{ttl_s: 600}}}}
{more}
"""
VALID, FENCED = '{"name": "Ada", "age": 36}', 'Here you are:\n```json\n{"name": "Ada", "age": 36}\n```'
WRONG, CUT, PROSE = '{"name": "Ada", "age": "old"}', '{"name": "Ada", "age', "I cannot say."
_ANSWERS = (
    [VALID],
    [FENCED],
    [WRONG, VALID],
    [WRONG, '{"age": 36}'],
    [PROSE, VALID],
    [WRONG, WRONG, VALID],
    [PROSE, PROSE, FENCED],
    [CUT, FENCED],
    [WRONG],
    ["refused", VALID],
)
"""What models answer that are asked for a person, call after call."""
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `leave_s`: its client hangs up after so long; `leave_at`: after so many events."""

    name: str
    kind: str
    body: dict[str, Any]
    plays: tuple[Play, ...]
    path: str = "chat/completions"
    leave_s: float | None = None
    leave_at: int | None = None


@dataclass(slots=True)
class Told:
    """What a client was told of its request."""

    case: Case
    exchange: str | None = None
    status: int | None = None
    cost_usd: str | None = None
    cached: bool = False
    whole: bool = False
    """The client stayed, and the answer came to its end."""


@dataclass(slots=True)
class Maker:
    """Makes cases by chance."""

    dice: random.Random
    made: int = 0
    pause_s: float = 0.002
    kept: list[str] = field(default_factory=list)

    def prompt(self) -> str:
        """A user's message of some words."""
        return "".join(" " + self.dice.choice(WORDS) for _ in range(self.dice.randint(3, 60))).strip()

    def case(self) -> Case:
        """The next one."""
        self.made += 1
        kinds: list[Callable[[], dict[str, Any]]] = [
            make for make, weight in self._kinds() for _ in range(weight)
        ]
        make = self.dice.choice(kinds)
        found = make()
        body = found.pop("body", {})
        asked: dict[str, Any] = {
            "model": found.pop("model", self.dice.choice(["mini", "big", "odd"])),
            **body,
        }
        if found.get("path", "chat/completions") == "chat/completions":
            asked.setdefault("messages", [{"role": "user", "content": self.prompt()}])
        else:
            asked.setdefault("input", self.prompt())
        plays = tuple(found.pop("plays"))
        return Case(f"c{self.made}", make.__name__.strip("_"), asked, plays, **found)

    def _kinds(self) -> list[tuple[Callable[[], dict[str, Any]], int]]:
        return [
            (self._whole, 14), (self._whole_without_usage, 3), (self._several_choices, 3), (self._tool_call, 3),
            (self._stream, 12), (self._stream_without_usage, 7), (self._stream_usage_on_each, 3),
            (self._stream_several_choices, 3), (self._stream_tool_call, 2),
            (self._retried, 6), (self._refused, 4), (self._error_event, 3), (self._cut_stream, 3), (self._dropped, 2),
            (self._schema, 10), (self._schema_stream, 6),
            (self._left_stream, 10), (self._left_before_head, 4), (self._left_whole, 4), (self._left_schema_stream, 3),
            (self._pair, 3), (self._left_pair, 2), (self._shadowed, 2), (self._kept, 5), (self._embeddings, 3),
            (self._responses, 3), (self._responses_stream, 3), (self._left_responses_stream, 3), (self._speech, 2),
        ]  # fmt: skip

    def _play(self, **given: Any) -> Play:
        cached = self.dice.choice([0.0, 0.0, 0.5, 0.9])
        return Play(**{"words": self.dice.randint(1, 40), "cached": cached, **given})

    def _slow(self, **given: Any) -> Play:
        return self._play(**{"words": 60, "cached": 0.0, "pause_s": self.pause_s, **given})

    def _whole(self) -> dict[str, Any]:
        return {"plays": [self._play()]}

    def _whole_without_usage(self) -> dict[str, Any]:
        return {"plays": [self._play(usage=False, cached=0.0)]}

    def _several_choices(self) -> dict[str, Any]:
        return {"body": {"n": 3}, "plays": [self._play(choices=3)]}

    def _tool_call(self) -> dict[str, Any]:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        return {"body": {"tools": [tool]}, "plays": [self._play(calls=True, words=3)]}

    def _streamed(self, *plays: Play, **found: Any) -> dict[str, Any]:
        options = self.dice.choice([{}, {"stream_options": {"include_usage": True}}])
        return {"body": {"stream": True, **options, **found.pop("body", {})}, "plays": plays, **found}

    def _stream(self) -> dict[str, Any]:
        return self._streamed(self._play())

    def _stream_without_usage(self) -> dict[str, Any]:
        return self._streamed(self._play(usage=False, cached=0.0))

    def _stream_usage_on_each(self) -> dict[str, Any]:
        return self._streamed(self._play(each=True))

    def _stream_several_choices(self) -> dict[str, Any]:
        return self._streamed(self._play(choices=3), body={"n": 3})

    def _stream_tool_call(self) -> dict[str, Any]:
        return self._streamed(self._play(calls=True, words=3), body=self._tool_call()["body"])

    def _retried(self) -> dict[str, Any]:
        failed = Play("refuse", status=self.dice.choice([500, 502, 503, 529]))
        return self.dice.choice([self._whole, self._stream])() | {"plays": [failed, self._play()]}

    def _refused(self) -> dict[str, Any]:
        return {"plays": [Play("refuse", status=self.dice.choice([400, 401, 404, 422, 429, 500]))]}

    def _error_event(self) -> dict[str, Any]:
        return self._streamed(self._play(how="error", usage=False, cached=0.0))

    def _cut_stream(self) -> dict[str, Any]:
        return self._streamed(self._play(how="cut", usage=False, cached=0.0))

    def _dropped(self) -> dict[str, Any]:
        return {"plays": [self._play(how="drop", cached=0.0), self._play()]}

    def _schema_plays(self) -> list[Play]:
        texts = self.dice.choice(_ANSWERS)
        refused = Play("refuse", status=400, message="response_format is not supported")
        return [refused if text == "refused" else self._play(text=text) for text in texts]

    def _schema(self) -> dict[str, Any]:
        return {"model": self.dice.choice(["json", "checked"]), "plays": self._schema_plays()}

    def _schema_stream(self) -> dict[str, Any]:
        return self._streamed(*self._schema_plays(), model=self.dice.choice(["json", "checked"]))

    def _pair(self) -> dict[str, Any]:
        return {
            "model": "pair",
            "plays": [self._play(text=self.dice.choice([VALID, WRONG, PROSE])), self._play(text=VALID)],
        }

    def _left_pair(self) -> dict[str, Any]:
        return {"model": "pair", "plays": [self._slow(text=VALID)], "leave_s": self.dice.uniform(0.003, 0.06)}

    def _shadowed(self) -> dict[str, Any]:
        return {"model": "shadowed", "plays": [self._play()]}

    def _left_stream(self) -> dict[str, Any]:
        return self._streamed(self._slow(), leave_at=self.dice.randint(1, 50))

    def _left_schema_stream(self) -> dict[str, Any]:
        plays = [self._slow(text=WRONG), self._slow(text=VALID)]
        return self._streamed(*plays, model="json", leave_s=self.dice.uniform(0.005, 0.12))

    def _left_before_head(self) -> dict[str, Any]:
        return {"plays": [self._slow()], "leave_s": self.dice.uniform(0.003, 0.02)}

    def _left_whole(self) -> dict[str, Any]:
        return {"plays": [self._slow()], "leave_s": self.dice.uniform(0.02, 0.15)}

    def _kept(self) -> dict[str, Any]:
        if len(self.kept) < 5:
            self.kept.append(self.prompt())
        messages = [{"role": "user", "content": self.dice.choice(self.kept)}]
        return {"model": "kept", "body": {"messages": messages}, "plays": [self._play()]}

    def _embeddings(self) -> dict[str, Any]:
        return {"path": "embeddings", "plays": [self._play()]}

    def _responses(self) -> dict[str, Any]:
        return {"path": "responses", "plays": [self._play()]}

    def _responses_stream(self) -> dict[str, Any]:
        return {"path": "responses", "body": {"stream": True}, "plays": [self._play()]}

    def _left_responses_stream(self) -> dict[str, Any]:
        found = {"path": "responses", "body": {"stream": True}, "plays": [self._slow()]}
        return found | {"leave_at": self.dice.randint(1, 50)}

    def _speech(self) -> dict[str, Any]:
        return {"path": "audio/speech", "plays": [self._play(cached=0.0)]}


async def ask(
    session: aiohttp.ClientSession, url: str, case: Case, headers: Mapping[str, str] = _NONE
) -> Told:
    """Make one request, and leave when it is time."""
    told = Told(case)
    named = {CASE: case.name, "x-tailrace-step": case.name, **headers}
    try:
        async with asyncio.timeout(case.leave_s):
            async with session.post(f"{url}/v1/{case.path}", json=case.body, headers=named) as response:
                told.status = response.status
                told.exchange = response.headers.get("x-tailrace-request-id")
                told.cost_usd = response.headers.get("x-tailrace-cost-usd")
                told.cached = response.headers.get("x-tailrace-cache") == "hit"
                told.whole = await _read(response, case, told)
                if not told.whole:
                    response.close()
    except (TimeoutError, aiohttp.ClientError):
        told.whole = False
    return told


async def _read(response: aiohttp.ClientResponse, case: Case, told: Told) -> bool:
    """The answer to its end, or to where the client leaves; whether it came to its end."""
    if not response.content_type.startswith("text/event-stream"):
        await response.read()
        return True
    events = 0
    done = False
    async for raw in response.content:
        text = raw.decode().strip()
        if text.startswith(": tailrace {"):
            told.cost_usd = json.loads(text.removeprefix(": tailrace "))["cost_usd"]
        elif text.startswith("data: {"):
            events += 1
            doc = json.loads(text.removeprefix("data: "))
            told.cost_usd = doc.get("tailrace", {}).get("cost_usd", told.cost_usd)
            done = done or doc.get("type") == "response.completed"
        done = done or text == "data: [DONE]"
        if case.leave_at is not None and events >= case.leave_at:
            return False
    return done


async def play(
    biller: Biller,
    url: str,
    cases: Iterable[Case],
    *,
    together: int = 64,
    headers: Mapping[str, str] = _NONE,
) -> list[Told]:
    """Make all requests, so many at a time."""
    found: list[Told] = []
    waiting = iter(cases)

    async def worker(session: aiohttp.ClientSession) -> None:
        for case in waiting:
            biller.plays[case.name] = case.plays
            found.append(await ask(session, url, case, headers))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(worker(session) for _ in range(together)))
    return found
