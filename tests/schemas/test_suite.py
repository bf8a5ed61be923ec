"""The official JSON Schema test suite, unchanged, as `tools/fetch_suite.sh` brings it."""

import json
import pathlib
import sys

import pytest

from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from schemas.viable import PrefixChecker
from schemas.vocabulary import DIALECTS

SUITE = pathlib.Path(__file__).parents[2] / ".cache" / "json-schema-suite" / "tests"

FOLDERS = {
    "draft 2020-12": ("draft2020-12", 1750),
    "draft 2019-09": ("draft2019-09", 1750),
    "draft-07": ("draft7", 1380),
    "draft-06": ("draft6", 1070),
    "draft-04": ("draft4", 810),
}
POLICY = (
    "only references into the schema itself (#...) are followed",
    "not a dialect that we know",
)
"""Why we refuse schemas of the suite: they refer to others by URL, or bring a meta-schema of their own."""


def cases(dialect):
    folder = SUITE / FOLDERS[dialect.name][0]
    for path in sorted(folder.rglob("*.json")):
        for group in json.loads(path.read_text()):
            schema = group["schema"]
            if isinstance(schema, dict) and "$schema" not in schema:
                schema = {"$schema": dialect.uri, **schema}
            yield path.relative_to(folder), group, schema


def by_our_own_rule(test):
    """Where the dialect leaves formats to be notes only, we assert them all the same."""
    return test["description"].endswith("is only an annotation by default")


@pytest.mark.skipif(
    not SUITE.is_dir(), reason="LEFT OUT: run tools/fetch_suite.sh for the official JSON Schema suite"
)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_official_suite(dialect, capsys):
    right, refused, wrong, unexplained, misrefused, misjudged, formats = 0, 0, [], [], [], [], 0
    for path, group, schema in cases(dialect):
        try:
            compiled = compile_schema(schema)
        except SchemaRefused as error:
            refused += len(group["tests"])
            if not all(problem.message.startswith(POLICY) for problem in error.problems):
                misrefused.append((str(path), group["description"], str(error)))
            continue
        for test in group["tests"]:
            valid = compiled.is_valid(test["data"])
            if valid is not test["valid"]:
                if by_our_own_rule(test):
                    formats += 1
                else:
                    wrong.append((str(path), group["description"], test["description"]))
                continue
            right += 1
            checker = PrefixChecker(compiled)
            viable = all(checker.feed(char) for char in json.dumps(test["data"]))
            if checker.complete is not valid or (valid and not viable):
                misjudged.append((str(path), group["description"], test["description"]))
            if bool(compiled.problems(test["data"])) is valid:
                unexplained.append((str(path), group["description"], test["description"]))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{dialect.name}: {right} verdicts right, {len(wrong)} wrong; LEFT OUT by policy:"
            f" {refused} with references by URL or own meta-schemas, {formats} where a format may be ignored\n"
        )
    assert wrong == []
    assert misrefused == []
    assert unexplained == []
    assert misjudged == []
    assert right >= FOLDERS[dialect.name][1]
