"""Where an answer is judged: at once, in a thread where it is long, in a process where its schema may take long."""

import asyncio
from typing import Final

from policies.chat import Reply
from policies.contract import Contract, Verdict, judge, judge_patch
from policies.patching import Patch
from proxy.sandbox import Sandbox, schemas_of

INLINE_CHARS: Final = 32_768
"""A reply of more characters is judged in a thread, so that the event loop goes on meanwhile."""


def apart(sandbox: Sandbox, contract: Contract) -> bool:
    """Whether judging by `contract` may take long, so that it is done in the sandbox."""
    schema = contract.schema
    if contract.tools is None:  # nearly always; it is asked twice for each request
        return schema is not None and (schema.may_be_slow or schema.version in sandbox.kept)
    return any(c.may_be_slow or c.version in sandbox.kept for c in schemas_of(contract))


def judged_at_once(sandbox: Sandbox, reply: Reply, contract: Contract, patch: Patch | None) -> Verdict | None:
    """The verdict where it takes no time to speak of; None: see `judged`."""
    return (
        None if apart(sandbox, contract) or _length(reply) > INLINE_CHARS else _judge(reply, contract, patch)
    )


async def judged(sandbox: Sandbox, reply: Reply, contract: Contract, patch: Patch | None) -> Verdict:
    """What `policies.contract` says of `reply`, or of the answer to `patch`."""
    if apart(sandbox, contract):
        return await sandbox.judge(reply, contract, patch)
    if _length(reply) > INLINE_CHARS:
        return await asyncio.to_thread(_judge, reply, contract, patch)
    return _judge(reply, contract, patch)


def _judge(reply: Reply, contract: Contract, patch: Patch | None) -> Verdict:
    return judge(reply, contract) if patch is None else judge_patch(reply, contract, patch)


def _length(reply: Reply) -> int:
    length = 0
    for choice in reply.choices:
        length += len(choice.text or "")
        for call in choice.tool_calls:
            length += len(call.arguments)
    return length
