"""HTTP/1.1 as both transports agree on it: how a request's head is written, which answers are refused.

Pure: values in, values out. The syntax of answers is llhttp's business; here is what it leaves open.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.upstreams.transport import MAX_HEADERS, Headers, Malformed

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_IN_A_LINE: Final = bytes(
    code for code in range(256) if code == 9 or (code >= 32 and code != 127)
)  # RFC 9110 §5.5
_TIMEOUT: Final = re.compile(r"(?:^|[,;\s])timeout=([0-9]{1,6})", re.IGNORECASE)
_FRAMING: Final = ("content-length", "transfer-encoding", "content-encoding")
_OURS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})
"""Headers that the transport alone writes."""

CHUNKED: Final = -1
UNTIL_CLOSED: Final = -2


def request_head(method: str, path: str, host: str, framing: str, headers: Headers) -> bytes:
    """The bytes of a request's head. `framing` is one header line with its line end, or nothing.

    Raises ValueError for anything that a receiver could read as more, or other, than this head.
    """
    small = len(path) + sum(len(value) for _, value in headers) < 1024
    before, after = (_known_head if small else _head_around)(method, path, host, tuple(headers))
    return b"%b%b%b" % (before, framing.encode("ascii"), after)


def _head_around(
    method: str, path: str, host: str, headers: tuple[tuple[str, str], ...]
) -> tuple[bytes, bytes]:
    """What stands before and after the framing. Raises ValueError."""
    for name, _ in headers:
        if problem := _problem_of_name(name):
            raise ValueError(problem)
    if not path.startswith("/") or " " in path or "\t" in path or not path.isascii():
        raise ValueError("a request target begins with a slash and holds visible ASCII characters only")
    if not _is_token(method):
        raise ValueError("a method is one token")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    before = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n".encode("latin-1")
    after = f"{lines}\r\n".encode("latin-1")
    line_ends = len(headers) + 3
    if len((before + after).translate(None, _IN_A_LINE)) != 2 * line_ends:
        raise ValueError("a header value or the request target holds a character that no head may hold")
    return before, after


# A provider is called with the same head again and again; only the length of the body is another one.
_known_head: Final = lru_cache(maxsize=256)(_head_around)


@lru_cache(maxsize=1024)
def _problem_of_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        return f"not a header name: {name[:64]!r}"
    return f"header {name} is written by the transport alone" if name.lower() in _OURS else ""


@lru_cache(maxsize=64)
def _is_token(method: str) -> bool:
    return _TOKEN.fullmatch(method) is not None


def split_length(headers: Headers) -> tuple[int | None, Headers]:
    """The `content-length` a caller declares for a body of pieces, and the headers without it."""
    rest = [(name, value) for name, value in headers if name.lower() != "content-length"]
    values = [value for name, value in headers if name.lower() == "content-length"]
    if not values:
        return None, headers
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise ValueError("the declared content-length is not one number")
    return int(values[0]), rest


class _Names(NamedTuple):
    """The names of a head's headers, and where in them those are that frame the body; -1: nowhere."""

    names: tuple[str, ...]
    length: int
    transfer: int
    coding: int


def _read_names(joined: bytes) -> _Names:
    """What a head's names say, all of them joined by line feeds."""
    names = tuple(joined.lower().decode("latin-1").split("\n")) if joined else ()
    if len(names) > MAX_HEADERS:
        raise Malformed(f"the answer's head has more than {MAX_HEADERS} headers")
    if names.count("content-length") + names.count("transfer-encoding") > 1:
        raise Malformed("the answer's head says more than once where its body ends")
    if names.count("content-encoding") > 1:
        raise Malformed("the answer has more than one content coding")
    found = [names.index(name) if name in names else -1 for name in _FRAMING]
    return _Names(names, *found)


# A provider sends the same names again and again: one copy serves all its answers, and says at once where the
# framing stands.
_known_names: Final = lru_cache(maxsize=256)(_read_names)


def read_head(
    status: int, names: list[bytes], values: list[bytes]
) -> tuple[tuple[str, ...], list[str], int, bool]:
    """Names in lower case, values, how many bytes the body has, and whether it is compressed.

    The length is a number, or CHUNKED, or UNTIL_CLOSED (RFC 9112 §6.3). Raises Malformed where the head says
    it twice, in two ways or in a way we do not know, and when it has more than MAX_HEADERS headers.
    """
    if status < 200:
        raise Malformed("the answer changes the protocol")
    joined = b"\n".join(names)
    head = _known_names(joined) if len(joined) < 4096 else _read_names(joined)
    texts = _texts(values) if names else []
    if len(texts) != len(head.names):
        raise Malformed("a line feed inside a header of the answer")
    if head.length >= 0:
        if not _LENGTH.fullmatch(texts[head.length]):
            raise Malformed("the answer's content-length is not a number")
        length = int(texts[head.length])
    elif head.transfer >= 0:
        if texts[head.transfer].lower() != "chunked":
            raise Malformed("the answer has a transfer coding other than chunked")
        length = CHUNKED
    else:
        length = UNTIL_CLOSED
    if status in (204, 304):
        return head.names, texts, 0, False
    return head.names, texts, length, head.coding >= 0 and texts[head.coding].lower() not in {"identity", ""}


def _texts(values: list[bytes]) -> list[str]:
    """Values as text, without the blanks at their end that llhttp leaves on (RFC 9112 §5)."""
    for value in values:
        if value and value[-1] in (0x20, 0x09):
            values = [value.rstrip(b" \t") for value in values]
            break
    return b"\n".join(values).decode("latin-1").split("\n")


def keep_alive_s(told: str | None) -> float:
    """How long a connection may be idle by the provider's own words (`keep-alive: timeout=N`), with a margin.

    A provider that says nothing sets no bound.
    """
    found = _TIMEOUT.search(told or "")
    if found is None:
        return float("inf")
    seconds = int(found[1])
    return seconds - 1 if seconds > 2 else seconds / 2
