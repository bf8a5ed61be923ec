"""`trim` and `explain` tell what would be decided, without asking a model."""

import io
import json
import types

import pytest

from proxy.cli import main
from tests.proxy.test_conversations import history

CONFIG = """
providers: {up: {base_url: "http://127.0.0.1:9/v1"}}
models:
  tiny: {provider: up, window_tokens: 900, price: {input: 1, output: 1}}
  big: {provider: up, window_tokens: 90000, price: {input: 9, output: 9}}
routes:
  default: {ladder: [tiny, big], context: {policy: relevant, budget_tokens: 400}}
"""


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    file = tmp_path / "t.yaml"
    file.write_text(CONFIG)

    def run(command, messages, *more):
        body = json.dumps({"messages": messages}).encode()
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(body)))
        status = main([command, "--config", str(file), *more])
        return status, capsys.readouterr()

    return run


def test_trim_prints_what_stays_and_what_goes(ask):
    status, printed = ask("trim", [*history(60), {"role": "user", "content": "What is the invoice number?"}])
    assert status == 0
    assert "INV-7731" in printed.out
    assert "goes:" in printed.out
    assert "at full input price" in printed.out


def test_explain_prints_the_model_and_why(ask):
    status, printed = ask("explain", [{"role": "user", "content": "words " * 2000}])
    assert status == 0
    assert "do not fit into 900" in printed.out
    assert "big" in printed.out.splitlines()[-1]


def test_an_unknown_route_is_told(ask):
    status, printed = ask("trim", [{"role": "user", "content": "x"}], "--route", "nope")
    assert status == 1
    assert "no route 'nope'" in printed.err
