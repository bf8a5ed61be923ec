"""Where the proxy is entered: one address for all, or one for clients and another for those who run it.

With `server.admin_listen` administration, metrics, the page and changes of schemas and routes are only behind that
address, and models only behind the other. Health, reading schemas, and the ledger's sums are behind both.
"""

import os
import re
import socket
import stat
from pathlib import Path

from proxy.serving import Request
from proxy.snapshot import admin_address
from proxy.wire.errors import ApiError, not_found

_CHANGING = ("PUT", "DELETE")
_OF_BOTH = ("/healthz", "/readyz")
_READ_BY_BOTH = ("schemas", "usage")
_CHANGED_BY_ADMINS = ("schemas", "routes")
_UNDER_V1 = re.compile(r"(?:/r/[^/]{1,200})?/v1/([^/]*).*", re.DOTALL)
BACKLOG = 128


def check_door(request: Request, path: str) -> None:
    """Raises ApiError (404) where what is asked for is behind the other address."""
    if path in _OF_BOTH:
        return
    under = _UNDER_V1.fullmatch(path)
    first = "" if under is None else under.group(1)
    behind_admin = _is_admins(request.method, path, first)
    if request.connection.door == "admin":
        if not behind_admin and first not in _READ_BY_BOTH:
            raise _elsewhere("server.host and server.port")
    elif behind_admin:
        raise _elsewhere("server.admin_listen")


def _is_admins(method: str, path: str, first: str) -> bool:
    """Whether only those who run the proxy ask for this; `first` is what follows `/v1/`."""
    if path.startswith(("/admin/", "/ui/")) or path in ("/metrics", "/ui"):
        return True
    return method in _CHANGING and first in _CHANGED_BY_ADMINS


def _elsewhere(setting: str) -> ApiError:
    return not_found(f"This is served at another address of the proxy ({setting}).", code="unknown_url")


def bound_admin(listen: str) -> socket.socket:
    """A listening socket at `server.admin_listen`; only this user may use one of the file system. Raises OSError."""
    address = admin_address(listen)
    bound = _bound_path(address) if isinstance(address, str) else _bound_port(*address)
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound


def _bound_path(path: str) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound


def _bound_port(host: str, port: int) -> socket.socket:
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """A socket that a process before us left behind is gone. Raises OSError where somebody listens there."""
    place = Path(path)
    if not place.exists() or not stat.S_ISSOCK(place.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            place.unlink()


def told(bound: socket.socket) -> str:
    """How the address is written for people."""
    name = bound.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
