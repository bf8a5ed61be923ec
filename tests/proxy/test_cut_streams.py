"""A stream that was cut never looks finished, wherever it was cut and however its connection ended."""

import asyncio
import json
import random

import aiohttp
import pytest

from policies.chat import Failure, Reply
from proxy.counters import Counter
from proxy.estimates import Estimate, Paces
from proxy.snapshot import Provider
from proxy.upstreams.openai import ChatCall, OpenAIUpstream
from proxy.upstreams.transport import Broken
from tests.proxy.hostile_server import hostile
from tests.proxy.scripted import USAGE, Upstream, chunks, proxy

EVENTS = [
    json.dumps(c, ensure_ascii=False).encode() for c in chunks("Grüße, \u2028 14 € \U0001f600!", size=2)
]


def written(line_end, extra=b""):
    frames = [extra + b"data: " + event + line_end * 2 for event in EVENTS]
    return b"".join(frames) + b"data: [DONE]" + line_end * 2


class CutAnswer:
    """An answer whose connection ends after `data`, with an error or as if all were well."""

    status = 200
    headers = (("content-type", "text/event-stream"),)

    def __init__(self, data, size, *, broken):
        self.data, self.size, self.broken = data, size, broken

    async def send(self, *_):
        return self

    def header(self, name):
        return dict(self.headers).get(name)

    async def pieces(self):
        for at in range(0, len(self.data), self.size):
            yield self.data[at : at + self.size]
        if self.broken:
            raise Broken("the connection ended before the answer did")

    async def close(self):
        return

    def abort(self):
        return


async def outcome(data, size, *, broken):
    upstream = OpenAIUpstream(Provider("p", "http://127.0.0.1:1"), CutAnswer(data, size, broken=broken))
    call = ChatCall(
        upstream,
        "chat/completions",
        b"{}",
        (),
        stream=True,
        keep_text=True,
        ask_usage=False,
        model="m",
        number=1,
        estimate=Estimate(Counter(), Paces(), "m", 2, [], most=100),
    )
    told = []
    while (pieces := await call.more()) is not None:
        told += [piece.data for piece in pieces]
    return call.result(), b"".join(told)


@pytest.mark.parametrize("broken", [False, True], ids=["clean-end", "reset"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
async def test_no_cut_looks_finished(line_end, broken):
    whole = written(line_end, extra=b": hi" + line_end)
    finished_at = whole.index(b'"finish_reason": "stop"')
    finished_at = whole.index(line_end * 2, finished_at) + len(line_end) * 2
    for cut in range(len(whole) + 1):
        result, told = await outcome(whole[:cut], 1 + cut * 7 % 97, broken=broken)
        if cut < finished_at - len(line_end):
            assert isinstance(result, Failure), cut
            assert b'"stop"' not in told, cut
        elif cut >= finished_at:
            assert isinstance(result, Reply) or not broken, cut
            if isinstance(result, Reply):
                assert result.choices[0].finish_reason == "stop"


BASE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}


def event(*choices, **members):
    return (
        BASE
        | {"choices": [{"index": n, "delta": d, "finish_reason": end} for n, d, end in choices]}
        | members
    )


def call(**function):
    return {"tool_calls": [{"index": 0, "function": function}]}


KINDS = {
    "text": list(chunks("Gr\u00fc\u00dfe, \u2028 14 \u20ac \U0001f600!", size=2)),
    "without-usage": list(chunks("hello there", usage=None)),
    "cut-by-length": list(chunks("hello there", finish="length")),
    "a-call": [
        event((0, {"role": "assistant", "content": None} | call(name="f", arguments=""), None)),
        *[event((0, call(arguments=part), None)) for part in ('{"a', '": [1, ', "2]}")],
        event((0, {}, "tool_calls")),
    ],
    "two-choices": [
        event((0, {"content": "a"}, None), (1, {"content": "b"}, None)),
        event((1, {}, "stop")),
        event((0, {"content": "c"}, None)),
        event((0, {}, "stop")),
        event(usage=USAGE),
    ],
    "says-stop-itself": list(chunks('data: [DONE] {"finish_reason": "stop"}', size=7)),
}
CUTS = 10_000


def drawn(dice):
    """A stream of any kind that ends before its answer does: (its bytes, how they come, whether by a reset, its kind)."""
    kind = dice.choice(list(KINDS))
    line_end = dice.choice([b"\n", b"\r\n", b"\r"])
    compact = (",", ":") if dice.random() < 0.5 else (", ", ": ")
    events = [
        json.dumps(e, ensure_ascii=dice.random() < 0.5, separators=compact).encode() for e in KINDS[kind]
    ]
    last = max(n for n, e in enumerate(KINDS[kind]) if any(c["finish_reason"] for c in e["choices"]))
    before = [b": hi" + line_end * 2] if dice.random() < 0.2 else []
    frames = before + [b"data: " + e + line_end * 2 for e in events[: last + 1]]
    whole = b"".join(frames)
    most = len(whole) - 2 * len(line_end)
    # As many cuts in the event that finishes the answer as before it: that is where one may be taken in.
    least = len(whole) - len(frames[-1]) if dice.random() < 0.5 else 0
    return whole[: dice.randint(least, most)], dice.randint(1, 300), dice.random() < 0.5, kind


async def test_of_ten_thousand_random_cuts_none_looks_finished():
    dice = random.Random(20261122)
    looks = []
    for _ in range(CUTS):
        data, size, broken, kind = drawn(dice)
        result, told = await outcome(data, size, broken=broken)
        finished = b'"finish_reason":"' in told.replace(b": ", b":") and kind not in (
            "two-choices",
            "says-stop-itself",
        )
        if not isinstance(result, Failure) or finished or b"data: [DONE]\n\n" in told:
            looks.append((data, size, broken))
    assert looks == []


async def test_a_client_hears_of_every_cut():
    dice = random.Random(7)
    cut = [(b"", 1, False, "")]

    async def script(visit):
        await visit.request()
        data, size, broken, _ = cut[0]
        await visit.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for at in range(0, len(data), max(size, 50)):
            part = data[at : at + max(size, 50)]
            await visit.say(b"%x\r\n%b\r\n" % (len(part), part))
        if broken:
            visit.reset()
        else:
            await visit.say(b"0\r\n\r\n")

    async with hostile(script) as server:
        upstream = Upstream()
        upstream.url = f"http://127.0.0.1:{server.port}/v1"
        async with proxy(upstream) as app, aiohttp.ClientSession() as session, asyncio.timeout(60):
            for _ in range(150):
                cut[0] = drawn(dice)
                document = {"model": "fx-any", "stream": True, "messages": [{"role": "user", "content": "?"}]}
                async with session.post(f"{app.url}/v1/chat/completions", json=document) as r:
                    text = await r.text()
                assert r.status in (200, 502, 503), cut
                lines = text.split("\n") if r.status == 200 else [f"data: {text}"]
                told = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
                assert "error" in json.loads(told[-1]), (cut, text)
                assert "[DONE]" not in told
