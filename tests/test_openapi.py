"""docs/openapi.yaml says what is served: its paths are those of the source, its answers those of a running proxy."""

import ast
import json
import pathlib
import re

import aiohttp
import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from yarl import URL

from tests.proxy.scripted import Upstream, proxy

ROOT = pathlib.Path(__file__).parents[1]
API = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
METHODS = ("get", "put", "post", "delete")
OPERATIONS = {
    spec["operationId"]: (method.upper(), path, spec)
    for path, item in API["paths"].items()
    for method, spec in item.items()
    if method in METHODS
}


def resolved(node):
    """`node` without references: each is what it names (nothing here refers to itself)."""
    if isinstance(node, dict):
        if "$ref" in node:
            found = API
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            return resolved(found)
        return {name: resolved(held) for name, held in node.items()}
    return [resolved(held) for held in node] if isinstance(node, list) else node


# The description and the source ----------------------------------------------------------------------------


def words_of(function):
    """The texts that a function of proxy/dispatch.py compares a path with."""
    tree = ast.parse((ROOT / "proxy" / "dispatch.py").read_text())
    (found,) = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.AsyncFunctionDef | ast.FunctionDef) and n.name == function
    ]
    compared = [n for n in ast.walk(found) if isinstance(n, ast.Compare)]
    texts = [c.value for n in compared for c in n.comparators if isinstance(c, ast.Constant)]
    return {t for t in texts if isinstance(t, str) and not t.isupper()}


def exchanges():
    tree = ast.parse((ROOT / "proxy" / "dispatch.py").read_text())
    (found,) = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "_EXCHANGES"
    ]
    return {c.value for c in ast.walk(found) if isinstance(c, ast.Constant)}


def test_every_path_of_the_router_is_described_and_no_other():
    described = set(API["paths"])
    below = {path.removeprefix("/v1/") for path in described if path.startswith("/v1/")}
    routed = words_of("_handler_of")
    assert {p for p in below if p in exchanges()} == exchanges()
    assert {p.split("/")[0] for p in below} - {p.split("/")[0] for p in exchanges()} == routed
    beside = {path for path in described if not path.startswith(("/v1/", "/admin/"))}
    assert beside == words_of("_operation")
    admin = {path for path in described if path.startswith("/admin/")} - {"/admin/keys/{name}"}
    assert admin == words_of("_dispatch") | {"/admin/reload"}


def test_every_code_of_an_error_is_described_and_no_other():
    table = (ROOT / "docs" / "errors.md").read_text()
    assert API["components"]["schemas"]["Code"]["enum"] == re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)


def test_every_reference_leads_somewhere_and_every_part_is_used():
    text = (ROOT / "docs" / "openapi.yaml").read_text()
    named = set(re.findall(r"'#/components/(\w+/\w+)'", text))
    parts = {
        f"{kind}/{name}"
        for kind, held in API["components"].items()
        for name in held
        if kind != "securitySchemes"
    }
    assert named == parts
    assert resolved(API["paths"])


def test_the_schemas_are_schemas():
    for name, schema in resolved(API["components"]["schemas"]).items():
        jsonschema_rs.Draft202012Validator(schema), name


@pytest.mark.parametrize(
    "path", ["/healthz", "/metrics", "/ui", "/v1/models", "/v1/feedback", "/v1/files", "/nothing"]
)
@pytest.mark.parametrize("method", ["TRACE", "PROPFIND"])
async def test_methods_that_nobody_needs_are_refused_and_not_passed_on(method, path):
    async with (
        Upstream("hello").running() as upstream,
        proxy(upstream) as app,
        aiohttp.ClientSession() as session,
    ):
        async with session.request(method, app.url + path) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (405, "method_not_allowed")
            assert "GET" in r.headers["allow"]
        assert upstream.paths == []


WRONG = [
    ("POST", "/healthz"),
    ("DELETE", "/metrics"),
    ("GET", "/v1/feedback"),
    ("POST", "/v1/usage"),
    ("PUT", "/v1/embeddings"),
]


