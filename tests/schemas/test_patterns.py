import contextlib
import time

import pytest

from schemas.compiled import compile_schema
from schemas.errors import SchemaRefused
from schemas.patterns import MAX_WEIGHT, is_pattern, weight, why_refused
from schemas.vocabulary import DRAFT_2020_12

WEIGHTS = {
    "letters": ("abc", 15),
    "class-counts-as-one": ("[a-z0-9_]", 5),
    "repetition-multiplies": ("a{10}", 50),
    "upper-bound-counts": ("a{2,10}", 50),
    "open-repetition-counts-its-minimum": ("a{3,}", 15),
    "nested-repetitions-multiply": ("(a{10}b){10}", 550),
    "repetition-of-zero-is-not-less": ("a{0}", 5),
    "property": (r"\p{L}{10}", 1000),
    "escaped-brace-is-no-repetition": (r"a\{10\}", 25),
    "brace-in-a-class-is-none": ("[{]10}", 20),
}


@pytest.mark.parametrize(("pattern", "expected"), WEIGHTS.values(), ids=WEIGHTS)
def test_weight(pattern, expected):
    assert weight(pattern) == expected


def test_huge_numbers_are_weighed_at_once():
    start = time.process_time()
    assert weight("((((a{999999999999}){99999999}){9999999}){9999999})" + "(" * 5000) > MAX_WEIGHT
    assert time.process_time() - start < 0.5


def test_heaviest_pattern_allowed_compiles_in_bounded_time():
    for unit in (".", r"\w", "[a-z]", r"\p{L}", "(a|b)", r"[^\s]"):
        count = MAX_WEIGHT // weight(unit)
        start = time.process_time()
        with contextlib.suppress(SchemaRefused):
            compile_schema({"pattern": f"{unit}{{{count}}}"})
        assert time.process_time() - start < 1.5, unit


@pytest.mark.parametrize("pattern", ["^(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b", r"(a)\1", r"(?<n>a)\k<n>"])
def test_what_needs_back_tracking_is_refused_by_name(pattern):
    assert not is_pattern(DRAFT_2020_12, pattern)
    assert why_refused(pattern).startswith("look-around and back-references")


@pytest.mark.parametrize("pattern", ["^a$", r"\d{4}-\d\d", "(?:a|b)+", "[^/]+", "", r"(?<n>a)", "é", "😀"])
def test_ordinary_pattern_is_taken(pattern):
    assert is_pattern(DRAFT_2020_12, pattern)
