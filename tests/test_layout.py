"""What holds for the project's files as a whole: the pure core, its tests, the locks, make and the image."""

import ast
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PURE = ("schemas", "policies", "proxy/wire")
PURE_MODULES = sorted(path for folder in PURE for path in (ROOT / folder).rglob("*.py"))
MODULES = sorted(
    path for folder in ("schemas", "policies", "proxy") for path in (ROOT / folder).rglob("*.py")
)
LOCKS = ("run", "dev", "client", "compile", "demo", "fuzz", "audit")
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def imported_by(path: pathlib.Path) -> set[str]:
    """Every module that the file imports, also as `from package import module`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", PURE_MODULES, ids=name_of)
def test_pure_module_never_waits(path):
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, waiting)]


def has_code(path: pathlib.Path) -> bool:
    tree = ast.parse(path.read_text())
    return any(isinstance(node, ast.FunctionDef | ast.Lambda) for node in ast.walk(tree))


@pytest.mark.parametrize("path", [p for p in PURE_MODULES if has_code(p)], ids=name_of)
def test_pure_module_is_tested_directly(path):
    """By a test file of its name, or one in the same place that imports it; values without code need none."""
    folder = ROOT / "tests" / path.relative_to(ROOT).parts[0]
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    tests = sorted(folder.rglob("test_*.py"))
    assert any(test.stem == f"test_{path.stem}" or module in imported_by(test) for test in tests)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_longer_than_500_lines(path):
    assert len(path.read_text().splitlines()) <= 500


def pinned(lock: str) -> dict[str, str]:
    """Name and version, with the marker it is for, of each requirement; each has a hash."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    found = {}
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        first, *rest = block.splitlines()
        name, version = first.rstrip(" \\").split("==", 1)
        assert rest, name
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in rest), name
        found.setdefault(name, version if ";" not in version else version.split(" ;")[0])
    assert found
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_version_and_hash(lock):
    pinned(lock)


def test_locks_agree_on_versions():
    development = pinned("dev")
    for lock in ("run", "client", "compile"):
        assert pinned(lock).items() <= development.items(), lock


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_index(lock):
    assert "://" not in (ROOT / "requirements" / f"{lock}.lock").read_text()


def test_every_declared_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = {
        "run": project["project"]["dependencies"],
        "dev": groups["dev"],
        "client": groups["client"],
        "compile": groups["compile"],
        "demo": groups["demo"],
        "fuzz": groups["fuzz"],
        "audit": groups["audit"],
    }
    for lock, declared in wanted.items():
        names = {re.split(r"[<>=~! ]", line)[0] for line in declared if isinstance(line, str)}
        assert names <= pinned(lock).keys(), lock


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_is_explained_by_help_and_in_contributing(target):
    assert re.search(rf"^{target}:.*## \S", MAKEFILE, re.MULTILINE)
    assert f"make {target}" in (ROOT / "CONTRIBUTING.md").read_text()


def test_make_targets_are_phony():
    assert sorted(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()) == sorted(TARGETS)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def instruction(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_image_stages_start_from_one_base_pinned_by_tag_and_digest():
    bases = {rest.split()[0] for rest in instruction("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:[\d.]+-slim-\w+@sha256:[0-9a-f]{64}", bases.pop())


def test_image_holds_the_three_packages_and_the_runtime_lock_only():
    copied = {rest.split()[0] for rest in instruction("COPY") if not rest.startswith("--from")}
    building = {"requirements/compile.lock", "tools/compile.py"}
    assert copied == {"schemas", "policies", "proxy", "LICENSE", "requirements/run.lock"} | building
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == copied
    installs = [rest for rest in instruction("RUN") if "pip install" in rest]
    assert len(installs) == 2
    assert all("--require-hashes" in install for install in installs)
    assert "--target compile " in installs[1]
    assert "rm -r compile tools requirements" in installs[1]
    assert installs[0].count("-r ") == 1
    assert "-r requirements/run.lock" in installs[0]


def test_image_runs_without_root_in_exec_form_with_a_health_check():
    user = instruction("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert instruction("STOPSIGNAL") == ["SIGTERM"]
    for word in ("ENTRYPOINT", "CMD"):
        assert instruction(word)[-1].startswith("[")
    assert "/healthz" in instruction("HEALTHCHECK")[-1]
    assert '["python3"' in instruction("HEALTHCHECK")[-1]
