"""`python -m proxy mend` prints the value and the changes."""

import io
import json
import types

import pytest

from proxy.cli import main

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
RUNS = [
    ("valid", '{"age": 1}', 0, "valid", '{"age": 1}'),
    ("repaired", "```\n{age: 1,}\n```", 0, "lossless", '{"age":1}'),
    ("invalid", '{"age": "x"}', 1, "/age: expected integer", ""),
]


@pytest.mark.parametrize(("text", "status", "told", "value"), [r[1:] for r in RUNS], ids=[r[0] for r in RUNS])
def test_a_reply_is_mended(tmp_path, monkeypatch, capsys, text, status, told, value):
    file = tmp_path / "s.json"
    file.write_text(json.dumps(SCHEMA))
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert main(["mend", "--schema", str(file)]) == status
    got = capsys.readouterr()
    assert told in got.err
    assert got.out.strip() == value


def test_a_schema_that_is_refused_or_missing_says_why(tmp_path, capsys):
    file = tmp_path / "s.json"
    file.write_text('{"type": "nonsense"}')
    assert main(["mend", "--schema", str(file)]) == 2
    assert "refused at /type" in capsys.readouterr().err
    assert main(["mend", "--schema", str(tmp_path / "none.json")]) == 2
    assert "cannot read" in capsys.readouterr().err
