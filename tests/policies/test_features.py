import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.features import (
    BUCKETS,
    FIRST_WORDS,
    HEAD_CHARS,
    LAST_WORDS,
    STRUCTURE,
    TAIL_CHARS,
    capped,
    features,
    fit_of,
    name_words,
    stems,
    words_of,
)


def user(text):
    return [{"role": "user", "content": text}]


def tool(name, description="", **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def value(found, name):
    return found.structure[STRUCTURE.index(name)]


def test_there_is_one_number_for_each_name():
    for tools in (None, [tool("book")], [tool("book"), tool("find")]):
        assert len(features(user("hi"), tools).structure) == len(STRUCTURE)


def test_of_a_long_text_the_beginning_and_the_end_are_read():
    text = "begin " + "x" * 500_000 + " end"
    found = capped(user(text))
    assert found.startswith("begin ")
    assert found.endswith(" end")
    assert len(found) == HEAD_CHARS + TAIL_CHARS + 1


def test_answers_and_tool_results_are_not_read():
    messages = [
        *user("ask"),
        {"role": "assistant", "content": "answer"},
        {"role": "tool", "content": "result"},
    ]
    assert capped(messages) == "ask"


def test_grams_do_not_depend_on_the_hash_seed():
    code = "from policies.features import features; print(sorted(features([{'role':'user','content':'a bc d'}]).grams))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_words_and_pairs_count_once():
    assert features(user("to be to be")).grams == features(user("to be to be to be")).grams
    assert features(user("a b")).grams != features(user("b a")).grams


@pytest.mark.parametrize(
    ("name", "description", "fits"),
    [
        pytest.param("book_hotel_room", "Books a room in a hotel", True, id="what-was-asked-for"),
        pytest.param("bookHotelRoom", "", True, id="by-a-camel-cased-name"),
        pytest.param("calculate_area", "Computes the area of a circle", False, id="something-else"),
    ],
)
def test_a_tool_that_nobody_asked_for_fits_little(name, description, fits):
    asked = stems([b"book", b"a", b"hotel", b"room", b"in", b"oslo"])
    fit = fit_of({"name": name, "description": description}, asked)
    assert (fit > 0.3) is fits
    assert 0.0 <= fit <= 1.0


def test_identifiers_fall_into_words():
    assert name_words("getUserName") == name_words("get_user_name") == [b"get", b"user", b"name"]


def test_parameters_are_counted():
    kind = {"type": "string"}
    found = features(user("hi"), [tool("book", city=kind, nights={"type": "any", "enum": [1]})])
    assert value(found, "required per tool") == 1
    assert value(found, "optional per tool") == 1
    assert value(found, "enums per tool") == 1
    assert value(found, "unusual types") > 0
    assert value(found, "several tools") == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": JSON}), max_size=3)
TOOLS = st.lists(
    st.fixed_dictionaries({"function": st.dictionaries(st.sampled_from(["name", "parameters"]), JSON)})
)


@given(MESSAGES | JSON, TOOLS | JSON)
def test_no_request_makes_it_fail(messages, tools):
    found = features(messages, tools)
    assert len(found.structure) == len(STRUCTURE)
    assert all(0 <= gram < BUCKETS for gram in found.grams)


@given(st.text())
def test_every_text_has_finite_numbers(text):
    assert all(abs(number) < 1e6 for number in features(user(text + "\ud800")).structure)


PIECES = st.sampled_from([b"word ", b"x", b"7", b" " * 900, b", ", b"\xc3\xa9", b"ab" * 400, b"\n"])


@given(st.lists(st.tuples(PIECES, st.integers(1, 600)), max_size=12))
def test_words_of_a_long_text_are_those_of_a_scan_of_all_of_it(pieces):
    raw = b"".join(piece * (n if len(piece) < 20 else 1) for piece, n in pieces)
    whole = re.findall(rb"[A-Za-z\x80-\xff]+|\d|[^\sA-Za-z\d\x80-\xff]", raw)
    if len(whole) > FIRST_WORDS + LAST_WORDS:
        whole = whole[:FIRST_WORDS] + whole[-LAST_WORDS:]
    assert words_of(raw) == whole
