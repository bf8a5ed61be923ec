"""Gates: what may go out when."""

from policies.contract import NO_CONTRACT, Contract
from policies.release import HoldGate, OpenGate, gate_for
from schemas.compiled import compile_schema

SCHEMA = Contract(compile_schema({"type": "object"}))


def test_an_open_gate_waits_for_the_first_piece_that_speaks():
    gate = OpenGate()
    assert gate.offer(b"role", speaks=False) == []
    assert gate.held == [b"role"]
    assert gate.offer(b"hi", speaks=True) == [b"role", b"hi"]
    assert gate.offer(b"later", speaks=False) == [b"later"]
    assert gate.held == []


def test_a_hold_gate_releases_nothing():
    gate = HoldGate()
    assert gate.offer(b"a", speaks=True) == []
    assert gate.held == [b"a"]


def test_without_a_contract_there_is_nothing_to_wait_for():
    assert isinstance(gate_for("hold", NO_CONTRACT), OpenGate)
    assert isinstance(gate_for("hold", SCHEMA), HoldGate)
    assert isinstance(gate_for("pass", SCHEMA), OpenGate)
