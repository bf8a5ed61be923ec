"""HTTP/1.1 as both transports agree on it: how a request's head is written, which answers are refused.

Pure: values in, values out. The syntax of answers is llhttp's business; here is what it leaves open.
"""

import re
from functools import lru_cache

from proxy.upstreams.transport import MAX_HEADERS, Headers, Malformed, first_value

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_LENGTH = re.compile(r"[0-9]{1,18}")
_IN_A_LINE = bytes(code for code in range(256) if code == 9 or (code >= 32 and code != 127))  # RFC 9110 §5.5
_TIMEOUT = re.compile(r"(?:^|[,;\s])timeout=([0-9]{1,6})", re.IGNORECASE)
_SHAPE = frozenset({"content-length", "transfer-encoding", "content-encoding"})
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding"})
"""Headers that the transport alone writes."""

CHUNKED = -1
UNTIL_CLOSED = -2


def request_head(method: str, path: str, host: str, framing: str, headers: Headers) -> bytes:
    """The bytes of a request's head. `framing` is one header line with its line end, or nothing.

    Raises ValueError for anything that a receiver could read as more, or other, than this head.
    """
    for name, _ in headers:
        if problem := _problem_of_name(name):
            raise ValueError(problem)
    if not path.startswith("/") or " " in path or "\t" in path or not path.isascii():
        raise ValueError("a request target begins with a slash and holds visible ASCII characters only")
    if not _is_token(method):
        raise ValueError("a method is one token")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{framing}{lines}\r\n".encode("latin-1")
    line_ends = len(headers) + (4 if framing else 3)
    if len(head.translate(None, _IN_A_LINE)) != 2 * line_ends:
        raise ValueError("a header value or the request target holds a character that no head may hold")
    return head


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


def decoded(names: list[bytes], values: list[bytes]) -> list[tuple[str, str]]:
    """Headers as text, names in lower case. No parser of HTTP lets a line feed into either list."""
    if not names:
        return []
    lower = b"\n".join(names).lower().decode("latin-1").split("\n")
    values_joined = b"\n".join(values) + b"\n"
    if b" \n" in values_joined or b"\t\n" in values_joined:  # llhttp leaves it on, RFC 9112 §5 takes it off
        values_joined = b"".join([value.rstrip(b" \t") + b"\n" for value in values])
    return list(zip(lower, values_joined.decode("latin-1").split("\n"), strict=False))


def body_shape(status: int, headers: Headers) -> tuple[int, bool]:
    """How many bytes the body has (a number, CHUNKED or UNTIL_CLOSED, RFC 9112 §6.3), and whether it is compressed.

    Raises Malformed where the head says it twice, in two ways or in a way we do not know, and when it has
    more than MAX_HEADERS headers.
    """
    if status < 200:
        raise Malformed("the answer changes the protocol")
    if len(headers) > MAX_HEADERS:
        raise Malformed(f"the answer's head has more than {MAX_HEADERS} headers")
    length: int | None = None
    compressed = False
    for name, value in headers:
        if name in _SHAPE:
            if name == "content-encoding":
                compressed = value.lower() not in {"identity", ""}
            elif length is not None:
                raise Malformed("the answer's head says more than once where its body ends")
            elif name == "content-length":
                if not _LENGTH.fullmatch(value):
                    raise Malformed("the answer's content-length is not a number")
                length = int(value)
            elif value.lower() != "chunked":
                raise Malformed("the answer has a transfer coding other than chunked")
            else:
                length = CHUNKED
    if status in (204, 304):
        return 0, False
    return UNTIL_CLOSED if length is None else length, compressed


def keep_alive_s(headers: Headers) -> float:
    """How long a connection may be idle by the provider's own words (`keep-alive: timeout=N`), with a margin.

    A provider that says nothing sets no bound.
    """
    found = _TIMEOUT.search(first_value(headers, "keep-alive") or "")
    if found is None:
        return float("inf")
    told = int(found[1])
    return told - 1 if told > 2 else told / 2
