"""Replies read whole and in chunks, and written back with mended texts."""

import json
import pathlib
import tarfile

import pytest

from policies.chat import Choice, ToolCall, Usage
from policies.contract import Verdict
from proxy.wire.chat import (
    Unreadable,
    Whole,
    as_events,
    read_reply,
    with_mended,
    with_mended_streamed,
)
from proxy.wire.chunks import Accumulator
from proxy.wire.sse import Splitter

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="LEFT OUT: no shared/ beside the checkout")


def message(content, **rest):
    return {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **rest},
                "finish_reason": "stop",
            }
        ]
    }


def chunk(delta, finish=None, index=0, **top):
    return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **top}


def gather(*docs, keep_text=True):
    accumulator = Accumulator(keep_text=keep_text)
    chunks = [accumulator.feed(json.dumps(d).encode()) for d in docs]
    return accumulator, chunks


REPLIES = [
    ("text", message("hi"), Choice(0, "hi", "stop")),
    ("null-content", message(None), Choice(0, None, "stop")),
    ("refusal", message(None, refusal="no"), Choice(0, None, "stop", refusal="no")),
    (
        "tool-call",
        message(
            None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        ),
        Choice(0, None, "stop", (ToolCall("1", "f", "{}"),)),
    ),
    (
        "legacy-function",
        message(None, function_call={"name": "f", "arguments": "{"}),
        Choice(0, None, "stop", (ToolCall("", "f", "{"),)),
    ),
    ("completion", {"choices": [{"text": "t", "finish_reason": "length"}]}, Choice(0, "t", "length")),
    (
        "wrong-types-are-absent",
        {"choices": [{"index": "x", "message": {"content": 5}, "finish_reason": 7}]},
        Choice(0, None, None),
    ),
]


@pytest.mark.parametrize(("doc", "choice"), [r[1:] for r in REPLIES], ids=[r[0] for r in REPLIES])
def test_a_whole_reply_is_read(doc, choice):
    assert read_reply(json.dumps(doc).encode()).choices == (choice,)


@pytest.mark.parametrize("doc", [r[1] for r in REPLIES[:5]], ids=[r[0] for r in REPLIES[:5]])
def test_a_whole_reply_means_the_same_as_a_stream(doc):
    reply = read_reply(json.dumps(doc).encode())
    accumulator = Accumulator(keep_text=True)
    for event in as_events(reply.original):
        accumulator.feed(event)
    assert accumulator.finished
    streamed = accumulator.reply(None).choices[0]
    assert (streamed.tool_calls, streamed.refusal, streamed.finish_reason) == (
        reply.choices[0].tool_calls,
        reply.choices[0].refusal,
        reply.choices[0].finish_reason,
    )
    assert (streamed.text or None) == reply.choices[0].text


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"5", b"\xff", b'{"a"'], ids=str)
def test_what_is_no_reply_is_unreadable(body):
    with pytest.raises(Unreadable):
        read_reply(body)


def test_nothing_to_mend_gives_the_very_bytes():
    body = b'{ "choices" : [ ] , "x":1e5}'
    assert with_mended(Whole(body, json.loads(body)), Verdict(), {}) is body


def test_a_mended_text_replaces_only_itself():
    doc = message("```{}```") | {"x_vendor": [1], "usage": {"prompt_tokens": 1}}
    doc["choices"][0]["logprobs"] = {"content": []}
    out = json.loads(with_mended(Whole(b"", doc), Verdict(texts={0: "{}"}), {"tailrace": {"a": 1}}))
    assert out["choices"][0]["message"] == {"role": "assistant", "content": "{}"}
    assert out["choices"][0]["logprobs"] is None
    assert (out["x_vendor"], out["usage"], out["tailrace"]) == ([1], {"prompt_tokens": 1}, {"a": 1})


def test_a_stream_is_gathered():
    accumulator, chunks = gather(
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "a"}),
        chunk({"content": "b"}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    )
    assert [c.speaks for c in chunks] == [False, True, True, False]
    assert chunks[-1].usage_only
    assert accumulator.finished
    assert accumulator.reply(None).choices == (Choice(0, "ab", "stop"),)
    assert accumulator.usage == Usage(3, 2)


def test_parallel_tool_calls_are_gathered_by_index():
    def call(index, **rest):
        return chunk({"tool_calls": [{"index": index, **rest}]})

    accumulator, _ = gather(
        call(0, id="a", function={"name": "f", "arguments": '{"x"'}),
        call(1, id="b", function={"name": "g", "arguments": ""}),
        call(0, function={"arguments": ":1}"}),
        call(1, function={"arguments": "{}"}),
        chunk({}, "tool_calls"),
    )
    assert accumulator.reply(None).choices[0].tool_calls == (
        ToolCall("a", "f", '{"x":1}'),
        ToolCall("b", "g", "{}", 1),
    )


def test_counting_alone_keeps_no_text():
    accumulator, _ = gather(chunk({"content": "a" * 100}), chunk({"content": "b"}, "stop"), keep_text=False)
    assert accumulator.characters == 101
    assert accumulator.reply(None).choices == (Choice(0, "", "stop"),)


def test_a_stream_is_finished_when_every_choice_is():
    accumulator, _ = gather(chunk({"content": "a"}), chunk({"content": "b"}, "stop", index=1))
    assert not accumulator.finished


def test_an_error_event_is_told_apart():
    _, chunks = gather({"error": {"message": "x"}})
    assert chunks[0].error