@pytest.mark.parametrize(("method", "path"), WRONG)
async def test_a_method_that_a_path_does_not_have_is_refused(method, path):
    async with (
        Upstream("hello").running() as upstream,
        proxy(upstream) as app,
        aiohttp.ClientSession() as session,
    ):
        async with session.request(method, app.url + path) as r:
            assert (r.status, (await r.json())["error"]["code"]) == (405, "method_not_allowed")
            assert method not in r.headers["allow"]
        assert upstream.paths == []


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_is_served(operation):
    method, path, spec = OPERATIONS[operation]
    path = re.sub(r"\{\w+\}", "age", path)
    async with (
        Upstream("hello").running() as upstream,
        proxy(upstream) as app,
        aiohttp.ClientSession() as session,
    ):
        async with session.request(method, app.url + path, json={} if "requestBody" in spec else None) as r:
            text = await r.text()
    assert "unknown_url" not in text
    assert r.status != 405
    check(spec, r, text)


# What a running proxy answers to what is described, and to what is not --------------------------------------


def check(spec, response, text):
    """The answer is one of those that are described for this operation."""
    answers = resolved(spec["responses"])
    status = str(response.status)
    answer = answers.get(status) or answers.get(f"{status[0]}XX")
    assert answer is not None, f"{status} is not described: {text[:300]}"
    assert response.status != 500, text
    kind = response.content_type
    assert kind in answer["content"], f"{status} as {kind}"
    if kind == "application/json":
        schema = answer["content"][kind]["schema"]
        problems = list(jsonschema_rs.Draft202012Validator(schema).iter_errors(json.loads(text)))
        assert not problems, f"{problems[0].message}: {text[:300]}"
        assert response.status < 400 or "x-tailrace-request-id" in response.headers, (response.status, text)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def like(schema):
    """Values of the schema, mostly; now and then something else in a place."""
    if not isinstance(schema, dict):
        return anything
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if "allOf" in schema:
        return st.tuples(*[like(part) for part in schema["allOf"]]).map(
            lambda parts: (
                {k: v for part in parts for k, v in part.items()}
                if all(isinstance(p, dict) for p in parts)
                else parts[0]
            )
        )
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    made = [_of(kind, schema) for kind in kinds]
    return st.one_of(*made, *made, *made, *made, anything) if made else anything


def _of(kind, schema):
    if kind == "object":
        members = {name: like(part) for name, part in schema.get("properties", {}).items()}
        needed = {name: members.pop(name, anything) for name in schema.get("required", [])}
        return st.fixed_dictionaries(needed, optional=members)
    if kind == "array":
        return st.lists(like(schema.get("items")), max_size=3)
    words = st.sampled_from(["mini", "age", "default", "user", "hello", "x" * 300, "", "\ud800", "3", "-1"])
    return {
        "string": words | st.text(max_size=12),
        "integer": st.integers(-3, 10) | st.integers(),
        "number": st.floats(0, 1) | st.integers(),
        "boolean": st.booleans(),
        "null": st.none(),
    }[kind]


@st.composite
def requests(draw):
    operation = draw(st.sampled_from(sorted(set(OPERATIONS) - {"reload"})))
    method, path, spec = OPERATIONS[operation]
    names = st.sampled_from(["age", "default", "mini", "x", "%ff", "a%2Fb", "..", "%00", "%C3%A9", "1" * 300])
    for name in re.findall(r"\{(\w+)\}", path):
        path = path.replace("{" + name + "}", draw(names))
    query = {}
    for parameter in spec.get("parameters", []):
        if parameter.get("in") == "query" and draw(st.booleans()):
            query[parameter["name"]] = draw(
                st.sampled_from(["", "1", "route,key", "2026-11-22", "9" * 30, "csv", "x", "-1"])
            )
    body = None
    if "requestBody" in spec:
        schema = resolved(spec["requestBody"])["content"]["application/json"]["schema"]
        body = draw(like(schema).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))
    return spec, method, path, query, body


async def test_answers_are_as_described_whatever_is_asked():
    async with (
        Upstream('{"age": 7}').running() as upstream,
        proxy(upstream) as app,
        aiohttp.ClientSession() as session,
    ):

        async def ask(request):
            spec, method, path, query, body = request
            headers = {"content-type": "application/json"}
            url = URL(app.url + path, encoded=True).update_query(query)
            async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as r:
                check(spec, r, (await r.read()).decode("utf-8", "replace"))

        found = []

        @seed(20261122)
        @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(requests())
        def collect(request):
            found.append(request)

        collect()
        for request in found:
            try:
                await ask(request)
            except AssertionError as error:
                raise AssertionError(f"{request[1:]}: {error}") from None
