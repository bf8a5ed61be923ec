"""Conversations that go on: what was sent stays byte for byte, and trimming never costs more than it saves."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.continuation import RECALL_MOST, RECALL_SOURCE
from policies.economy import Caching, Outlook, Sending, saved_tokens
from policies.index import Index
from policies.prefix import trim_on
from policies.quotation import RECALLED


class Words:
    """A token for each word and four for each message."""

    def count_text(self, text):
        return len(text.split())

    def count_message(self, message):
        calls = message.get("tool_calls") or ()
        arguments = sum(8 + self.count_text(c["function"]["arguments"]) for c in calls)
        return 4 + self.count_text(message.get("content") or "") + arguments


WORDS = Words()
SMALL_STEPS = Caching(least_tokens=100, step_tokens=10)


def said(role, content):
    return {"role": role, "content": content}


def talk(turns):
    chat = [said("system", "You remember.")]
    for n in range(turns):
        chat.append(
            said("user", f"Today number {n} I want to talk about subject{n % 17} and the plan{n} we made.")
        )
        chat.append(
            said("assistant", f"Good: subject{n % 17} it is, and I note that plan{n} has cost us {n} hours.")
        )
    return chat


def asked(turns):
    """A chat whose last turn asks for something said long before; it goes on from `asked(turns - 1)`."""
    chat = talk(turns)
    for n in range(40, turns):
        chat[2 * n + 1] = said("user", f"What was plan{n // 2}?")
    return [*chat, said("user", f"What was plan{turns // 2}?")]


def total(messages):
    return 3 + sum(map(WORDS.count_message, messages))


def in_common(before, after):
    same = 0
    for a, b in zip(before, after, strict=False):
        if json.dumps(a) != json.dumps(b):
            break
        same += 1
    return same


def conversation(turns, budget, *, start=60, caching=SMALL_STEPS, outlook=None):
    """The decisions of a chat that grows by one turn at a time."""
    index, sent, decisions = Index(WORDS), None, []
    for n in range(start, start + turns):
        decided = trim_on(
            asked(n),
            budget,
            index=index,
            sent=sent,
            caching=caching,
            outlook=outlook,
        )
        sent = decided.sent
        decisions.append(decided)
    return decisions


def test_what_was_sent_stays_byte_for_byte_and_what_is_needed_is_recalled_before_the_question():
    first, second = conversation(2, 1_000)
    sent = second.trimmed.messages
    same = in_common(first.sent.messages, sent)
    assert second.cached_tokens == SMALL_STEPS.cached(total(sent[:same]) - 3) >= 300
    assert RECALLED in sent[-2]["content"]
    assert sent[-1]["content"] == "What was plan30?"
    assert any("plan30 has cost us 30 hours" in m["content"] for m in sent)
    assert second.trimmed.tokens_out <= 1_000


def test_the_recall_block_is_never_a_part_of_the_next_prefix():
    for decided in conversation(30, 500)[1:]:
        blocks = [m for m in decided.trimmed.messages if m["content"].startswith(RECALLED)]
        assert len(blocks) <= 1


def test_what_was_sent_says_which_message_is_the_recall_block_and_what_it_cost():
    second = conversation(2, 1_000)[1].sent
    at = second.sources.index(RECALL_SOURCE)
    assert second.messages[at]["content"].startswith(RECALLED)
    assert second.tokens[at] == total([second.messages[at]]) - 3 <= RECALL_MOST
    assert second.pieces[at]


def test_the_turn_before_is_never_lost_with_its_recall_block():
    for n, decided in enumerate(conversation(30, 500)):
        if n:
            assert list(decided.trimmed.messages)[-1] == asked(60 + n)[-1]
            assert asked(60 + n)[-2] in decided.trimmed.messages


def test_a_prefix_at_the_high_water_mark_is_renewed_with_room_for_more_turns():
    decisions = conversation(40, 500)
    renewed = [d.cached_tokens == 0 for d in decisions[1:]]
    assert any(renewed)
    assert sum(renewed) <= 10
    assert all(d.trimmed.tokens_out <= 500 for d in decisions)


def test_a_tool_loop_keeps_everything_before_it_recall_block_included():
    index = Index(WORDS)
    chat = asked(60)
    before = trim_on(chat, 1_000, index=index, caching=SMALL_STEPS)
    chat = asked(61)
    before = trim_on(chat, 1_000, index=index, sent=before.sent, caching=SMALL_STEPS)
    function = {"name": "look", "arguments": "{}"}
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": function}],
    }
    chat = [*chat, call, {"role": "tool", "tool_call_id": "a", "content": "It was blue."}]
    after = trim_on(chat, 1_000, index=index, sent=before.sent, caching=SMALL_STEPS)
    assert after.trimmed.messages[: len(before.sent.messages)] == before.sent.messages
    assert list(after.trimmed.messages[-2:]) == chat[-2:]


def test_a_changed_history_is_trimmed_anew():
    index = Index(WORDS)
    before = trim_on(asked(60), 500, index=index, caching=SMALL_STEPS)
    other = asked(61)
    other[1] = said("user", "Something else entirely.")
    after = trim_on(other, 500, index=index, sent=before.sent, caching=SMALL_STEPS)
    assert after.cached_tokens == 0
    assert "kept for what the question asks" in after.trimmed.note


def test_what_fits_stays_whole_turn_after_turn():
    first, second = conversation(2, 100_000)
    assert second.trimmed.messages == tuple(asked(61))
    assert second.cached_tokens == SMALL_STEPS.cached(sum(first.sent.tokens))


def test_a_pinned_message_is_in_each_turn():
    index, sent = Index(WORDS), None
    for n in range(60, 64):
        chat = asked(n)
        decided = trim_on(chat, 500, index=index, sent=sent, caching=SMALL_STEPS, pins={7})
        sent = decided.sent
        assert chat[7] in decided.trimmed.messages


@pytest.mark.parametrize("read", [1.0, 0.5, 0.1], ids=["no-discount", "half", "90-percent"])
@pytest.mark.parametrize("budget", [300, 800, 2_000])
def test_a_trimmed_conversation_never_costs_more_than_an_untrimmed_or_anew_trimmed_one(read, budget):
    caching = Caching(read=read, least_tokens=100, step_tokens=10)
    spent = whole = anew = 0.0
    before_whole = 0
    for n, decided in enumerate(conversation(40, budget, caching=caching)):
        size = decided.trimmed.tokens_in
        if n:  # the first turn is paid in full either way
            spent += caching.cost(decided.trimmed.tokens_out, decided.cached_tokens)
            whole += caching.cost(size, caching.cached(before_whole))
            anew += min(size, budget)
        before_whole = size
    assert spent <= min(whole, anew) * 1.02


def test_with_an_outlook_trimming_waits_until_it_pays():
    chat = asked(60)
    cached = Outlook(turns=1, cached_tokens=total(chat))
    kept = trim_on(chat, 1_500, index=Index(WORDS), caching=SMALL_STEPS, outlook=cached)
    assert kept.trimmed.messages == tuple(chat)
    assert kept.saved_tokens < 0
    assert "cached input is cheaper" in kept.trimmed.note
    paid = trim_on(chat, 300, index=Index(WORDS), caching=SMALL_STEPS, outlook=Outlook(turns=1))
    assert paid.saved_tokens == pytest.approx(total(chat) - paid.trimmed.tokens_out)


@pytest.mark.parametrize(
    ("turns", "cached", "pays"),
    [
        pytest.param(1, 0, True, id="nothing-cached-pays-at-once"),
        pytest.param(1, 10_000, False, id="one-turn-does-not-pay-for-a-lost-cache"),
        pytest.param(20, 10_000, True, id="many-turns-do"),
    ],
)
def test_the_gate_weighs_turns_against_the_cache(turns, cached, pays):
    outlook = Outlook(turns=turns, cached_tokens=cached)
    saved = saved_tokens(Sending(10_000, cached), Sending(4_000, 0, 200), outlook, Caching())
    assert (saved > 0) == pays


def test_a_cache_write_is_dearer_and_a_short_prompt_is_not_cached():
    anthropic = Caching(read=0.1, write=1.25)
    assert anthropic.cost(2_000, 0) == 2_500
    assert anthropic.cost(2_000, 1_000) == 100 + 1_250
    assert anthropic.cost(500, 0) == 500
    assert Caching().cached(1_000) == 0
    assert Caching().cached(1_100) == 1_024


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(20, 800), st.booleans())
def test_any_growth_stays_within_budget_and_keeps_the_question(steps, budget, weighed):
    index, sent, n = Index(WORDS), None, 10
    for step in steps:
        n += step
        chat = asked(n)
        outlook = Outlook(turns=5) if weighed else None
        decided = trim_on(chat, budget, index=index, sent=sent, caching=SMALL_STEPS, outlook=outlook)
        sent = decided.sent
        trimmed = decided.trimmed
        assert trimmed.tokens_out == total(trimmed.messages)
        assert trimmed.messages[-1] == chat[-1]
        assert trimmed.messages[0] == chat[0]
        assert trimmed.tokens_out <= budget or trimmed.messages == tuple(chat)
        list(trimmed.dropped)
