import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.features import features
from policies.suspicion import SIGNS, Signals, doubt, evidence_row

BOOK = {
    "type": "function",
    "function": {
        "name": "book_hotel_room",
        "description": "Books a room in a hotel of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def request(text, *tools):
    return features([{"role": "user", "content": text}], list(tools))


WANTED = request("Please book a hotel room in the city of Oslo", BOOK)
UNWANTED = request("Who wrote the opera about the flute?", BOOK)
TWO = request(
    "Book a hotel room in Oslo, and then book another hotel room in Rome, and also both in Paris and Lima",
    BOOK,
)
PLAIN = request("What is two and two?")


@pytest.mark.parametrize(
    ("found", "calm", "doubtful"),
    [
        pytest.param(WANTED, Signals(calls=1), Signals(calls=0), id="a-wanted-call-that-was-not-made"),
        pytest.param(UNWANTED, Signals(calls=0), Signals(calls=1), id="a-call-nobody-asked-for"),
        pytest.param(WANTED, Signals(calls=1), Signals(calls=3), id="more-calls-than-asked"),
        pytest.param(TWO, Signals(calls=3), Signals(calls=1), id="fewer-calls-than-asked"),
        pytest.param(WANTED, Signals(calls=1), Signals(calls=1, named=False), id="an-unknown-tool"),
        pytest.param(WANTED, Signals(calls=1), Signals(calls=1, complete=False), id="a-missing-argument"),
        pytest.param(WANTED, Signals(calls=1), Signals(calls=1, listed=False), id="not-in-the-enum"),
        pytest.param(PLAIN, Signals(), Signals(valid=False), id="invalid"),
        pytest.param(PLAIN, Signals(), Signals(strict=False), id="mended"),
        pytest.param(PLAIN, Signals(chars=200), Signals(chars=3000), id="long-worked-for"),
    ],
)
def test_what_is_doubted_more(found, calm, doubtful):
    assert doubt(doubtful, found) > doubt(calm, found) + 0.1


SIGNALS = st.builds(
    Signals,
    valid=st.booleans(),
    strict=st.booleans(),
    calls=st.integers(0, 50),
    named=st.booleans(),
    complete=st.booleans(),
    typed=st.booleans(),
    listed=st.booleans(),
    chars=st.integers(0, 10**7),
)


@given(SIGNALS, st.sampled_from([WANTED, UNWANTED, TWO, PLAIN]))
def test_doubt_is_between_none_and_certain(signals, found):
    assert 0.0 <= doubt(signals, found) <= 2.0
    assert len(evidence_row(signals, found)) == len(SIGNS) + len(found.structure)
