"""The page for operators: its data, who may see it, what it may load, and what a real browser makes of it."""

import asyncio
import json
import re
import shutil

import aiohttp
import pytest

from proxy.handlers.ui import PAGE, outcome_of
from tests.proxy.scripted import Upstream, proxy

USER = [{"role": "user", "content": "My secret question"}]
VALID, FENCED, INVALID = '{"age": 7}', '```json\n{"age": 7}\n```', '{"age": "old"}'
HOSTILE = '<img src=x onerror="document.title=1">'
KEYS = """
keys:
  - {name: team, key: sk-team-key}
  - {name: root, key: sk-root-key, admin: true}
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="LEFT OUT: no Chromium here, so /ui was not looked at (apt-get install chromium)"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=4000",
    "--dump-dom",
]


@pytest.fixture
async def upstream():
    async with Upstream("hello").running() as running:
        yield running


@pytest.fixture
async def app(upstream):
    async with proxy(upstream) as running:
        upstream.script = [FENCED, INVALID, '{"years": 7}', VALID, "hello"]
        for model in ("age", "age", "fx-new"):
            await running.client.chat.completions.create(
                model=model, messages=USER, extra_headers={"x-tailrace-run": HOSTILE}
            )
        await running.services.store.flush()
        yield running


async def get(app, path, **headers):
    async with aiohttp.ClientSession() as session, session.get(app.url + path, headers=headers) as r:
        return r.status, r.headers, await r.text()


async def seen(app, **headers):
    status, _, text = await get(app, "/ui/data", **headers)
    assert status == 200, text
    return json.loads(text)


async def test_a_request_is_told_with_every_call_and_repair(app):
    unpriced, escalated, repaired = (await seen(app))["recent"]
    assert [e["outcome"] for e in (unpriced, escalated, repaired)] == ["answered", "escalated", "repaired"]
    assert [(a["alias"], a["purpose"], a["verdict"]) for a in escalated["attempts"]] == [
        ("mini", "answer", "invalid"),
        ("mini", "reask", "invalid"),
        ("big", "escalate", "valid"),
    ]
    assert escalated["cost_usd"] == "0.00024"
    assert escalated["saved_by"] == {"routing": "-0.00004"}
    assert repaired["attempts"][0]["repairs"]
    assert unpriced["cost_usd"] is None


async def test_the_sums_of_today_are_the_ledgers(app):
    got = await seen(app)
    _, _, text = await get(app, "/v1/usage?by=route")
    assert got["today"] == json.loads(text)["total"]
    age = next(r for r in got["routes"] if r["name"] == "age")
    assert [m["alias"] for m in age["ladder"]] == ["mini", "big"]
    assert age["answers"] == {"repaired": 1, "escalated": 1}
    assert age["figures"]["attempts"] == 4


async def test_neither_prompts_nor_answers_nor_secrets_are_told(app):
    _, _, text = await get(app, "/ui/data")
    assert not re.search(r"secret|years|sk-", text)


async def test_many_viewers_ask_the_ledger_once(app):
    asked = []
    recent = app.services.store.recent

    async def counted(limit):
        asked.append(limit)
        return await recent(limit)

    app.services.store.recent = counted
    await asyncio.gather(*(seen(app) for _ in range(20)))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer sk-team-key"}, 403),
        ({"authorization": "Bearer sk-root-key"}, 200),
    ],
    ids=["without-a-key", "a-clients-key", "an-administrators-key"],
)
async def test_with_keys_the_data_is_for_administrators(upstream, headers, status):
    async with proxy(upstream, more=KEYS) as app:
        assert (await get(app, "/ui/data", **headers))[0] == status
        assert (await get(app, "/ui"))[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("[::1]:8080", 200),
        ("127.0.0.1", 200),
        ("evil.example:80", 403),
        ("evil.example", 403),
    ],
)
async def test_while_open_it_answers_to_names_of_this_machine_only(app, host, status):
    """A page of another site can make its own name lead here; the browser still says which name it asked for."""
    assert (await get(app, "/ui/data", host=host))[0] == status


async def test_the_page_may_load_nothing_but_itself(app):
    _, headers, _ = await get(app, "/ui")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_page_is_one_file_that_never_makes_markup_of_text():
    text = PAGE.decode()
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text)
    assert not re.search(r"\son\w+=|\sstyle=", text)
    assert set(re.findall(r"https?://[\w.]+", text)) == {"http://www.w3.org"}
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=[\"'](?!data:)", text)


def test_the_page_can_be_read_by_ear_and_used_by_keyboard():
    text = PAGE.decode()
    assert '<html lang="en">' in text
    for need in (
        "<header>",
        "<main",
        "<footer>",
        'aria-live="polite"',
        ":focus-visible",
        "prefers-reduced-motion",
    ):
        assert need in text, need
    assert "prefers-color-scheme: dark" in text
    assert len(re.findall("<caption", text)) == len(re.findall("<table", text))
    assert re.findall(r"<th(?![ea])(?![^>]*scope)", text) == []
    for name in re.findall(r'<(?:input|select)[^>]*\bid="([\w-]+)"', text):
        assert f'for="{name}"' in text or re.search(rf"<label>[^/]*id=\"{name}\"", text), name


async def rendered(url, folder):
    """The page's elements after a real browser has run it."""
    arguments = [*FLAGS, f"--user-data-dir={folder}", url]
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        out, _ = await asyncio.wait_for(browser.communicate(), 60)
    finally:
        if browser.returncode is None:
            browser.kill()
            await browser.wait()
    return out.decode()


