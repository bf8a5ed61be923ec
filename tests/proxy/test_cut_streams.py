"""A stream that was cut never looks finished, wherever it was cut and however its connection ended."""

import json

import pytest

from policies.chat import Failure, Reply
from proxy.counters import Counter
from proxy.estimates import Estimate, Paces
from proxy.snapshot import Provider
from proxy.upstreams.openai import ChatCall, OpenAIUpstream
from proxy.upstreams.transport import Broken
from tests.proxy.scripted import chunks

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
