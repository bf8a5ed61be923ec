"""A provider that says so gets its cache breakpoint at the end of the frozen prefix; no other sees one."""

import json

import pytest

from policies.breakpoints import breakpoints_in
from tests.proxy.scripted import Upstream, proxy
from tests.proxy.test_conversations import history

MARK = {"cache_control": {"type": "ephemeral"}}
PROVIDERS = '  cached: {{base_url: "{url}", cache_control: true}}'
MODELS = """
  claude: {provider: cached, name: up-claude, price: {input: 10, output: 20, cached_input: 1, cache_write: 12.5}}
  plain: {provider: up, name: up-plain, price: {input: 10, output: 20, cached_input: 1}}
  dear: {provider: cached, name: up-dear, price: {input: 10, output: 20}}
"""
ROUTES = """
  marked: {ladder: [claude], context: {policy: relevant, budget_tokens: 2500}}
  plain: {ladder: [plain], context: {policy: relevant, budget_tokens: 2500}}
  dear: {ladder: [dear], context: {policy: relevant, budget_tokens: 2500}}
  off: {ladder: [claude]}
"""


@pytest.fixture
async def app():
    async with Upstream("INV-7731.").running() as upstream:
        providers = PROVIDERS.format(url=upstream.url)
        async with proxy(upstream, routes=ROUTES, models=MODELS, providers=providers) as running:
            running.upstream = upstream
            yield running


async def ask(app, route, messages, **more):
    await app.client.chat.completions.create(model=route, messages=messages, extra_body=more)
    return app.upstream.seen[-1]


def turn(messages, question):
    return [*messages, {"role": "assistant", "content": "INV-7731."}, {"role": "user", "content": question}]


def texts(messages):
    """Each message's text, whether it stands in a part or not."""
    return [
        c if isinstance(c := m["content"], str) else "".join(part["text"] for part in c) for m in messages
    ]


async def test_each_turn_marks_the_end_of_what_the_next_one_begins_with(app):
    messages = [*history(300), {"role": "user", "content": "What is the invoice number?"}]
    first = (await ask(app, "marked", messages))["messages"]
    assert breakpoints_in(first) == 0  # it is for one question: the next turn takes a part of it
    messages = turn(messages, "And of remark 38?")
    await ask(app, "marked", messages)
    messages, before = turn(messages, "And of remark 39?"), None
    for n in range(4):
        sent = (await ask(app, "marked", messages))["messages"]
        assert breakpoints_in(sent) == 1
        at = next(at for at, m in enumerate(sent) if breakpoints_in(m))
        assert sent[at]["content"][-1]["cache_control"] == {"type": "ephemeral"}
        if before is not None:
            assert texts(sent)[: len(before)] == before
        before = texts(sent)[: at + 1]
        assert sum(map(len, before)) > 3_000
        messages = turn(messages, f"And what of remark {40 + n}?")


@pytest.mark.parametrize(
    "route", ["plain", "dear", "off"], ids=["provider-says-nothing", "no-discount", "no-rule"]
)
async def test_without_reason_nothing_is_marked(app, route):
    messages = turn(history(300), "Which number?")
    body = await ask(app, route, messages)
    assert breakpoints_in(body) == 0


async def test_a_first_request_writes_nothing_into_a_cache(app):
    content = "\n\n".join(f"Clause {n}: part {n} is paid by the other party." for n in range(150))
    body = await ask(app, "marked", [{"role": "user", "content": f"{content}\n\nWho pays part 7?"}])
    assert breakpoints_in(body) == 0


async def test_what_goes_untrimmed_is_marked_at_its_end_and_is_else_as_it_came(app):
    messages = turn(history(70), "Which number?")
    sent = (await ask(app, "marked", messages))["messages"]
    assert texts(sent) == texts(messages)
    assert [at for at, m in enumerate(sent) if m != messages[at]] == [len(messages) - 1]


@pytest.mark.parametrize("theirs", [1, 3, 4])
async def test_those_of_the_client_stay_and_count(app, theirs):
    messages = turn(history(70), "Which number?")
    for at in range(theirs):
        messages[2 * at + 1] = {
            "role": "user",
            "content": [{"type": "text", "text": messages[2 * at + 1]["content"], **MARK}],
        }
    sent = (await ask(app, "marked", messages))["messages"]
    assert breakpoints_in(sent) == min(4, theirs + 1)
    assert all(json.dumps(messages[2 * at + 1]) == json.dumps(sent[2 * at + 1]) for at in range(theirs))


async def test_those_outside_the_messages_count_too(app):
    tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": {}}, **MARK} for n in range(3)]
    body = await ask(app, "marked", turn(history(70), "Which number?"), tools=tools, **MARK)
    assert breakpoints_in(body) == 4
    assert breakpoints_in(body["messages"]) == 0