def test_a_mended_stream_says_the_new_text_once():
    events = [
        json.dumps(d).encode()
        for d in (
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "```"}),
            chunk({"content": "{}"}),
            chunk({"content": "```"}, "stop"),
        )
    ]
    out = [json.loads(e) for e in with_mended_streamed(events, Verdict(texts={0: "{}"}))]
    assert "".join(d["choices"][0]["delta"].get("content") or "" for d in out) == "{}"
    assert out[0]["choices"][0]["delta"]["role"] == "assistant"
    assert out[-1]["choices"][0]["finish_reason"] == "stop"


def test_other_choices_of_a_mended_stream_stay():
    events = [json.dumps(chunk({"content": "x"}, index=i)).encode() for i in (0, 1, 0, 1)]
    out = [json.loads(e)["choices"][0] for e in with_mended_streamed(events, Verdict(texts={0: "new"}))]
    assert [(c["index"], c["delta"]["content"]) for c in out] == [(0, "new"), (1, "x"), (1, "x")]


@pytest.mark.shared
@needs_shared
def test_recorded_streams_of_real_models_are_whole_replies():
    with tarfile.open(SHARED / "data/real_outputs/transcripts.tar.gz") as archive:
        names = [m for m in archive if m.name.endswith(".sse") and "special" not in m.name]
        streams = [archive.extractfile(m).read() for m in names]
    assert streams
    for text in streams:
        accumulator = Accumulator(keep_text=True)
        done = [accumulator.feed(event).done for event in Splitter().feed(text)]
        assert done[-1]
        assert not any(done[:-1])
        assert accumulator.finished
        assert accumulator.usage is not None
        reply = accumulator.reply(None)
        assert reply.choices[0].text
        assert accumulator.characters == len(reply.choices[0].text)


BEFORE = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
FIRST = BEFORE + '"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}'
LATER = {
    "text": BEFORE + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}',
    "text-not-ascii": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"é\u2028😀"},"finish_reason":null}]}',
    "logprobs": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":null}]}',
    "usage-null": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}],"usage":null}',
    "obfuscation": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}],"obfuscation":"xY1"}',
    "escape": BEFORE + '"choices":[{"index":0,"delta":{"content":"\\u0062\\n"},"finish_reason":null}]}',
    "empty": BEFORE + '"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}',
    "end": BEFORE + '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    "text-and-end": BEFORE + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}',
    "second-choice": BEFORE + '"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}',
    "two-choices": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null},{"index":1,"delta":{},"finish_reason":null}]}',
    "reasoning": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b","reasoning":"r"},"finish_reason":null}]}',
    "usage": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    "usage-only": BEFORE + '"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    "twice-the-member": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}],"choices":[]}',
    "spaces": BEFORE + '"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": null}]}',
    "another-beginning": FIRST.replace('"c"', '"d"'),
    "error": '{"error":{"message":"m"}}',
    "done": "[DONE]",
    "another-member": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b","role":"c"},"finish_reason":null}]}',
    "another-finish": BEFORE
    + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop","x":{"content":"c"},"finish_reason":null}]}',
    "wide": BEFORE + '"choices":[{"index":0,"delta":{"content":"\u20ac\x7f"},"finish_reason":null}]}',
}


ALIKE = BEFORE + '"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}'


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "counted"])
@pytest.mark.parametrize("between", [[], [ALIKE], [ALIKE, ALIKE]], ids=len)
@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_an_event_like_the_first_is_read_as_any_other(later, between, keep):
    """Whether it comes after an event that it may be alike to, or after one it cannot be, makes no difference."""

    def fed(first):
        accumulator = Accumulator(keep_text=keep)
        for event in (first, *between):
            accumulator.feed(event.encode())
        chunk = accumulator.feed(later.encode())
        said = (chunk.speaks, chunk.text, chunk.calls, chunk.usage_only, chunk.error, chunk.done)
        return said, accumulator.reply(None), accumulator.tokens, accumulator.finished, accumulator.spent

    assert fed(FIRST) == fed(FIRST.replace('"choices":[', '"choices": ['))


BROKEN_LATER = {
    "cut": BEFORE + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]',
    "brace-too-many": BEFORE + '"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]}}',
    "both-halves-at-once": BEFORE + '"choices":[{"index":0,"delta":{"content":},"finish_reason":null}]}',
    "control-character": BEFORE + '"choices":[{"index":0,"delta":{"content":"\x01"},"finish_reason":null}]}',
    "not-utf-8": BEFORE + '"choices":[{"index":0,"delta":{"content":"\udcff"},"finish_reason":null}]}',
}


@pytest.mark.parametrize("between", [[], [ALIKE], [ALIKE, ALIKE]], ids=len)
@pytest.mark.parametrize("later", BROKEN_LATER.values(), ids=BROKEN_LATER)
def test_an_event_that_only_begins_like_the_first_is_no_json(later, between):
    accumulator = Accumulator(keep_text=True)
    for event in (FIRST, *between):
        accumulator.feed(event.encode())
    with pytest.raises(Unreadable):
        accumulator.feed(later.encode("utf-8", "surrogateescape"))


def test_what_stands_inside_another_member_is_no_beginning():
    accumulator = Accumulator(keep_text=True)
    inner = '"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}'
    accumulator.feed(('{"x":{' + inner + "," + inner).encode())
    with pytest.raises(Unreadable):
        accumulator.feed(('{"x":{' + inner).encode())
