"""Two hundred streams at once through the proxy as users run it: all are served, and their memory is used again."""

import pathlib

import pytest

from benchmarks.streams import measure

STREAMS = 200

pytestmark = pytest.mark.skipif(
    not pathlib.Path("/proc/self/status").exists(), reason="memory is not measured: no /proc here"
)


@pytest.fixture(scope="module")
def waves():
    return measure(streams=STREAMS, waves=2, events=10, interval_s=0.2, ramp_s=0.5, settle_s=0.3)


def test_every_stream_arrives_whole_and_in_order(waves):
    assert [w.done for w in waves] == [STREAMS, STREAMS], waves[0].wrong[:3] + waves[1].wrong[:3]


def test_all_streams_are_open_at_once(waves):
    assert max(w.held for w in waves) == STREAMS


def test_a_stream_takes_little_memory(waves):
    """27 KiB were measured with 1000 streams; 200 bear the costs that are the same for any number."""
    assert waves[0].kib_per_stream < 80


def test_memory_of_ended_streams_is_used_again(waves):
    """A leak of 10 KiB per stream would add 2 MiB; what the allocator rounds up is below that."""
    assert waves[1].after_mib - waves[0].after_mib < 4
