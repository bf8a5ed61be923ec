import math

import pytest

from schemas.tokens import (
    CUT_ESCAPE,
    NUMBER_CLASSES,
    NUMBER_STEPS,
    NUMBER_TOKEN,
    WHOLE_NUMBER,
    after_space,
    decoded,
    number_of,
)

WHOLE = ["0", "-0", "7", "10", "1.5", "-0.25", "1e5", "1E+05", "2.0e-10"]
NOT_WHOLE = ["-", "1.", "1e", "1e+", "-1.", "1.5E-"]
NO_NUMBER = ["01", "+1", ".5", "1.e5", "--1", "1e5.5", "1+1"]


def state_after(text):
    state = ""
    for char in text:
        state = NUMBER_STEPS[state].get(NUMBER_CLASSES.get(char, ""))
        if state is None:
            return None
    return state


@pytest.mark.parametrize("text", WHOLE)
def test_whole_number_is_read_at_once_and_character_by_character(text):
    assert NUMBER_TOKEN.match(text + ",")[0] == text
    assert state_after(text) in WHOLE_NUMBER


@pytest.mark.parametrize("text", NOT_WHOLE)
def test_half_number_may_go_on_but_not_end(text):
    assert NUMBER_TOKEN.match(text + ",") is None
    assert state_after(text) not in {None, *WHOLE_NUMBER}


@pytest.mark.parametrize("text", NO_NUMBER)
def test_what_is_no_number_is_not_read_as_one(text):
    assert NUMBER_TOKEN.match(text + ",") is None
    assert state_after(text) is None


def test_number_at_the_end_of_a_piece_may_go_on():
    assert NUMBER_TOKEN.match("12") is None


@pytest.mark.parametrize(
    ("token", "value"), [("12", 12), ("1.0", 1.0), ("-0", 0), ("1e400", None), ("9" * 5000, None)]
)
def test_value_of_a_number(token, value):
    found = number_of(token)
    assert found == value
    assert type(found) is type(value)


def test_underflow_is_nought():
    assert math.isclose(number_of("1e-999"), 0)


@pytest.mark.parametrize("cut", ["\\", "\\u", "\\u1", "\\u12A", "\\uabc"])
def test_cut_escape_may_go_on(cut):
    assert CUT_ESCAPE.fullmatch(cut)


@pytest.mark.parametrize("broken", ["\\x", "\\u1x", "\\u123g", "\\\n"])
def test_broken_escape_may_not(broken):
    assert not CUT_ESCAPE.fullmatch(broken)


def test_decoded_joins_surrogates_and_keeps_lone_ones():
    assert decoded('\\ud83d\\ude00 \\ud83d \\"\\\\ud83d') == '😀 \ud83d "\\ud83d'


def test_white_space_is_that_of_json():
    assert [after_space(text, 0) for text in (" \t\r\n1", "1", "", "\u00a01", "\x0b")] == [4, 0, 0, 0, 0]
