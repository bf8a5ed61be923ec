"""An agent's session keeps the ids it has in its hands and its last steps."""

from policies.selection import Selection
from policies.sessions import (
    fill_session,
    is_agent,
    is_reading,
    is_session,
    require_last_steps,
    weights_of_identifiers,
)
from tests.policies.indexed import indexed, session


def test_calls_make_a_session_and_talk_does_not():
    assert is_agent(session())
    assert is_session(session())
    assert not is_reading(session())
    assert not is_agent(indexed(("user", "hello"), ("assistant", "hi")))


def test_what_was_named_and_called_is_worth_more_than_what_was_listed():
    weights = weights_of_identifiers(session())
    asked = next(w for name, w in weights.items() if "1001234" in name)
    listed = next(w for name, w in weights.items() if "2002345" in name)
    assert asked > listed > 0


def test_a_session_is_filled_with_the_latest_and_most_needed_first():
    selection = Selection(session(), limit=30, overhead=0)
    taken = fill_session(selection, {}, ())
    assert taken
    assert selection.used <= 30


def test_the_last_steps_are_kept_where_they_fit():
    index = session()
    selection = Selection(index, limit=1000, overhead=0)
    require_last_steps(selection)
    assert index.unit_of[5] in selection.kept_units
