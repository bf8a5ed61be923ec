"""HTTP/1.1 as both transports agree on it: how a request's head is written, which answers are refused.

Pure: values in, values out. The syntax of answers is llhttp's business; here is what it leaves open.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from proxy.upstreams.transport import MAX_HEADERS, Headers, Malformed

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_LENGTH = re.compile(r"[0-9]{1,18}")
_IN_A_LINE = bytes(code for code in range(256) if code == 9 or (code >= 32 and code != 127))  # RFC 9110 §5.5
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding"})
"""Headers that the transport alone writes."""


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


def check_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """The head says one thing about where its body ends (RFC 9112 §6.3). Raises Malformed.

    Names in lower case. A transfer coding other than `chunked`, and anything said twice, is refused.
    """
    said: list[bytes] = []
    for count, (name, value) in enumerate(headers, 1):
        if count > MAX_HEADERS:
            raise Malformed(f"the answer's head has more than {MAX_HEADERS} headers")
        if name in (b"transfer-encoding", b"content-length"):
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise Malformed("the answer has a transfer coding other than chunked")
            if name == b"content-length" and not (value.isdigit() and len(value) <= 18):
                raise Malformed("the answer's content-length is not a number")
            said.append(name)
    if len(said) > 1:
        raise Malformed("the answer's head says more than once where its body ends")
