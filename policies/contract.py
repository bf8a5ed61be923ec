"""What the replies of an exchange must satisfy, and what a reply is found to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.chat import Choice, Reply
from schemas.check import Change, Mended, Problem
from schemas.compiled import Compiled
from schemas.mend import mend

VerdictKind = Literal["none", "exempt", "valid", "repaired", "invalid"]


@dataclass(frozen=True, slots=True)
class Contract:
    """`schema` None: nothing is promised, every reply will do. `accept` names the changes that may repair one."""

    schema: Compiled | None = None
    accept: frozenset[str] = frozenset({"lossless", "choice", "coercion"})


NO_CONTRACT = Contract()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply is, all its choices together: the worst of them decides.

    `none`: nothing was promised. `exempt`: a refusal, a cut or filtered answer or tool calls; the client's
    library knows what to do with these, and none of them is ever repaired into an answer. `texts` are the
    mended contents by choice index, only where they differ from what the model wrote.
    """

    kind: VerdictKind = "none"
    texts: Mapping[int, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def acceptable(self) -> bool:
        """Whether the reply may go to the client as an answer."""
        return self.kind != "invalid"


NO_VERDICT = Verdict()
_RANK: dict[VerdictKind, int] = {"none": 0, "valid": 1, "exempt": 2, "repaired": 3, "invalid": 4}


def exempt(choice: Choice) -> bool:
    """Whether transport facts forbid reading this choice as an answer.

    `length` means that the text was cut, `content_filter` that it was censored: a mended fragment would
    pass for what the model meant to say.
    """
    cut = choice.finish_reason in ("length", "content_filter")
    return cut or choice.refusal is not None or bool(choice.tool_calls) or choice.text is None


def judge(reply: Reply, contract: Contract) -> Verdict:
    """The verdict on `reply`. Each of n parallel choices is judged by itself."""
    if contract.schema is None:
        return NO_VERDICT
    kinds: list[VerdictKind] = []
    texts: dict[int, str] = {}
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    for choice in reply.choices:
        if exempt(choice):
            kinds.append("exempt")
            continue
        mended: Mended = mend(choice.text or "", contract.schema, contract.accept)
        kinds.append(mended.verdict)
        changes += mended.changes
        problems += mended.problems
        if mended.verdict == "repaired" and mended.text is not None:
            texts[choice.index] = mended.text
    worst: VerdictKind = max(kinds, key=_RANK.__getitem__, default="invalid")
    if not kinds:
        problems = (Problem("", "choices", "the reply has no choices"),)
    return Verdict(worst, texts, changes, problems)
