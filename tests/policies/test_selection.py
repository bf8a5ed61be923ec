"""What is kept within a limit, and what it costs."""

from policies.selection import Selection
from tests.policies.indexed import indexed

INDEX = indexed(("user", "one two three"), ("assistant", "four five"), ("user", "six"))


def test_pieces_are_taken_while_they_fit():
    selection = Selection(INDEX, limit=20, overhead=3)
    assert selection.fill([0, 1, 2]) == [0, 1]
    assert selection.used == 3 + 7 + 6
    assert [selection.has(n) for n in range(3)] == [True, True, False]


def test_a_piece_is_taken_once():
    selection = Selection(INDEX, limit=100, overhead=0)
    assert selection.offer(0)
    assert not selection.offer(0)
    assert selection.used == 7


def test_what_must_stay_stays_whatever_it_costs():
    selection = Selection(INDEX, limit=0, overhead=0)
    selection.require_unit(0)
    assert selection.used == 7
    assert not selection.offer(1)


def test_what_is_dropped_gives_its_cost_back():
    selection = Selection(INDEX, limit=100, overhead=0)
    selection.fill([0, 1])
    selection.drop(0)
    assert selection.used == 6
    assert not selection.has(0)


def test_what_is_kept_is_assembled_in_order():
    selection = Selection(INDEX, limit=100, overhead=0)
    selection.fill([2, 0])
    messages, kept = selection.assembled()
    assert [m["content"] for m in messages] == ["one two three", "six"]
    assert kept == [0, 2]
