"""Old tool results become one line each, where that is enough; nothing else is touched."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.economy import Caching
from policies.index import Index
from policies.masking import LEAST_SAVED, masks
from policies.prefix import trim_on
from policies.quotation import OF_TOOLS
from policies.units import content_hash, long_text
from tests.policies.indexed import Words


class CallWords(Words):
    """Words, those of a list's text parts too."""

    def count_message(self, message):
        content = message.get("content")
        if isinstance(content, list):
            return 4 + sum(self.count_text(part.get("text", "image " * 85)) for part in content)
        return super().count_message(message)


WORDS = CallWords()
SMALL_STEPS = Caching(least_tokens=100, step_tokens=10)
LONG = "{} row " * 100


def call(n, name="search"):
    function = {"name": name, "arguments": "{}"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"c{n}", "type": "function", "function": function}],
    }


def result(n, content):
    return {"role": "tool", "tool_call_id": f"c{n}", "content": content}


def work(steps, words=100):
    """An agent's session: a task, then calls with long results, each with its own number in it."""
    chat = [{"role": "system", "content": "You work."}, {"role": "user", "content": "Go through all rows."}]
    for n in range(steps):
        chat += [call(n), result(n, f"row{n} is plan{n} " + "word " * words)]
    return chat


def counts(messages):
    return [WORDS.count_message(message) for message in messages]


def trimmed(messages, budget, index=None, sent=None, mask_after=2):
    index = Index(WORDS) if index is None else index
    return trim_on(messages, budget, index=index, sent=sent, caching=SMALL_STEPS, mask_after=mask_after)


def hidden(message):
    return long_text(message).startswith("[left out here: ")


def test_a_mask_names_whose_result_it_was_and_its_size():
    chat = [call(1, "get_order"), result(1, "word " * 100), call(2), result(2, "word " * 100)]
    (masked,) = masks(chat, counts(chat), WORDS, 1).values()
    assert masked == result(1, "[left out here: the result of get_order, 500 characters, 100 tokens]")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (result(9, "word " * 100), "a tool"),
        ({"role": "function", "name": "old_style", "content": "word " * 100}, "old_style"),
        (
            {"role": "tool", "tool_call_id": ["x"], "name": "ein\nname" * 30, "content": "word " * 100},
            "ein_name",
        ),
    ],
    ids=["no-call-precedes-it", "function-role", "hostile-name"],
)
def test_a_result_without_a_call_is_named_as_well_as_can_be(message, name):
    masked = masks([message], counts([message]), WORDS, 0)[0]
    assert f"the result of {name}" in masked["content"]
    assert "\n" not in masked["content"]
    assert len(masked["content"]) < 150


@pytest.mark.parametrize(
    ("content", "spare"),
    [
        ("word " * (LEAST_SAVED - 5), 0),
        ("word " * 100, 1),
        (None, 0),
        ("", 0),
        ([{"type": "image_url", "image_url": {"url": "x"}}], 0),
        ([], 0),
    ],
    ids=["short", "among-the-last", "null", "empty", "image-alone", "no-parts"],
)
def test_what_is_not_masked(content, spare):
    chat = [call(1), result(1, content)]
    assert masks(chat, counts(chat), WORDS, spare) == {}


def test_of_a_result_with_an_image_the_text_alone_is_masked():
    image = {"type": "image_url", "image_url": {"url": "x"}}
    chat = [call(1), result(1, [{"type": "text", "text": "word " * 100}, image])]
    masked = masks(chat, counts(chat), WORDS, 0)[1]
    assert masked["content"][1] == image
    assert hidden(masked)


def test_where_masking_is_enough_every_message_stays_in_its_place():
    chat = work(10)
    decided = trimmed(chat, 450).trimmed
    assert decided.fits
    assert decided.tokens_out <= 450 < decided.tokens_in
    assert [hidden(m) for m in decided.messages if m["role"] == "tool"] == [True] * 8 + [False] * 2
    assert [m for m in decided.messages if not hidden(m)] == [
        m for at, m in enumerate(chat) if m["role"] != "tool" or at >= len(chat) - 3
    ]


def test_where_there_is_room_not_all_of_the_old_ones_go():
    chat = work(10)
    decided = trimmed(chat, 600).trimmed
    assert decided.tokens_out <= 600
    masked = [at for at, m in enumerate(decided.messages) if hidden(m)]
    assert masked == [3, 5, 7, 9, 11, 13]  # nothing but their age tells these results apart
    assert {gone.index for gone in decided.dropped} == set(masked)


def test_where_masking_is_not_enough_the_trim_goes_on_as_without():
    chat = work(10)
    assert trimmed(chat, 250).trimmed.messages == trimmed(chat, 250, mask_after=None).trimmed.messages


def test_what_fits_is_not_masked():
    chat = work(3)
    assert trimmed(chat, 10_000).trimmed.messages == tuple(chat)


