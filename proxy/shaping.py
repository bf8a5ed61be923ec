"""How the calls of one exchange are asked for the shape of their answers, and what each model made of it."""

from dataclasses import replace
from typing import Final

from policies.cards import ModelCard
from policies.ladder import Attempt
from policies.route import Structured
from policies.structure import AS_ASKED, NOT_SEEN, Shaped, Structure, shape, structure_for
from proxy.ports import Order
from proxy.services import Services
from proxy.wire.ask import Ask
from proxy.wire.body import REMOVE
from schemas.compiled import Compiled
from schemas.families import FamilyName
from schemas.subset import Subset

_AS_ASKED: Final[tuple[Structure, None]] = "as_asked", None


class Shapes:
    """Of one exchange; `rule` is its route's word for how a schema is asked for."""

    __slots__ = ("_ask", "_rule", "_services", "_used")

    def __init__(self, services: Services, ask: Ask, rule: Structured) -> None:
        self._services = services
        self._ask = ask
        self._rule = rule
        self._used: dict[int, tuple[Structure, Subset | None]] = {}
        """How each call was asked for the shape of its answer, by number."""

    async def of(self, order: Order, schema: Compiled | None, card: ModelCard, family: FamilyName) -> Shaped:
        """How this model is asked for `schema`, or that of the order's patch; remembers what was used, for the verdict on it."""
        schema = order.patch.schema if order.patch is not None else schema
        if schema is None or self._ask.endpoint == "responses":
            return AS_ASKED
        doc = self._ask.doc
        inline = "response_format" in doc and order.patch is None
        structure = structure_for(
            self._rule,
            card.can,
            inline=inline,
            has_tools=bool(doc.get("tools")),
            seen=self._services.seen.get(card.alias, NOT_SEEN),
        )
        if structure == "as_asked" and order.patch is not None and "response_format" in doc:
            structure = "native"  # the client's own schema would forbid the answer to a patch
        subset: Subset | None = None
        if structure in ("native", "tool"):
            subset = await self._services.subset(schema, family)
            if subset.schema is None:
                structure, subset = "prompt", None
        self._used[order.number] = structure, subset
        if structure == "prompt" and order.purpose in ("reask", "patch"):
            return AS_ASKED  # the correction tells the schema already
        given = subset.schema if subset is not None else None
        shaped = shape(structure, schema, given, order.messages or self._ask.messages)
        if inline and structure in ("tool", "prompt"):
            return replace(shaped, changes={"response_format": REMOVE} | dict(shaped.changes))
        return shaped

    def subset(self, number: int) -> Subset | None:
        """The schema that this call was asked for, in the words of its provider; None where none was."""
        return self._used.get(number, _AS_ASKED)[1]

    def observe(self, alias: str, attempt: Attempt) -> None:
        """Remember how the model treated the shape it was asked for."""
        structure, _ = self._used.pop(attempt.number, _AS_ASKED)
        if structure == "as_asked":
            return
        seen = self._services.seen.get(alias, NOT_SEEN)
        if attempt.failure is not None and attempt.failure.kind == "unsupported":
            seen = replace(seen, refused=seen.refused | {structure})
        elif structure == "native" and attempt.verdict.kind in ("valid", "repaired", "invalid"):
            broken = attempt.verdict.kind == "invalid"
            seen = replace(seen, kept=seen.kept + (not broken), broken=seen.broken + broken)
        self._services.seen[alias] = seen
