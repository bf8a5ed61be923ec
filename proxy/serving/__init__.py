"""The proxy's own HTTP/1.1 server: asyncio protocols over llhttp, one task per request, no framework."""

from proxy.serving.request import BodyBroken, Request
from proxy.serving.response import Answer, Response, StreamResponse

__all__ = ["Answer", "BodyBroken", "Request", "Response", "StreamResponse"]
