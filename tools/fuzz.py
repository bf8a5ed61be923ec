"""Coverage-guided fuzzing of what reads hostile text: `make fuzz`, or `python tools/fuzz.py TARGET [libFuzzer options]`.

Needs atheris (requirements/fuzz.lock), which runs on Linux. A crash leaves its input in .cache/fuzz/found/.
"""

import json
import pathlib
import sys
from collections.abc import Callable

import atheris

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["proxy", "schemas"]):
    from proxy.config import ConfigRefused, loads
    from proxy.wire import body as wire_body
    from proxy.wire.body import REMOVE, NotJson, edit, read_json
    from proxy.wire.sse import Splitter, TooLong
    from schemas.compiled import compile_schema
    from schemas.errors import SchemaRefused
    from schemas.mend import mend

PERSON = compile_schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Z]"},
            "age": {"type": "integer", "minimum": 0},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
            "more": {"$ref": "#"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
)
KINDS = frozenset({"lossless", "choice", "coercion"})
CONFIG = "providers:\n  p: {base_url: http://127.0.0.1:1/v1}\nmodels:\n  m: {provider: p}\n"


def sse(data: bytes) -> None:
    """Any cut of a stream gives the same events."""
    cut, text = data[:4], data[4:]
    whole, pieces = Splitter(limit=1000), Splitter(limit=1000)
    try:
        expected = whole.feed(text)
        places = sorted({c % (len(text) + 1) for c in cut})
        found = [
            e for a, b in zip([0, *places], [*places, len(text)], strict=True) for e in pieces.feed(text[a:b])
        ]
    except TooLong:
        return
    assert found == expected
    assert whole.rest == pieces.rest


def lenient(data: bytes) -> None:
    """Whatever a model writes is mended to something valid, or refused."""
    mended = mend(data.decode("utf-8", "replace"), PERSON, KINDS)
    if mended.verdict != "invalid":
        assert mended.text is not None
        assert PERSON.is_valid(json.loads(mended.text))


def schema(data: bytes) -> None:
    """A schema is compiled or refused."""
    try:
        compile_schema(json.loads(data)).problems({"a": [1, "x", None]})
    except (ValueError, RecursionError, SchemaRefused):
        return


def body(data: bytes) -> None:
    """A request that is read can be changed, in both ways, and means the same but for the change."""
    wire_body.LARGE_BYTES = 0 if data[:1] == b" " else 10**9
    try:
        doc = read_json(data)
    except NotJson:
        return
    if isinstance(doc, dict):
        changed = json.loads(edit(data, doc, {"model": "m", "tailrace": REMOVE, "new": [1]}))
        assert changed == {k: v for k, v in doc.items() if k != "tailrace"} | {"model": "m", "new": [1]}


def config(data: bytes) -> None:
    """A configuration is taken, or refused with words."""
    text = data.decode("utf-8", "replace")
    try:
        loads(text if data[:1] == b"\n" else CONFIG + text, name="f.yaml", environ={"K": "v"}, base_dir=ROOT)
    except ConfigRefused as refused:
        problems = refused.problems
    else:
        return
    assert problems
    assert all(str(problem) for problem in problems)


TARGETS: dict[str, Callable[[bytes], None]] = {f.__name__: f for f in (sse, lenient, schema, body, config)}


SEEDS = {
    "sse": [b'\1\5\t\x0bdata: {"a":1}\r\n\r\n: hi\ndata:b\ndata: c\n\n\xef\xbb\xbfdata: [DONE]\r\r'],
    "lenient": [
        b'```json\n{"name": "Ann", "age": 3, "tags": ["a", "b",], "more": {"name": "Bob"}}\n``` and so on',
        b"<think>hm</think>{'name': 'Ann' 'age': \"3\", // so\n tags: [a, True, NaN], \"x\\u00e9\": 1.0e5",
        b'Here: {"name": "Ann \\"the\\" \xc3\xa9", "age": -1, "tags": [',
    ],
    "schema": [
        b'{"type":"object","properties":{"a":{"type":["string","null"],"pattern":"^(a|b)+$"}},"required":["a"]}',
        b'{"$defs":{"x":{"$ref":"#/$defs/y"},"y":{"anyOf":[{"$ref":"#"},{"const":1}]}},"allOf":[{"$ref":"#/$defs/x"}]}',
        b'{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"multipleOf":0.1}],"dependencies":{"a":["b"]}}',
    ],
    "body": [
        b' {"model" : "gpt", "messages":[{"role":"user","content":"\\ud800 \xc3\xa9 \\""}], "tailrace":{}, "n":1e5}',
        b'{"tailrace": {"a": [1, {"model": "x"}]} , "mode\\u006c":"y"}',
    ],
    "config": [
        b"routes: {r: {ladder: [m], repair: {accept: [lossless], reask: 1}, limits: {cost_usd: 0.05}}}\n",
        b"keys:\n  - {name: a, key: $K, routes: [default], budget: {usd: 5, per: day}}\nserver: &a {port: 0}\n",
        b"\nproviders: {p: {base_url: 'https://x/v1', headers: {a: \"${K}\"}}}\nmodels: {'m*': {provider: p, price: {input: 1}}}",
    ],
}


def main() -> None:
    """Fuzz the target that is named first; what follows goes to libFuzzer, a corpus folder first."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"which one? {' '.join(TARGETS)}")
    if len(sys.argv) > 2 and (corpus := pathlib.Path(sys.argv[2])).is_dir():
        for number, seed in enumerate(SEEDS[name]):
            (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
