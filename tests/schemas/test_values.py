"""Values that only the type checker freezes are, in all else, frozen dataclasses."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from schemas.values import dataclass

ROOT = pathlib.Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True, eq=False)
class Thing:
    x: int


def test_equal_values_are_equal_and_hash_alike():
    assert Point(1) == Point(1, 0) != Point(2)
    assert len({Point(1), Point(1, 0)}) == 1
    assert dataclasses.replace(Point(1), y=2) == Point(1, 2)


def test_a_value_has_its_fields_and_no_others():
    with pytest.raises(AttributeError):
        Point(1).z = 3
    assert Thing(1) != Thing(1)


def test_the_type_checker_refuses_an_assignment(tmp_path):
    (tmp_path / "bad.py").write_text(
        "from schemas.values import dataclass\n\n\n"
        "@dataclass(frozen=True, slots=True)\nclass P:\n    x: int\n\n\nP(1).x = 2\nP('a')\n"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-incremental",
        "--config-file",
        str(ROOT / "pyproject.toml"),
    ]
    done = subprocess.run([*command, str(tmp_path / "bad.py")], cwd=ROOT, capture_output=True, text=True)
    assert 'Property "x" defined in "P" is read-only' in done.stdout
    assert 'incompatible type "str"' in done.stdout
