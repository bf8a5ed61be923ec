"""The running proxy's ledger beside the invoice of a provider that keeps its own (benchmarks/billing)."""

import asyncio
import contextlib
import random
from decimal import Decimal

import aiohttp
import pytest

from benchmarks import invoice
from benchmarks.billing.cases import CONFIG, Case, Maker, play
from benchmarks.billing.compare import compare, rows_of, totals_of
from benchmarks.billing.upstream import Biller, Play
from policies.chat import Usage
from policies.limits import BudgetRule
from proxy.app import App
from proxy.config import loads
from proxy.stores.base import Outcome, StoreFailed

TEAM, OTHER = {"authorization": "Bearer sk-team"}, {"authorization": "Bearer sk-other"}
ADMIN = {"authorization": "Bearer sk-admin"}
KEYS = """keys:
  - {{name: team, key: sk-team, {team}}}
  - {{name: other, key: sk-other, {other}}}
  - {{name: admin, key: sk-admin, admin: true}}
"""
WORST = 12 * 2_500 + 20 * 10_000
"""Nano-USD that `ask` below can cost at most on `big`: PROMPT's 12 tokens and 20 of an answer."""
PROMPT = [{"role": "user", "content": "one two three four five"}]
WORDY = Play(words=20)


@pytest.fixture(scope="module")
def tokens():
    return Biller().counter


@pytest.fixture
async def biller(tokens):
    made = Biller(tokens)
    made.url = await made.start()
    yield made
    await made.stop()


@contextlib.asynccontextmanager
async def running(biller, more="", store="memory:", server=""):
    text = CONFIG.format(url=biller.url, store=store, server=server, more=more)
    app = App(loads(text, name="test", environ={}, base_dir="."), environ={})
    await app.start()
    host, port = await app.listen("127.0.0.1", 0)
    app.url = f"http://{host}:{port}"
    try:
        yield app
    finally:
        await app.drain()
        await app.close()


def keys(team="budget: {usd: 100}", other="budget: {usd: 100}"):
    return KEYS.format(team=team, other=other)


def usd(nano):
    return f"{nano / 10**9:.9f}"


def cases(count, *plays, **body):
    asked = {"model": "big", "messages": PROMPT, "max_tokens": 20} | body
    return [Case(f"x{n}", "plain", asked, plays or (WORDY,)) for n in range(count)]


async def test_the_ledger_is_the_invoice_to_the_nano_dollar(biller):
    maker = Maker(random.Random(7))
    async with running(biller) as app:
        told = await play(biller, app.url, [maker.case() for _ in range(500)], together=32)
        await asyncio.sleep(0.2)
        account = compare(biller.lines, await rows_of(app.url), told)
        total, metric = await totals_of(app.url)
    assert account.wrong == []
    assert (account.lost, account.doubled) == (0, 0)
    assert account.told == account.read > 0
    assert account.exact > account.calls / 2
    assert total == metric == account.ledger + account.unmet_booked
    assert {"answer", "retry", "reask", "patch", "escalate", "cancelled"} <= account.purposes.keys()
    by_kind = account.estimates
    for kind in ("stream_without_usage", "cut_stream", "error_event"):
        assert set(by_kind[kind].output_off) == {0}
    assert abs(by_kind["left_stream"].booked / by_kind["left_stream"].billed - 1) < 0.25


async def test_acknowledged_calls_outlive_kill_9():
    assert await invoice.kills(2, seed=3)


async def test_exactly_ten_of_sixty_four_pass_a_budget_for_ten(biller):
    budget = keys(team=f"budget: {{usd: {usd(10 * WORST)}}}")
    async with running(biller, budget) as app:
        slow = Play(words=20, pause_s=0.02)
        told = await play(biller, app.url, cases(64, slow), together=64, headers=TEAM)
        rows = await rows_of(app.url, ADMIN)
    assert sorted({t.status for t in told}) == [200, 429]
    assert sum(t.status == 200 for t in told) == len(biller.lines) == len(rows) == 10
    assert sum(row.cost for row in rows) == sum(line.nanousd for line in biller.lines) == 10 * WORST


async def test_workers_share_a_budget(biller, tmp_path):
    budget = keys(team=f"budget: {{usd: {usd(10 * WORST)}}}")
    shared = {"store": f"sqlite:///{tmp_path}/ledger.db", "server": ", workers: 2"}
    async with running(biller, budget, **shared) as one, running(biller, budget, **shared) as two:
        slow = Play(words=20, pause_s=0.02)
        every = cases(64, slow)
        told = await asyncio.gather(
            play(biller, one.url, every[:32], together=32, headers=TEAM),
            play(biller, two.url, every[32:], together=32, headers=TEAM),
        )
        rows = await rows_of(one.url, ADMIN)
    assert sum(t.status == 200 for half in told for t in half) == len(biller.lines) == len(rows) == 10
    assert sum(row.cost for row in rows) == 10 * WORST


async def test_one_keys_budget_is_not_anothers(biller):
    budget = keys(f"budget: {{usd: {usd(WORST)}}}", f"budget: {{usd: {usd(3 * WORST)}}}")
    async with running(biller, budget) as app:
        told = [await play(biller, app.url, cases(6), headers=who) for who in (TEAM, OTHER)]
    assert [sum(t.status == 200 for t in half) for half in told] == [1, 3]


async def test_a_run_has_a_budget_of_its_own(biller):
    routes = f"  runs: {{ladder: [big], run_budget: {{usd: {usd(2 * WORST)}}}}}\n"
    async with running(biller, routes) as app:
        counts = []
        for run in ("r1", "r2"):
            told = await play(biller, app.url, cases(8, model="runs"), headers={"x-tailrace-run": run})
            counts.append(sum(t.status == 200 for t in told))
    assert counts == [2, 2]


