"""The examples check clean, name every field there is, and the reference is what the models say."""

import json
import pathlib

import pytest
import yaml

from proxy.config import load, loads, render_check
from proxy.config.docs import reference
from proxy.config.models import ConfigModel
from proxy.config.words import Shape, shape_of

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*.yaml"))
NAMES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_API_KEY", "TEAM_A_KEY", "ADMIN_KEY")
ENVIRON = {name: f"value-of-{name}" for name in NAMES}


def test_the_reference_is_made_from_the_models():
    stored = (ROOT / "docs/configuration.md").read_text()
    assert stored == reference(), "stale: python -m proxy.config.docs > docs/configuration.md"


def test_every_field_of_the_reference_has_a_meaning():
    for path, info in fields(Shape(ConfigModel), ()):
        assert info.description, path


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f.name)
def test_an_example_checks_clean_and_shows_no_key(file):
    shown = render_check(load(file, ENVIRON))
    assert "value-of" not in shown


def test_the_full_example_uses_every_field_there_is():
    written = yaml.safe_load((ROOT / "examples/full.yaml").read_text())
    missing = [path for path, _ in fields(Shape(ConfigModel), ()) if not stands_in(written, path)]
    assert missing == []


def test_example_schemas_are_json():
    files = list(ROOT.glob("examples/schemas/*.json"))
    assert files
    for file in files:
        assert json.loads(file.read_text())["type"] == "object"


def test_the_examples_of_the_reference_are_read_as_they_stand():
    blocks = (ROOT / "docs/configuration.md").read_text().split("```yaml\n")[1:]
    minimal = blocks[0].split("```")[0]
    snapshot = loads(minimal, name="docs", environ=ENVIRON, base_dir=ROOT)
    assert snapshot.routes["default"].ladder == ("mini",)


def test_the_configuration_of_the_contract_is_accepted(tmp_path):
    folder = tmp_path / "examples/schemas"
    folder.mkdir(parents=True)
    (folder / "invoice.json").write_text('{"type": "object"}')
    snapshot = loads(CONTRACT, name="contract", environ=ENVIRON, base_dir=tmp_path)
    assert snapshot.routes["invoice"].ladder == ("mini", "flagship")
    assert snapshot.routes["invoice"].context.policy == "relevant"
    assert snapshot.keys is not None
    assert snapshot.keys[0].budget is not None
    assert snapshot.keys[0].budget.nanousd == 5 * 10**9


def fields(shape: Shape, path: tuple[str, ...]):
    """Every field of the configuration; '*' stands for any name or number."""
    for name, info in shape.fields.items():
        inner = shape_of(info.annotation, tuple(info.metadata))
        yield (*path, name), info
        if inner.fields:
            yield from fields(inner, (*path, name))
        elif inner.item and inner.item.fields:
            yield from fields(inner.item, (*path, name, "*"))


def stands_in(value, path):
    if not path:
        return True
    if path[0] == "*":
        inside = value.values() if isinstance(value, dict) else value
        return any(stands_in(item, path[1:]) for item in inside)
    return isinstance(value, dict) and path[0] in value and stands_in(value[path[0]], path[1:])


CONTRACT = """\
server:   {host: 127.0.0.1, port: 8080, workers: 1, max_body_mb: 20, header_timeout_s: 10, body_timeout_s: 30, drain_s: 30}
store:    sqlite:///tailrace.db            # or postgresql://...   (`memory:` for tests)

providers:
  openai:    {dialect: openai,    base_url: https://api.openai.com/v1,  api_key: $OPENAI_API_KEY}
  anthropic: {dialect: anthropic, base_url: https://api.anthropic.com,  api_key: $ANTHROPIC_API_KEY}
  local:     {dialect: openai,    base_url: http://127.0.0.1:8081/v1, timeouts: {connect_s: 5, first_byte_s: 60, idle_s: 60, total_s: 600}, retries: 1}

models:
  mini:     {provider: openai, name: gpt-4o-mini}
  flagship: {provider: openai, name: gpt-4o}
  small:    {provider: local,  name: gemma-3-270m, window_tokens: 32768, price: {input: 0, output: 0}, can: [json_schema], breaker: true}
  "fx-*":   {provider: local}

schemas:
  invoice: examples/schemas/invoice.json

routes:
  invoice:
    ladder: [mini, flagship]
    schema: invoice
    repair: {accept: [lossless, choice, coercion], reask: 1, escalate: true, give_up: error}
    stream: hold
    context: {budget_tokens: 6000, policy: relevant}
    limits: {attempts: 4, cost_usd: 0.05, deadline_s: 60}
  default: {ladder: [flagship]}

keys:
  - {name: team-a, key: $TEAM_A_KEY, routes: [invoice], budget: {usd: 5, per: day}, rpm: 600}
"""
