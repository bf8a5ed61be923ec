"""A configuration is a Snapshot, or everything that is wrong with it: place, field, what was expected."""

import pathlib
import subprocess
import sys
import textwrap
import time

import pytest

from policies.cards import Price
from policies.route import ContextRule, Floor, Limits, Match, Repair, Route, When
from proxy.config import ConfigRefused, load, loads, render_check, render_problems
from proxy.config.checks import digest
from proxy.secret import Secret
from proxy.snapshot import MAX_REMEMBERED, Budget, Provider, Server, Snapshot

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
    "floor-of-a-model-that-is-not-climbed-to": (
        "routes:\n  invoice: {ladder: [mini], floor: {of: flagship}}\n",
        [
            "t.yaml:11:41: routes.invoice.floor.of: not a model of the ladder, got 'flagship' (expected one of mini)"
        ],
    ),
    "models-of-a-rule-and-of-a-pair-must-exist": (
        "routes:\n  invoice: {ladder: [mini], agree: [fx-a, tiny], match: [{when: {step: a}, ladder: [huge]}]}\n",
        [
            "t.yaml:11:43: routes.invoice.agree[1]: no model of this name, got 'tiny' (expected one of flagship, fx-*, mini)",
            "t.yaml:11:85: routes.invoice.match[0].ladder[0]: no model of this name, got 'huge' (expected one of flagship, fx-*, mini)",
        ],
    ),
    "shares-are-between-none-and-all": (
        "routes:\n  invoice: {ladder: [mini], holdout: 2}\n",
        ["t.yaml:11:38: routes.invoice.holdout: out of range, got 2 (expected a number from 0 to 1)"],
    ),
    "unknown-field-names-the-nearest": (
        "routes:\n  invoice: {laddr: [mini]}\n",
        [
            "t.yaml:11:3: routes.invoice.ladder: is missing (expected a list of model aliases, cheapest first, at least one)",
            "t.yaml:11:13: routes.invoice.laddr: unknown field; did you mean 'ladder'? (expected one of ladder, choose, match, require, floor, agree, sticky, shadow, holdout, log_prompts, schema, repair, structured, tools, stream, context, limits, hedge, cache, budget, run_budget, passthrough)",
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
    "masking-without-relevance": (
        "routes:\n  a: {ladder: [mini], context: {policy: recent, mask_results_after: 3}}\n",
        [
            "t.yaml:11:49: routes.a.context.mask_results_after: has an effect with one policy only (expected policy: relevant beside it)"
        ],
    ),
    "summary-of-an-unknown-model": (
        "routes:\n  a: {ladder: [mini], context: {policy: relevant, summary: {model: minny}}}\n",
        [
            "t.yaml:11:68: routes.a.context.summary.model: no model of this name, got 'minny'; did you mean 'mini'? (expected one of flagship, fx-*, mini)"
        ],
    ),
    "summary-by-a-model-without-the-required-tag": (
        "routes:\n  a: {ladder: [mini], require: [eu], context: {policy: relevant, summary: {model: mini}}}\n",
        [
            "t.yaml:11:83: routes.a.context.summary.model: lacks a tag that the route requires, got 'mini' (expected a model with the tag 'eu')"
        ],
    ),
    "summary-without-relevance": (
        "routes:\n  a: {ladder: [mini], context: {summary: {model: mini}}}\n",
        [
            "t.yaml:11:33: routes.a.context.summary: has an effect with one policy only (expected policy: relevant beside it)"
        ],
    ),
    "recall-tool-without-a-policy": (
        "routes:\n  a: {ladder: [mini], context: {recall_tool: true}}\n  b: {ladder: [mini], context: {recall_tool: false}}\n",
        [
            "t.yaml:11:33: routes.a.context.recall_tool: has no effect while policy is off (expected policy: recent or relevant beside it)"
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
            "t.yaml:10:10: server.prt: unknown field; did you mean 'port'? (expected one of host, port, admin_listen, workers, max_body_mb, header_timeout_s, body_timeout_s, drain_s, hold_status_s, keepalive_s, max_connections, max_connections_per_client, trusted_proxies, max_held_mb, max_requests, open_metrics, cors_origins)",
            "t.yaml:12:16: routes.a.ladder[0]: no model of this name, got 'mni'; did you mean 'mini'? (expected one of flagship, fx-*, mini)",
            "t.yaml:12:30: routes.a.stream: unknown value, got 'hodl'; did you mean 'hold'? (expected hold, checked or pass)",
            "t.yaml:12:44: routes.a.schema: the environment variable NO is not set; set it, or write $$ for a dollar sign",
        ],
    ),
}


@pytest.mark.parametrize(("text", "messages"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_refused_with_place_field_and_what_was_expected(text, messages):
    assert refused(BASE + text) == messages


# Whole files: what YAML itself forbids, and what stands in providers and models.
WHOLE = {
    "nothing": (
        "",
        ["t.yaml:1:1: a configuration is a mapping with at least `providers` and `models`"],
    ),
    "a-list": (
        "- a\n",
        ["t.yaml:1:1: a configuration is a mapping with at least `providers` and `models`"],
    ),
    "no-section-at-all": (
        "server: {}\n",
        [
            "t.yaml:1:1: models: is missing (expected a mapping from names to mappings)",
            "t.yaml:1:1: providers: is missing (expected a mapping from names to mappings)",
        ],
    ),
    "open-quote": (
        "providers:\n  a: {api_key: 'sk-secret}\n",
        ["t.yaml:3:1: the quote that opens in line 2 is never closed"],
    ),
    "open-bracket": (
        "models: [sk-secret,\n  b\nproviders: {}\n",
        ["t.yaml:3:10: the '[' that opens in line 1 is not closed, or a comma is missing"],
    ),
    "open-brace": (
        "models: {sk-secret: b,\n  b\n",
        ["t.yaml:3:1: the '{' that opens in line 1 is not closed, or a comma is missing"],
    ),
    "tab": ("models:\n\ta: 1\n", ["t.yaml:2:1: a tab: YAML indents with spaces"]),
    "wrong-indentation": (
        "models:\n  a: 1\n b: 2\n",
        [
            "t.yaml:3:2: this does not fit the lines before it; give names of one level the same indentation"
        ],
    ),
    "colon-in-a-value": (
        "providers:\n  a: {}\nkeys:\n  - key: sk-secret: more\n",
        [
            "t.yaml:4:19: a ':' that may not stand here; check the indentation, or put a value with ': ' in quotes"
        ],
    ),
    "line-without-a-colon": (
        "providers:\n  a: {}\n  api_key sk-secret\nmodels: {}\n",
        [
            "t.yaml:4:1: line 3 has no ':'; write `name: value`, and check the indentation and quotes around it"
        ],
    ),
    "backslash": (
        'store: "\\qsk-secret"\n',
        ["t.yaml:1:10: in double quotes a backslash begins an escape; write \\\\ or use single quotes"],
    ),
    "at-sign": (
        "store: @sk-secret\n",
        ["t.yaml:1:8: a value cannot begin with this character; put the value in quotes"],
    ),
    "alias-of-nothing": (
        "store: *sk-secret\n",
        [
            "t.yaml:1:8: '*' begins an alias, and no such anchor stands before it; put a value that begins with '*' in quotes"
        ],
    ),
    "tag": (
        "store: !!python/name:os.system\n",
        ["t.yaml:1:8: a value that begins with '!' is a tag, which is not used here; put it in quotes"],
    ),
    "second-document": ("store: a\n---\nstore: b\n", ["t.yaml:3:1: a second document; a configuration is one"]),
    "control-character": (
        "store: a\n\x00b: 1\n",
        ["t.yaml:2:1: a control character or half a character; save the file as plain UTF-8"],
    ),
    "half-a-character": (
        'providers: {a: {base_url: "\\ud83d\\ude00\\ud83d"}}\n',
        ["t.yaml:1:27: an escape makes half a character; write both halves, or the character itself"],
    ),
    "name-that-is-a-list": (
        "? [a]\n: 1\n",
        [
            "t.yaml:1:1: models: is missing (expected a mapping from names to mappings)",
            "t.yaml:1:1: providers: is missing (expected a mapping from names to mappings)",
            "t.yaml:1:3: a name must be a plain text, not a list or a mapping",
        ],
    ),
    "nested-too-deeply": ("[" * 100, ["t.yaml:1:65: nested deeper than 64 levels"]),
    "merge-of-a-text": (
        BASE + "server: {<<: a}\n",
        ['t.yaml:10:10: server."<<": takes a mapping or a list of mappings'],
    ),
    "providers-and-models": (
        """\
        providers:
          openai: {base_url: api.openai.com, api_key: $MISSING}
          a/b: {base_url: "https://me:sk-secret@host/v1"}
          azure: {base_url: "https://host/v1?api-version=1", dialect: azure, headers: {Host: a, x y: b, n: 1}}
          twice: {base_url: http://host, api_key: $KEY, headers: {Authorization: b}, query: {v: 1}}
        models:
          "a b": {provider: openai}
          "x*y": {provider: opnai}
          "z-*": {provider: openai, name: z}
          p: {provider: openai, price: {input: free, output: 0.0000001, cachd_input: 1}, can: [fly], window_tokens: 0}
        """,
        [
            "t.yaml:2:22: providers.openai.base_url: not an http or https URL, got a text (expected a URL such as https://api.openai.com/v1, without a password or query)",
            "t.yaml:2:47: providers.openai.api_key: the environment variable MISSING is not set; set it, or write $$ for a dollar sign",
            "t.yaml:3:3: providers.\"a/b\": not a name (expected letters, digits, '.', '_' and '-', at most 64, the first a letter or digit)",
            't.yaml:3:19: providers."a/b".base_url: holds a user name or a password; use api_key or headers, got a text (expected a URL such as https://api.openai.com/v1, without a password or query)',
            "t.yaml:4:21: providers.azure.base_url: has a query or a fragment; put the query under `query`, got a text (expected a URL such as https://api.openai.com/v1, without a password or query)",
            "t.yaml:4:63: providers.azure.dialect: unknown value, got 'azure' (expected openai or anthropic)",
            "t.yaml:4:80: providers.azure.headers.Host: the proxy sets this header itself; leave it out",
            "t.yaml:4:89: providers.azure.headers.\"x y\": not a header's name",
            "t.yaml:4:100: providers.azure.headers.n: wrong type, got a number or truth value (expected a text, in quotes where it looks like a number)",
            "t.yaml:5:59: providers.twice.headers.Authorization: api_key sets this header already; keep one",
            "t.yaml:5:89: providers.twice.query.v: wrong type, got a number or truth value (expected a text, in quotes where it looks like a number)",
            "t.yaml:7:3: models.\"a b\": not an alias (expected a name without blanks, at most 128 characters, a '*' only at its end)",
            "t.yaml:8:3: models.\"x*y\": not an alias (expected a name without blanks, at most 128 characters, a '*' only at its end)",
            "t.yaml:8:21: models.\"x*y\".provider: no provider of this name, got 'opnai'; did you mean 'openai'? (expected one of a/b, azure, openai, twice)",
            "t.yaml:9:29: models.\"z-*\".name: an alias with '*' passes on the name that was asked for; leave `name` out",
            "t.yaml:10:40: models.p.price.input: not an amount of USD, got 'free' (expected USD per million tokens, such as 0.15)",
            "t.yaml:10:54: models.p.price.output: finer than a millionth of a dollar per million tokens, got 1e-07 (expected USD per million tokens, such as 0.15)",
            "t.yaml:10:65: models.p.price.cachd_input: unknown field; did you mean 'cached_input'? (expected one of input, output, cached_input, cache_write)",
            "t.yaml:10:88: models.p.can[0]: unknown value, got 'fly' (expected json_object, json_schema, tools, vision, audio, pdf, reasoning or embeddings)",
            "t.yaml:10:109: models.p.window_tokens: out of range, got 0 (expected a whole number of at least 1)",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), WHOLE.values(), ids=WHOLE)
def test_a_file_that_is_no_configuration_is_refused_without_quoting_it(text, messages):
    assert refused(text) == messages


def test_a_whole_configuration_becomes_frozen_values():
    snapshot = read(
        BASE
        + """\
server: {port: $PORT, max_body_mb: 1.5, cors_origins: [https://app.example]}
routes:
  invoice:
    ladder: [mini, fx-1]
    schema: invoice
    repair: {accept: [lossless], reask: 2, escalate: false, give_up: raw}
    stream: checked
    context: {budget_tokens: 6000, policy: recent}
    limits: {attempts: 3, cost_usd: 0.05, deadline_s: 2}
    passthrough: false
keys:
  - {name: a, key: $TEAM, routes: [invoice, default], budget: {usd: "5.5", per: month}, rpm: 600, tpm: 9}
  - {name: b, key: literal-key, admin: true}
"""
    )
    assert (snapshot.server.port, snapshot.server.max_body_mb) == (9000, 1.5)
    assert snapshot.server.cors_origins == ("https://app.example",)
    assert snapshot.routes["invoice"] == Route(
        name="invoice",
        ladder=("mini", "fx-1"),
        schema="invoice",
        repair=Repair(frozenset({"lossless"}), reask=2, escalate=False, give_up="raw"),
        stream="checked",
        context=ContextRule("recent", 6000),
        limits=Limits(3, 50_000_000, 2),
        passthrough=False,
    )
    assert snapshot.keys is not None
    team, other = snapshot.keys
    assert team.digest == digest(Secret(ENVIRON["TEAM"]))
    assert team.routes == {"invoice", "default"}
    assert (team.budget, team.rpm, team.tpm) == (Budget(5_500_000_000, "month"), 600, 9)
    assert (other.admin, other.routes, other.budget) == (True, None, None)
    assert snapshot.schemas["invoice"]["required"] == ["total"]
    assert snapshot.providers["openai"].api_key == Secret(ENVIRON["KEY"])


def test_the_defaults_are_those_of_the_frozen_values():
    snapshot = read(BASE)
    assert snapshot.server == Server()
    assert snapshot.keys is None
    provider = Provider("local", "http://127.0.0.1:8081/v1")
    assert snapshot.providers["local"] == provider
    text = BASE + "routes: {a: {ladder: [mini]}}"
    assert read(text).routes["a"] == Route("a", ("mini",))


PRICES = {
    "0.15": 150_000,
    "0.0375": 37_500,
    '"0.0375"': 37_500,
    "0": 0,
    "15": 15_000_000,
    "1e-6": 1,
    "$PRICE": 1_234_567,
}


@pytest.mark.parametrize(("written", "pico"), PRICES.items())
def test_a_price_is_exact_in_pico_usd_per_token(written, pico):
    text = f"""\
    providers: {{p: {{base_url: http://127.0.0.1}}}}
    models: {{m: {{provider: p, price: {{input: {written}, output: 1}}}}}}
    """
    assert read(text, PRICE="1.234567").models["m"].price == Price(pico, 1_000_000)


def test_yaml_1_2_is_read_so_that_dates_and_off_stay_texts():
    snapshot = read("""\
    providers: {p: {base_url: http://127.0.0.1, query: {api-version: 2024-10-21, a: no, b: 1:30, c: 0b1}}}
    models: {m: {provider: p, window_tokens: 0x10}, 1.5: {provider: p}}
    routes: {default: {ladder: [m], context: {policy: off}}}
    """)
    assert snapshot.providers["p"].query == {"api-version": "2024-10-21", "a": "no", "b": "1:30", "c": "0b1"}
    assert snapshot.models["m"].window_tokens == 16
    assert set(snapshot.models) == {"m", "1.5"}
    assert snapshot.routes["default"].context.policy == "off"


def test_anchors_aliases_and_merges_work_and_own_names_win():
    snapshot = read("""\
    providers:
      a: &a {base_url: http://127.0.0.1:1, retries: 3, timeouts: &t {connect_s: 1}}
      b: {<<: *a, base_url: http://127.0.0.1:2}
      c: {<<: [*a, {trust_env: true}], timeouts: *t}
    models: {m: {provider: a}}
    """)
    a, b, c = snapshot.providers.values()
    assert (b.base_url, b.retries, b.timeouts) == ("http://127.0.0.1:2", 3, a.timeouts)
    assert (c.base_url, c.trust_env, c.timeouts.connect_s) == ("http://127.0.0.1:1", True, 1)


@pytest.mark.parametrize(
    "bomb",
    [
        "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(40)),
        "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(100)),
        "[" * 200_000,
        "{a: " * 100_000,
        "a: &a [*a]\n",
        "- " * 100_000,
        "? " * 100_000,
        "x" * 500_000 + ": 1",
        "a: " + "9" * 100_000,
        '"' + "a" * 500_000,
        "\n" * 500_000 + "]",
    ],
    ids=lambda bomb: bomb[:12].replace("\n", " "),
)
def test_what_is_made_to_explode_is_refused_in_time(bomb):
    began = time.perf_counter()
    assert refused(bomb)
    assert time.perf_counter() - began < 2


def test_a_reference_in_braces_needs_no_quotes_within_braces():
    snapshot = read("""\
    providers: {p: {base_url: http://127.0.0.1, api_key: ${KEY}, query: {a: "x{${KEY}}", b: ${KEY}x}}}
    models: {m: {provider: p}} # ${}
    """)
    provider = snapshot.providers["p"]
    assert provider.api_key == Secret(ENVIRON["KEY"])
    assert provider.query == {"a": "x{" + ENVIRON["KEY"] + "}", "b": ENVIRON["KEY"] + "x"}


@pytest.mark.parametrize(
    "text",
    [
        BASE + "routes:\n" + "".join(f"  r{i}: {{ladder: [m{i}]}}\n" for i in range(5000)),
        BASE + "".join(f"field{i}: 1\n" for i in range(20_000)),
        "models:\n" + "".join(f"  model{i}: {{provider: provider{i}}}\n" for i in range(6000)),
        BASE.replace(
            "models:\n", "models:\n" + "".join(f"  model{i}: {{provider: local}}\n" for i in range(1500))
        )
        + "routes:\n"
        + "".join(f"  r{i}: {{ladder: [modle{i}]}}\n" for i in range(1500)),
    ],
    ids=["references", "fields", "providers", "likely-names"],
)
def test_of_thousands_of_problems_the_first_are_told_in_time(text):
    began = time.process_time()
    assert 500 <= len(refused(text)) <= 502
    assert time.process_time() - began < 10


def test_a_dollar_sign_is_written_twice_and_schemas_keep_theirs(tmp_path):
    (tmp_path / "s.json").write_text('{"$defs": {"a": {"pattern": "^a$"}}, "$ref": "#/$defs/a"}')
    snapshot = read(
        """\
        store: sqlite:///a$$b.db
        providers: {p: {base_url: http://127.0.0.1, headers: {x-sum: "Bearer $KEY$$"}}}
        models: {m: {provider: p}}
        schemas: {file: "$DIR/s.json", inline: {type: string, pattern: ^a$}}
        """,
        tmp_path,
        DIR=".",
    )
    assert snapshot.store == "sqlite:///a$b.db"
    assert snapshot.providers["p"].headers["x-sum"].reveal() == "Bearer sk-from-the-environment$"
    assert snapshot.schemas["inline"]["pattern"] == "^a$"
    assert snapshot.schemas["file"]["$ref"] == "#/$defs/a"


def test_a_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("sk-from-a-file\n")
    text = """\
    providers:
      a: {base_url: http://127.0.0.1, api_key: file:key}
      b: {base_url: http://127.0.0.1, api_key: "file:$DIR/key"}
    models: {m: {provider: a}}
    """
    snapshot = read(text, tmp_path, DIR=str(tmp_path))
    assert [p.api_key.reveal() for p in snapshot.providers.values()] == ["sk-from-a-file"] * 2


SECRETS = {
    "missing-file": ("file:nowhere", "cannot read the file nowhere: no such file or directory"),
    "folder": ("file:.", "cannot read the file .: not a regular file"),
    "large-file": ("file:large", "cannot read the file large: larger than 65536 bytes"),
    "binary-file": ("file:binary", "cannot read the file binary: it is not text"),
    "empty-file": ("file:empty", "is empty (from file:empty)"),
    "empty-variable": ("$EMPTY", "is empty (from the environment variable EMPTY)"),
    "empty-text": ('""', "is empty"),
    "line-break": (
        "$ODD",
        "has a character that no header may carry, or a blank at an end (from the environment variable ODD)",
    ),
    "variable-alone": (
        "$NOT_THERE",
        "the environment variable NOT_THERE is not set; set it, or write $$ for a dollar sign",
    ),
    "variable-in-braces": (
        "x${NOT_THERE}x",
        "the environment variable NOT_THERE is not set; set it, or write $$ for a dollar sign",
    ),
    "dollar-in-a-key-is-not-taken-for-a-name": (
        "sk-abc$def",
        "the environment variable (not named: it may be a part of the secret) is not set; set it, or write $$ for a dollar sign",
    ),
}


@pytest.mark.parametrize(("written", "message"), SECRETS.values(), ids=SECRETS)
def test_a_secret_that_cannot_be_had_is_refused_by_its_source(tmp_path, written, message):
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_bytes(b"\n")
    text = f"""\
    providers: {{a: {{base_url: http://127.0.0.1, api_key: {written}}}}}
    models: {{m: {{provider: a}}}}
    """
    assert refused(text, tmp_path) == [f"t.yaml:1:54: providers.a.api_key: {message}"]


SCHEMAS = {
    "missing": (None, "cannot read the schema s.json: no such file or directory"),
    "not-json": (
        b'{"a": 1,\n  oops}',
        "s.json:2:3: not JSON: Expecting property name enclosed in double quotes",
    ),
    "not-utf-8": (b'"\xff"', "cannot read the schema s.json: not UTF-8"),
    "twice": (
        b'{"type": "a", "type": "b"}',
        "cannot read the schema s.json: 'type' stands twice in one object",
    ),
    "nan": (b'{"const": NaN}', "cannot read the schema s.json: NaN is not JSON"),
    "deep": (b"[" * 70 + b"]" * 70, "cannot read the schema s.json: nested deeper than 64 levels"),
    "very-deep": (b"[" * 200_000, "cannot read the schema s.json: nested deeper than 64 levels"),
    "digits": (
        b'{"const": ' + b"1" * 9000 + b"}",
        "cannot read the schema s.json: a number of more than 100 digits",
    ),
    "null": (b"null", "the schema is refused: a schema is an object or a boolean"),
    "large": (b" " * 300_000, "cannot read the schema s.json: larger than 262144 bytes"),
}


@pytest.mark.parametrize(("content", "message"), SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_file_that_cannot_be_used_is_refused_at_its_field(tmp_path, content, message):
    if content is not None:
        (tmp_path / "s.json").write_bytes(content)
    text = BASE.replace("invoice: {", "other: s.json\n  invoice: {")
    assert refused(text, tmp_path) == [f"t.yaml:9:10: schemas.other: {message}"]


def test_no_file_has_a_name_with_a_nul(tmp_path):
    text = BASE.replace("invoice: {", 'other: "a\\0b"\n  invoice: {')
    assert refused(text, tmp_path) == [
        "t.yaml:9:10: schemas.other: cannot read the schema a?b: no file has such a name"
    ]


def test_an_invalid_schema_is_refused_at_its_field():
    text = BASE + "  bad: {type: strin}\n  number: 5\n"
    first, second = refused(text)
    assert first.startswith("t.yaml:10:")
    assert "schemas.bad" in first
    assert second == (
        "t.yaml:11:11: schemas.number: wrong type (expected the path of a JSON Schema file, or the schema itself)"
    )


def test_how_a_route_chooses_becomes_frozen_values():
    snapshot = read(
        BASE
        + """\
routes:
  agent:
    ladder: [mini, flagship]
    choose: learned
    floor: {of: flagship}
    match:
      - {when: {tool: "search_*", schema: invoice}, step: search, ladder: [flagship]}
    require: [eu]
    agree: [mini, fx-a]
    sticky: true
    shadow: 0.02
    holdout: 0.01
"""
    )
    assert snapshot.routes["agent"] == Route(
        "agent",
        ("mini", "flagship"),
        choose="learned",
        floor=Floor("flagship", 0.98, 0.05),
        match=(Match(When(tool="search_*", schema="invoice"), "search", ("flagship",)),),
        require=frozenset({"eu"}),
        agree=("mini", "fx-a"),
        sticky=True,
        shadow=0.02,
        holdout=0.01,
    )


def test_a_context_budget_must_fit_a_model_of_the_ladder():
    text = """\
    providers: {p: {base_url: http://127.0.0.1}}
    models: {a: {provider: p, window_tokens: 100}, b: {provider: p, window_tokens: 200}}
    routes:
      small: {ladder: [a], context: {policy: recent, budget_tokens: 101}}
      both: {ladder: [a, b], context: {policy: recent, budget_tokens: 200}}
    """
    assert refused(text) == [
        "t.yaml:4:65: routes.small.context.budget_tokens: more than any model of the ladder takes, got 101 (expected at most 100)"
    ]


def test_one_model_alone_serves_what_selects_no_route():
    one = read("""\
    providers: {p: {base_url: http://127.0.0.1}}
    models: {only: {provider: p}, "x-*": {provider: p}}
    """)
    assert one.routes["default"] == Route("default", ("only",))
    assert "default" not in read(BASE).routes


def test_a_name_that_a_client_asks_for_finds_its_model():
    snapshot = read(BASE)
    card = snapshot.card_for("fx-text")
    assert (card.alias, card.provider, card.name) == ("fx-*", "local", "fx-text")
    assert snapshot.card_for("openai/gpt-4o-mini") is snapshot.models["mini"]
    unknown = snapshot.card_for("local/new/model")
    assert (unknown.alias, unknown.name, unknown.price) == ("local/*", "new/model", None)
    assert snapshot.card_for("nobody/x") is None
    assert snapshot.card_for("mini2") is None


def test_host_and_port_of_the_command_line_win_and_are_checked():
    def start(**address):
        return loads(BASE + "server: {port: 1}\n", name="t", environ=ENVIRON, base_dir=".", **address)

    assert start(port=81, host="::1").server == Server(host="::1", port=81)
    with pytest.raises(ConfigRefused, match=r"server\.host: without `keys`"):
        start(host="0.0.0.0")


def test_a_network_address_is_fine_with_keys():
    text = BASE + "server: {host: 0.0.0.0}\nkeys: [{name: a, key: $TEAM}]\n"
    assert read(text).server.host == "0.0.0.0"


FILES = {
    "missing": (None, "cannot read this file: no such file or directory"),
    "large": (b"#" * 600_000, "larger than 524288 bytes"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, content, message):
    file = tmp_path / "c.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigRefused) as caught:
        load(file, {})
    assert str(caught.value) == f"{file}: {message}\n1 problem: this configuration is not used"


def test_a_file_in_another_encoding_is_refused_with_its_line(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes("a: 1\nb: é\n".encode("latin-1"))
    with pytest.raises(ConfigRefused) as caught:
        load(file, {})
    assert caught.value.problems[0].line == 2
    assert caught.value.problems[0].message == "not UTF-8; save the file as UTF-8"
    file.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load(file, ENVIRON).models


def test_problems_are_told_in_the_order_of_the_file_and_counted():
    with pytest.raises(ConfigRefused) as caught:
        read(BASE + "routes: {a: {ladder: [x]}}\nserver: {z: 1}\nstore: 3\n")
    lines = [p.line for p in caught.value.problems]
    assert lines == [10, 11, 12]
    assert render_problems(caught.value.problems).endswith("3 problems: this configuration is not used")


def test_check_shows_what_a_request_will_meet_and_no_secret():
    shown = render_check(
        read(
            BASE.replace("name: gpt-4o}", "name: of-my-own}")
            + """\
store: postgresql://me:password-of-the-store@db/tailrace?sslkey=password-of-the-key
routes:
  flagship: {ladder: [mini, flagship, mini], schema: invoice, context: {policy: recent, budget_tokens: 9}, limits: {cost_usd: 0.05}}
keys: [{name: a, key: $TEAM, rpm: 5, budget: {usd: 5}}]
"""
        )
    )
    for secret in (ENVIRON["KEY"], ENVIRON["TEAM"], "password"):
        assert secret not in shown
    assert "store    postgresql://db/tailrace\n" in shown
    assert "  mini      openai    gpt-4o-mini  " in shown
    assert "128000  0.15    0.6      0.075   as input  book 2" in shown
    assert (
        "  flagship  mini > flagship > mini  invoice  reask 1, escalate, else error  hold    recent 9  4 attempts, 0.05 USD"
        in shown
    )
    assert "  a     all     5 USD per day  5 requests" in shown
    for warning in (
        "model flagship: unpriced",
        "route flagship: limits.cost_usd cannot count flagship, which is unpriced",
        "route flagship: hides the model of this name",
        "route flagship: a model stands twice in its ladder",
        "no default route",
    ):
        assert warning in shown
    assert "no keys" not in shown


def test_what_the_configuration_does_not_say_comes_from_the_price_book():
    snapshot = read("""\
    providers: {openai: {base_url: https://api.openai.com/v1}, azure: {base_url: https://x.openai.azure.com}}
    models:
      mini: {provider: openai, name: gpt-4o-mini}
      mine: {provider: openai, name: gpt-4o-mini, price: {input: 1, output: 2}, window_tokens: 50, can: []}
      deployed: {provider: azure, name: gpt-4o-mini}
      "gpt-*": {provider: openai}
      odd: {provider: openai, name: of-my-own}
    """)
    book = Price(150_000, 600_000, 75_000)
    mini, mine, deployed, _, odd = snapshot.models.values()
    assert (mini.price, mini.window_tokens, mini.max_output_tokens) == (book, 128_000, 16_384)
    assert mini.can is not None
    assert "json_schema" in mini.can
    assert mine.price == Price(1_000_000, 2_000_000)
    assert (mine.window_tokens, mine.max_output_tokens, mine.can) == (50, 16_384, frozenset())
    assert deployed.price == book
    assert (odd.price, odd.window_tokens, odd.can) == (None, None, None)
    asked = snapshot.card_for("gpt-4o-mini")
    assert asked is not None
    assert (asked.alias, asked.name, asked.price) == ("gpt-*", "gpt-4o-mini", book)
    pinned = snapshot.card_for("openai/gpt-4o")
    assert pinned is not None
    assert (pinned.alias, pinned.price) == ("openai/*", Price(2_500_000, 10_000_000, 1_250_000))
    shown = render_check(snapshot)
    for source in ("book 2", "configuration", "as openai sells it", "by the asked name", "UNPRICED"):
        assert source in shown


def test_names_that_clients_invent_are_not_remembered_without_end():
    snapshot = read(BASE)
    for i in range(1500):
        assert snapshot.card_for(f"fx-{i}").name == f"fx-{i}"
        assert snapshot.card_for(f"nobody-{i}") is None
    assert len(snapshot._remembered) == MAX_REMEMBERED


def test_check_warns_of_an_open_proxy_and_of_keys_without_encryption():
    shown = render_check(
        read("""\
        providers: {p: {base_url: http://far.example, api_key: $KEY, dialect: anthropic}}
        models: {m: {provider: p, window_tokens: 100}, n: {provider: p, window_tokens: 10}}
        routes: {default: {ladder: [m, n], context: {policy: recent, budget_tokens: 50, recall_tool: true}}}
        """)
    )
    for warning in (
        "no keys: whoever reaches this address",
        "provider p: its key travels unencrypted",
        "provider p: this version cannot call the dialect anthropic yet",
        "route default: n takes 10 tokens, less than context.budget_tokens",
        "route default: m is not known to take tools: it is not offered context.recall_tool",
    ):
        assert warning in shown


def test_pydantic_and_yaml_are_not_imported_before_a_configuration_is_read():
    script = "import sys, proxy.config; print({'pydantic', 'yaml', 'jsonschema_rs'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


def test_a_pattern_has_no_breaker_unless_it_is_asked_for():
    text = """
providers: {up: {base_url: "http://127.0.0.1:1/v1"}}
models: {named: {provider: up}, "a-*": {provider: up}, "b-*": {provider: up, breaker: true}}
"""
    models = loads(text, name="t", environ={}, base_dir=".").models
    assert {alias: card.breaker for alias, card in models.items()} == {
        "named": True,
        "a-*": False,
        "b-*": True,
    }
