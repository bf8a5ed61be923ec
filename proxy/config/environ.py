"""`$NAME`, `${NAME}` and `file:PATH` in a configuration.

Every text of the file may read the environment; `$$` is a dollar sign. Inline JSON Schemas are left
alone: there `$ref` and `^...$` mean something else. Secrets may also come from a file.
"""

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

from proxy.config.problems import Path, shortened
from proxy.secret import Secret

MAX_SECRET_BYTES = 64 * 1024
_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})?")
_VISIBLE = re.compile(r"[\x21-\x7e]+( +[\x21-\x7e]+)*\Z")
"""What a header carries without doubt: visible ASCII, blanks between (RFC 9110 §5.5)."""

Refuse = Callable[[Path, str], None]


class FromEnvironment(str):
    """A text that came from the environment, where every number is a text."""

    __slots__ = ()


def is_secret(path: Path) -> bool:
    """Whether the field at `path` holds a secret."""
    match path:
        case ("providers", _, "api_key") | ("providers", _, "headers", _) | ("keys", _, "key"):
            return True
    return False


class Expansion:
    """One pass over a configuration's values, in which references become what they stand for.

    `written` keeps the original text of each value that had a reference, for messages. `failed` holds
    the paths that were refused, so that nobody complains of them again.
    """

    def __init__(self, environ: Mapping[str, str], base_dir: FilePath, refuse: Refuse) -> None:
        self.written: dict[Path, str] = {}
        self.secrets: dict[Path, str] = {}
        self.failed: set[Path] = set()
        self._environ = environ
        self._base_dir = base_dir
        self._refuse = refuse

    def expand(self, value: Any, path: Path = ()) -> Any:
        """`value` with its references resolved; texts in secret fields become Secrets."""
        if isinstance(value, dict):
            if len(path) == 2 and path[0] == "schemas":
                return value
            return {name: self.expand(item, (*path, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self.expand(item, (*path, i)) for i, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        return self._secret(value, path) if is_secret(path) else self._text(value, path)

    def _text(self, text: str, path: Path) -> str:
        if "$" not in text:
            return text
        self.written[path] = text
        known = self._resolved(text, path)
        return text if known is None else FromEnvironment(known)

    def _secret(self, text: str, path: Path) -> Secret:
        self.secrets[path] = text
        known = self._resolved(text, path)
        if known is not None and text.startswith("file:"):
            known = self._file(known.removeprefix("file:"), text.removeprefix("file:"), path)
        if known is None:
            return Secret()
        self.secrets[path] = known
        if not known:
            self._fail(path, f"is empty{self._source(text)}")
        elif not _VISIBLE.match(known):
            self._fail(
                path, f"has a character that no header may carry, or a blank at an end{self._source(text)}"
            )
        return Secret(known)

    def _source(self, text: str) -> str:
        """Where the value of a secret came from, when that can be told without telling it."""
        whole = _REFERENCE.fullmatch(text)
        name = whole and (whole[1] or whole[2])
        if name:
            return f" (from the environment variable {name})"
        return f" (from {shortened(text)})" if text.startswith("file:") else ""

    def _resolved(self, text: str, path: Path) -> str | None:
        """`text` with its references replaced, None where one cannot be."""
        failures: list[str] = []

        def value_of(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            if name is None:
                if found[0] == "$":
                    failures.append(
                        "a '$' that names no variable; write $NAME or ${NAME}, and $$ for a dollar sign"
                    )
                return "$"
            known = self._environ.get(name)
            if known is None:
                shown = name if _may_name(found, path) else "(not named: it may be a part of the secret)"
                failures.append(
                    f"the environment variable {shown} is not set; set it, or write $$ for a dollar sign"
                )
            return known or ""

        expanded = _REFERENCE.sub(value_of, text)
        for failure in dict.fromkeys(failures):
            self._fail(path, failure)
        return None if failures else expanded

    def _file(self, name: str, written: str, path: Path) -> str | None:
        """What the file holds, without the line end that editors and `echo` add."""
        try:
            content = read_bounded(self._base_dir / name, MAX_SECRET_BYTES)
            return content.decode().rstrip("\r\n")
        except OSError as error:
            self._fail(path, f"cannot read the file {shortened(written)}: {reason(error)}")
        except ValueError:  # not UTF-8, or a NUL in the name
            self._fail(path, f"cannot read the file {shortened(written)}: it is not text")
        return None

    def _fail(self, path: Path, message: str) -> None:
        self.failed.add(path)
        self._refuse(path, message)


def _may_name(found: re.Match[str], path: Path) -> bool:
    """In a secret a dollar sign may be a part of it; a reference stands alone or has braces."""
    before = found.string[: found.start()]
    after = found.string[found.end() :]
    alone = before in {"", "file:"} or before.endswith((" ", "/"))
    return not is_secret(path) or found[2] is not None or (alone and after[:1] in {"", " ", "/"})


def read_bounded(file: FilePath, limit: int) -> bytes:
    """What a regular file holds. Raises OSError, also where it is no file or holds more than `limit` bytes."""
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would block, a device would not end
        raise OSError(0, "not a regular file")
    with file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"larger than {limit} bytes")
    return content


def reason(error: OSError) -> str:
    """Why, without the path, which the message has already."""
    return (error.strerror or type(error).__name__).lower()
