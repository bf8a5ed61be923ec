"""Built code runs only where it says the same as the sources."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from proxy import native

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    """Sources of two modules, one of them in a package."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text("SAYS = 'source'\n")
    (tmp_path / "outer.py").write_text("SAYS = 'source'\n")
    return tmp_path


@pytest.fixture
def built(root, monkeypatch):
    """What a build of them leaves behind; what stands for machine code is Python here."""
    monkeypatch.delenv(native.WANTED, raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    out = root / "native"
    out.mkdir()
    (out / "outer.so.py").write_text("SAYS = 'built'\n")
    modules = ["package.inner", "outer"]
    manifest = {
        "digest": native.digest(modules, root),
        "modules": modules,
        "libraries": {"outer": "outer.so.py"},
    }
    (out / native.MANIFEST).write_text(json.dumps(manifest))
    return out


def test_what_was_built_of_these_sources_is_imported(root, built):
    assert native.use(built, root)
    spec = importlib.util.find_spec("outer")
    assert spec is not None
    assert spec.origin == str(built / "outer.so.py")


@pytest.mark.parametrize("changed", ["package/inner.py", "outer.py"])
def test_a_changed_source_leaves_all_of_it_aside(root, built, changed):
    (root / changed).write_text("SAYS = 'changed'\n")
    assert not native.use(built, root)
    assert importlib.util.find_spec("outer") is None


@pytest.mark.parametrize(
    "manifest",
    [None, "", "{", "[]", "null", "{}", '{"modules": 1, "libraries": {}, "digest": ""}'],
    ids=["none", "empty", "cut", "a-list", "null", "no-members", "wrong-types"],
)
def test_a_broken_build_is_left_aside(root, built, manifest):
    if manifest is None:
        (built / native.MANIFEST).unlink()
    else:
        (built / native.MANIFEST).write_text(manifest)
    assert not native.use(built, root)


def test_a_source_that_is_gone_leaves_all_of_it_aside(root, built):
    (root / "outer.py").unlink()
    assert not native.use(built, root)


def test_a_child_does_as_its_parent(root, built):
    assert native.handed_on() == {native.WANTED: "1" if native.in_use() else "0"}
    native.use(built, root)
    assert native.handed_on() == {native.WANTED: "1"}


def test_it_can_be_switched_off(root, built, monkeypatch):
    monkeypatch.setenv(native.WANTED, "0")
    assert not native.use(built, root)


def test_what_is_compiled_exists_and_is_no_more_than_the_hot_path():
    asked = "import tools.compile as c; print(*c.MODULES)"
    found = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    names = found.stdout.split()
    assert len(names) == len(set(names))
    assert all(ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file() for name in names)
    assert "proxy.exchange" in names
    assert "proxy.app" not in names


@pytest.fixture(scope="module")
def compile_():
    """tools/compile.py as a module."""
    spec = importlib.util.spec_from_file_location("compile_", ROOT / "tools" / "compile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VALUES = '''\
from dataclasses import dataclass, field


@dataclass(slots=True)
class Given:
    """Two lines
    of it."""

    name: str
    size: int = 3
    notes: dict[str, int] = field(default_factory=dict)
    quiet: tuple[int, ...] = field(default=(1,), repr=False)


def after() -> int:
    return 1


@dataclass(slots=True)
class Derived(Given):
    more: int = 1


@dataclass(slots=True)
class Checked:
    size: int

    def __post_init__(self) -> None:
        self.size += 1
'''


def test_what_is_compiled_says_itself_what_its_dataclasses_hold(compile_):
    text = compile_.with_inits(VALUES)
    assert text.count("def __init__") == 1
    there = {}
    exec(text, there)
    made = there["Given"]("a", notes={"b": 1})
    assert made == there["Given"]("a", 3, {"b": 1}, (1,))
    assert repr(made) == "Given(name='a', size=3, notes={'b': 1})"
    assert there["Given"]("a").notes is not there["Given"]("a").notes
    assert there["Checked"](1).size == 2
    assert there["Derived"]("a", more=2).more == 2


def test_lines_keep_their_numbers(compile_):
    text = compile_.with_inits(VALUES).splitlines()
    for number, line in enumerate(VALUES.splitlines()):
        if line and not line.startswith("@"):
            assert text[number] == line


def test_every_module_to_compile_stays_python(compile_):
    for name in compile_.MODULES:
        source = ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text()
        compile(compile_.with_inits(source), name, "exec")
