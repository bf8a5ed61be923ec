"""Finds out what a schema costs, by the clock. It may take seconds: it runs in the sandbox's worker."""

import time
from dataclasses import replace
from typing import Any

from proxy.wire.body import read_json
from schemas.compiled import Compiled, admitted
from schemas.cost import cost_class
from schemas.dialect import Examined, examine
from schemas.errors import SchemaRefused
from schemas.lint import lint
from schemas.probes import probes
from schemas.trial import JUDGED_HERE_S, PROBE_BYTES, Trial

PROBING_S = 2.0
"""Of processor time, for all probes of a schema together; those that are not tried by then are the inner ones."""


def tried(text: bytes, *, probed: bool) -> Trial:
    """What there is to know of the schema with this JSON. `probed` False: nothing is judged by it, nor linted."""
    try:
        examined = examine(read_json(text))
        compile_s = min(_compiling_s(examined) for _ in range(2))
    except SchemaRefused as refused:
        return Trial(refused.problems)
    schema = admitted(examined)
    trial = Trial((), schema.version, schema.dialect.uri, compile_s=compile_s)
    if not probed:
        return trial
    trial = replace(trial, findings=lint(schema), unbounded=cost_class(schema.examined) == "maybe_slow")
    began = time.process_time()
    for what, value in probes(schema, PROBE_BYTES):
        if trial.slow or time.process_time() - began > PROBING_S:
            break
        took = _judging_s(schema, value)
        if took > JUDGED_HERE_S:  # perhaps the machine was busy with something else of ours
            took = min(took, _judging_s(schema, value))
        if took > trial.worst_s:
            trial = replace(trial, worst_s=took, worst=what)
    return trial


def _compiling_s(examined: Examined) -> float:
    schema = admitted(examined)
    began = time.process_time()
    schema.prepare()
    return time.process_time() - began


def _judging_s(schema: Compiled, value: Any) -> float:
    began = time.process_time()
    schema.problems(value)
    return time.process_time() - began
