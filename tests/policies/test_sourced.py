"""A text may say no number, id or date that its source does not."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.sourced import MOST_TOLD, unsourced

SOURCE = """user: Order #W1001234 for anna_k@x.com, placed on 2024-05-03, cost $1,204.50 (12.5% off).
assistant: See INV-7731 at 10:30 am; three dogs and 250 kg. We met on May 20, 2023, and on 7 June.
tool: {"id": "c_77", "total": 0.5, "when": "2025-11-02T08:15:00Z"} Call on Monday about version v2.1 and 2,000,000 rows."""


@pytest.mark.parametrize(
    "text",
    [
        "Anna ordered W1001234 and it cost 1204.50 USD.",
        "It cost $1,204.5 with 12.5% off.",
        "She wrote from ANNA_K@x.com.",
        "Placed on May 3, 2024.",
        "Placed on 3 May 2024 - or 2024-05-03.",
        "Placed on May 3rd.",
        "They met 2023-05-20 and on June 7.",
        "10:30am, 250kg, a 250-kilogram load, 3 dogs.",
        "INV-7731, once cited as 7731.",
        "The total is 0.50.",
        "On 2 November 2025, a Monday.",
        "In June, and in May.",
        "They may march on; the first one of them did, as no one expected.",
        "2000000 rows of v2.1.",
        "",
    ],
)
def test_what_stands_in_the_source_may_be_said(text):
    assert unsourced(text, SOURCE) == ()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("INV-7732", "INV-7732"),
        ("INV-773", "INV-773"),
        ("NV-7731", "NV-7731"),
        ("W1001", "W1001"),
        ("1,204", "1,204"),
        ("1205", "1205"),
        ("12 %", "12"),
        ("0.05", "0.05"),
        ("77", None),
        ("bob_k@x.com", "bob_k@x.com"),
        ("k@x.com", "k@x.com"),
        ("10:31", "10:31"),
        ("v2.2", "v2.2"),
        ("four dogs", "four"),
        ("a thousand rows", "thousand"),
        ("on Tuesday", "Tuesday"),
        ("in July", "July"),
        ("on May 4", "may 4"),
        ("on 20 May 2024", "may 20"),
        ("on 2024-05-20", "may 20"),
        ("on 3 June", "june 3"),
        ("２５１ kg", "251"),
    ],
)
def test_what_does_not_is_told(text, wrong):
    found = unsourced(text, SOURCE)
    assert (wrong in found) if wrong is not None else found == ()


def test_much_that_is_wrong_is_told_in_part():
    assert len(unsourced(" ".join(map(str, range(100_000, 100_500))), SOURCE)) == MOST_TOLD


WORDS = st.sampled_from(
    [
        *SOURCE.split(),
        "and",
        "is",
        "3",
        "May",
        "2024",
        "A-1",
        "ä_1",
        "€5.00",
        "1.5k",
        "9%",
        "x@y.zz",
        "02",
        "٣",
    ]
)


@given(st.lists(WORDS, min_size=1, max_size=60), st.data())
def test_any_stretch_of_the_source_may_be_repeated(words, data):
    start = data.draw(st.integers(0, len(words)))
    end = data.draw(st.integers(start, len(words)))
    assert unsourced(" ".join(words[start:end]), " ".join(words)) == ()


@example(".¼", "")
@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_is_too_strange_and_each_is_its_own_source(text, source):
    assert unsourced(text, text) == ()
    assert len(unsourced(text, source)) <= MOST_TOLD


@given(st.integers(1_000, 10**12), st.integers(1_000, 10**12))
def test_a_number_is_found_as_itself_alone(number, other):
    assert unsourced(f"{number:,}", f"there are {number} of them") == ()
    if number != other:
        assert unsourced(f"{number}", f"there are {other} of them") == (str(number),)


@pytest.mark.parametrize("text", ["1_" * 3_000, "a@" * 3_000, "1 " * 3_000, "may " * 1_500, "1-" * 3_000])
def test_a_hostile_text_takes_no_time(text):
    began = time.perf_counter()
    unsourced(text, text * 60)
    assert time.perf_counter() - began < 3
