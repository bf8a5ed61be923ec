"""What is found out about a schema before it is used: whether it may be, what is odd, how long it takes."""

from dataclasses import dataclass

from schemas.check import Problem
from schemas.lint import Finding

COMPILED_HERE_S = 0.01
"""A schema that takes longer to compile is compiled elsewhere alone: nothing can interrupt that."""
JUDGED_HERE_S = 0.1
"""A schema by which a text of PROBE_BYTES takes longer to judge is used elsewhere alone."""
PROBE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trial:
    """Where `problems` is not empty the schema is refused, and the rest says nothing.

    `dialect` is the URI of its dialect. Seconds are of the processor: `compile_s` for compiling, `worst_s` for
    judging the worst of the probes that were tried, which `worst` names. `unbounded`: that it is cheap cannot be told
    by looking at it (`schemas.cost`), so that nothing was judged by it.
    """

    problems: tuple[Problem, ...] = ()
    version: str = ""
    dialect: str = ""
    findings: tuple[Finding, ...] = ()
    unbounded: bool = False
    compile_s: float = 0.0
    worst_s: float = 0.0
    worst: str = ""

    @property
    def slow(self) -> str:
        """Why it is not used where others wait; empty where it may be."""
        if self.compile_s > COMPILED_HERE_S:
            return f"compiling it takes {self.compile_s * 1000:.0f} ms"
        if self.unbounded:
            return "what it may cost cannot be bounded"
        if self.worst_s > JUDGED_HERE_S:
            return f"judging {self.worst} of {PROBE_BYTES >> 20} MiB takes {self.worst_s * 1000:.0f} ms"
        return ""
