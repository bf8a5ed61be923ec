"""What may take long is found out in a process of its own, which is ended when it does.

A client's schema may be such that a short text keeps the validator busy for minutes, and nothing can stop a
thread. So where `schemas.cost` cannot vouch for a schema, or it was slow when it was tried (`proxy/trials.py`), the
reply goes to a worker (`proxy/sandboxed.py`) with a limit on its memory. It has DEADLINE_S; then it is killed, the
reply counts as invalid, and the next job gets a new worker. Answers by ordinary schemas never come here.
"""

import asyncio
import contextlib
import io
import json
import pickle
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.chat import Reply
from policies.contract import Contract, Verdict
from policies.patching import Patch
from proxy import native
from schemas.check import Mended, Problem
from schemas.compiled import Compiled, compile_schema
from schemas.errors import SchemaRefused
from schemas.trial import Trial

DEADLINE_S = 1.0
TRIAL_S = 6.0
"""For all that is found out about a schema before it is used."""
START_S = 20.0
"""A worker that is not ready by then never will be."""
WORKERS = 2
MAX_WAITING = 32
"""Jobs that wait for a worker; one more is refused: its reply counts as unchecked, so invalid."""
IDLE_S = 60.0
"""How long a worker waits for the next job, at most."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
_SIZE = struct.Struct("<I")
_PLAIN = {"builtins": {"set", "frozenset"}, "collections": {"OrderedDict"}}
_OURS = ("policies.", "schemas.")
_ROOT = Path(__file__).parents[1]
_WORKER = "from proxy import native; native.use(); from proxy.sandboxed import main; main()"


class Busy(Exception):
    """Too many wait, or no worker can be had: it may be tried again."""


class _Failed(Exception):
    """The worker could not say; the message tells why."""


class Sandbox:
    """The workers of one app; none is started before it is needed."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        """Versions of registered schemas that were slow when they were tried."""
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()
        self._dying: set[asyncio.subprocess.Process] = set()
        """Killed, and perhaps not gone yet."""
        self._turns = asyncio.Semaphore(WORKERS)
        self._waiting = 0

    async def judge(self, reply: Reply, contract: Contract, patch: Patch | None) -> Verdict:
        """What `policies.contract` says of `reply`; invalid where it does not say so in time."""
        job = written(("judge", replace(reply, original=None, recalls=None), contract, patch))
        try:
            verdict = read_back(
                await self._asked(job, DEADLINE_S), {c.version: c for c in schemas_of(contract)}
            )
        except Busy:
            return _unchecked("too many answers wait to be checked")
        except _Failed as failed:
            return _unchecked(str(failed))
        return verdict if isinstance(verdict, Verdict) else _unchecked("it could not be checked")

    async def mend(self, text: str, schema: Compiled, accept: frozenset[str]) -> Mended:
        """`schemas.mend.mend`; invalid where it takes too long. Raises Busy."""
        try:
            mended = read_back(await self._asked(written(("mend", text, schema, accept)), DEADLINE_S), {})
        except _Failed as failed:
            return Mended("invalid", None, problems=(Problem("", "schema", str(failed)),))
        assert isinstance(mended, Mended)
        return mended

    async def trial(self, text: bytes, *, probed: bool = True) -> Trial:
        """What there is to know of the schema with this JSON. Raises Busy, and SchemaRefused.

        A schema by which a probe cannot even be judged in time is slow; one that cannot be compiled in time is refused.
        """
        try:
            trial = read_back(await self._asked(written(("trial", text, probed)), TRIAL_S), {})
        except _Failed as failed:
            if not probed:
                raise SchemaRefused([Problem("", "schema", str(failed))]) from None
            trial = await self.trial(text, probed=False)
            return replace(trial, worst_s=TRIAL_S, worst="a probe")
        assert isinstance(trial, Trial)
        if trial.problems:
            raise SchemaRefused(trial.problems)
        return trial

    async def _asked(self, job: bytes, deadline_s: float) -> bytes:
        """What a worker says to `job`. Raises Busy, and _Failed where it does not say it in time or in its memory."""
        if self._waiting >= MAX_WAITING:
            raise Busy
        self._waiting += 1
        try:
            async with self._turns:
                return await self._ask(job, deadline_s)
        finally:
            self._waiting -= 1

    async def _ask(self, job: bytes, deadline_s: float) -> bytes:
        worker = self._idle.pop() if self._idle else None
        try:
            if worker is None or worker.returncode is not None:
                worker = await self._start()
            async with asyncio.timeout(deadline_s):
                assert worker.stdin is not None
                worker.stdin.write(_SIZE.pack(len(job)) + job)
                await worker.stdin.drain()
                answer = await _message(worker)
        except TimeoutError:
            self._kill(worker)
            raise _Failed(f"it could not be checked within {deadline_s:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            self._kill(worker)
            raise _Failed("it could not be checked in bounded memory") from None
        except BaseException:  # cancelled: its answer would be the next one's
            self._kill(worker)
            raise
        self._idle.append(worker)
        asyncio.get_running_loop().call_later(IDLE_S, self._retire, worker)
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        """A worker that is ready. Raises TimeoutError and OSError."""
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _WORKER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=_ROOT,
            env=native.handed_on(),  # no secret of ours is in there
        )
        self._all.add(worker)
        try:
            async with asyncio.timeout(START_S):
                await _message(worker)
        except BaseException:
            self._kill(worker)
            raise
        return worker

    def _retire(self, worker: asyncio.subprocess.Process) -> None:
        """End a worker that is idle now; one in use is asked again after its next job."""
        if worker in self._idle:
            self._idle.remove(worker)
            self._kill(worker)

    def _kill(self, worker: asyncio.subprocess.Process | None) -> None:
        if worker is not None:
            self._all.discard(worker)
            self._dying = {one for one in (*self._dying, worker) if one.returncode is None}
            with contextlib.suppress(ProcessLookupError):
                worker.kill()

    async def close(self) -> None:
        """All workers are gone."""
        for worker in list(self._all):
            self._kill(worker)
        self._idle.clear()
        await asyncio.gather(*[worker.wait() for worker in self._dying])


async def _message(worker: asyncio.subprocess.Process) -> bytes:
    assert worker.stdout is not None
    (size,) = _SIZE.unpack(await worker.stdout.readexactly(_SIZE.size))
    if size > MAX_ANSWER_BYTES:
        raise ConnectionError("the worker says too much")
    return await worker.stdout.readexactly(size)


def schemas_of(contract: Contract) -> list[Compiled]:
    found = [] if contract.schema is None else [contract.schema]
    return found + [c for c in (contract.tools or {}).values() if c is not None]


def _unchecked(why: str) -> Verdict:
    return Verdict("invalid", problems=(Problem("", "schema", why),))


class _Writing(pickle.Pickler):
    """Compiled schemas go as their text: their validators cannot go at all."""

    def persistent_id(self, obj: Any) -> Any:
        return (obj.version, obj.examined.text) if isinstance(obj, Compiled) else None


class _Reading(pickle.Unpickler):
    """Reads values of our own packages, and nothing else: no function can be named in the text.

    Both ends are ours; but the worker has handled what is hostile, and is not believed more than need be.
    """

    def __init__(self, text: bytes, known: Mapping[str, Compiled]) -> None:
        super().__init__(io.BytesIO(text))
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        ours = module.startswith(_OURS) and isinstance(found, type) and found.__module__ == module
        if not ours and name not in _PLAIN.get(module, ()):
            raise pickle.UnpicklingError("not one of our values")
        return found

    def persistent_load(self, pid: Any) -> Compiled:
        version, text = pid
        return self._known.get(version) or compile_schema(json.loads(text))


def written(value: Any) -> bytes:
    """`value` as a message to or from a worker."""
    buffer = io.BytesIO()
    _Writing(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def read_back(text: bytes, known: Mapping[str, Compiled]) -> Any:
    """The value of a message; `known` are schemas that are compiled already. Raises pickle.UnpicklingError."""
    return _Reading(text, known).load()
