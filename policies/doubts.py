"""Whether a valid answer is believed: after the call, where the route's calibration goes by suspicion."""

from dataclasses import dataclass

from policies.chat import Reply
from policies.contract import Verdict
from policies.features import Features
from policies.suspicion import Doubter, Signals, learned_doubt


def signals_of(reply: Reply, verdict: Verdict) -> Signals:
    """What there is to see of an answer, the same where it is logged and where it is doubted.

    What a check of tool calls says of names, arguments and types is part of the verdict.
    """
    return Signals(
        valid=verdict.acceptable,
        strict=not verdict.changes,
        calls=sum(len(choice.tool_calls) for choice in reply.choices),
        chars=sum(len(choice.text or "") for choice in reply.choices),
    )


@dataclass(frozen=True, slots=True)
class Doubts:
    """When a valid answer of `model` to a request with these features is not believed: from `above` on."""

    model: str
    doubter: Doubter
    found: Features
    above: float

    def of(self, model: str, reply: Reply, verdict: Verdict) -> float | None:
        """How much this answer is to be doubted; None where it is another model's, or not valid anyway."""
        if model != self.model or not verdict.acceptable:
            return None
        return learned_doubt(self.doubter, signals_of(reply, verdict), self.found)
