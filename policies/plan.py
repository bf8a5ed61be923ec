"""What is decided before the first call: which models may be asked, in which order, with how much context."""

from collections.abc import Sequence
from typing import Any

from policies.allowance import Allowance
from policies.contract import Contract
from policies.doubts import Doubts
from policies.ladder import Rung
from policies.route import ContextRule, Repair, StreamMode
from policies.routing import Choice
from policies.trimming import Trimmed, recent
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions of one exchange. `context` None: the messages go as they came, uncounted.

    `choice` is how the first rung was chosen; the others are what is left to climb.
    """

    route: str
    rungs: tuple[Rung, ...]
    contract: Contract
    repair: Repair
    allowance: Allowance
    mode: StreamMode
    context: Trimmed | None = None
    choice: Choice | None = None
    companion: str | None = None
    """A model that is asked together with the first rung's, for an answer to compare."""
    doubts: Doubts | None = None
    """When a valid answer of the first rung is not believed, and the next one is asked."""
    lookups: int = 0
    """How often the model may look up what was left out of its prompt; 0: it is not offered the tool for it."""
    record: str | None = None
    """The name under which what was left out of the prompt can be had back; None where nothing is kept."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens of a conversation: of each message, and of what frames them (tools, the reply's opening)."""

    messages: tuple[int, ...]
    overhead: int = 0


def needs_counts(rule: ContextRule, prompt_bytes: int) -> bool:
    """Whether the context rule has to know token counts: a token is never shorter than a byte."""
    if rule.policy == "relevant" and rule.budget_tokens is None:
        return True  # the model's window bounds it
    return rule.policy != "off" and rule.budget_tokens is not None and prompt_bytes > rule.budget_tokens


def trim_context(
    rule: ContextRule, messages: Sequence[Any], counts: Counts | None, tool_tokens: int = 0
) -> Trimmed | None:
    """The messages that go upstream under `rule`; None where they go as they came. `tool_tokens`: see `recent`."""
    if counts is None or rule.budget_tokens is None or rule.policy == "off":
        return None
    return recent(
        messages,
        counts.messages,
        rule.budget_tokens,
        overhead_tokens=counts.overhead,
        tool_tokens=tool_tokens,
    )
