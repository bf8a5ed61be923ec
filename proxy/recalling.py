"""The tool by which a model looks up what was left out of its prompt: whether it is offered, and what is found."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policies import recall
from policies.cards import ModelCard
from policies.index import Index
from policies.ladder import Attempt
from policies.recall import Recalled
from policies.relevant import least
from policies.room import most_prompt_tokens, room
from policies.route import ContextRule
from policies.structure import NOT_SEEN, Shaped
from policies.trimming import REPLY_OPENING, least_recent
from proxy.conversations import in_our_tokens
from proxy.facts import bound_of
from proxy.ports import Order
from proxy.prompts import Messages, Prompt
from proxy.services import Services
from proxy.wire.ask import Ask
from proxy.wire.recalls import GoingOn, RecallFilter

_ROUND_TOKENS = 64
"""About what the notes and frames of one round's results take beside what was found."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a request has of the tool: the members that change, all its tools, and who reads the answer's calls of it.

    `going_on` makes the events of the answer go on with what the client was told; None where they begin one.
    """

    changes: Mapping[str, Any]
    tools: Sequence[Any]
    reads: RecallFilter
    going_on: GoingOn | None


class Recalling:
    """What the models of one exchange may look up. Nothing is made before something is looked up."""

    def __init__(self, services: Services, rule: ContextRule, ask: Ask, prompt: Prompt) -> None:
        self._counter = services.counter
        self._seen = services.seen
        self._rule = rule
        self._ask = ask
        self._prompt = prompt
        self._index: Index | None = None
        self._offered: set[int] = set()
        self._head: Mapping[str, Any] = {}
        self._told = ""
        """What the client was told before something was looked up."""

    def offer(self, order: Order, card: ModelCard, shaped: Shaped) -> Offer | None:
        """How the call for `order` is made; None where the model neither may look something up nor ever did.

        The tool is not there where the answer itself is asked for as a call, or the model refused it before.
        """
        refused = shaped.as_tool or not self._seen.get(card.alias, NOT_SEEN).takes_recall
        if not order.offers_recall and order.recalled is None:
            return None
        context = self._prompt.context_of(order.number)
        trimmed = context is not None and context.changed and context.tool_tokens > 0
        offered = order.offers_recall and trimmed and recall.able(card) and not refused
        if not offered and order.recalled is None:
            return None
        changes = {} if refused else recall.changes(self._ask.doc, offered=offered)
        if changes:
            self._offered.add(order.number)
        return Offer(
            changes,
            changes.get("tools") or self._ask.doc.get("tools") or (),
            RecallFilter(recall.TOOL_NAME),
            self._going_on(order),
        )

    def was_refused(self, alias: str, attempt: Attempt) -> bool:
        """Whether this attempt failed because its request had the tool: then the model is not sent it again."""
        failure = attempt.failure
        if failure is None or failure.kind != "unsupported" or "tool" not in failure.message:
            return False
        refused = attempt.number in self._offered
        if refused:
            self._seen[alias] = replace(self._seen.get(alias, NOT_SEEN), takes_recall=False)
        return refused

    def _going_on(self, order: Order) -> GoingOn | None:
        if not order.goes_on:
            return None
        return GoingOn(self._head, paragraph=bool(self._told) and not self._told.endswith("\n"))

    async def found(
        self, order: Order, asked: Attempt, card: ModelCard, head: Mapping[str, Any] | None
    ) -> Recalled:
        """The messages for `order` that answer what `asked` looked up. `head` is that of its stream."""
        self._head = head or {}
        if asked.reply is not None:
            self._told += "".join(choice.text or "" for choice in asked.reply.choices)
        return await asyncio.to_thread(self._found, order, asked, card)

    def _found(self, order: Order, asked: Attempt, card: ModelCard) -> Recalled:
        assert asked.reply is not None
        assert asked.reply.recalls is not None
        if self._index is None:
            self._index = Index(self._counter)
            self._index.follow(self._ask.messages)
        index, context = self._index, self._prompt.context_of(asked.number)
        findable = recall.left_out(index, () if context is None else context.dropped)
        tail = (*self._prompt.tail_of(order), asked.reply.recalls.message)
        return recall.look_up(
            index,
            findable - (order.recalled or frozenset()),
            asked.reply.recalls,
            self._budget(index, card, tail),
            last=not order.offers_recall,
        )

    def _budget(self, index: Index, card: ModelCard, tail: Messages) -> int:
        """Tokens that this round's results may take beside what must stay of the prompt, and `tail`."""
        bound = bound_of(self._ask.doc)
        space, most = room(card, bound), most_prompt_tokens(card, bound)
        prompt_tokens = self._rule.budget_tokens or (None if space is None else space.tokens)
        if most is None:
            return recall.budget(prompt_tokens, None)
        tools = [*(self._ask.doc.get("tools") or ()), recall.tool()]
        overhead = self._counter.count_tools(tools) + REPLY_OPENING
        must = (
            least_recent(index.messages, index.counts, overhead)
            if self._rule.policy == "recent"
            else least(index, overhead_tokens=overhead)
        )
        must += sum(map(self._counter.count_message, tail)) + _ROUND_TOKENS
        return recall.budget(prompt_tokens, in_our_tokens(self._counter, card, most) - must)
