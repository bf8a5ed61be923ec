"""Compressed bodies, in any split, within bounds."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstreams.inflate import FREE_BYTES, MAX_PIECE, MAX_RATIO, Inflate
from proxy.upstreams.transport import AnswerTooLarge, Malformed


def packed(data, wbits):
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


@given(
    st.binary(max_size=3000), st.sampled_from([(31, "gzip"), (15, "deflate"), (-15, "deflate")]), st.data()
)
def test_any_split_gives_the_same(data, coding, draw):
    wire = packed(data * 5, coding[0])
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    inflate = Inflate(coding[1])
    plain = b""
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        plain += b"".join(inflate.feed(wire[start:end]))
    inflate.check_ended()
    assert plain == data * 5


def test_pieces_are_small_however_much_a_body_grows():
    inflate = Inflate("gzip")
    sizes = [len(piece) for piece in inflate.feed(gzip.compress(b"\0" * FREE_BYTES))]
    assert max(sizes) == MAX_PIECE
    assert sum(sizes) == FREE_BYTES


def test_growth_has_a_bound():
    inflate = Inflate("gzip")
    wire = gzip.compress(b"\0" * 20_000_000)
    given_out = 0
    with pytest.raises(AnswerTooLarge):
        for piece in inflate.feed(wire):
            given_out += len(piece)
    assert given_out <= max(FREE_BYTES, MAX_RATIO * len(wire))


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", ""])
def test_other_codings_are_refused(coding):
    with pytest.raises(Malformed):
        Inflate(coding)


@pytest.mark.parametrize("cut", [1, 2, 15, -1])
def test_cut_body_is_not_whole(cut):
    inflate = Inflate("gzip")
    list(inflate.feed(gzip.compress(b"hello" * 100)[:cut]))
    with pytest.raises(Malformed):
        inflate.check_ended()


def test_body_without_a_byte_is_whole():
    Inflate("gzip").check_ended()
    Inflate("deflate").check_ended()
