"""A configuration is a Snapshot, or everything that is wrong with it: place, field, what was expected."""

import pathlib
import textwrap

import pytest

from policies.cards import Price
from policies.route import ContextRule, Limits, Repair, Route
from proxy.config import ConfigRefused, load, loads, render_check, render_problems
from proxy.config.checks import digest
from proxy.snapshot import Budget, Secret, Snapshot

ENVIRON = {
    "KEY": "sk-from-the-environment",
    "TEAM": "team-key-of-enough-length",
    "PORT": "9000",
    "EMPTY": "",
    "ODD": "line\nbreak",
    "HOST": "0.0.0.0",  # a value, nobody listens
}

BASE = """\
providers:
  openai: {base_url: https://api.openai.com/v1, api_key: $KEY}
  local: {base_url: http://127.0.0.1:8081/v1}
models:
  mini: {provider: openai, name: gpt-4o-mini, price: {input: 0.15, output: 0.6, cached_input: "0.075"}}
  flagship: {provider: openai, name: gpt-4o}
  "fx-*": {provider: local}
schemas:
  invoice: {type: object, properties: {total: {type: number}}, required: [total]}
"""


def read(text: str, base_dir: pathlib.Path | str = ".", **environ: str) -> Snapshot:
    return loads(textwrap.dedent(text), name="t.yaml", environ={**ENVIRON, **environ}, base_dir=base_dir)


def refused(text: str, base_dir: pathlib.Path | str = ".") -> list[str]:
    with pytest.raises(ConfigRefused) as caught:
        read(text, base_dir)
    return [str(problem) for problem in caught.value.problems]


