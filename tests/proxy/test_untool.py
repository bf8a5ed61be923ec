"""A forced tool call is turned back into the text it stands for."""

from proxy.wire.untool import untool


def call(arguments, **rest):
    return {"tool_calls": [{"index": 0, "function": {"name": "give_answer", "arguments": arguments}}], **rest}


def test_arguments_of_a_whole_reply_become_its_content():
    doc = {
        "id": 1,
        "choices": [
            {"index": 0, "message": call("{}", role="assistant", content=None), "finish_reason": "tool_calls"}
        ],
    }
    assert untool(doc) == {
        "id": 1,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "{}"}, "finish_reason": "stop"}],
    }


def test_fragments_of_a_stream_become_deltas():
    doc = {"choices": [{"index": 0, "delta": call('{"a'), "finish_reason": None}]}
    assert untool(doc)["choices"][0]["delta"] == {"content": '{"a'}


def test_everything_else_stays():
    for doc in (
        {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]},
        {"error": {}},
        {"choices": [5]},
    ):
        assert untool(doc) == doc
