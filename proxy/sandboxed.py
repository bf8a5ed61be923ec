"""The worker of `proxy/sandbox.py`: one job after another from stdin, one answer after another to stdout.

It may use MEMORY_BYTES, opens no file, and ends with its parent, whose death closes stdin. A job that goes on
though the parent has given up or died is ended by the alarm, whose default action needs no interpreter.
"""

import resource
import signal
import struct
import sys

from cachetools import LRUCache

from policies.chat import Reply
from policies.contract import Contract, Verdict, judge, judge_patch
from policies.patching import Patch
from proxy.sandbox import DEADLINE_S, TRIAL_S, read_back, written
from proxy.trials import tried
from schemas.check import Mended, Problem
from schemas.compiled import Compiled
from schemas.mend import mend
from schemas.trial import Trial

MEMORY_BYTES = 1024 * 1024 * 1024
"""Of address space; about 200 MB of it are the interpreter and its libraries."""
_SIZE = struct.Struct("<I")


class _Known(LRUCache[str, Compiled]):
    """Schemas that came before: compiled once."""


def main() -> None:
    """Serve until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
    known = _Known(64)
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    outgoing.write(_SIZE.pack(0))
    outgoing.flush()
    while len(head := incoming.read(_SIZE.size)) == _SIZE.size:
        text = incoming.read(_SIZE.unpack(head)[0])
        signal.setitimer(signal.ITIMER_REAL, 2 * DEADLINE_S)
        answer = written(_answer(text, known))
        signal.setitimer(signal.ITIMER_REAL, 0)
        outgoing.write(_SIZE.pack(len(answer)) + answer)
        outgoing.flush()


def _answer(text: bytes, known: _Known) -> Verdict | Mended | Trial:
    job, *about = read_back(text, known)
    if job == "trial":
        signal.setitimer(signal.ITIMER_REAL, 2 * TRIAL_S)
        return tried(about[0], probed=about[1])
    if job == "mend":
        said, schema, accept = about
        known[schema.version] = schema
        return mend(said, schema, accept)
    reply, contract, patch = about
    return _verdict(reply, contract, patch, known)


def _verdict(reply: Reply, contract: Contract, patch: Patch | None, known: _Known) -> Verdict:
    try:
        for schema in (contract.schema, *(contract.tools or {}).values()):
            if schema is not None:
                known[schema.version] = schema
        return judge(reply, contract) if patch is None else judge_patch(reply, contract, patch)
    except MemoryError:
        return Verdict(
            "invalid", problems=(Problem("", "schema", "it could not be checked in bounded memory"),)
        )
