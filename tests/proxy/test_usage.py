"""The ledger's sums over HTTP and on the command line."""

import json

import aiohttp
import pytest

from proxy.cli import main
from proxy.commands.usage import table
from proxy.handlers.usage import figures_of
from proxy.stores.base import Figures, UsageReport
from tests.proxy.scripted import Upstream, proxy

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def app():
    async with Upstream("hello").running() as upstream, proxy(upstream) as running:
        for model in ("mini", "mini", "big"):
            await running.client.chat.completions.create(model=model, messages=USER)
        await running.services.store.flush()
        yield running


async def get(app, query):
    async with aiohttp.ClientSession() as session, session.get(f"{app.url}/v1/usage{query}") as r:
        return r.status, await r.text()


async def test_sums_by_model_add_up_to_the_total(app):
    status, text = await get(app, "?by=model")
    got = json.loads(text)
    assert status == 200
    assert {row["model"]: (row["requests"], row["cost_usd"]) for row in got["data"]} == {
        "mini": (2, "0.00004"),
        "big": (1, "0.0002"),
    }
    assert (got["total"]["attempts"], got["total"]["cost_usd"]) == (3, "0.00024")


async def test_a_span_without_attempts_is_empty(app):
    _, text = await get(app, "?from=2020-01-01&to=2020-01-02T00:00:00Z")
    assert json.loads(text)["total"]["requests"] == 0


@pytest.mark.parametrize("query", ["?by=nope", "?from=yesterday"])
async def test_what_cannot_be_read_is_a_400_that_names_it(app, query):
    status, text = await get(app, query)
    assert (status, json.loads(text)["error"]["param"]) == (400, query[1:].split("=")[0])


async def test_csv_has_a_line_per_attempt(app):
    _, text = await get(app, "?format=csv")
    assert len(text.strip().split("\n")) == 4


def test_the_table_lines_up():
    report = UsageReport(("model",), (({"model": "mini"}, Figures(1, 2, 30, 4, 5, 60_000)),), Figures(1, 2))
    assert table(report).split("\n") == [
        "model  requests  attempts  input  cached  output  cost USD  saved USD  unpriced",
        "mini          1         2     30       4       5   0.00006          0         0",
        "total         1         2      0       0       0         0          0         0",
    ]


def test_money_is_a_decimal_string():
    assert figures_of(Figures(cost_nanousd=1))["cost_usd"] == "0.000000001"


def test_the_command_prints_a_ledger(tmp_path, capsys):
    assert main(["usage", "--store", f"sqlite:///{tmp_path}/none.db"]) == 1
    assert "no ledger" in capsys.readouterr().err
    assert main(["usage", "--store", "memory:"]) == 0
    assert "total" in capsys.readouterr().out
    assert main(["usage", "--by", "colour"]) == 2
