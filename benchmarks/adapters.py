"""What the outside harnesses call: plain functions over the project's own, imported when first used."""

import functools
import json
import time
from typing import Any


def repair(text: str, schema: Any) -> Any:
    """The value that mending makes of `text`; raises ValueError where the verdict is "invalid".

    `repair.us` holds the microseconds of the last call, without compiling the schema: a proxy does that once.
    """
    from schemas.mend import mend  # noqa: PLC0415 - each harness pays for its own part only

    compiled = _compiled(schema)
    started = time.perf_counter()
    mended = mend(text, compiled)
    repair.us = (time.perf_counter() - started) * 1e6  # type: ignore[attr-defined]
    if mended.verdict == "invalid":
        raise ValueError(mended.problems[0].message)
    return mended.value


_BY_IDENTITY: dict[int, tuple[Any, Any]] = {}


def _compiled(schema: Any) -> Any:
    """The compiled schema, made once for each schema object: a proxy compiles at registration."""
    known = _BY_IDENTITY.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    compiled = _compile("true" if schema is None else json.dumps(schema))
    _BY_IDENTITY[id(schema)] = (schema, compiled)
    return compiled


@functools.cache
def _compile(schema: str) -> Any:
    from schemas.compiled import compile_schema  # noqa: PLC0415 - as above

    return compile_schema(json.loads(schema))
