"""What deploy/ ships works: a real Prometheus scrapes a running proxy, and every panel and every rule has something to say."""

import asyncio
import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import aiohttp
import pytest
import yaml
from aiohttp import web

from proxy.config import load
from proxy.families import Families
from tests.proxy.scripted import Upstream, chunks, proxy

ROOT = pathlib.Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = DEPLOY / "prometheus" / "rules.yml"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="LEFT OUT: no Prometheus here, so dashboards, rules and alerts were not tried (apt-get install prometheus)",
)
USER = [{"role": "user", "content": "How old?"}]
KEY = "sk-team-key"
SETTINGS = """
keys:
  - {name: team, key: sk-team-key, budget: {usd: 100}}
  - {name: poor, key: sk-poor-key, budget: {usd: 0.00042}}
  - {name: hasty, key: sk-hasty-key, budget: {usd: 0.0005, per: month}}
  - {name: free, key: sk-free-key}
"""
ROUTES = """
  kept: {ladder: [mini], cache: {ttl_s: 60}}
  capped: {ladder: [mini], budget: {usd: 5, per: hour}}
"""


def panels():
    """(dashboard/title, expression) of every query of every panel."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]


def rules(path, kind):
    groups = yaml.safe_load(path.read_text())["groups"]
    return [(r[kind], r["expr"]) for group in groups for r in group["rules"] if kind in r]


def test_the_dashboards_are_what_their_tables_say():
    tool = [sys.executable, ROOT / "tools" / "dashboards.py", "--check"]
    assert subprocess.run(tool, check=False, capture_output=True).returncode == 0


def test_every_metric_that_is_asked_for_exists():
    known = {family.name for family in Families()} | {name for name, _ in rules(RULES, "record")} | {"up"}
    asked = [*panels(), *rules(RULES, "record"), *rules(ALERTS, "alert")]
    for name, expr in asked:
        plain = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|(by|unless) \([^)]*\)', " ", expr)
        for word in re.findall(r"\b(?:tailrace_|gen_ai_|\w+:)[\w:]+", plain):
            assert re.sub("_(bucket|sum|count)$", "", word) in known, (name, word)


def test_panels_lie_side_by_side_on_the_grid():
    for path in DASHBOARDS:
        taken = set()
        for panel in json.loads(path.read_text())["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {
                (x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, (path.stem, panel["title"])
            taken |= cells


def test_every_alert_says_what_where_and_how_bad():
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description"}


def test_compose_mounts_files_that_are_there_and_opens_ports_on_loopback_only():
    compose = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
    assert set(compose["services"]) == {"tailrace", "prometheus", "grafana"}
    for service in compose["services"].values():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), mount
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/tailrace.yaml").read_text())[
        "providers"
    ][0]
    assert (
        f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
    )
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"


def test_composes_proxy_has_a_right_configuration_with_the_variables_it_is_given():
    compose = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
    environ = {name: f"sk-{name}" for name in compose["services"]["tailrace"]["environment"]}
    snapshot = load(DEPLOY / "tailrace.yaml", environ, host="0.0.0.0")
    assert snapshot.keys is not None
    assert any(key.admin for key in snapshot.keys)


@needs_prometheus
def test_promtool_finds_nothing_wrong():
    for kind, path in (
        ("rules", RULES),
        ("rules", ALERTS),
        ("config", DEPLOY / "prometheus" / "prometheus.yml"),
    ):
        done = subprocess.run(["promtool", "check", kind, path], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


async def cut(request, body):
    """A stream that breaks off."""
    out = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await out.prepare(request)
    await out.write(
        b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
    )
    request.transport.abort()
    return out


async def busy(request, body):
    return web.json_response({"error": {"message": "busy"}}, status=503)


async def thoughtful(request, body):
    usage = {
        "prompt_tokens": 900,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    return await Upstream.stream(request, chunks('{"age": 7}', usage=usage))


async def traffic(app, upstream):
    """Requests of every kind: valid, repaired, re-asked, patched, escalated, failed, streamed, unpriced, refused."""
    valid, fenced, wrong, other = '{"age": 7}', '```json\n{"age": 7,}\n```', '{"age": "old"}', '{"years": 7}'
    kinds = [
        ("age", [valid], {}),
        ("age", [fenced], {}),
        ("age", [wrong, valid], {}),
        ("age", [wrong, other, valid], {}),
        ("age", [wrong, other, "no", "no"], {}),
        ("age", [thoughtful], {"stream": True}),
        ("open", ["hello there"], {"stream": True}),
        ("open", [cut], {"stream": True}),
        ("mini", [busy, busy], {}),
        ("fx-new", ["hello"], {}),
        ("short", ["hello"], {"messages": USER * 40}),
        ("kept", ["hello"], {}),
        ("capped", ["hello"], {}),
        ("no-such-model", ["hello"], {}),
    ]
    async with aiohttp.ClientSession() as session:
        for model, script, more in kinds:
            upstream.script = list(script)
            # A key with a budget may not use models without a price: those are asked for with one that has none.
            key = "sk-free-key" if model == "fx-new" else KEY
            await post(session, app, key, {"model": model, "messages": USER} | more)
        upstream.script = ["hello"]
        for _ in range(2):
            await post(session, app, "sk-poor-key", {"model": "big", "messages": USER, "max_tokens": 5})
        await post(session, app, "sk-hasty-key", {"model": "mini", "messages": USER, "max_tokens": 5})


async def post(session, app, key, body):
    headers = {"authorization": f"Bearer {key}"}
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(f"{app.url}/v1/chat/completions", json=body, headers=headers) as r:
            await r.read()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.asynccontextmanager
async def prometheus(folder, target):
    """A Prometheus with our rules that scrapes `target` every second, and one address where nobody answers."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target, "127.0.0.1:9"]
    config["scrape_configs"][0]["authorization"] = {"credentials": "sk-free-key"}
    config["rule_files"] = [str(RULES), str(ALERTS)]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    url = f"127.0.0.1:{free_port()}"
    arguments = (
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url}",
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec("prometheus", *arguments, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession(f"http://{url}") as session:
            await ready(session, process, folder)
            yield session
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(session, process, folder):
    for _ in range(200):
        assert process.returncode is None, (folder / "log").read_text()[-2000:]
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get("/-/ready") as r:
                if r.status == 200:
                    return
        await asyncio.sleep(0.1)
    pytest.fail("Prometheus did not get ready in 20 s")


async def scraped(session):
    for _ in range(100):
        if await ask(session, 'up{job="tailrace"} == 1'):
            return
        await asyncio.sleep(0.2)
    pytest.fail("Prometheus could not scrape the proxy in 20 s")


async def ask(session, expr):
    """The values of an instant query, without those that are no number."""
    async with session.post("/api/v1/query", data={"query": expr}) as r:
        body = await r.json()
    assert body["status"] == "success", (expr, body)
    return [value for row in body["data"]["result"] if (value := row["value"][1]) != "NaN"]


def concrete(expr):
    """A panel's expression as Grafana would send it, with every route and model chosen."""
    for variable, value in (
        ("$__rate_interval", "30s"),
        ("$__range", "1m"),
        ("$route", ".*"),
        ("$model", ".*"),
    ):
        expr = expr.replace(variable, value)
    return expr


async def silent(session, asked):
    """Those of `asked` that give no data."""
    return [(name, expr) for name, expr in asked if not await ask(session, concrete(expr))]


@needs_prometheus
async def test_every_panel_rule_and_alert_has_data_after_some_traffic(tmp_path):
    asked = [*panels(), *rules(RULES, "record"), *rules(ALERTS, "alert")]
    asked += [(f"recorded {name}", name) for name, _ in rules(RULES, "record")]
    async with Upstream("hello").running() as upstream, proxy(upstream, more=SETTINGS, routes=ROUTES) as app:
        await traffic(app, upstream)
        async with prometheus(tmp_path, app.url.removeprefix("http://")) as session:
            await scraped(session)
            app.services.telemetry.breaker("big", "open")
            app.services.telemetry.drifted({"age": 1})
            deadline = asyncio.get_running_loop().time() + 30
            left = asked
            while left and asyncio.get_running_loop().time() < deadline:
                await traffic(app, upstream)
                await asyncio.sleep(1)
                left = await silent(session, left)
    assert left == []