def test_each_mask_is_recorded_with_the_text_it_stands_for():
    chat = work(10)
    decided = trimmed(chat, 450).trimmed
    assert {gone.reason for gone in decided.dropped} == {"masked"}
    for gone in decided.dropped:
        assert gone.hash == content_hash(chat[gone.index])
        assert gone.span is not None
    gone = {(g.index, chat[g.index]["content"][slice(*g.span)].strip()) for g in decided.dropped}
    together = {at: " ".join(text for index, text in sorted(gone) if index == at) for at, _ in gone}
    assert all(f"plan{(at - 3) // 2}" in text for at, text in together.items())
    assert len(together) == 8


def test_the_masked_prefix_stays_byte_for_byte_until_it_is_chosen_anew():
    index, sent, chat = Index(WORDS), None, work(9)
    renewed = 0
    before = ()
    for n in range(9, 40):
        chat = [*chat, call(n), result(n, f"row{n} is plan{n} " + "word " * 100)]
        decided = trimmed(chat, 1_500, index, sent)
        now = decided.trimmed.messages
        assert decided.trimmed.tokens_out <= 1_500
        same = json.dumps(now[: len(before)]) == json.dumps(before)
        renewed += not same
        before, sent = now, decided.sent
    assert 1 <= renewed <= 10


def report(about):
    """A long text, and one sentence in it that matters."""
    rows = [
        f"Paragraph {n} tells of the usual weather, of hills, of rain and of nothing else."
        for n in range(300)
    ]
    rows[150] = f"The {about} weighed nine hundred pounds when it was found."
    return "\n\n".join(rows)


@pytest.mark.parametrize("later", [False, True], ids=["when-it-is-masked", "a-turn-later"])
def test_what_a_question_needs_of_a_masked_result_is_recalled_before_it(later):
    chat = [call(1), result(1, report("walrus")), call(2), result(2, report("seal"))]
    chat = [{"role": "user", "content": "Read both."}, *chat, {"role": "assistant", "content": "Read."}]
    index = Index(WORDS)
    sent = trimmed(chat, 6_000, index, mask_after=1).sent if later else None
    asked = [*chat, {"role": "user", "content": "How heavy was the walrus?"}]
    decided = trimmed(asked, 6_000, index, sent, mask_after=1)
    block = decided.trimmed.messages[-2]
    assert block["content"].startswith(OF_TOOLS)
    assert "The walrus weighed" in block["content"]
    assert decided.trimmed.tokens_out <= 6_000
    assert (decided.cached_tokens > 0) is later


def test_a_pinned_result_is_not_masked():
    chat = work(10)
    decided = trim_on(chat, 900, index=Index(WORDS), caching=SMALL_STEPS, pins=(3,), mask_after=2)
    assert decided.trimmed.messages[3] == chat[3]


TEXTS = st.sampled_from(["", "short", "word " * 60, "a b. " * 300, '{"id": 1}, ' * 90, None])
STEPS = st.lists(st.tuples(st.sampled_from("uatf"), TEXTS, TEXTS), max_size=12)


def chat_of(steps):
    chat = [{"role": "system", "content": "You work."}]
    for n, (kind, one, other) in enumerate(steps):
        if kind == "u":
            chat.append({"role": "user", "content": one or "q"})
        elif kind == "a":
            chat.append({"role": "assistant", "content": one or "a"})
        else:
            both = call(n)["tool_calls"] + call(f"{n}x")["tool_calls"]
            calls = {"role": "assistant", "content": one, "tool_calls": both}
            parts = [{"type": "text", "text": other or ""}, {"type": "image_url", "image_url": {"url": "x"}}]
            second = result(f"{n}x", parts if kind == "f" else other)
            chat += [calls, result(n, one), second]
    return [*chat, {"role": "user", "content": "What was it?"}]


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, budget=st.integers(20, 2_000), spare=st.integers(1, 4))
def test_a_chat_with_masks_is_valid_within_budget_and_whole_with_its_records(steps, budget, spare):
    chat = chat_of(steps)
    decided = trimmed(chat, budget, mask_after=spare).trimmed
    if not decided.fits:
        assert decided.messages == tuple(chat)
        return
    assert decided.tokens_out <= budget
    waiting = set()
    for message in decided.messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
        waiting = {c["id"] for c in message.get("tool_calls", ())} or (
            waiting if message["role"] == "tool" else set()
        )
    masked = [gone for gone in decided.dropped if gone.reason == "masked"]
    assert all(chat[gone.index]["role"] == "tool" for gone in masked)
    assert all(chat[gone.index] not in decided.messages for gone in masked)


@given(steps=STEPS, spare=st.integers(0, 4))
def test_masking_twice_changes_nothing(steps, spare):
    chat = chat_of(steps)
    found = masks(chat, counts(chat), WORDS, spare)
    once = [found.get(at, message) for at, message in enumerate(chat)]
    assert masks(once, counts(once), WORDS, spare) == {}
