"""An agent's old results are masked on the way upstream, and can be had back."""

import json

from openai import AsyncOpenAI

from proxy.app import App
from proxy.config import loads
from tests.proxy.scripted import Upstream, config_text

ROUTES = """
  agent: {ladder: [mini], context: {policy: relevant, budget_tokens: 750, mask_results_after: 2}}
"""


def call(n):
    function = {"name": "read_page", "arguments": json.dumps({"page": n})}
    calls = [{"id": f"c{n}", "type": "function", "function": function}]
    page = f"Page {n}. " + "Nothing of note stands here. " * 30
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": f"c{n}", "content": page},
    ]


async def test_old_results_go_upstream_as_one_line_and_come_back_from_the_record(tmp_path):
    chat = [{"role": "user", "content": "Read all pages."}, *(m for n in range(8) for m in call(n))]
    store = f"sqlite:///{tmp_path}/t.db"
    async with Upstream("ok").running() as upstream:
        text = config_text(upstream.url, routes=ROUTES).replace('"memory:"', json.dumps(store))
        app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
        await app.start()
        host, port = await app.listen("127.0.0.1", 0)
        async with AsyncOpenAI(base_url=f"http://{host}:{port}/v1", api_key="x", max_retries=0) as client:
            raw = await client.chat.completions.with_raw_response.create(model="agent", messages=chat)
            name = raw.headers["x-tailrace-context-record"]
            told = await client.get(f"/context/{name}", cast_to=object)
        await app.drain()
        await app.close()
    sent = upstream.seen[0]["messages"]
    assert len(sent) == len(chat)
    masked = [at for at, (one, other) in enumerate(zip(sent, chat, strict=True)) if one != other]
    assert masked == [2, 4, 6, 8, 10, 12]
    assert sent[2]["content"].startswith("[left out here: the result of read_page, ")
    assert {gone["reason"] for gone in told["dropped"]} == {"masked"}
    for at in masked:
        pieces = [gone["text"] for gone in told["dropped"] if gone["index"] == at]
        assert "".join("".join(pieces).split()) == "".join(chat[at]["content"].split())
        assert chat[at] in told["messages"].values()
