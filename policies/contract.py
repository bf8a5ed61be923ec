"""What the replies of an exchange must satisfy, and what a reply is found to be."""

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Any, Final, Literal

from policies.chat import Choice, Reply, ToolCall
from policies.patching import Patch, merge, patch_for
from schemas.check import Change, Mended, Problem
from schemas.compiled import Compiled
from schemas.mend import compact, mend
from schemas.subset import Subset
from schemas.values import dataclass

VerdictKind = Literal["none", "exempt", "valid", "repaired", "invalid"]
EVERYTHING_EXACT: Final = frozenset({"lossless", "choice", "coercion"})


@dataclass(frozen=True, slots=True)
class Contract:
    """What is promised: `schema` of the text, `tools` of the arguments of each function by name.

    None of both: nothing is promised, every reply will do. A function whose schema is None takes any
    arguments. `accept` names the kinds of changes that may repair a reply.
    """

    schema: Compiled | None = None
    accept: frozenset[str] = EVERYTHING_EXACT
    tools: Mapping[str, Compiled | None] | None = None
    client_limit: bool = True
    """The client itself limited the length: an answer that was cut there is what it asked for."""
    asked: Subset | None = None
    """The schema as the provider was given it, where that writes null for what is not there."""

    @property
    def binds(self) -> bool:
        """Whether anything is promised."""
        return self.schema is not None or self.tools is not None


NO_CONTRACT: Final = Contract()
CUT: Final = Problem("", "length", "the answer was cut off at the model's length limit")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply is, all its choices together: the worst of them decides.

    `none`: nothing was promised. `exempt`: a refusal, a cut or a filtered answer, which the client's
    library knows what to do with, and which is never repaired into an answer. `texts` are the mended
    contents by choice index, `arguments` those of tool calls by choice and call index; both only where
    they differ from what the model wrote. `patch` is how an invalid text could be mended by asking for its
    failing parts alone.
    """

    kind: VerdictKind = "none"
    texts: Mapping[int, str] = field(default_factory=dict)
    arguments: Mapping[tuple[int, int], str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    patch: Patch | None = None

    @property
    def acceptable(self) -> bool:
        """Whether the reply may go to the client as an answer."""
        return self.kind != "invalid"


NO_VERDICT: Final = Verdict()
_RANK: Final[dict[VerdictKind, int]] = {"none": 0, "valid": 1, "exempt": 2, "repaired": 3, "invalid": 4}


def cut_short(choice: Choice) -> bool:
    """Whether transport facts forbid reading this choice as an answer.

    `length` means that the text was cut, `content_filter` that it was censored: a mended fragment would
    pass for what the model meant to say.
    """
    return choice.finish_reason in ("length", "content_filter") or choice.refusal is not None


def judge(reply: Reply, contract: Contract) -> Verdict:
    """The verdict on `reply`. Each of n parallel choices is judged by itself."""
    if not contract.binds:
        return NO_VERDICT
    if not reply.choices:
        return Verdict("invalid", problems=(Problem("", "choices", "the reply has no choices"),))
    verdicts = [_judge_choice(choice, contract) for choice in reply.choices]
    return verdicts[0] if len(verdicts) == 1 else _together(verdicts)


def judge_patch(reply: Reply, contract: Contract, patch: Patch) -> Verdict:
    """The verdict on the answer to a patch re-ask: the parts that were asked for, merged and checked again.

    A model that sends its whole answer anew instead is taken at its word.
    """
    whole = judge(reply, contract)
    choice = reply.choices[0] if reply.choices else None
    if whole.acceptable or choice is None or choice.text is None or contract.schema is None:
        return whole
    parts = mend(choice.text, patch.schema, contract.accept)
    if parts.verdict == "invalid":
        return replace(whole, problems=patch.problems, patch=patch)
    merged = merge(patch, parts.value)
    problems = contract.schema.problems(merged)
    if problems:
        return Verdict("invalid", problems=problems, patch=patch_for(merged, problems, contract.schema))
    return Verdict("repaired", {choice.index: compact(merged)}, changes=parts.changes)


def _judge_choice(choice: Choice, contract: Contract) -> Verdict:
    if choice.finish_reason == "length" and not contract.client_limit:
        return Verdict("invalid", problems=(CUT,))
    if cut_short(choice):
        return Verdict("exempt")
    if choice.tool_calls:
        return _judge_calls(choice, contract.tools) if contract.tools is not None else Verdict("exempt")
    if contract.schema is None:
        return NO_VERDICT
    mended = mend(choice.text or "", contract.schema, contract.accept)
    if mended.verdict == "invalid" and mended.parsed and contract.asked is not None:
        mended = _without_stand_ins(mended, contract.schema, contract.asked)
    if mended.verdict == "invalid":
        return Verdict("invalid", problems=mended.problems, patch=_patch_of(mended, contract.schema))
    texts = {choice.index: mended.text} if mended.verdict == "repaired" and mended.text is not None else {}
    return Verdict(mended.verdict, texts, changes=mended.changes)


def _without_stand_ins(mended: Mended, schema: Compiled, asked: Subset) -> Mended:
    """The reading without the nulls that we ourselves had asked for, if it is valid then."""
    value = asked.without_stand_ins(mended.value)
    if not schema.is_valid(value):
        return mended
    change = Change("null_means_missing", "coercion", (0, 0), "", "null", "")
    return Mended("repaired", compact(value), value, (*mended.changes, change), parsed=True)


def _patch_of(mended: Mended, schema: Compiled) -> Patch | None:
    return patch_for(mended.value, mended.problems, schema) if mended.parsed else None


def _judge_calls(choice: Choice, tools: Mapping[str, Compiled | None]) -> Verdict:
    """Arguments by the same chain as texts; one that does not parse is asked again, never turned into `{}`."""
    judged = [_judge_call(i, call, tools) for i, call in enumerate(choice.tool_calls)]
    arguments = {
        (choice.index, call.index): mended.text
        for call, mended in zip(choice.tool_calls, judged, strict=True)
        if mended.verdict == "repaired" and mended.text is not None
    }
    problems = tuple(p for m in judged for p in m.problems)
    changes = tuple(c for m in judged for c in m.changes)
    if any(m.verdict == "invalid" for m in judged):
        return Verdict("invalid", problems=problems)
    return Verdict("repaired" if arguments else "valid", arguments=arguments, changes=changes)


def _judge_call(position: int, call: ToolCall, tools: Mapping[str, Compiled | None]) -> Mended:
    where = f"/tool_calls/{position}/function"
    if call.name not in tools:
        known = ", ".join(sorted(tools)[:20])
        problem = Problem(
            f"{where}/name", "enum", "no tool of this name was offered", f"the tools are: {known}"
        )
        return Mended("invalid", None, problems=(problem,))
    schema = tools[call.name]
    if schema is None:
        return Mended("valid", call.arguments)
    mended = mend(call.arguments, schema)
    return replace(
        mended,
        problems=tuple(replace(p, pointer=f"{where}/arguments{p.pointer}") for p in mended.problems),
        changes=tuple(replace(c, pointer=f"{where}/arguments{c.pointer}") for c in mended.changes),
    )


def _together(verdicts: list[Verdict]) -> Verdict:
    worst = max((v.kind for v in verdicts), key=_RANK.__getitem__)

    def joined(name: str) -> Iterator[Any]:
        return (item for v in verdicts for item in getattr(v, name))

    return Verdict(
        worst,
        {k: t for v in verdicts for k, t in v.texts.items()},
        {k: t for v in verdicts for k, t in v.arguments.items()},
        tuple(joined("changes")),
        tuple(joined("problems")),
    )
