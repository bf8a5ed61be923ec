"""What was queued can be read again after any end of the process; nothing uncommitted is written over."""

import json
import os
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.chat import Usage
from policies.saved import Saved
from proxy.stores.base import Outcome
from proxy.stores.journal import Journal, read_journal
from tests.proxy.ledger_rows import attempt, outcome


@pytest.fixture
def path(tmp_path):
    return tmp_path / "j"


@pytest.fixture
def file(path):
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    yield file
    os.close(file)


def test_records_read_back_as_they_were_written(path, file):
    journal = Journal(file)
    full = Outcome(
        "failed",
        Usage(1, 2, 3, 4, 5, reported=False),
        6,
        "cancelled",
        Saved(1, -2, 3, -4),
        "repaired",
        ("fence", "quote"),
        "timeout",
        1.5,
        0.25,
    )
    records = [
        attempt(1, key="k", run="r", step="s", stream=True),
        ("req_1.1", full),
        ("req_1.2", outcome(None)),
        ("req_1.1", Saved(-1, 2, 3, 4, -5)),
    ]
    journal.begin(records[0], 0)
    journal.settle(*records[1], 0)
    journal.settle(*records[2], 0)
    journal.credit(*records[3], 0)
    assert list(read_journal(path)) == []
    assert journal.sync()
    assert list(read_journal(path)) == records
    assert journal.failed is None


@pytest.mark.parametrize("text", ["\ud800 lone", "a\nb", "a\x00b", '"', "é" * 100], ids=ascii)
def test_any_text_reads_back(path, file, text):
    journal = Journal(file)
    journal.begin(attempt(1, alias=text), 0)
    journal.sync()
    assert list(read_journal(path)) == [attempt(1, alias=text)]


def test_a_number_of_any_size_reads_back(path, file):
    journal = Journal(file)
    journal.settle("a", outcome(10**40, usage=Usage(2**70)), 0)
    journal.sync()
    assert list(read_journal(path)) == [("a", outcome(10**40, usage=Usage(2**70)))]


def test_a_journal_of_an_earlier_version_reads_back(path, file):
    done = outcome(saved=Saved(1, 2, 3, 4, 5))
    records = [
        list(asdict(attempt(1)).values())[:14],
        ["req_1.1", *asdict(done).values()],
        ["req_1.1", asdict(Saved(6))],
    ]
    os.pwrite(file, b"0\n" + b"".join(json.dumps(r).encode() + b"\n" for r in records) + b"\0", 0)
    assert list(read_journal(path)) == [attempt(1), ("req_1.1", done), ("req_1.1", Saved(6))]


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_record_that_was_cut_short_is_left_out_and_those_before_it_stay(path, file, cut):
    journal = Journal(file)
    journal.begin(attempt(1), 0)
    journal.sync()
    end = path.stat().st_size
    journal.begin(attempt(2), 0)
    journal.sync()
    os.truncate(path, end + cut)
    found = list(read_journal(path))
    assert found[0] == attempt(1)
    assert found[1:] in ([], [attempt(2)])


@pytest.mark.parametrize(
    "junk", [b"", b"\0", b"junk", b"0", b"7\nnull\n", b"0\n[1,2]\n{}\n\0", b"\xff" * 50], ids=repr
)
def test_a_journal_that_is_none_holds_nothing(path, file, junk):
    os.pwrite(file, junk, 0)
    assert list(read_journal(path)) == []


def test_nothing_is_written_over_before_it_is_committed_and_the_lack_of_room_is_told(path, file):
    journal = Journal(file, half_bytes=1_000)
    written = 0
    while journal.failed is None:
        journal.begin(attempt(written), 0)
        journal.sync()
        written += 1
    kept = list(read_journal(path, half_bytes=1_000))
    assert kept == [attempt(number) for number in range(written - 1)]
    journal.begin(attempt(written), committed=written)
    assert journal.sync()
    assert journal.failed is None
    assert list(read_journal(path, half_bytes=1_000))[-1] == attempt(written)


def test_a_file_that_refuses_is_told_and_takes_no_intent_until_it_is_written_again(path, file):
    os.close(file)
    readonly = os.open(path, os.O_RDONLY)
    journal = Journal(readonly)
    assert journal.begin(attempt(1), 0)
    assert not journal.sync()
    assert "OSError" in (journal.failed or "")
    journal.settle("req_1.1", outcome(5), 0)
    assert not journal.begin(attempt(2), 0)
    os.dup2(os.open(path, os.O_RDWR), readonly)
    assert journal.begin(attempt(3), 0)
    assert journal.failed is None
    assert journal.sync()
    assert list(read_journal(path)) == [attempt(1), ("req_1.1", outcome(5)), attempt(3)]
    os.dup2(readonly, file)


@given(lags=st.lists(st.integers(0, 12), max_size=80))
def test_what_is_not_committed_can_always_be_read_in_order(tmp_path_factory, lags):
    path = tmp_path_factory.mktemp("j") / "j"
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    journal = Journal(file, half_bytes=4_000)  # more than 12 records
    committed = 0
    for number, lag in enumerate(lags):
        committed = max(committed, number - lag)
        journal.begin(attempt(number), committed)
        assert journal.sync()
        assert journal.failed is None
        found = list(read_journal(path, half_bytes=4_000))
        assert found == [attempt(n) for n in range(number + 1 - len(found), number + 1)]
        assert len(found) >= number + 1 - committed
    os.close(file)


def test_an_intent_that_could_not_be_written_is_not_counted(path, file):
    journal = Journal(file, half_bytes=1_000)
    written = 0
    while journal.begin(attempt(written), 0):
        written += 1
    for _ in range(20):
        assert not journal.begin(attempt(99), 0)
    assert journal.begin(attempt(written), written)  # all before it are committed by now
    assert journal.sync()
    assert list(read_journal(path, half_bytes=1_000))[-1] == attempt(written)
