"""Floors on the collected cases of broken JSON beside the checkout: a sample, so that it stays fast."""

import gzip
import json
import pathlib
import time

import pytest

from schemas.coerce import same
from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from schemas.mend import mend

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
CORPUS = SHARED / "harness" / "repair" / "corpus.dev.jsonl.gz"
OUTPUTS = SHARED / "data" / "real_outputs" / "raw_outputs.jsonl"
SECONDS = 6

# (right, wrong) in percent that must be reached; every fourth case of each source is tried.
FLOORS = {
    "clotho": (98.5, 0.2),
    "maskbench": (97.0, 0.2),
    "baml": (92.0, 2.0),
    "jsonrepair": (93.0, 2.5),
    "json_repair": (82.0, 12.0),
}


def same_but_for_nulls(value, expected):
    if isinstance(value, dict) and isinstance(expected, dict):
        keys = {
            key for key in value | expected if value.get(key) is not None or expected.get(key) is not None
        }
        return all(same_but_for_nulls(value.get(key), expected.get(key)) for key in keys)
    if isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        return all(map(same_but_for_nulls, value, expected))
    return same(value, expected)


def outcome(case):
    schema = case["schema"] if case["schema"] is not None else case.get("schema_inferred", True)
    try:
        compiled = compile_schema(True if schema is None else schema)
    except SchemaRefused:
        return "refused"
    mended = mend(case["input"], compiled)
    if case["expect_fail"]:
        return "right" if mended.verdict == "invalid" else "coerced"
    if mended.verdict == "invalid":
        return "failed"
    return "right" if same_but_for_nulls(mended.value, case["expected"]) else "wrong"


@pytest.mark.shared
@pytest.mark.parametrize("source", FLOORS)
def test_the_share_of_right_values_stays_where_it_was(source):
    if not CORPUS.exists():
        pytest.skip(f"the collected cases are missing: {CORPUS}")
    with gzip.open(CORPUS, "rt") as lines:
        cases = [
            case for case in map(json.loads, lines) if case["source"] == source and not case["contested"]
        ]
    outcomes = []
    started = time.monotonic()
    for case in cases[:: 4 if len(cases) > 400 else 1]:
        outcomes.append(outcome(case))
        if time.monotonic() - started > SECONDS:
            break
    right, wrong = (100 * outcomes.count(name) / len(outcomes) for name in ("right", "wrong"))
    floor, ceiling = FLOORS[source]
    assert right >= floor
    assert wrong <= ceiling


@pytest.mark.shared
def test_real_replies_are_never_made_into_something_invalid():
    if not OUTPUTS.exists():
        pytest.skip(f"the recorded replies are missing: {OUTPUTS}")
    with OUTPUTS.open() as lines:
        replies = [json.loads(line) for line in lines][::3]
    for reply in replies:
        schema = compile_schema(reply["schema"])
        mended = mend(
            next(reply[key] for key in ("output", "text", "content", "raw") if key in reply), schema
        )
        if mended.text is not None:
            assert schema.is_valid(json.loads(mended.text))
