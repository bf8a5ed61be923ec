"""What is found out about a schema before it is used."""

import json

import pytest

from proxy.trials import tried
from schemas.trial import COMPILED_HERE_S, JUDGED_HERE_S

KINDS = [
    {"type": "object", "properties": {"k": {"const": n}, "v": {"type": "string"}}, "required": ["k", "v"]}
    for n in range(70)
]
ROWS = {"type": "object", "properties": {"rows": {"type": "array", "items": {"oneOf": KINDS}}}}
"""Looks harmless, yet each of a list's elements is compared with seventy."""


def trial(schema, *, probed=True):
    return tried(json.dumps(schema).encode(), probed=probed)


def test_an_ordinary_schema_is_used_here():
    found = trial({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    assert (found.slow, found.problems, found.findings) == ("", (), ())
    assert found.dialect.startswith("https://json-schema.org/draft/2020-12")
    assert 0 < found.worst_s < JUDGED_HERE_S
    assert found.worst


def test_a_schema_that_only_the_clock_finds_slow_is():
    found = trial(ROWS)
    assert not found.unbounded
    assert found.worst == "a list of objects at /properties/rows"
    assert found.slow.startswith("judging a list of objects at /properties/rows of 1 MiB takes ")


def test_nothing_is_judged_by_a_schema_that_has_no_bound():
    found = trial({"oneOf": KINDS * 3})
    assert (found.unbounded, found.worst) == (True, "")
    assert found.slow == "what it may cost cannot be bounded"


def test_what_takes_long_to_compile_is_slow():
    found = trial({"properties": {f"p{n}": {} for n in range(19_000)}}, probed=False)
    assert found.compile_s > COMPILED_HERE_S
    assert found.slow.startswith("compiling it takes ")


def test_what_is_odd_is_told():
    found = trial({"type": "object", "minProperties": 3, "maxProperties": 2})
    assert [(f.severity, f.problem.pointer) for f in found.findings] == [("error", "/minProperties")]


@pytest.mark.parametrize("probed", [True, False])
def test_a_schema_that_is_none_is_refused(probed):
    assert trial({"type": "nonsense"}, probed=probed).problems[0].pointer == "/type"
