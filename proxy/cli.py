"""The command line: `python -m proxy serve`, `check` and their kin."""

from __future__ import annotations  # the types of what is imported late

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import proxy

if TYPE_CHECKING:
    from proxy.app import App
    from proxy.snapshot import Snapshot

Greeting = Callable[[str], str]

OWN_FILE = Path("tailrace.yaml")
EXAMPLES = """\
first steps:
  python -m proxy serve                        the demo: a real model, no key, no configuration
  python -m proxy check --config tailrace.yaml  is the configuration right, what does each model cost
  python -m proxy serve --config tailrace.yaml  then point a client at http://127.0.0.1:8080/v1

docs/configuration.md lists every setting, examples/ has commented files to start from.
"""


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
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
        description="Check everything in a configuration, print routes, prices and unpriced models. Exit status 0 or 1.",
    )
    _config(check, "default: ./tailrace.yaml")
    check.set_defaults(run=_check)
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
        print(render_problems(refused.problems), file=sys.stderr)
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
        async with _configured(chosen) as (snapshot, greeting):
            return await _serve_until_told(chosen, snapshot, greeting)
    except ConfigRefused as refused:
        _say(render_problems(refused.problems))
    except (UnknownDemoError, StoreError) as error:
        _say(f"cannot start: {error}")
    except OSError as error:
        _say(f"cannot start: {error.strerror or error}. Is the port taken? --port picks another.")
    return 1


@contextlib.asynccontextmanager
async def _configured(chosen: argparse.Namespace) -> AsyncIterator[tuple[Snapshot, Greeting]]:
    """The configuration to serve, and what to say once it is served; the demo's model runs meanwhile."""
    from proxy import demo  # noqa: PLC0415
    from proxy.config import load, loads  # noqa: PLC0415

    path = chosen.config or (OWN_FILE if OWN_FILE.exists() else None)  # noqa: ASYNC240  before anything is served
    if path is not None:
        yield load(path, os.environ, host=chosen.host, port=chosen.port), _listening
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
        yield snapshot, lambda url: demo.greeting(url, shown.kind, shown.model)


def _listening(url: str) -> str:
    return f"Tailrace listens at {url}/v1"


async def _serve_until_told(chosen: argparse.Namespace, snapshot: Snapshot, greeting: Greeting) -> int:
    from proxy.app import App  # noqa: PLC0415

    app = App(snapshot)
    await app.start()
    try:
        host, port = await app.listen(snapshot.server.host, snapshot.server.port)
        if snapshot.keys is None:
            _say(
                "This proxy is open: it asks nobody for a key, and listens on loopback only (configuration: keys)."
            )
        _say(greeting(f"http://{f'[{host}]' if ':' in host else host}:{port}"))
        # What lives now lives long: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        await _until_told(chosen, app)
        _say("Draining; a second signal ends at once.")
        await app.drain()
    finally:
        await app.close()
    return 0


async def _until_told(chosen: argparse.Namespace, app: App) -> None:
    """Wait for SIGTERM or SIGINT; reload on SIGHUP. A second signal to stop ends the process."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            os._exit(130)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: app.services.tasks.spawn(_reload(chosen, app), name="reload")
    )
    await told.wait()


async def _reload(chosen: argparse.Namespace, app: App) -> None:
    """Read the file again. A broken one changes nothing and is told in full."""
    from proxy.config import ConfigRefused, load, render_problems  # noqa: PLC0415

    path = chosen.config or OWN_FILE
    try:
        snapshot = await asyncio.to_thread(load, path, os.environ, host=chosen.host, port=chosen.port)
    except ConfigRefused as refused:
        _say(f"Not reloaded, the configuration before stays:\n{render_problems(refused.problems)}")
        return
    app.reload(snapshot)
    _say(f"Reloaded {path}.")