@needs_browser
async def test_a_browser_shows_the_requests_and_opens_the_one_that_the_address_names(app, tmp_path):
    escalated = (await seen(app))["recent"][1]["id"]
    page = await rendered(f"{app.url}/ui#{escalated}", tmp_path)
    rows = re.findall(r'<tr class="head[^"]*">(.*?)</tr>', page)
    assert len(rows) == 3
    assert ['aria-expanded="true"' in row for row in rows] == [False, True, False]
    assert "$0.00024" in rows[1]
    assert "unpriced" in rows[0]
    opened = re.search(rf'<tr class="more" id="more-{escalated}">(.*?)</tbody>', page)[1]
    assert len(re.findall('<th scope="row">', opened)) == 3
    assert ">live<" in page


@needs_browser
async def test_what_clients_wrote_stays_text(app, tmp_path):
    page = await rendered(f"{app.url}/ui", tmp_path)
    assert "&lt;img src=x" in page
    assert "<img" not in page
    assert "<title>Tailrace</title>" in page


@needs_browser
async def test_a_browser_without_a_key_is_asked_for_one_and_shows_nothing(upstream, tmp_path):
    async with proxy(upstream, more=KEYS) as app:
        page = await rendered(f"{app.url}/ui", tmp_path)
    assert re.search(r'<section id="ask"[^>]*aria-labelledby="ask-title">', page)
    assert re.search(r'<div id="all" hidden="">', page)


class Row:
    def __init__(self, status="ok", verdict="valid", alias="mini", provider="up", purpose="answer"):
        self.status, self.verdict, self.alias, self.provider = status, verdict, alias, provider
        self.purpose = purpose


OUTCOMES = {
    "under-way": ([Row("open")], "running"),
    "no-schema": ([Row(verdict="none")], "answered"),
    "at-once": ([Row()], "valid"),
    "mended": ([Row(verdict="repaired")], "repaired"),
    "asked-again": ([Row(verdict="invalid"), Row()], "reasked"),
    "climbed": ([Row(verdict="invalid"), Row(alias="big")], "escalated"),
    "in-vain": ([Row(verdict="invalid"), Row(verdict="invalid")], "failed"),
    "upstream-failed": ([Row("failed", "none")], "failed"),
    "client-left": ([Row("cancelled", "none")], "cancelled"),
    "died": ([Row("unsettled", None)], "unsettled"),
    "kept-answer": ([Row(verdict=None, provider="cache")], "cached"),
    "summarised-in-vain": ([Row(), Row(verdict="invalid", alias="notes", purpose="summary")], "valid"),
    "cut": ([Row(verdict="exempt")], "exempt"),
    "with-a-shadow": ([Row(), Row("failed", "none", "big", purpose="route")], "valid"),
}


@pytest.mark.parametrize(("rows", "word"), OUTCOMES.values(), ids=OUTCOMES)
def test_an_outcome_is_one_word(rows, word):
    assert outcome_of(tuple(rows)) == word
