import json
import random
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.features import STRUCTURE, features
from policies.fitting import Sample, fit, fit_doubter
from policies.scorer import WEIGHTS, score
from policies.suspicion import Signals, learned_doubt
from policies.weights import HEADS, MAGIC, MAX_BYTES, WeightsRefused, dump, load

LOG = "ab" * 32
WORDS = ["copy", "move", "prove", "the", "field", "please", "explain", "why", "total", "of", "invoice"]


def request(dice):
    return [{"role": "user", "content": " ".join(dice.choices(WORDS, k=dice.randint(3, 40)))}]


@pytest.fixture(scope="module")
def scorer():
    dice = random.Random(3)
    samples = []
    for _ in range(80):
        messages = request(dice)
        hard = "prove" in messages[0]["content"]
        samples.append(Sample(messages, None, "hard" if hard else None, float(not hard), 1.0, 10, 200))
    return fit(samples)


@pytest.fixture(scope="module")
def doubter():
    dice = random.Random(4)
    rows = [(Signals(chars=dice.randint(0, 2000)), features(request(dice))) for _ in range(60)]
    return fit_doubter(rows, [float(signals.chars > 900) for signals, _ in rows])


def parts(raw):
    """(the line of JSON, what is packed after it)."""
    line, _, packed = raw.removeprefix(MAGIC).partition(b"\n")
    return json.loads(line), packed


def joined(head, packed=b""):
    return MAGIC + json.dumps(head).encode() + b"\n" + packed


def test_a_loaded_scorer_scores_to_the_last_bit_as_the_fitted_one(scorer):
    again, dice = load(dump(scorer, LOG), LOG), random.Random(5)
    for _ in range(30):
        messages = request(dice)
        for step in (None, "hard"):
            assert score(again, messages, None, step) == score(scorer, messages, None, step)
    assert (again.grams, again.seen, dict(again.telling)) == (scorer.grams, scorer.seen, scorer.telling)


def test_a_loaded_doubter_doubts_to_the_last_bit_as_the_fitted_one(doubter):
    again, dice = load(dump(doubter, LOG), LOG), random.Random(6)
    for chars in (0, 10, 5000):
        found = features(request(dice))
        assert learned_doubt(again, Signals(chars=chars), found) == learned_doubt(
            doubter, Signals(chars=chars), found
        )


def test_a_file_of_weights_is_small(scorer, doubter):
    assert len(dump(scorer, LOG)) < MAX_BYTES // 4
    assert len(dump(doubter, LOG)) < 20_000


def test_weights_that_are_not_finite_are_not_written(doubter):
    with pytest.raises(ValueError, match="JSON compliant"):
        dump(replace(doubter, weights=(float("nan"), *doubter.weights[1:])), LOG)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"kind": "joker"}, "neither", id="kind"),
        pytest.param({"features": "0"}, "calibrate again", id="other-features"),
        pytest.param({"log": "0"}, "another log", id="other-log"),
        pytest.param({"steps": []}, "steps", id="no-steps"),
        pytest.param({"steps": ["a", "a"]}, "steps", id="a-step-twice"),
        pytest.param({"steps": [["a"], ["b"]]}, "steps", id="steps-no-names"),
        pytest.param({"steps": ["x" * 600, "b"]}, "steps", id="a-long-step"),
        pytest.param({"structure": [[0.0]] * HEADS}, "`structure` has another size", id="short-row"),
        pytest.param({"structure": {}}, "`structure` has another size", id="no-rows"),
        pytest.param({"scale": [0.0] * len(STRUCTURE)}, "not above 0", id="divided-by-zero"),
        pytest.param({"mean": "1"}, "`mean`", id="text-for-a-number"),
        pytest.param({"mean": True}, "`mean`", id="truth-for-a-number"),
        pytest.param({"mean": 1e300}, "`mean`", id="too-large"),
        pytest.param({"mean": 10**400}, "`mean`", id="larger-than-any-float"),
        pytest.param({"skilled": 1}, "`skilled`", id="skilled-no-truth"),
        pytest.param({"telling": [[1 << 20, [0.0, 0.0]]]}, "bucket", id="no-such-bucket"),
        pytest.param({"telling": [[0, [0.0]]]}, "`telling` has another size", id="telling-too-short"),
        pytest.param({"telling": [[0, [0.0, 0.0]]] * 2000}, "`telling` is no list", id="too-many-telling"),
    ],
)
def test_a_hostile_line_is_refused_by_name(scorer, change, says):
    head, packed = parts(dump(scorer, LOG))
    with pytest.raises(WeightsRefused, match=says):
        load(joined(head | change, packed), LOG)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(b"", "not the weights", id="empty"),
        pytest.param(b"route: r\n", "not the weights", id="a-yaml"),
        pytest.param(MAGIC + b"{}", "does not end", id="one-line"),
        pytest.param(MAGIC + b"{\n", "not JSON", id="half-an-object"),
        pytest.param(MAGIC + b"[" * 100_000 + b"\n", "not JSON", id="too-deep"),
        pytest.param(MAGIC + b'{"mean": NaN}\n', "not JSON of finite", id="nan"),
        pytest.param(MAGIC + b"\xff\n", "not JSON", id="not-utf-8"),
        pytest.param(MAGIC + b"[]\n", "no object", id="a-list"),
        pytest.param(MAGIC + b" " * MAX_BYTES, "larger than", id="too-large"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(raw, says):
    with pytest.raises(WeightsRefused, match=says):
        load(raw, LOG)


WHOLE = 4 * WEIGHTS * HEADS + (1 << 17)


@pytest.mark.parametrize(
    ("packed", "says"),
    [
        pytest.param(b"", "not .* bytes", id="nothing"),
        pytest.param(b"junk", "damaged", id="not-zlib"),
        pytest.param(zlib.compress(bytes(WHOLE - 1)), "not .* bytes", id="too-short"),
        pytest.param(zlib.compress(bytes(64 * 1024 * 1024), 1), "not .* bytes", id="a-bomb"),
        pytest.param(zlib.compress(bytes(WHOLE)) + b"more", "not .* bytes", id="something-after-it"),
        pytest.param(zlib.compress(b"\xff" * WHOLE), "not finite", id="nan"),
        pytest.param(zlib.compress(b"\x00\x00\x80\x7f" * (WHOLE // 4)), "not finite", id="infinite"),
    ],
)
def test_hostile_packed_weights_are_refused(scorer, packed, says):
    head, _ = parts(dump(scorer, LOG))
    with pytest.raises(WeightsRefused, match=says):
        load(joined(head, packed), LOG)


def test_a_doubter_of_other_signs_or_with_something_after_it_is_refused(doubter):
    head, _ = parts(dump(doubter, LOG))
    with pytest.raises(WeightsRefused, match="other signs"):
        load(joined(head | {"signs": ["doubt"]}), LOG)
    with pytest.raises(WeightsRefused, match="more than"):
        load(joined(head, b"x"), LOG)


@given(at=st.integers(0, 5000), byte=st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_still_weights(doubter, at, byte):
    raw = bytearray(dump(doubter, LOG))
    raw[at % len(raw)] = byte
    try:
        found = load(bytes(raw), LOG)
    except WeightsRefused:
        return
    assert learned_doubt(found, Signals(), features([])) is not None
