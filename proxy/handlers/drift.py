"""`GET /admin/drift`: which steps no longer look like their calibration."""

import orjson

from proxy import serving
from proxy.drift import Drifts
from proxy.edges import Visit, admin_only
from proxy.wire.errors import JSON, method_not_allowed


async def drift(drifts: Drifts, visit: Visit) -> serving.Answer:
    """The alarms that stand. Raises ApiError: 401 and 403 before anything is looked at, 405."""
    admin_only(visit)
    if visit.request.method != "GET":
        raise method_not_allowed(visit.request.method, "/admin/drift", "GET")
    body = {"object": "list", "data": drifts.listed()}
    return serving.Response(body=orjson.dumps(body), headers={"content-type": JSON})
