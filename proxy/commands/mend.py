"""`python -m proxy mend --schema S.json < reply.txt`: what the repair makes of a text, change by change."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from schemas.check import Mended
from schemas.compiled import Compiled, compile_schema
from schemas.errors import SchemaRefused
from schemas.mend import mend
from schemas.strict import NotStrict, parse

MAX_BYTES = 1024 * 1024
KINDS = ("lossless", "choice", "coercion", "lossy")


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "mend",
        help="mend a model's reply against a JSON Schema, and show every change",
        description="Read a model's reply from standard input, mend it against a JSON Schema. The value goes to standard "
        "output, the changes (or the problems) to standard error. Exit status 0 valid or repaired, 1 invalid, 2 refused.",
    )
    command.add_argument("--schema", type=Path, required=True, metavar="FILE", help="the JSON Schema")
    command.add_argument(
        "--accept",
        default="lossless,choice,coercion",
        help="kinds of changes that are accepted (%(default)s)",
    )
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Mend standard input; the exit status."""
    accept = frozenset(chosen.accept.split(","))
    if not accept <= set(KINDS):
        print(f"--accept takes {', '.join(KINDS)}, separated by commas", file=sys.stderr)
        return 2
    schema = _schema(chosen.schema)
    if schema is None:
        return 2
    text = sys.stdin.buffer.read(MAX_BYTES + 1).decode("utf-8", "replace")
    if len(text) > MAX_BYTES:
        print(f"the reply is longer than {MAX_BYTES} bytes", file=sys.stderr)
        return 2
    mended = mend(text, schema, accept)
    print(told(mended), file=sys.stderr)
    if mended.verdict == "invalid":
        return 1
    print(mended.text)
    return 0


def told(mended: Mended) -> str:
    """Verdict, changes and problems as lines."""
    lines: list[str] = [mended.verdict]
    for change in mended.changes:
        where = f"{change.span[0]}..{change.span[1]}"
        became = f"{_short(change.before)} -> {_short(change.after)}"
        lines.append(f"  {change.kind:9} {change.operation} at {change.pointer or '/'} ({where}): {became}")
    lines += [f"  {p.pointer or '/'}: {p.detail or p.message}" for p in mended.problems]
    return "\n".join(lines)


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)


def _schema(path: Path) -> Compiled | None:
    try:
        return compile_schema(parse(path.read_text(encoding="utf-8")))
    except OSError as error:
        print(f"cannot read {path}: {error.strerror}", file=sys.stderr)
    except (NotStrict, UnicodeDecodeError) as error:
        print(f"{path} is not JSON: {error}", file=sys.stderr)
    except SchemaRefused as refused:
        for problem in refused.problems:
            print(f"{path} is refused at {problem.pointer or '/'}: {problem.message}", file=sys.stderr)
    return None
