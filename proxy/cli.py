"""The command line: `python -m proxy serve`, `check` and their kin."""

from __future__ import annotations  # the types of what is imported late

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import proxy

if TYPE_CHECKING:
    pass

OWN_FILE = Path("tailrace.yaml")
EXAMPLES = """\
first steps:
  python -m proxy serve                         the demo: a small model on this machine, no key, no configuration
  python -m proxy check --config tailrace.yaml  is the configuration right, and what does each model cost
  python -m proxy serve --config tailrace.yaml  then point a client at http://127.0.0.1:8080/v1

README.md shows a first request, docs/configuration.md lists every setting, examples/ has commented files to
start from: cp examples/openai.yaml tailrace.yaml (and cp -r examples/schemas .).
"""


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
    from proxy.commands.serve import serve  # noqa: PLC0415  not needed by the other commands

    return serve(chosen, OWN_FILE)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
