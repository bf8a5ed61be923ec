"""The stream splitter against the standard's corners, and against recorded streams cut in any way."""

import pathlib
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import DONE, Splitter, TooLong, comment, frame

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"

EVENTS = [
    ("lf", b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    ("crlf", b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    ("cr", b"data: a\r\rdata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
    ("cr-to-the-end", b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    ("mixed-line-ends", b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
    ("no-space-after-colon", b"data:a\n\n", [b"a"]),
    ("only-one-space-is-taken", b"data:  a\n\n", [b" a"]),
    ("several-data-lines", b"data: a\ndata: b\n\n", [b"a\nb"]),
    ("data-without-colon-is-empty", b"data\n\n", [b""]),
    ("comments-carry-nothing", b": hi\ndata: a\n\n: x\n\n", [b"a"]),
    ("names-and-ids-carry-nothing", b"event: e\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    ("bom-once", b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n", [b"a", b"\xef\xbb\xbfb"]),
    ("line-separator-is-not-a-line-end", "data: a\u2028b\u0085c\n\n".encode(), ["a\u2028b\u0085c".encode()]),
    ("unfinished-event-is-none", b"data: a\n\ndata: b\n", [b"a"]),
    ("blank-lines-are-nothing", b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
    ("done", b"data: [DONE]\n\n", [DONE]),
]


def split(text: bytes, cuts=()) -> list[bytes]:
    splitter, at, found = Splitter(), 0, []
    for cut in [*cuts, len(text)]:
        found += splitter.feed(text[at:cut])
        at = cut
    return found


@pytest.mark.parametrize(("text", "events"), [row[1:] for row in EVENTS], ids=[row[0] for row in EVENTS])
def test_events_of_a_stream(text, events):
    assert split(text) == events
    assert split(text, range(1, len(text))) == events


@given(st.sampled_from(EVENTS), st.sampled_from(EVENTS), st.lists(st.integers(0, 60), max_size=8))
def test_any_cut_gives_the_same_events(one, other, cuts):
    text = one[1] + b"\n\n" + other[1]
    assert split(text, sorted(c for c in cuts if c < len(text))) == split(text)


@given(st.text().filter(lambda t: "\r" not in t))
def test_what_is_framed_is_read_back(text):
    assert split(frame(text.encode())) == [text.encode()]


def test_an_endless_event_is_refused_in_linear_time():
    splitter = Splitter(limit=200_000)
    with pytest.raises(TooLong):
        for _ in range(300_000):
            splitter.feed(b"x")


def test_unfinished_bytes_are_told():
    splitter = Splitter()
    splitter.feed(b"data: a\n\ndata: b")
    assert splitter.rest
    splitter.feed(b"\n\n")
    assert not splitter.rest


def test_a_comment_is_one_line_and_one_newline():
    assert comment("a\nb\r\nc") == b": a b  c\n"


@pytest.mark.shared
@pytest.mark.skipif(
    not SHARED.exists(), reason="LEFT OUT: no shared/ beside the checkout, recorded streams not read"
)
def test_recorded_streams_give_the_same_events_however_they_are_cut():
    with tarfile.open(SHARED / "data/real_outputs/transcripts.tar.gz") as archive:
        streams = [archive.extractfile(m).read() for m in archive if m.name.endswith(".sse")]
    assert len(streams) > 40
    for text in streams:
        whole = split(text)
        assert split(text, range(7, len(text), 7)) == whole
        assert split(text.replace(b"\n", b"\r\n"), range(1, 2 * len(text), 11)) == whole
