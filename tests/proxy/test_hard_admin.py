"""What the proxy shows of itself, and to whom."""

import aiohttp
import pytest

from tests.proxy.scripted import Upstream, proxy

KEYS = """
keys:
  - {name: ops, key: sk-ops-0123456789abcdef}
  - {name: team, key: sk-team-0123456789abcdef, routes: [default]}
  - {name: boss, key: sk-boss-0123456789abcdef, routes: [default], admin: true}
"""


async def metrics(app, key=None):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as session, session.get(app.url + "/metrics", headers=headers) as r:
        return r.status


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (None, 401),
        ("sk-wrong", 401),
        ("sk-ops-0123456789abcdef", 200),
        ("sk-team-0123456789abcdef", 403),
        ("sk-boss-0123456789abcdef", 200),
    ],
    ids=["no-key", "wrong-key", "key-for-all", "key-bound-to-routes", "admin-key"],
)
async def test_metrics_are_for_those_who_may_see_all(key, status):
    async with Upstream("hello").running() as upstream, proxy(upstream, KEYS) as app:
        assert await metrics(app, key) == status


async def test_metrics_of_an_open_proxy_are_open():
    async with Upstream("hello").running() as upstream, proxy(upstream) as app:
        assert await metrics(app) == 200


async def test_metrics_may_be_opened():
    async with Upstream("hello").running() as upstream:
        async with proxy(upstream, KEYS, server=", open_metrics: true") as app:
            assert await metrics(app) == 200
