"""The pages in docs/ say what the source does: every error code, header, metric, path and query in them is compared."""

import ast
import json
import pathlib
import re
import sqlite3

import aiohttp
import pytest

from proxy.stores.tables import MIGRATIONS
from proxy.telemetry import Telemetry
from proxy.wire.ask import read_ask
from proxy.wire.errors import ApiError
from tests.proxy.scripted import Upstream, proxy, reply

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
USER = [{"role": "user", "content": "How old?"}]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def table_under(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after `heading`, without its head."""
    lines = text[text.index(heading) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def code_of(cell: str) -> str:
    return cell.strip("` ")


# Errors ----------------------------------------------------------------------------------------------------

STATUS_OF = {"bad_request": 400, "not_found": 404}
"""The status of functions that make an ApiError and are given its code."""


def constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def raised(tree: ast.AST) -> set[tuple[str, int | None]]:
    """(code, status) of every error that this source makes; status None where it is the upstream's."""
    found: set[tuple[str, int | None]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2:  # the table in from_failure
            status, code = (constant(e) for e in node.elts)
            if isinstance(status, int) and isinstance(code, str) and 400 <= status < 600:
                found.add((code, status))
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        named = {k.arg: k.value for k in node.keywords}
        if node.func.id == "ApiError":
            code = constant(named.get("code") or (node.args[2] if len(node.args) > 2 else None))
            status = constant(node.args[0]) if node.args else None
        else:
            code, status = constant(named.get("code")), STATUS_OF.get(node.func.id)
        if isinstance(code, str):
            found.add((code, status if isinstance(status, int) else None))
    return found


def test_the_table_of_errors_has_every_code_with_its_status():
    made = {("invalid_request", 400)}  # the default of bad_request
    for path in (ROOT / "proxy").rglob("*.py"):
        made |= raised(ast.parse(path.read_text()))
    documented = {}
    for code, statuses, *_ in table_under(page("errors.md"), "# Errors"):
        documented[code_of(code)] = {int(s) for s in statuses.split(",")}
    assert {code for code, _ in made} == documented.keys()
    for code, status in made:
        assert status is None or status in documented[code], f"{code} is raised with {status}"
    for code, statuses in documented.items():
        assert statuses <= {s for c, s in made if c == code}, code


def test_the_table_of_errors_is_in_the_order_of_the_statuses():
    statuses = [int(row[1].split(",")[0]) for row in table_under(page("errors.md"), "# Errors")]
    assert statuses == sorted(statuses)


def test_the_example_of_an_error_has_the_four_members():
    example = json.loads(re.search(r"```json\n(.*?)```", page("errors.md"), re.DOTALL)[1])
    assert list(example["error"]) == ["message", "type", "param", "code"]


# Headers ---------------------------------------------------------------------------------------------------


def documented_headers(heading: str) -> list[str]:
    return [code_of(row[0]) for row in table_under(page("headers.md"), heading)]


async def sent_by_the_proxy() -> set[str]:
    """Names of the headers that replies of every kind carry, without those of HTTP itself."""
    found: set[str] = set()
    busy = aiohttp.web.json_response({"error": {"message": "busy"}}, status=429, headers={"retry-after": "9"})
    function = {"name": "recall_context", "arguments": '{"query": "how old"}'}
    look_up = reply(None, tool_calls=[{"id": "c", "type": "function", "function": function}])
    script: dict[str, object] = {
        "default": "hello",
        "age": '```json\n{"age": 7}\n```',
        "short": "hello",
        "raw": "no",
        "nope": "hello",
        "busy": busy,
        "looks": [look_up, "hello"],
    }
    models = "  able: {provider: up, can: [tools]}\n"
    routes = "  looks: {ladder: [able], context: {policy: recent, budget_tokens: 200, recall_tool: true}}\n"
    async with (
        Upstream("hello").running() as upstream,
        proxy(upstream, models=models, routes=routes) as app,
        aiohttp.ClientSession() as s,
    ):

        async def post(path, **body):
            async with s.post(app.url + path, json={"messages": USER * 30} | body) as r:
                await r.read()
                found.update(name.lower() for name in r.headers)

        for route, answer in script.items():
            for stream in (False, True):
                upstream.script = list(answer) if isinstance(answer, list) else [answer]
                await post("/v1/chat/completions", model="mini" if route == "busy" else route, stream=stream)
        upstream.script = ["{}"]
        await post("/v1/files", model="mini")
    return found - {"content-type", "content-length", "date", "server", "transfer-encoding", "cache-control"}


async def test_every_header_of_a_reply_is_documented_and_every_documented_one_is_sent():
    assert await sent_by_the_proxy() == set(documented_headers("## What a reply tells"))


def test_every_control_is_documented_and_every_documented_one_is_read():
    names = [
        n.removeprefix("x-tailrace-").replace("-", "_")
        for n in documented_headers("## What a client may ask")
    ]
    with pytest.raises(ApiError) as refused:
        read_ask("embeddings", b'{"tailrace": {"?": 1}}', {}, None)
    known = refused.value.message.partition("known: ")[2].rstrip(".").split(", ")
    assert sorted(names) == sorted(known)


# Operations ------------------------------------------------------------------------------------------------


def exposed() -> dict[str, str]:
    """Every metric of `/metrics` and its kind."""
    text = Telemetry().render().decode()
    return dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))


def test_every_metric_is_documented_with_its_kind():
    rows = [
        row
        for heading in ("## Our own", "## OpenTelemetry's")
        for row in table_under(page("metrics.md"), heading)
    ]
    assert {code_of(name): kind for name, kind, *_ in rows} == exposed()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_metric_that_a_page_names_exists(path):
    named = set(re.findall(r"\btailrace_[a-z_]+\b", path.read_text())) - {"tailrace_route"}
    assert named <= exposed().keys()


def test_the_queries_of_the_ledger_run():
    database = sqlite3.connect(":memory:")
    for step in MIGRATIONS:
        database.executescript(step)
    for block in re.findall(r"```sql\n(.*?)```", page("operations.md"), re.DOTALL):
        for query in block.split(";")[:-1]:
            database.execute(query)
    database.close()


# Paths and links -------------------------------------------------------------------------------------------

PATH = re.compile(
    r"`((?:proxy|policies|schemas|tests|docs|examples|benchmarks|tools|requirements)/[\w./-]*)`"
)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_names_exists(path):
    text = path.read_text()
    named = set(PATH.findall(text)) | set(
        re.findall(r"(?<![\w/])(?:proxy|policies|schemas)/[\w/]+\.py", text)
    )
    named |= {f"docs/{name}" for name in re.findall(r"docs/(\w+\.md)", text)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(path):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
