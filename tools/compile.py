#!/usr/bin/env python3
"""Builds the hot path as machine code beside the environment: less than half the CPU for each request.

    .venv/bin/python tools/compile.py [--once] [--must] [--out DIR]

mypyc (of mypy, which checks these modules anyway) translates MODULES to C; a C compiler and Python's headers are
needed (Debian: gcc python3-dev). What was built of the same sources is left as it is; `--once` leaves whatever was
built before, too: what is stale is not used, see proxy/native.py. Takes about a minute and a half.
"""

import argparse
import ast
import importlib.machinery
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from proxy.native import BUILT, MANIFEST, digest  # noqa: E402  the checkout is no installed distribution

LIBRARY = "tailrace_native"
# What a plain and a validated request pass through. Not proxy.app, which tests put things on; and nothing that works
# long in a thread beside the event loop, as proxy.wire.body and schemas.careful do on large texts: compiled code lets
# no other thread run before it returns.
MODULES = (
    *(f"policies.{name}" for name in ["allowance", "breaker", "budget", "cards", "chat", "constraints", "contract", "facts", "ladder", "limits", "money", "plan", "release", "room", "route", "routing", "saved", "structure", "unwrapped", "window"]),
    *(f"schemas.{name}" for name in ["check", "mend", "quick", "strict"]),
    *(f"proxy.{name}" for name in ["admission", "aftermath", "attempts", "budgets", "clock", "dispatch", "edges", "estimates", "exchange", "facts", "health", "holds", "judging", "listener", "live", "outbox", "planning", "ports", "prompts", "selection", "series", "services", "shaping", "snapshot", "telemetry"]),
    "proxy.handlers.completions",
    *(f"proxy.serving.{name}" for name in ["connection", "request", "response", "server"]),
    *(f"proxy.stores.{name}" for name in ["base", "journal", "rows", "writer"]),
    *(f"proxy.upstreams.{name}" for name in ["answer", "connection", "http1", "lane", "openai", "pool", "transport"]),
    *(f"proxy.wire.{name}" for name in ["ask", "chat", "chunks", "facts", "headers", "sse"]),
)  # fmt: skip


