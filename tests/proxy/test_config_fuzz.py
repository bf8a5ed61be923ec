"""Whatever stands in the file: a Snapshot, or a refusal that tells its place and no secret."""

import json
import pathlib
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import ConfigRefused, loads, render_check
from proxy.snapshot import Snapshot

ROOT = pathlib.Path(__file__).parents[2]
FULL = (ROOT / "examples/full.yaml").read_text()
NAMES = ("OPENAI_API_KEY", "AZURE_API_KEY", "TEAM_A_KEY", "ADMIN_KEY")
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SIGNS = [
    *"[]{}:,-?&*!|>'\"%@`#$~\n\t \\",
    "<<",
    "${",
    "$A",
    "file:",
    "null",
    "on",
    "1e999",
    "\x00",
    "\ud800",
    "é",
]
NAMED = [
    "server",
    "providers",
    "models",
    "schemas",
    "routes",
    "keys",
    "api_key",
    "ladder",
    "base_url",
    "price",
]
WORDS = st.sampled_from([*SIGNS, *NAMED])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
SECRET = st.text(string.ascii_letters + string.digits + "+/=_-", min_size=12, max_size=40).map("S3".__add__)


def outcome(text: str, environ=None) -> Snapshot | ConfigRefused:
    try:
        return loads(text, name="f.yaml", environ=environ or {}, base_dir=ROOT / "examples")
    except ConfigRefused as caught:
        refused = caught
    assert refused.problems
    assert all(p.message and p.line >= 1 and p.column >= 1 for p in refused.problems)
    return refused


@RELAXED
@given(st.lists(WORDS, max_size=40).map("".join) | st.text(max_size=60))
def test_no_text_makes_anything_but_a_snapshot_or_a_refusal(text):
    outcome(text)


@RELAXED
@given(
    st.dictionaries(
        st.sampled_from(["server", "providers", "models", "schemas", "routes", "keys", "store"]), JSON
    )
)
def test_no_value_makes_anything_but_a_snapshot_or_a_refusal(value):
    outcome(json.dumps(value))


@RELAXED
@given(st.data())
def test_no_damage_to_a_good_file_makes_anything_but_a_snapshot_or_a_refusal(data):
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 30)))
    damaged = FULL[:start] + data.draw(st.lists(WORDS, max_size=4).map("".join)) + FULL[end:]
    environ = {name: f"value-of-{name}" for name in NAMES}
    refusal = outcome(damaged, environ)
    assert isinstance(refusal, Snapshot) or "value-of" not in str(refusal)


PLACES = st.sampled_from(
    [
        "providers: {a: {base_url: http://h, api_key: %s}}",
        "providers:\n  a:\n    api_key: %s\n    base_url: [\nmodels: {}",
        "providers:\n  a:\n    api_key: %s: x\n",
        "providers:\n  a:\n    api_key: '%s\n    base_url: x\n",
        'providers:\n  a:\n    api_key: "%s\n    base_url: x"x\n',
        "providers:\n  a:\n    api_key: *%s\n",
        "providers:\n  a:\n    api_key: &%s\n",
        "providers:\n  a:\n    api_key: !%s x\n",
        "providers:\n  a:\n    api_key: %%%s\n",
        "providers:\n  a:\n    api_key: @%s\n",
        "providers:\n  a:\n    api_key:\n      %s\n     x: y\n",
        "providers:\n  a:\n    api_key %s\n    x: y\n",
        "providers: {a: {base_url: http://h, api_kye: %s}}",
        "providers: {a: {base_url: http://h, api_key: [%s]}}",
        "providers: {a: {base_url: http://h, headers: %s}}",
        "providers: {a: {base_url: http://h, headers: {a: %s, a: %s}}}",
        "providers: {a: {base_url: http://h, headers: {x y: %s}}}",
        "providers: {a: {base_url: http://h, query: {key: [%s]}}}",
        "providers: {a: {base_url: 'http://u:%s@h'}}",
        "providers: {a: {base_url: 'http://h/?key=%s'}}",
        "providers: {a: %s}",
        "providers: %s",
        "keys: %s",
        "keys: [%s]",
        "keys: [{name: a, key: {x: %s}}]",
        "keys: [{name: a, key: '%s'}, {name: b, key: '%s'}]",
        "keys: [{name: a, key: 'a$b%s'}]",
        "keys: [{name: a, key: 'a%s$b'}]",
        "keys: [{name: a, key: '%s', routes: ['%s']}]",
        "keys: {team: %s}",
        "store: 'postgresql://u:%s@h/d'\nserver: {x: 1}",
        "store: 'mysql://u:%s@h/d'",
        "server: {api_key: %s}",
        "models: {m: {provider: a, api_key: %s}}",
    ]
)


@RELAXED
@given(PLACES, SECRET)
def test_a_secret_is_never_a_part_of_a_refusal(place, secret):
    refusal = outcome(place.replace("%s", secret).replace("%%", "%"))
    assert isinstance(refusal, ConfigRefused)
    assert secret not in str(refusal)
    assert secret not in repr(refusal.problems)


@settings(RELAXED, max_examples=15)
@given(st.lists(SECRET, min_size=4, max_size=4, unique=True))
def test_a_secret_of_the_environment_is_shown_by_nothing(secrets):
    environ = dict(zip(NAMES, secrets, strict=True))
    snapshot = outcome(FULL, environ)
    assert isinstance(snapshot, Snapshot)
    for shown in (render_check(snapshot), repr(snapshot), str(snapshot)):
        assert not any(secret in shown for secret in secrets)
    for place in ("base_url: https://api.openai.com/v1", "port: 8080", "provider: azure", "give_up: error"):
        name = place.split(":")[0]
        refusal = outcome(FULL.replace(place, f"{name}: $OPENAI_API_KEY"), environ)
        assert isinstance(refusal, ConfigRefused)
        assert not any(secret in str(refusal) for secret in secrets)
