"""`/healthz`, `/readyz`, `/metrics`: for those who run the proxy."""

import orjson
from aiohttp import web

from proxy.services import Services
from proxy.wire.errors import JSON


def healthz() -> web.Response:
    """The process is alive."""
    return web.Response(body=b'{"status":"ok"}', headers={"content-type": JSON})


def readyz(services: Services) -> web.Response:
    """200 while requests may be sent here, else 503 with the reasons."""
    reasons = []
    if services.draining:
        reasons.append("draining: the proxy is shutting down")
    if services.store.failed is not None:
        reasons.append(f"store: {services.store.failed}")
    body = {"status": "unavailable" if reasons else "ready", "reasons": reasons}
    return web.Response(
        status=503 if reasons else 200, body=orjson.dumps(body), headers={"content-type": JSON}
    )


def metrics(services: Services) -> web.Response:
    """Prometheus' text format."""
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return web.Response(body=services.telemetry.render(), headers={"content-type": kind})
