"""Fitted weights as bytes, and back: what `python -m proxy calibrate` writes beside its YAML, and a proxy loads.

    tailrace weights 1                  version
    {"kind": "scorer", ...}             one line of JSON: small numbers, the log they were fitted on
    (zlib) head weights, seen buckets   a scorer only: float32, little-endian; one bit for each bucket

A file may come from anywhere: sizes are bounded before anything is unpacked, every number is finite, every
row as long as the scorer's arithmetic expects, and weights that were fitted on other features are refused.

WeightsRefused   the bytes are no weights that this version can use; the message says why
"""

import json
import math
import sys
import zlib
from array import array
from collections.abc import Mapping
from typing import Any, NoReturn

from policies.features import BUCKETS, STRUCTURE, VERSION
from policies.scorer import WEIGHTS, Row, Scorer
from policies.suspicion import SIGNS, Doubter

Weights = Scorer | Doubter

MAGIC = b"tailrace weights 1\n"
MAX_BYTES = 4 * 1024 * 1024
MAX_LINE_BYTES = 2 * 1024 * 1024
MAX_STEPS = 40
MAX_STEP_CHARS = 512
MAX_TELLING = 1024
HEADS = 4
LARGEST = 1e12
"""No fitted number is larger: sums of some hundred of them stay finite."""

_ROWS = ("structure", "step_structure", "usual", "spread")
_ROW = ("gain", "declared_gain", "centre", "scale", "head_centre", "head_scale")
_NUMBERS = ("familiar", "strange", "mean")


class WeightsRefused(ValueError):
    """No weights, or weights that do not fit this version; the message holds no text of the file."""


def dump(weights: Weights, log: str) -> bytes:
    """`weights` as bytes; `log` is the SHA-256 of the log they were fitted on."""
    head: dict[str, Any] = {"features": VERSION, "log": log}
    if isinstance(weights, Doubter):
        head |= {"kind": "doubter", "signs": SIGNS, "weights": weights.weights}
        head |= {"centre": weights.centre, "scale": weights.scale}
        return _joined(head, b"")
    head |= {"kind": "scorer", "steps": weights.steps, "skilled": weights.skilled}
    head |= {name: getattr(weights, name) for name in (*_ROWS, *_ROW, *_NUMBERS)}
    head["telling"] = [[bucket, row] for bucket, row in sorted(weights.telling.items())]
    body = b"".join(_little(grams).tobytes() for grams in weights.grams) + _packed(weights.seen)
    return _joined(head, zlib.compress(body, 9))


def load(raw: bytes, log: str) -> Weights:
    """What `dump` wrote of the same log. Raises WeightsRefused for everything else."""
    if len(raw) > MAX_BYTES:
        raise WeightsRefused(f"larger than {MAX_BYTES} bytes")
    if not raw.startswith(MAGIC):
        raise WeightsRefused("not the weights of a calibration, or of another version")
    end = raw.find(b"\n", len(MAGIC), len(MAGIC) + MAX_LINE_BYTES)
    if end < 0:
        raise WeightsRefused("its second line does not end")
    try:
        head = json.loads(raw[len(MAGIC) : end], parse_constant=_refused)
    except (ValueError, RecursionError):
        raise WeightsRefused("its second line is not JSON of finite numbers") from None
    if not isinstance(head, dict):
        raise WeightsRefused("its second line is no object")
    if head.get("features") != VERSION:
        raise WeightsRefused("fitted on other features than this version looks at: calibrate again")
    if head.get("log") != log:
        raise WeightsRefused("fitted on another log than its calibration")
    if head.get("kind") == "scorer":
        return _scorer(_Head(head), raw[end + 1 :])
    if head.get("kind") == "doubter":
        return _doubter(_Head(head), raw[end + 1 :])
    raise WeightsRefused("neither a scorer nor a doubter")


