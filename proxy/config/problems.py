"""What is wrong with a configuration, told so that it can be put right without a manual.

ConfigRefused     carries every Problem there is, in the order of the file
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

Path = tuple[str | int, ...]

_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")
_LONGEST = 80
"""Characters of a name or value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault. `line` and `column` count from 1; 0 where the fault is in no line (a missing file).

    `value` is what stands there as it is written, None where it may be a secret. `nearest` is the known
    name that was probably meant.
    """

    file: str
    line: int
    column: int
    field: str
    message: str
    value: str | None = None
    expected: str | None = None
    nearest: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        field = f" {self.field}:" if self.field else ""
        got = f", got {self.value}" if self.value is not None else ""
        meant = f"; did you mean '{self.nearest}'?" if self.nearest else ""
        expected = f" (expected {self.expected})" if self.expected else ""
        return f"{place}:{field} {self.message}{got}{meant}{expected}"


class ConfigRefused(Exception):
    """The configuration is not used; `problems` says all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column, p.field)))
        super().__init__(render_problems(self.problems))


def render_problems(problems: Sequence[Problem]) -> str:
    """One line for each problem, as compilers print them, and a last line that counts them."""
    count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    return "\n".join([*map(str, problems), f"{count}: this configuration is not used"])


def field_name(path: Path) -> str:
    """`path` as a reader writes it: routes.invoice.ladder[1]."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _PLAIN.match(step) else f'"{shortened(step)}"'
            text += f".{name}" if text else name
    return text


def shortened(text: str) -> str:
    """`text` on one line, printable, and cut where it is long."""
    line = "".join(c if c.isprintable() else "?" for c in text[: _LONGEST + 1])
    return line if len(text) <= _LONGEST else line[:_LONGEST] + "..."


def nearest_to(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    if len(name) > _LONGEST:
        return None
    alike = (k for k in known if abs(len(k) - len(name)) <= 5)
    by_small = {k.lower(): k for k in islice(alike, 300)}  # comparing takes 10 us
    found = difflib.get_close_matches(name.lower(), by_small, n=1, cutoff=0.6)
    return by_small[found[0]] if found else None


def one_of(known: Iterable[str]) -> str:
    """A list of names for a message, cut after twenty."""
    names = sorted(known)
    return ", ".join(shortened(n) for n in names[:20]) + (", ..." if len(names) > 20 else "")


def scrubbed(problems: Iterable[Problem], secrets: Mapping[Path, str]) -> list[Problem]:
    """The same problems, in which no secret is left, wherever it came from.

    Messages are built so that they hold none; this is the second lock on the door.
    """
    hidden = sorted({s for s in secrets.values() if len(s) >= 6}, key=len, reverse=True)

    def clean(text: str | None) -> str | None:
        for secret in hidden if text else ():
            assert text is not None
            text = text.replace(secret, "***")
        return text

    return [
        replace(
            p,
            field=clean(p.field) or "",
            message=clean(p.message) or "",
            value=clean(p.value),
            expected=clean(p.expected),
            nearest=clean(p.nearest),
        )
        for p in problems
    ]