async def test_a_rate_of_tokens_holds_for_parallel_calls(biller):
    async with running(biller, keys(team="tpm: 160")) as app:  # five times 12 + 20
        told = await play(biller, app.url, cases(64, Play(words=20, pause_s=0.02)), together=64, headers=TEAM)
    assert sum(t.status == 200 for t in told) == len(biller.lines) == 5


@pytest.mark.parametrize("who", ["key", "run", "route"])
async def test_a_stream_is_cut_within_a_chunk_of_what_is_left(biller, who):
    left = 12 * 2_500 + 40 * 10_000  # forty tokens of `big`
    more = {
        "key": keys(team=f"budget: {{usd: {usd(left)}}}"),
        "run": f"  r: {{ladder: [big], run_budget: {{usd: {usd(left)}}}}}\n",
        "route": f"  r: {{ladder: [big], budget: {{usd: {usd(left)}}}}}\n",
    }[who]
    headers = {"key": TEAM, "run": {"x-tailrace-run": "one"}, "route": {}}[who]
    model = "big" if who == "key" else "r"
    endless = Play(words=5_000, pause_s=0.001)
    [case] = cases(1, endless, stream=True, model=model, max_tokens=5_000)
    async with running(biller, more) as app:
        [told] = await play(biller, app.url, [case], headers=headers)
        [row] = await rows_of(app.url, ADMIN if who == "key" else {})
    assert told.whole
    assert row.output_tokens == 40
    assert row.cost == left == round(Decimal(told.cost_usd) * 10**9)
    assert 40 <= biller.lines[0].output <= 60  # what was under way when we hung up


async def test_what_a_drain_cuts_short_is_booked(biller, tmp_path):
    store = f"sqlite:///{tmp_path}/ledger.db"
    slow = Play(words=1_000, pause_s=0.01)
    asked = [*cases(3, slow, stream=True), *cases(6, slow)[3:]]
    asked += [Case("r", "r", {"model": "big", "input": "x"}, (slow,), path="responses")]
    async with running(biller, store=store, server=", drain_s: 0.3") as app:
        load = asyncio.gather(play(biller, app.url, asked, together=7), return_exceptions=True)
        while len(biller.lines) < 7:
            await asyncio.sleep(0.01)
    await load
    async with running(biller, store=store) as app:
        rows = await rows_of(app.url)
    assert [(row.status, row.purpose, row.reported) for row in rows] == [
        ("cancelled", "cancelled", False)
    ] * 7
    assert all(row.cost > 0 for row in rows)


async def test_an_exchange_keeps_the_prices_it_began_with(biller):
    slow = Play(words=20, pause_s=0.02)
    async with running(biller) as app:
        load = asyncio.gather(play(biller, app.url, cases(4, slow), together=4))
        while len(biller.lines) < 4:
            await asyncio.sleep(0.01)
        text = CONFIG.format(url=biller.url, store="memory:", server="", more="").replace("2.5,", "7,")
        app.reload(loads(text, name="test", environ={}, base_dir="."))
        await load
        [new] = await play(biller, app.url, [Case("new", "plain", cases(1)[0].body, (WORDY,))])
        rows = await rows_of(app.url)
        assert (await totals_of(app.url)) == (sum(row.cost for row in rows),) * 2
    assert [row.cost for row in rows] == [12 * 2_500 + 20 * 10_000] * 4 + [12 * 7_000 + 20 * 10_000]
    assert Decimal(new.cost_usd) * 10**9 == rows[-1].cost


async def test_a_breakers_refusal_is_not_booked(biller):
    async with running(biller) as app:
        down = Play("refuse", status=503)
        told = await play(
            biller, app.url, cases(30, down), together=1, headers={"x-stainless-retry-count": "1"}
        )
        rows = await rows_of(app.url)
    assert len(told) == 30
    assert len(biller.lines) == len(rows) < 30
    assert {row.cost for row in rows} == {0}


async def test_a_settlement_that_comes_again_or_too_late_changes_nothing(biller):
    async with running(biller) as app:
        await play(biller, app.url, cases(1))
        [row] = await rows_of(app.url)
        [exchange] = await app.services.store.recent(1)
        app.services.store.settle(exchange.attempts[0].id, Outcome("failed", Usage(9, 9), 99))
        assert await rows_of(app.url) == [row]
    app.services.store.settle("req_x.1", Outcome("ok", Usage(), 1))


async def test_usage_of_one_case_is_asked_for_and_hidden(biller):
    """A client that asked for no usage sees none, though it is booked as reported."""
    [case] = cases(1, WORDY, stream=True)
    biller.plays[case.name] = case.plays
    async with running(biller) as app, aiohttp.ClientSession() as session:
        named = {"x-client-request-id": case.name}
        async with session.post(f"{app.url}/v1/chat/completions", json=case.body, headers=named) as r:
            text = await r.text()
        [row] = await rows_of(app.url)
    assert "prompt_tokens" not in text
    assert row.reported


async def test_shared_meters_are_let_go_at_the_end(biller, tmp_path):
    shared = {"store": f"sqlite:///{tmp_path}/ledger.db", "server": ", workers: 2"}
    async with running(biller, keys(), **shared) as app:
        await play(biller, app.url, cases(1), headers=TEAM)
    with pytest.raises(StoreFailed, match="closed"):
        await app.services.limiter.meter(BudgetRule("key", "team", 1), 0)
