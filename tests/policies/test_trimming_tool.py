"""The tool by which a model looks up what was left out takes its tokens from the budget, where something is left out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.economy import Caching
from policies.index import Index
from policies.prefix import trim_on
from policies.relevant import trim
from policies.trim_report import render_trim
from policies.trimming import REPLY_OPENING, recent
from tests.policies.indexed import Words

TOOL = 20
WORDS = Words()
TALK = [
    {"role": "system", "content": "You help."},
    *(
        {"role": ("user", "assistant")[n % 2], "content": f"Turn {n} speaks of topic{n} and of the weather."}
        for n in range(40)
    ),
    {"role": "user", "content": "What of topic7?"},
]
COUNTS = [WORDS.count_message(m) for m in TALK]
WHOLE = sum(COUNTS) + REPLY_OPENING
LEAST = COUNTS[0] + COUNTS[-1] + REPLY_OPENING


def by_recent(budget, tool_tokens):
    return recent(TALK, COUNTS, budget, tool_tokens=tool_tokens)


def by_relevance(budget, tool_tokens):
    return trim(TALK, WORDS, budget, tool_tokens=tool_tokens)


def by_prefix(budget, tool_tokens):
    return trim_on(TALK, budget, index=Index(WORDS), tool_tokens=tool_tokens).trimmed


ways = pytest.mark.parametrize("way", [by_recent, by_relevance, by_prefix])


def sent(trimmed):
    return sum(map(WORDS.count_message, trimmed.messages)) + REPLY_OPENING


@ways
def test_its_tokens_are_in_the_prompt_and_not_in_what_came(way):
    trimmed = way(150, TOOL)
    assert trimmed.tool_tokens == TOOL
    assert trimmed.tokens_out == sent(trimmed) + TOOL <= 150
    assert trimmed.tokens_in == WHOLE


@ways
def test_where_everything_fits_there_is_no_tool(way):
    trimmed = way(WHOLE, TOOL)
    assert (trimmed.changed, trimmed.tool_tokens, trimmed.tokens_out) == (False, 0, WHOLE)


@ways
def test_where_nothing_would_fit_with_it_there_is_no_tool(way):
    trimmed = way(LEAST + TOOL - 1, TOOL)
    assert (trimmed.fits, trimmed.changed, trimmed.tool_tokens) == (True, True, 0)
    assert trimmed.tokens_out == sent(trimmed)


@ways
def test_where_what_must_stay_does_not_fit_nothing_is_changed(way):
    trimmed = way(LEAST - 1, TOOL)
    assert (trimmed.fits, trimmed.changed, trimmed.tool_tokens, trimmed.tokens_in) == (False, False, 0, WHOLE)


@ways
@given(budget=st.integers(1, WHOLE + 40), tool=st.integers(0, 60))
@settings(max_examples=60)
def test_no_budget_is_broken_by_it(way, budget, tool):
    trimmed = way(budget, tool)
    assert trimmed.tokens_in == WHOLE
    assert trimmed.tokens_out == sent(trimmed) + trimmed.tool_tokens
    assert trimmed.tool_tokens in (0, tool)
    assert trimmed.tokens_out <= budget or not trimmed.fits
    assert trimmed.changed or not trimmed.tool_tokens


def test_it_is_in_every_turn_of_a_conversation_that_goes_on():
    index, before = Index(WORDS), None
    caching = Caching(least_tokens=50, step_tokens=10)
    for end in range(30, len(TALK), 2):
        messages = [*TALK[:end], {"role": "user", "content": f"What of topic{end - 20}?"}]
        decided = trim_on(messages, 200, index=index, sent=before, caching=caching, tool_tokens=TOOL)
        before = decided.sent
        assert decided.trimmed.tool_tokens == TOOL
        assert decided.trimmed.tokens_out == sent(decided.trimmed) + TOOL <= 200


def test_a_report_names_it():
    assert "20 of these are the tool" in render_trim(by_recent(150, TOOL))
    assert "the tool" not in render_trim(by_recent(150, 0))
