"""Rows are the same however many of them one statement writes."""

import sqlite3

import pytest

from proxy.stores.tables import migrate, write_attempts
from tests.proxy.ledger_rows import attempt, outcome


@pytest.fixture
def connection():
    made = sqlite3.connect(":memory:", isolation_level=None)
    migrate(made)
    yield made
    made.close()


@pytest.mark.parametrize("most", [32_766, 999, 40], ids=["sqlite-3.32", "older-sqlite", "row-by-row"])
@pytest.mark.parametrize("count", [0, 1, 4, 35, 300])
def test_any_number_of_rows_is_written_once_each(connection, count, most):
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)
    done = [attempt(n, "req_done") for n in range(count)]
    begun = [attempt(n, "req_begun") for n in range(count)]
    ended = [(made.id, outcome(made.number)) for made in done]
    write_attempts(connection, [*done, *begun, *ended, *done, *ended], "owner")
    rows = connection.execute("SELECT id, status, COALESCE(cost_nanousd, -1) FROM attempts").fetchall()
    assert sorted(rows) == sorted(
        [(made.id, "ok", made.number) for made in done] + [(made.id, "open", -1) for made in begun]
    )


def test_of_two_ends_of_a_call_the_first_counts(connection):
    items = [attempt(1), ("req_1.1", outcome(5)), attempt(1), ("req_1.1", outcome(6))]
    write_attempts(connection, items, "owner")
    assert connection.execute("SELECT cost_nanousd FROM attempts").fetchall() == [(5,)]
