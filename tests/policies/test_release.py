"""Gates: what may go out when."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.contract import NO_CONTRACT, Contract
from policies.release import CheckedGate, HoldGate, OpenGate, gate_for
from schemas.compiled import compile_schema

PERSON = {"name": {"type": "string"}, "age": {"type": "integer"}}
SCHEMA = Contract(
    compile_schema(
        {"type": "object", "properties": PERSON, "required": ["name", "age"], "additionalProperties": False}
    )
)
TEXT = '{"name": "Ann Example of Paris", "age": 31}'


@dataclass
class Piece:
    text: str | None = None
    speaks: bool = True
    calls: bool = False

    @property
    def data(self):
        return (self.text or "-").encode()

    def saying(self, text):
        return text.encode()


def told(gate, *texts):
    return b"".join(out for t in texts for out in gate.offer(Piece(t))).decode()


def test_an_open_gate_waits_for_the_first_piece_that_speaks():
    gate = OpenGate()
    assert gate.offer(Piece("role", speaks=False)) == []
    assert gate.held == [b"role"]
    assert not gate.open
    assert gate.offer(Piece("hi")) == [b"role", b"hi"]
    assert gate.open
    assert gate.offer(Piece("later", speaks=False)) == [b"later"]
    assert gate.held == []


def test_tool_calls_are_held_from_the_first_on_where_they_are_judged():
    gate = OpenGate(hold_calls=True)
    assert told(gate, "text") == "text"
    assert gate.offer(Piece("call", calls=True)) == []
    assert gate.offer(Piece("more")) == []
    assert gate.held == [b"call", b"more"]
    assert not gate.open


def test_a_hold_gate_releases_nothing():
    gate = HoldGate()
    assert gate.offer(Piece("a")) == []
    assert gate.held == [b"a"]


GATES = [
    ("no-contract", "hold", NO_CONTRACT, {}, OpenGate),
    ("hold", "hold", SCHEMA, {}, HoldGate),
    ("pass", "pass", SCHEMA, {}, OpenGate),
    ("checked", "checked", SCHEMA, {}, CheckedGate),
    ("tools-alone", "hold", Contract(tools={}), {}, OpenGate),
    ("part-is-out", "checked", SCHEMA, {"resumed": True}, HoldGate),
]


@pytest.mark.parametrize(
    ("mode", "contract", "rest", "kind"), [r[1:] for r in GATES], ids=[r[0] for r in GATES]
)
def test_the_gate_for_a_mode(mode, contract, rest, kind):
    assert isinstance(gate_for(mode, contract, **rest), kind)


def test_a_checked_text_goes_out_before_it_ends():
    gate = CheckedGate(SCHEMA)
    assert told(gate, TEXT[:30]) == TEXT[:30]
    assert told(gate, TEXT[30:]) == TEXT[30:]
    assert gate.released == TEXT


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("```json\n", "\n```"),
        ("```\n", "\n```\n"),
        ("<think>{no}</think>\n", ""),
        ("\n\ufeff ", "\n"),
        ("", " ```"),
    ],
    ids=["fence", "bare-fence", "think", "blank", "closing-fence"],
)
def test_wrappings_are_stripped_on_the_way_however_it_is_cut(before, after):
    for size in (1, 2, 3, 7, 1000):
        gate, whole = CheckedGate(SCHEMA), before + TEXT + after
        assert told(gate, *(whole[i : i + size] for i in range(0, len(whole), size))) == TEXT
        assert not gate.hopeless


def test_what_is_wrong_from_the_start_is_held_so_that_it_can_be_mended():
    gate = CheckedGate(SCHEMA)
    assert told(gate, "{'name': 'Ann', ", "'age': 31}") == ""
    assert not gate.hopeless
    assert b"".join(gate.held) == b"{'name': 'Ann', 'age': 31}"


def test_the_first_impossible_character_after_the_commit_is_hopeless():
    gate = CheckedGate(SCHEMA)
    released = told(gate, TEXT[:-3], '"')
    assert released == TEXT[:-3].rstrip()
    assert gate.hopeless
    assert told(gate, "more") == ""


def test_a_comma_at_the_end_waits_for_what_follows():
    gate = CheckedGate(SCHEMA)
    assert told(gate, '{"name": "Ann Example of Paris",') == '{"name": "Ann Example of Paris"'
    assert told(gate, ' "age"') == ', "age"'


def test_prose_after_the_document_ends_it():
    gate = CheckedGate(SCHEMA)
    assert told(gate, TEXT, "\n", "Hope that helps!") == TEXT


@given(st.lists(st.integers(1, len(TEXT) - 1), max_size=9))
def test_any_cut_releases_the_same_text(cuts):
    edges = sorted({0, *cuts, len(TEXT)})
    gate = CheckedGate(SCHEMA)
    assert told(gate, *(TEXT[a:b] for a, b in itertools.pairwise(edges))) == TEXT
