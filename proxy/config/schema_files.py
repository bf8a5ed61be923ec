"""The JSON Schemas of a configuration: read from files or as they stand, and proven usable."""

import json
from pathlib import Path as FilePath
from typing import Any

from proxy.config.checks import Findings
from proxy.config.environ import Expansion, read_bounded, reason
from proxy.config.problems import Path, shortened
from proxy.config.tree import MAX_DEPTH

MAX_SCHEMA_BYTES = 256 * 1024
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_UNREADABLE = object()  # null is JSON


def read_schemas(sources: Any, found: Findings, expansion: Expansion, base_dir: FilePath) -> dict[str, Any]:
    """The schemas of the section `sources`, by name; `found` holds what is wrong with the others."""
    schemas: dict[str, Any] = {}
    for name, source in sources.items() if isinstance(sources, dict) else ():
        path = ("schemas", name)
        if path in expansion.failed:
            continue
        if isinstance(source, str):
            shown = shortened(expansion.written.get(path, source))
            schema = _from_file(path, base_dir / source, shown, found)
        elif isinstance(source, dict):
            schema = source
        else:
            found.refuse(path, "wrong type", expected="the path of a JSON Schema file, or the schema itself")
            continue
        if schema is not _UNREADABLE and _compiles(path, schema, found, inline=isinstance(source, dict)):
            schemas[name] = schema
    return schemas


def _from_file(path: Path, file: FilePath, shown: str, found: Findings) -> Any:
    """The schema in `file`, which messages call `shown`; _UNREADABLE where there is none."""
    try:
        return parse_schema(read_bounded(file, MAX_SCHEMA_BYTES).decode())
    except OSError as error:
        found.refuse(path, f"cannot read the schema {shown}: {reason(error)}")
    except json.JSONDecodeError as error:
        found.refuse(path, f"{shown}:{error.lineno}:{error.colno}: not JSON: {error.msg}")
    except UnicodeDecodeError:
        found.refuse(path, f"cannot read the schema {shown}: not UTF-8")
    except RecursionError:
        found.refuse(path, f"cannot read the schema {shown}: {_TOO_DEEP}")
    except ValueError as error:
        why = "no file has such a name" if "\0" in str(file) else str(error)
        found.refuse(path, f"cannot read the schema {shown}: {why}")
    return _UNREADABLE


def _compiles(path: Path, schema: Any, found: Findings, *, inline: bool) -> bool:
    from schemas.compiled import compile_schema  # noqa: PLC0415  # 40 ms, only where there are schemas
    from schemas.errors import SchemaRefused  # noqa: PLC0415  # comes with it

    try:
        compile_schema(schema)
    except SchemaRefused as refused:
        for problem in refused.problems:
            inside = _steps(schema, problem.pointer) if inline else ()
            at = f"at {shortened(problem.pointer)}: " if problem.pointer and not inline else ""
            found.refuse((*path, *inside), f"the schema is refused: {at}{problem.message}")
        return False
    return True


def parse_schema(text: str) -> Any:
    """The JSON of a schema file. Raises ValueError where it is no strict JSON or too deep."""
    value = json.loads(
        text.removeprefix("\ufeff"), object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_int
    )
    _bounded(value, MAX_DEPTH)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{shortened(name)}' stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _int(digits: str) -> int:
    if len(digits) > 100:  # int() takes quadratic time, and refuses thousands in words of its own
        raise ValueError("a number of more than 100 digits")
    return int(digits)


def _bounded(value: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError(_TOO_DEEP)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _bounded(item, depth - 1)


def _steps(value: Any, pointer: str) -> Path:
    """The path that a JSON pointer (RFC 6901) takes through `value`, as far as it leads."""
    steps: list[str | int] = []
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            steps.append(name)
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            steps.append(int(name))
            value = value[int(name)]
        else:
            break
    return tuple(steps)
