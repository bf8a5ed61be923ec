"""One cache breakpoint at the end of the frozen prefix, and never more than four."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.breakpoints import MOST, breakpoints_in, with_breakpoint

MARK = {"cache_control": {"type": "ephemeral"}}
IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


def said(role, content):
    return {"role": role, "content": content}


def text(words, **more):
    return {"type": "text", "text": words, **more}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (said("user", "hi"), [text("hi", **MARK)]),
        (said("system", "be"), [text("be", **MARK)]),
        (said("assistant", [text("a"), text("b")]), [text("a"), text("b", **MARK)]),
        (said("user", [text("a"), IMAGE]), [text("a"), {**IMAGE, **MARK}]),
    ],
    ids=["text", "instructions", "last-of-the-parts", "image"],
)
def test_the_last_part_bears_the_breakpoint(message, content):
    marked = with_breakpoint([message, said("user", "later")], 1)
    assert marked == [{**message, "content": content}, said("user", "later")]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "tool_call_id": "c", "content": "result"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
        said("user", ""),
        said("user", "  \n"),
        said("user", []),
        said("user", [text("")]),
        said("user", ["words"]),
        said("user", [{"type": "text", "text": 7}]),
        said("oracle", "hi"),
    ],
    ids=[
        "result",
        "calls",
        "empty",
        "blank",
        "no-parts",
        "empty-part",
        "no-object",
        "no-text",
        "unknown-role",
    ],
)
def test_a_message_that_cannot_bear_it_leaves_it_to_the_one_before(message):
    marked = with_breakpoint([said("user", "hi"), message, said("user", "later")], 2)
    assert marked == [said("user", [text("hi", **MARK)]), message, said("user", "later")]
    assert with_breakpoint([message], 1) is None


def test_what_already_bears_one_stays_as_it_is():
    assert with_breakpoint([said("user", [text("hi", **MARK)])], 1) is None


@pytest.mark.parametrize(
    ("theirs", "others", "set_"), [(2, 1, True), (4, 0, False), (0, 4, False), (3, 1, False)]
)
def test_those_of_the_client_count(theirs, others, set_):
    messages = [said("user", [text(str(n), **MARK)]) for n in range(theirs)] + [said("user", "hi")]
    marked = with_breakpoint(messages, len(messages), others)
    assert (marked is not None) is set_
    assert marked is None or breakpoints_in(marked) + others <= MOST


PARTS = st.lists(
    st.one_of(
        st.builds(text, st.text(max_size=3)),
        st.builds(lambda t: text(t, **MARK), st.text(max_size=3)),
        st.just(IMAGE),
    ),
    max_size=3,
)
MESSAGES = st.lists(
    st.builds(
        said,
        st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
        st.one_of(st.none(), st.text(max_size=5), PARTS),
    ),
    max_size=8,
)


@given(MESSAGES, st.integers(0, 10), st.integers(0, 5))
def test_at_most_one_is_added_before_the_end_and_the_texts_stay(messages, end, others):
    before = copy.deepcopy(messages)
    marked = with_breakpoint(messages, end, others)
    assert messages == before
    if marked is None:
        return
    assert breakpoints_in(marked) == breakpoints_in(messages) + 1
    assert breakpoints_in(marked) + others <= MOST
    changed = [at for at, (one, other) in enumerate(zip(marked, messages, strict=True)) if one != other]
    assert len(changed) == 1
    assert changed[0] < end
    was, now = messages[changed[0]]["content"], marked[changed[0]]["content"]
    shown = was if isinstance(was, str) else "".join(part.get("text", "") for part in was)
    assert "".join(part.get("text", "") for part in now) == shown
