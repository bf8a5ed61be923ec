"""Our own tool's calls taken out of answers: tables of streams, in any split, and whole replies."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.chat import as_events, read_reply
from proxy.wire.chunks import Accumulator
from proxy.wire.recalls import GoingOn, RecallFilter

OURS = "recall_context"


def part(index=None, call_id=None, name=None, arguments=None, **rest):
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    call = {"index": index, "id": call_id, "function": function or None} | rest
    return {k: v for k, v in call.items() if v is not None}


def event(*calls, end=None, **delta):
    delta = delta | ({"tool_calls": list(calls)} if calls else {})
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}


def passed(*events):
    """What the client gets of a stream: its calls and its text; and what was ours."""
    filtered, gathered = RecallFilter(OURS), Accumulator(keep_text=True)
    shown = []
    for one in events:
        kept = filtered.event(one)
        if kept is not None:
            shown.append(kept)
            gathered.feed(json.dumps(kept).encode())
    reply = gathered.reply(None)
    calls = [(c.index, c.id, c.name, c.arguments) for choice in reply.choices for c in choice.tool_calls]
    return calls, [c.finish_reason for c in reply.choices], filtered.found, shown


def queries(found):
    return [(c.id, c.arguments) for c in found.calls]


def test_our_call_is_gone_and_kept():
    calls, ends, found, shown = passed(
        event(role="assistant", content=None),
        event(part(0, "a", OURS, "", type="function")),
        event(part(0, arguments='{"que')),
        event(part(0, arguments='ry": 1}')),
        event(end="tool_calls"),
    )
    assert (calls, ends) == ([], ["stop"])
    assert queries(found) == [("a", '{"query": 1}')]
    assert OURS not in json.dumps(shown)
    assert len(shown) == 2
    assert found.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": OURS, "arguments": '{"query": 1}'}}
        ],
    }


def test_the_clients_calls_are_numbered_anew():
    calls, ends, found, _ = passed(
        event(part(0, "a", OURS, "{}")),
        event(part(1, "b", "own", "")),
        event(part(1, arguments="{}")),
        event(part(2, "c", OURS, "{}"), part(3, "d", "other", "[]")),
        event(end="tool_calls"),
    )
    assert calls == [(0, "b", "own", "{}"), (1, "d", "other", "[]")]
    assert ends == ["tool_calls"]
    assert [c.id for c in found.calls] == ["a", "c"]


@pytest.mark.parametrize(
    "events",
    [
        [event(part(0, "a", OURS, "{}"), end="tool_calls")],
        [
            event(part(0, "a", "recall_", "")),
            event(part(0, name="context")),
            event(part(0, arguments="{}"), end="stop"),
        ],
        [event(part(0, "a")), event(part(0, name=OURS)), event(part(0, arguments="{}")), event(end="stop")],
        [event(part(None, "a", OURS, "{}")), event(end="tool_calls")],
        [event(part(0, "a", OURS, "{")), event(part(0, "a", OURS, "}")), event(end="tool_calls")],
    ],
    ids=["one-event", "name-in-parts", "name-later", "no-index", "name-and-id-again"],
)
def test_our_call_is_known_however_it_comes(events):
    calls, ends, found, shown = passed(*events)
    assert (calls, ends) == ([], ["stop"])
    assert queries(found) == [("a", "{}")]
    assert found.message["tool_calls"][0]["function"]["name"] == OURS
    assert "recall" not in json.dumps(shown)


def test_a_tool_whose_name_ours_begins_with_is_the_clients():
    events = [event(part(0, "a", "recall", "")), event(part(0, arguments="{}")), event(end="tool_calls")]
    calls, ends, found, _ = passed(*events)
    assert calls == [(0, "a", "recall", "{}")]
    assert (ends, found) == (["tool_calls"], None)


def test_a_call_that_never_got_a_name_is_the_clients_in_the_end():
    calls, _, found, _ = passed(event(part(0, "a", arguments="{}")), event(end="tool_calls"))
    assert calls == [(0, "a", "", "{}")]
    assert found is None


def test_servers_that_give_every_call_the_same_index_are_understood():
    events = [event(part(0, "a", OURS, "{}")), event(part(0, "b", "own", "[]")), event(end="tool_calls")]
    calls, _, found, _ = passed(*events)
    assert calls == [(0, "b", "own", "[]")]
    assert queries(found) == [("a", "{}")]


def test_text_and_what_the_model_thought_go_back_to_it_with_its_call():
    _, _, found, shown = passed(
        event(role="assistant", reasoning_content="hm", content=""),
        event(reasoning_content="m", content="Let me "),
        event(content="see."),
        event(part(0, "a", OURS, "{}"), reasoning_details=[{"t": 1}]),
        event(reasoning_details=[{"t": 2}]),
        event(end="tool_calls"),
    )
    assert found.message["content"] == "Let me see."
    assert found.message["reasoning_content"] == "hmm"
    assert found.message["reasoning_details"] == [{"t": 1}, {"t": 2}]
    assert [e["choices"][0]["delta"].get("content") for e in shown][1:3] == ["Let me ", "see."]


@pytest.mark.parametrize(
    "one",
    [
        event(content="hi"),
        event(end="stop"),
        event(part(0, "a", "own", "{}")),
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"error": {"message": "x"}},
        {"choices": "what"},
        {"choices": [1, None, {"delta": 2}]},
        event(end="tool_calls"),
    ],
    ids=["text", "end", "own-call", "usage", "error", "no-list", "odd", "end-of-calls"],
)
def test_what_is_not_ours_is_as_it_came(one):
    assert RecallFilter(OURS).event(one) == one


@pytest.mark.parametrize(
    "calls", ["what", [1, None, {"function": 3}, {"index": "x", "function": {"name": 7}}]]
)
def test_odd_calls_break_nothing(calls):
    one = {"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "stop"}]}
    filtered = RecallFilter(OURS)
    filtered.event(one)
    filtered.whole({"choices": [{"message": {"tool_calls": calls}}]})
    assert filtered.found is None


def whole(*calls, end="tool_calls", **message):
    message = {"role": "assistant", "content": None, **message, "tool_calls": list(calls)}
    return {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": end}]}


def test_a_whole_reply_is_without_our_calls():
    filtered = RecallFilter(OURS)
    doc = filtered.whole(whole(part(0, "a", OURS, "{}"), content="Wait.", annotations=[], reasoning="r"))
    reply = read_reply(json.dumps(doc).encode())
    assert reply.choices[0].tool_calls == ()
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("Wait.", "stop")
    assert "tool_calls" not in doc["choices"][0]["message"]
    call = {"id": "a", "function": {"name": OURS, "arguments": "{}"}}
    assert filtered.found.message == {
        "role": "assistant",
        "content": "Wait.",
        "reasoning": "r",
        "tool_calls": [call],
    }


def test_a_whole_mixed_reply_keeps_the_clients_calls():
    filtered = RecallFilter(OURS)
    own = part(None, "b", "own", "{}")
    doc = filtered.whole(whole(part(None, "a", OURS, "{}"), own))
    assert doc == whole(own)
    assert queries(filtered.found) == [("a", "{}")]


def test_a_whole_reply_without_our_calls_is_as_it_came():
    filtered = RecallFilter(OURS)
    assert filtered.whole(whole(part(None, "b", "own", "{}"))) == whole(part(None, "b", "own", "{}"))
    assert filtered.whole({"error": {}}) == {"error": {}}
    assert filtered.found is None


@given(
    st.lists(st.sampled_from([OURS, "own", "recall", "recall_contexts"]), max_size=6),
    st.lists(st.integers(1, 9)),
)
def test_whole_and_streamed_in_any_split_the_client_sees_the_same(names, cuts):
    calls = [part(None, f"c{n}", name, json.dumps({"n": n}), type="function") for n, name in enumerate(names)]
    by_whole = RecallFilter(OURS)
    doc = by_whole.whole(whole(*calls))
    expected = [
        (c.id, c.name, c.arguments) for c in read_reply(json.dumps(doc).encode()).choices[0].tool_calls
    ]
    events = [event(role="assistant")]
    for n, call in enumerate(calls):
        text = call["function"]["arguments"]
        events.append(event(part(n, call["id"], call["function"]["name"], "", type="function")))
        borders = sorted({0, len(text), *(c for c in cuts if c < len(text))})
        events += [event(part(n, arguments=text[a:b])) for a, b in pairwise(borders)]
    got, _, found, _ = passed(*events, event(end="tool_calls"))
    assert [c[1:] for c in got] == expected
    assert [c[0] for c in got] == list(range(len(got)))
    assert found == by_whole.found


def test_a_whole_reply_replayed_as_a_stream_has_nothing_of_ours():
    filtered = RecallFilter(OURS)
    doc = filtered.whole(whole(part(None, "a", OURS, "{}"), part(None, "b", "own", "{}")))
    events = as_events(read_reply(json.dumps(doc).encode()).original)
    assert OURS.encode() not in b"".join(events)


def test_an_answer_goes_on_under_the_head_of_what_was_told():
    going_on = GoingOn({"id": "first", "created": 1}, paragraph=True)
    role, text, more, end = (
        going_on.event({"id": "second", **{k: v for k, v in one.items() if k != "id"}})
        for one in (
            event(role="assistant", content=""),
            event(content="It is"),
            event(content=" so."),
            event(end="stop"),
        )
    )
    assert {e["id"] for e in (role, text, more, end)} == {"first"}
    assert role["choices"][0]["delta"] == {"content": ""}
    assert text["choices"][0]["delta"] == {"content": "\n\nIt is"}
    assert more["choices"][0]["delta"] == {"content": " so."}
    assert end["choices"][0]["finish_reason"] == "stop"
    assert going_on.event({"id": "x", "error": 1}) == {"id": "first", "created": 1, "error": 1}


def test_no_paragraph_where_nothing_was_said():
    going_on = GoingOn({"id": "first"}, paragraph=False)
    assert going_on.event(event(content="Yes"))["choices"][0]["delta"] == {"content": "Yes"}