def missing() -> str | None:
    """What a build lacks here, and how to get it."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not (shutil.which(os.environ.get("CC", compiler)) or shutil.which("gcc")):
        return "there is no C compiler (Debian: apt-get install gcc python3-dev)"
    if not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "Python's headers are not here (Debian: apt-get install python3-dev)"
    try:
        import mypyc  # noqa: F401, PLC0415  only where it is needed, and it is heavy
        import setuptools  # noqa: F401, PLC0415
    except ImportError as error:
        return f"{error.name} is not installed (make env)"
    return None


def with_inits(source: str) -> str:
    """The source, in which dataclasses say what their `__init__` does, in the two blank lines after them.

    The one that `dataclasses` makes is no part of what mypyc sees: it runs interpreted and takes sixteen times as
    long. Line numbers stay. Where fields are more than values with defaults, it is left to `dataclasses`.
    """
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or node.bases:
            continue
        marks = [mark for mark in node.decorator_list if ast.unparse(mark).startswith("dataclass(")]
        own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        fields = [_field(item) for item in node.body if isinstance(item, ast.AnnAssign)]
        after = node.end_lineno
        if (
            not marks
            or None in fields
            or own & {"__init__", "__post_init__"}
            or any(lines[after : after + 2])
        ):
            continue
        names, parameters, values = zip(*filter(None, fields), strict=True)
        body = "; ".join(f"self.{name} = {value}" for name, value in zip(names, values, strict=True))
        lines[after : after + 2] = [
            f"    def __init__(self, {', '.join(parameters)}) -> None: {body}  # type: ignore",
            f"    def __reduce__(self) -> object: return {node.name}, ({', '.join(f'self.{n}' for n in names)},)  # type: ignore",
        ]
        at = marks[0].lineno - 1
        lines[at] = lines[at].replace("dataclass(", "dataclass(init=False, ", 1)
    return "\n".join(lines) + "\n"


def _field(item: ast.AnnAssign) -> tuple[str, str, str] | None:
    """Its name, the parameter for it, and its value; None for what `dataclasses` alone knows how to do."""
    name, kind = ast.unparse(item.target), ast.unparse(item.annotation)
    if item.value is None:
        return name, f"{name}: {kind}", name
    if not (isinstance(item.value, ast.Call) and ast.unparse(item.value.func) == "field"):
        return name, f"{name}: {kind} = {ast.unparse(item.value)}", name
    said = {word.arg: ast.unparse(word.value) for word in item.value.keywords}
    if "default" in said:
        return name, f"{name}: {kind} = {said['default']}", name
    if "init" in said or "None" in kind:
        return None
    return (
        name,
        f"{name}: {kind} | None = None",
        f"({said['default_factory']})() if {name} is None else {name}",
    )


SETUP = f"""\
import sys
from mypyc.build import mypycify
from setuptools import setup
files = sys.argv.pop().split(",")
setup(name="tailrace", packages=[], ext_modules=mypycify(["--ignore-missing-imports", "--disable-error-code=import-untyped", *files], opt_level="2", debug_level="0", multi_file=True, group_name="{LIBRARY}"))
"""


# Calls from one module into another are looked at by the compiler, too: 5 % of a request.
WHOLE = {
    "CFLAGS": "-flto=auto -fno-semantic-interposition -fno-plt",
    "LDFLAGS": "-flto=auto -Wl,-Bsymbolic",
}


def build(out: pathlib.Path) -> None:
    """Everything of MODULES is in `out`, and a manifest that says of which sources. Ends the program where that fails."""
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        for package in ("schemas", "policies", "proxy"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in MODULES:
            path = folder.joinpath(*name.split(".")).with_suffix(".py")
            path.write_text(with_inits(path.read_text()))
        (folder / "setup.py").write_text(SETUP)
        files = ",".join(name.replace(".", "/") + ".py" for name in MODULES)
        command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib=lib", "-j2", files]
        for flags in (WHOLE, {}):  # a compiler that does not know the flags does without
            told = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **flags}
            )
            if not told.returncode:
                break
        else:
            lines = [line for line in (told.stdout + told.stderr).splitlines() if "warning" not in line]
            sys.exit("\n".join(["mypyc or the C compiler failed:", *lines[-30:]]))
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        found = {
            str(path.relative_to(folder / "lib")).removesuffix(suffix).replace("/", "."): path
            for path in sorted((folder / "lib").rglob(f"*{suffix}"))
        }
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for name, path in found.items():
            shutil.copy(path, out / (name + suffix))
        manifest = {
            "digest": digest(MODULES),
            "modules": MODULES,
            "libraries": {name: name + suffix for name in found},
        }
        (out / MANIFEST).write_text(json.dumps(manifest, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--once", action="store_true", help="nothing, where anything was built before")
    parser.add_argument("--must", action="store_true", help="fail where it cannot be built")
    parser.add_argument(
        "--out", type=pathlib.Path, default=BUILT, help="where it goes (default: %(default)s)"
    )
    chosen = parser.parse_args()
    try:
        built = json.loads((chosen.out / MANIFEST).read_bytes())["digest"]
    except (OSError, ValueError, KeyError):
        built = None
    if built is not None and (chosen.once or built == digest(MODULES)):
        return
    if (lacking := missing()) is not None:
        if chosen.must:
            sys.exit(f"cannot compile: {lacking}")
        print(f"Not compiled, runs as it is, at twice the CPU per request: {lacking}", file=sys.stderr)
        return
    print(f"Compiling the hot path ({len(MODULES)} modules, about a minute and a half)", file=sys.stderr)
    began = time.monotonic()
    build(chosen.out)
    print(f"  done in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