class _Head:
    """The line of JSON, read with every size checked."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def of(self, name: str) -> Any:
        """What stands under `name`, None where nothing does."""
        return self._values.get(name)

    def number(self, name: str) -> float:
        return _number(self.of(name), name)

    def row(self, name: str, length: int, *, positive: bool = False) -> Row:
        return _row(self.of(name), length, name, positive=positive)

    def rows(self, name: str, count: int, length: int, *, positive: bool = False) -> tuple[Row, ...]:
        found = _list(self.of(name), count, name)
        return tuple(_row(row, length, name, positive=positive) for row in found)


def _scorer(head: _Head, packed: bytes) -> Scorer:
    steps = _steps(head.of("steps"))
    wide, kinds, layers = len(STRUCTURE), len(steps), (HEADS + 1) * (len(steps) + 1)
    grams, seen = _unpacked(packed)
    telling = head.of("telling")
    if not isinstance(telling, list) or len(telling) > MAX_TELLING:
        raise WeightsRefused(f"`telling` is no list of at most {MAX_TELLING}")
    skilled = head.of("skilled")
    if not isinstance(skilled, bool):
        raise WeightsRefused("`skilled` is neither true nor false")
    return Scorer(
        steps=steps,
        grams=grams,
        structure=head.rows("structure", HEADS, wide + 1),
        telling=dict(_told(pair, kinds) for pair in telling),
        step_structure=head.rows("step_structure", kinds, wide + 1),
        gain=head.row("gain", layers),
        declared_gain=head.row("declared_gain", layers),
        seen=seen,
        familiar=head.number("familiar"),
        usual=head.rows("usual", kinds, wide),
        spread=head.rows("spread", kinds, wide, positive=True),
        strange=head.number("strange"),
        skilled=skilled,
        mean=head.number("mean"),
        centre=head.row("centre", wide),
        scale=head.row("scale", wide, positive=True),
        head_centre=head.row("head_centre", HEADS),
        head_scale=head.row("head_scale", HEADS, positive=True),
    )


def _doubter(head: _Head, packed: bytes) -> Doubter:
    if packed:
        raise WeightsRefused("more than a doubter has")
    if head.of("signs") != list(SIGNS):
        raise WeightsRefused("fitted on other signs than this version looks at: calibrate again")
    wide = len(SIGNS) + len(STRUCTURE)
    return Doubter(
        head.row("weights", wide + 1), head.row("centre", wide), head.row("scale", wide, positive=True)
    )


def _steps(found: Any) -> tuple[str, ...]:
    named = isinstance(found, list) and all(isinstance(s, str) and len(s) <= MAX_STEP_CHARS for s in found)
    if not named or not 1 <= len(found) <= MAX_STEPS or len(set(found)) < len(found):
        raise WeightsRefused(f"`steps` are not 1 to {MAX_STEPS} different names")
    return tuple(found)


def _told(pair: Any, kinds: int) -> tuple[int, Row]:
    bucket, row = _list(pair, 2, "telling")
    if not isinstance(bucket, int) or isinstance(bucket, bool) or not 0 <= bucket < BUCKETS:
        raise WeightsRefused("`telling` names a bucket that does not exist")
    return bucket, _row(row, kinds, "telling")


def _row(found: Any, length: int, name: str, *, positive: bool = False) -> Row:
    row = tuple(_number(value, name) for value in _list(found, length, name))
    if positive and row and min(row) <= 0:
        raise WeightsRefused(f"`{name}` holds a number that is not above 0")
    return row


def _list(found: Any, length: int, name: str) -> list[Any]:
    if not isinstance(found, list) or len(found) != length:
        raise WeightsRefused(f"`{name}` has another size than {length}")
    return found


def _number(found: Any, name: str) -> float:
    if not isinstance(found, int | float) or isinstance(found, bool) or not -LARGEST <= found <= LARGEST:
        raise WeightsRefused(f"`{name}` holds something else than a number of sane size")
    return float(found)


def _unpacked(packed: bytes) -> tuple[tuple["array[float]", ...], bytes]:
    """(the weights of the heads, a byte for each bucket): never more memory than these take."""
    one, whole = 4 * WEIGHTS, 4 * WEIGHTS * HEADS + BUCKETS // 8
    unzip = zlib.decompressobj()
    try:
        body = unzip.decompress(packed, whole + 1)
    except zlib.error:
        raise WeightsRefused("its weights are damaged") from None
    if len(body) != whole or not unzip.eof or unzip.unused_data:
        raise WeightsRefused(f"its weights are not {whole} bytes")
    grams = tuple(_little(array("f", body[i * one : (i + 1) * one])) for i in range(HEADS))
    if not all(math.isfinite(sum(map(abs, head))) and max(map(abs, head)) <= LARGEST for head in grams):
        raise WeightsRefused("a weight is not finite")
    bits = body[HEADS * one :]
    return grams, b"".join(_BITS[byte] for byte in bits)


_BITS = tuple(bytes(byte >> i & 1 for i in range(8)) for byte in range(256))


def _packed(seen: bytes) -> bytes:
    """Eight buckets to a byte, the first one lowest."""
    places = [seen[i::8] for i in range(8)]
    return bytes(sum(bit << i for i, bit in enumerate(eight)) for eight in zip(*places, strict=True))


def _little(values: "array[float]") -> "array[float]":
    """Between this machine's byte order and the file's, both ways."""
    if sys.byteorder == "little":
        return values
    turned = values[:]
    turned.byteswap()
    return turned


def _joined(head: Mapping[str, Any], body: bytes) -> bytes:
    line = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return MAGIC + line + b"\n" + body


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)
