"""Each test here runs against both transports: the pool on both event loops, the session on the one in production."""

import asyncio

import pytest
import uvloop

from proxy.upstreams.client_session import ClientSessionTransport
from proxy.upstreams.pool import Pool


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items):
    items[:] = [
        item
        for item in items
        if not {"session", "asyncio"} <= set(item.name.strip("]").partition("[")[2].split("-"))
    ]


@pytest.fixture(params=["pool", "session"])
def kind(request):
    return request.param


@pytest.fixture
async def transport(kind):
    made = ClientSessionTransport({}) if kind == "session" else Pool()
    yield made
    await made.close()
