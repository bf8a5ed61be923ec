"""`python -m proxy trim` and `explain`: what would be decided for a request, without asking any model."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from policies import recall
from policies.plan import Counts
from policies.route import Route
from policies.routing import choose, explain
from policies.trim_report import render_trim
from proxy.config import ConfigRefused, load, render_problems
from proxy.conversations import Conversations, recall_tokens
from proxy.counters import Counter
from proxy.facts import bound_of, gather
from proxy.selection import Selected, select
from proxy.services import DEFAULT
from proxy.snapshot import Snapshot
from proxy.wire.ask import Ask, read_ask
from proxy.wire.errors import ApiError

MAX_BYTES = 64 * 1024 * 1024


def add(commands: Any) -> None:
    """Add both commands to the parser's."""
    texts = {
        "trim": "which messages of a request would go upstream, which not, why, and what that saves",
        "explain": "which model would be asked for a request, and why, fact by fact",
    }
    for name, text in texts.items():
        command = commands.add_parser(
            name, help=text, description=f"Read a chat request (JSON) from standard input; print {text}."
        )
        command.add_argument(
            "--config", type=Path, metavar="FILE", help="the configuration; default: ./tailrace.yaml"
        )
        command.add_argument("--route", metavar="NAME", help="the route; default: what the request selects")
        command.set_defaults(run=run, what=name)


def run(chosen: argparse.Namespace) -> int:
    """Print the decision; the exit status."""
    try:
        snapshot = load(chosen.config or Path("tailrace.yaml"), os.environ)
        body = sys.stdin.buffer.read(MAX_BYTES)
        ask = read_ask("chat/completions", body, {}, chosen.route)
        selected = select(snapshot, _routes(snapshot), ask, None)
        print(asyncio.run(_decided(chosen.what, ask, selected)))
    except ConfigRefused as refused:
        print(render_problems(refused.problems), file=sys.stderr)
        return 1
    except ApiError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def _routes(snapshot: Snapshot) -> dict[str, Any]:
    return {DEFAULT: Route(DEFAULT, ())} | dict(snapshot.routes)


async def _decided(what: str, ask: Ask, selected: Selected) -> str:
    route, card = selected.route, selected.targets[0].card
    counter = Counter()
    tools = ask.doc.get("tools")
    counted = await counter.measure(ask.messages, tools if isinstance(tools, list) else ())
    counts = Counts(counted.messages, counted.tools + counted.overhead)
    if what == "explain":
        return explain(choose(route, gather(route, ask, selected, counts, {})))
    offers = route.context.recall_tool and recall.may_offer(ask.doc)
    continued = await Conversations(counter).trim(
        route,
        None,
        ask.messages,
        counts.overhead,
        card,
        bound_of(ask.doc),
        counted.total,
        recall_tokens(counter, card) if offers else 0,
    )
    if continued is None:
        return (
            f"The route '{route.name}' has no context.budget_tokens, and {card.alias}'s window is not known."
        )
    return render_trim(continued.trimmed, card.price, continued.saved_tokens)
