"""The command line: `python -m proxy serve`, `check` and their kin."""

from __future__ import annotations  # the types of what is imported late

import argparse
import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import proxy

if TYPE_CHECKING:
    from proxy.app import App
    from proxy.snapshot import Snapshot

OWN_FILE = Path("tailrace.yaml")
EXAMPLES = """\
first steps:
  python -m proxy serve                         the demo: a small model on this machine, no key, no configuration
  python -m proxy check --config tailrace.yaml  is the configuration right, and what does each model cost
  python -m proxy serve --config tailrace.yaml  then point a client at http://127.0.0.1:8080/v1

README.md shows a first request, docs/configuration.md lists every setting, examples/ has commented files to
start from: cp examples/openai.yaml tailrace.yaml (and cp -r examples/schemas .).
"""


@dataclass(frozen=True, slots=True)
class Start:
    """What to serve. `read` reads the configuration file again; None for the demo, which has none."""

    snapshot: Snapshot
    greeting: Callable[[str], str]
    read: Callable[[], Snapshot] | None = None


class CannotListen(Exception):
    """The address cannot be listened on. The message says why, and what to do."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose mistakes end with what to do."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong and how to go on; exit status 2."""
        if message.startswith("unrecognized arguments: ") and message.endswith((".yaml", ".yml")):
            message += f" (a configuration is named by --config: --config {message.rsplit(' ', 1)[1]})"
        self.exit(2, f"{self.prog}: {message}\n'{self.prog} --help' shows what there is.\n")


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = Parser(
        prog="python -m proxy",
        description="Tailrace, a reverse proxy in front of LLM APIs: cheap models first, valid JSON or an honest "
        "error, a bill that adds up.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve", help="run the proxy", description="Run the proxy until SIGTERM or Ctrl-C."
    )
    _config(serve, "without it: ./tailrace.yaml if there is one, else the built-in demo")
    serve.add_argument("--host", help="address to listen on (default: server.host, 127.0.0.1)")
    serve.add_argument(
        "--port", type=int, help="port to listen on; 0 picks a free one (default: server.port, 8080)"
    )
    serve.set_defaults(run=_serve)
    check = commands.add_parser(
        "check",
        help="check a configuration and show what it comes to",
        description="Check everything in a configuration; print its routes, what each model costs and which have no "
        "price. Exit status: 0 it is right, 1 it is not.",
    )
    _config(check, "default: ./tailrace.yaml")
    check.set_defaults(run=_check)
    from proxy.commands import calibrate, mend, trim, usage  # noqa: PLC0415  not before main has seen whose package this is

    for command in (usage, mend, calibrate, trim):
        command.add(commands)
    return top


def _config(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help=f"the configuration, YAML; {text}")


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit status."""
    stranger = Path(proxy.__file__).resolve().parent != Path(__file__).resolve().parent
    if stranger:
        sys.exit(
            f"another package named 'proxy' is in the way: {proxy.__file__}. Run from Tailrace's own folder."
        )
    chosen = parser().parse_args(arguments)
    return int(chosen.run(chosen))


def _check(chosen: argparse.Namespace) -> int:
    from proxy.config import ConfigRefused, load, render_check, render_problems  # noqa: PLC0415  heavy, see config

    try:
        snapshot = load(chosen.config or OWN_FILE, os.environ)
    except ConfigRefused as refused:
        _say(render_problems(refused.problems))
        if chosen.config is None and not OWN_FILE.exists():
            _say("--config names another file; examples/ has some to start from: examples/openai.yaml, ...")
        return 1
    print(render_check(snapshot))
    return 0


def _serve(chosen: argparse.Namespace) -> int:
    import uvloop  # noqa: PLC0415  not needed by the other commands

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(chosen))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def _run(chosen: argparse.Namespace) -> int:
    from proxy.config import ConfigRefused, render_problems  # noqa: PLC0415  heavy, see config
    from proxy.demo import UnknownDemoError  # noqa: PLC0415
    from proxy.stores.base import StoreError  # noqa: PLC0415

    try:
        async with _configured(chosen) as start:
            return await _serve_until_told(start)
    except ConfigRefused as refused:
        _say(render_problems(refused.problems))
    except (UnknownDemoError, StoreError, CannotListen) as error:
        _say(f"cannot start: {error}")
    return 1


@contextlib.asynccontextmanager
async def _configured(chosen: argparse.Namespace) -> AsyncIterator[Start]:
    """The configuration to serve, and what to say once it is served; the demo's model runs meanwhile."""
    from proxy import demo  # noqa: PLC0415
    from proxy.config import load, loads  # noqa: PLC0415

    path = chosen.config or (OWN_FILE if OWN_FILE.exists() else None)  # noqa: ASYNC240  before anything is served
    if path is not None:
        read = partial(load, path, os.environ, host=chosen.host, port=chosen.port)
        snapshot = read()
        yield Start(snapshot, partial(_greeting, path, snapshot), read)
        return
    async with demo.running(os.environ, _say) as shown:
        snapshot = loads(
            shown.text,
            name="the demo",
            environ=os.environ,
            base_dir=Path.cwd(),
            host=chosen.host,
            port=chosen.port,
        )
        yield Start(snapshot, lambda url: demo.greeting(url, shown.kind, shown.model))


def _greeting(path: Path, snapshot: Snapshot, url: str) -> str:
    routes = ", ".join(snapshot.routes) or "none"
    return f"Tailrace listens at {url}/v1 (configuration: {path}; routes: {routes}). Ctrl-C ends it."


async def _serve_until_told(start: Start) -> int:
    from proxy.app import App  # noqa: PLC0415

    snapshot = start.snapshot
    app = App(snapshot, read=start.read)
    await app.start()
    try:
        told = _heed_signals(app)
        host, port = await _listen(app, snapshot.server.host, snapshot.server.port)
        if snapshot.keys is None:
            _say(
                "This proxy is open: it asks nobody for a key, and listens on loopback only (configuration: keys)."
            )
        _say(start.greeting(f"http://{f'[{host}]' if ':' in host else host}:{port}"))
        # What lives now lives long: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        await told.wait()
        _say("Draining; a second signal ends at once.")
        await app.drain()
    finally:
        await app.close()
    return 0


async def _listen(app: App, host: str, port: int) -> tuple[str, int]:
    """Listen, or say in one line why not and what to do. Raises CannotListen."""
    try:
        return await app.listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"port {port} of {host} is taken; --port names another, 0 a free one"
            ) from None
        if error.errno == errno.EACCES:
            raise CannotListen(f"port {port} may not be opened by this user; --port names another") from None
        raise CannotListen(f"{host}:{port}: {error.strerror or error}") from None


def _heed_signals(app: App) -> asyncio.Event:
    """SIGHUP reloads; the event is set by the first SIGTERM or SIGINT, and a second one ends the process."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            os._exit(130)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: app.services.tasks.spawn(_reload(app), name="reload"))
    return told


async def _reload(app: App) -> None:
    """Read the file again. A broken one changes nothing and is told in full."""
    from proxy.config import ConfigRefused, render_problems  # noqa: PLC0415

    if not app.reloadable:
        _say("Nothing to reload: the demo has no configuration file.")
        return
    try:
        waiting = await app.reread()
    except ConfigRefused as refused:
        _say(f"Not reloaded, the configuration before stays:\n{render_problems(refused.problems)}")
        return
    _say("Reloaded." + (f" These wait for a restart: {', '.join(waiting)}." if waiting else ""))
