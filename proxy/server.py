"""aiohttp's HTTP server without its application layer, and with errors in OpenAI's shape.

Middlewares, its router and its application cost a third of a request here and give nothing that `App.handle` lacks.
"""

import logging
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.wire.errors import JSON, NO_RETRY, ApiError

log = logging.getLogger("tailrace.server")


class Server(web.Server):
    """Makes a protocol for each connection. A handler is cancelled when its client leaves."""

    def __init__(self, handler: Any, **kwargs: Any) -> None:
        super().__init__(
            handler, handler_cancellation=True, access_log=None, logger=_QUIET, tcp_keepalive=True, **kwargs
        )

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One client connection."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  aiohttp's words quote the request's bytes
    ) -> web.StreamResponse:
        """An answer to a request that could not be parsed, or whose handler failed outright."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionError
        if status < 500:
            error = ApiError(
                status, "The request is not valid HTTP/1.1.", "invalid_request", headers=NO_RETRY
            )
        else:
            log.error("a request failed: %s", type(exc).__name__)
            error = ApiError(500, "Tailrace failed on this request.", "internal_error", type="server_error")
        headers = [("content-type", JSON), *error.headers]
        response = web.Response(status=error.status, body=error.body(), headers=headers)
        response.force_close()
        del request
        return response


_QUIET = logging.getLogger("tailrace.aiohttp")
"""aiohttp logs the bytes of malformed requests: its messages stay out of every handler."""
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False
