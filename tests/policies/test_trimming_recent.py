import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.trimming import recent
from policies.units import content_hash, units_of


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(*ids):
    functions = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids]
    return message("assistant", None, tool_calls=functions)


def result(call_id, content="done"):
    return message("tool", content, tool_call_id=call_id)


CHAT = [
    message("system", "Be brief."),
    message("user", "one"),
    message("assistant", "1"),
    message("user", "two"),
    call("a", "b"),
    result("a"),
    result("b"),
    message("assistant", "2"),
    message("user", "three"),
]
COUNTS = [10] * len(CHAT)


def broken_pairs(messages):
    """Results without their call, or calls without their results."""
    open_ids, broken = set(), []
    for m in [*messages, message("user", "end")]:
        if m["role"] == "tool":
            broken += [] if m["tool_call_id"] in open_ids else [m["tool_call_id"]]
            open_ids.discard(m["tool_call_id"])
            continue
        broken += sorted(open_ids)
        open_ids = {c["id"] for c in m.get("tool_calls") or ()}
    return broken


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        pytest.param(93, range(9), id="all-of-it-fits"),
        pytest.param(92, [0, 2, 3, 4, 5, 6, 7, 8], id="the-oldest-goes-first"),
        pytest.param(63, [0, 4, 5, 6, 7, 8], id="call-and-results-fit-together"),
        pytest.param(62, [0, 7, 8], id="call-and-results-go-together"),
        pytest.param(33, [0, 7, 8], id="exactly-at-the-budget"),
        pytest.param(23, [0, 8], id="only-what-must-stay"),
    ],
)
def test_recent_keeps_the_last_units_that_fit(budget, kept):
    trimmed = recent(CHAT, COUNTS, budget)
    assert list(trimmed.kept) == list(kept)
    assert list(trimmed.messages) == [CHAT[at] for at in kept]
    assert trimmed.tokens_out == 10 * len(kept) + 3 <= budget
    assert trimmed.tokens_in == 93


def test_what_must_stay_and_does_not_fit_leaves_all_as_it_was_and_says_so():
    trimmed = recent(CHAT, COUNTS, 22)
    assert (list(trimmed.messages), trimmed.fits, trimmed.dropped) == (CHAT, False, ())
    assert "does not fit" in trimmed.note


def test_a_pinned_message_stays_with_its_unit():
    assert recent(CHAT, COUNTS, 53, pins={5}).kept == (0, 4, 5, 6, 8)


def test_results_that_wait_for_an_answer_stay():
    chat = [*CHAT[:2], call("a"), result("a"), call("b"), result("b")]
    assert recent(chat, [10] * 6, 43).kept == (0, 1, 4, 5)


def test_what_was_dropped_is_recorded_with_hash_tokens_and_reason():
    dropped = recent(CHAT, COUNTS, 83).dropped
    assert [(d.index, d.tokens, d.reason) for d in dropped] == [(1, 10, "older")]
    assert dropped[0].hash == content_hash(CHAT[1])


def test_tool_definitions_take_their_share_of_the_budget():
    assert recent(CHAT, COUNTS, 93, overhead_tokens=13).kept == (0, *range(2, 9))


@pytest.mark.parametrize("chat", [[], [message("system", "s")], [message("tool", "t")], [{}]])
def test_recent_never_raises_on_odd_chats(chat):
    for budget in (-1, 0, 5, 100):
        assert len(recent(chat, [7] * len(chat), budget).messages) == len(chat)


turns = st.lists(
    st.one_of(
        st.sampled_from(["user", "assistant", "system"]).map(lambda role: [message(role, "x")]),
        st.lists(st.uuids().map(str), min_size=1, max_size=3, unique=True).map(
            lambda ids: [call(*ids), *[result(i) for i in ids]]
        ),
    ),
    max_size=12,
).map(lambda units: [m for unit in units for m in unit])


@given(turns, st.integers(0, 300), st.data())
def test_recent_is_within_budget_and_a_valid_chat(chat, budget, data):
    counts = data.draw(st.lists(st.integers(1, 40), min_size=len(chat), max_size=len(chat)))
    trimmed = recent(chat, counts, budget)
    assert trimmed.tokens_out <= budget or not trimmed.fits
    assert broken_pairs(trimmed.messages) == []
    assert sorted([*trimmed.kept, *(d.index for d in trimmed.dropped)]) == list(range(len(chat)))
    assert list(trimmed.messages) == [chat[at] for at in trimmed.kept]


@given(turns)
def test_units_cover_the_chat_without_gap_or_overlap(chat):
    units = units_of(chat)
    assert [at for unit in units for at in range(unit.start, unit.end)] == list(range(len(chat)))
