"""Context is counted only where it can matter, and trimmed by the route's rule."""

from policies.plan import Counts, needs_counts, trim_context
from policies.route import ContextRule

RULE = ContextRule("recent", 40)
MESSAGES = [{"role": "user", "content": f"message {i}"} for i in range(10)]


def test_a_prompt_with_fewer_bytes_than_tokens_allowed_needs_no_count():
    assert not needs_counts(RULE, 40)
    assert needs_counts(RULE, 41)
    assert not needs_counts(ContextRule("off"), 10**6)
    assert not needs_counts(ContextRule("recent"), 10**6)


def test_recent_messages_fit_the_budget_with_what_frames_them():
    trimmed = trim_context(RULE, MESSAGES, Counts((10,) * 10, 5))
    assert trimmed.messages == tuple(MESSAGES[-3:])
    assert trimmed.tokens_out == 35
    assert len(trimmed.dropped) == 7


def test_uncounted_messages_go_as_they_came():
    assert trim_context(RULE, MESSAGES, None) is None