# What is put after BASE (lines 1 to 9) and every message that it must give, to the letter.
BROKEN = {
    "unknown-field-names-the-nearest": (
        "routes:\n  invoice: {laddr: [mini]}\n",
        [
            "t.yaml:11:3: routes.invoice.ladder: is missing (expected a list of model aliases, cheapest first, at least one)",
            "t.yaml:11:13: routes.invoice.laddr: unknown field; did you mean 'ladder'? (expected one of ladder, schema, repair, stream, context, limits, passthrough)",
        ],
    ),
    "unknown-section": (
        "rotues: {}\n",
        [
            "t.yaml:10:1: rotues: unknown field; did you mean 'routes'? (expected one of server, store, providers, models, schemas, routes, keys)"
        ],
    ),
    "unknown-model-in-a-ladder": (
        "routes:\n  invoice: {ladder: [mini, flagshp]}\n",
        [
            "t.yaml:11:28: routes.invoice.ladder[1]: no model of this name, got 'flagshp'; did you mean 'flagship'? (expected one of flagship, fx-*, mini)"
        ],
    ),
    "unknown-schema": (
        "routes:\n  a: {ladder: [mini], schema: invoce}\n",
        [
            "t.yaml:11:31: routes.a.schema: no schema of this name, got 'invoce'; did you mean 'invoice'? (expected one of invoice)"
        ],
    ),
    "unknown-route-of-a-key": (
        "routes: {invoice: {ladder: [mini]}}\nkeys: [{name: a, key: $TEAM, routes: [invoyce, default]}]\n",
        [
            "t.yaml:11:39: keys[0].routes[0]: no route of this name, got 'invoyce'; did you mean 'invoice'? (expected one of invoice)"
        ],
    ),
    "pattern-in-a-ladder": (
        'routes:\n  a: {ladder: ["fx-*"]}\n',
        ["t.yaml:11:16: routes.a.ladder[0]: a pattern is not a model; name one that it matches, got 'fx-*'"],
    ),
    "empty-ladder": (
        "routes:\n  a: {ladder: []}\n",
        [
            "t.yaml:11:15: routes.a.ladder: is empty, got a list (expected a list of model aliases, cheapest first, at least one)"
        ],
    ),
    "off-is-a-word-and-not-false": (
        "routes:\n  a: {ladder: [mini], stream: off}\n",
        ["t.yaml:11:31: routes.a.stream: unknown value, got 'off' (expected hold, checked or pass)"],
    ),
    "yes-is-a-word-and-not-true": (
        "routes:\n  a: {ladder: [mini], repair: {escalate: yes}}\n",
        ["t.yaml:11:42: routes.a.repair.escalate: wrong type, got 'yes' (expected true or false)"],
    ),
    "unknown-kind-of-change": (
        "routes:\n  a: {ladder: [mini], repair: {accept: [lossles], give_up: raws}}\n",
        [
            "t.yaml:11:41: routes.a.repair.accept[0]: unknown value, got 'lossles'; did you mean 'lossless'? (expected lossless, choice, coercion or lossy)",
            "t.yaml:11:60: routes.a.repair.give_up: unknown value, got 'raws'; did you mean 'raw'? (expected error or raw)",
        ],
    ),
    "port-out-of-range": (
        "server: {port: 80800}\n",
        ["t.yaml:10:16: server.port: out of range, got 80800 (expected a whole number from 0 to 65535)"],
    ),
    "text-for-a-number": (
        "server:\n  port: http\n  drain_s: [1]\n",
        [
            "t.yaml:11:9: server.port: wrong type, got 'http' (expected a whole number from 0 to 65535)",
            "t.yaml:12:12: server.drain_s: wrong type, got a list (expected a number above 0, at most 86400)",
        ],
    ),
    "true-is-no-number": (
        "server: {workers: true}\n",
        ["t.yaml:10:19: server.workers: wrong type, got true (expected a whole number from 1 to 64)"],
    ),
    "open-proxy-on-a-network": (
        "server: {host: 0.0.0.0}\n",
        [
            "t.yaml:10:16: server.host: without `keys` the proxy is open to everyone, and listens on a loopback address only, got '0.0.0.0' (expected `keys`, or 127.0.0.1, ::1 or localhost)"
        ],
    ),
    "open-proxy-by-the-environment": (
        "server: {host: $HOST}\n",
        [
            "t.yaml:10:16: server.host: without `keys` the proxy is open to everyone, and listens on a loopback address only, got '$HOST' (expected `keys`, or 127.0.0.1, ::1 or localhost)"
        ],
    ),
    "no-keys-in-the-list": (
        "keys: []\n",
        [
            "t.yaml:10:7: keys: is empty, got a list (expected a list of mappings with name, key, routes, admin, budget, rpm, tpm)"
        ],
    ),
    "the-same-key-twice": (
        "keys:\n  - {name: a, key: $TEAM}\n  - {name: a, key: team-key-of-enough-length}\n",
        [
            "t.yaml:12:12: keys[1].name: keys[0] has this name already",
            "t.yaml:12:20: keys[1].key: the same key as keys[0]; each needs its own",
        ],
    ),
    "key-as-a-number-is-not-shown": (
        "keys: [{name: a, key: 12345678}]\n",
        [
            "t.yaml:10:23: keys[0].key: wrong type, got a number or truth value (expected a text: $NAME, file:PATH or the key itself, in quotes)"
        ],
    ),
    "key-in-the-wrong-place-is-not-shown": (
        "keys: [sk-secret-secret]\n",
        [
            "t.yaml:10:8: keys[0]: wrong type, got a text (expected a mapping with name, key, routes, admin, budget, rpm, tpm)"
        ],
    ),
    "money-finer-than-its-unit": (
        "routes:\n  a: {ladder: [mini], limits: {cost_usd: 0.0000000001}}\n  b: {ladder: [mini], limits: {cost_usd: 0}}\n",
        [
            "t.yaml:11:42: routes.a.limits.cost_usd: finer than a nano-dollar, got 1e-10 (expected an amount of USD above 0, such as 0.05)",
            "t.yaml:12:42: routes.b.limits.cost_usd: out of range, got 0 (expected an amount of USD above 0, such as 0.05)",
        ],
    ),
    "context-budget-without-a-policy": (
        "routes:\n  a: {ladder: [mini], context: {budget_tokens: 10}}\n",
        [
            "t.yaml:11:33: routes.a.context.budget_tokens: has no effect while policy is off (expected policy: recent or relevant beside it)"
        ],
    ),
    "unknown-variable": (
        "store: sqlite:///$DATA_DIR/${NAME}.db\n",
        [
            "t.yaml:10:8: store: the environment variable DATA_DIR is not set; set it, or write $$ for a dollar sign",
            "t.yaml:10:8: store: the environment variable NAME is not set; set it, or write $$ for a dollar sign",
        ],
    ),
    "dollar-that-names-nothing": (
        "store: sqlite:///a$-b.db\n",
        [
            "t.yaml:10:8: store: a '$' that names no variable; write $NAME or ${NAME}, and $$ for a dollar sign"
        ],
    ),
    "unknown-store": (
        "store: redis://host\n",
        [
            "t.yaml:10:8: store: not a store that Tailrace knows, got a text (expected sqlite:///PATH, postgresql://... or memory:)"
        ],
    ),
    "name-that-no-path-can-carry": (
        "routes:\n  a b: {ladder: [mini]}\n",
        [
            "t.yaml:11:3: routes.\"a b\": not a name (expected letters, digits, '.', '_' and '-', at most 64, the first a letter or digit)"
        ],
    ),
    "the-same-name-twice": (
        "routes:\n  a: {ladder: [mini]}\n  a: {ladder: [mini]}\n",
        ["t.yaml:12:3: routes.a: stands twice, first in line 11; keep one"],
    ),
    "section-without-content": (
        "routes:\n",
        ["t.yaml:10:8: routes: wrong type, got nothing (expected a mapping from names to mappings)"],
    ),
    "problems-of-all-kinds-at-once": (
        "server: {prt: 1}\nroutes:\n  a: {ladder: [mni], stream: hodl, schema: $NO}\n",
        [
            "t.yaml:10:10: server.prt: unknown field; did you mean 'port'? (expected one of host, port, workers, max_body_mb, header_timeout_s, body_timeout_s, drain_s, hold_status_s, keepalive_s, max_connections, max_requests, cors_origins)",
            "t.yaml:12:16: routes.a.ladder[0]: no model of this name, got 'mni'; did you mean 'mini'? (expected one of flagship, fx-*, mini)",
            "t.yaml:12:30: routes.a.stream: unknown value, got 'hodl'; did you mean 'hold'? (expected hold, checked or pass)",
            "t.yaml:12:44: routes.a.schema: the environment variable NO is not set; set it, or write $$ for a dollar sign",
        ],
    ),
}


@pytest.mark.parametrize(("text", "messages"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_refused_with_place_field_and_what_was_expected(text, messages):
    assert refused(BASE + text) == messages
