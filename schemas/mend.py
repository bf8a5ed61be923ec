"""Mend a reply: from text to a value that satisfies the schema, with every change named, or an honest no.

The steps, each only where the one before gave no valid value: strict JSON; extraction; repairs of the
syntax that lose nothing; choices among readings, made by cost and by the schema; exact coercion.
A result is taken only if it is valid, its cost is the lowest, and no other valid value is nearly as
cheap. The work for one text is bounded; when it is used up the answer is "invalid".
"""

import heapq
import itertools
import json
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from schemas import found, strict
from schemas.builder import Fuel, OutOfFuel
from schemas.check import Change, Mended, Problem
from schemas.coerce import COERCION_COST, Fitter, same
from schemas.compiled import Compiled
from schemas.lenient import Reader
from schemas.reading import Edit, Reading
from schemas.scalars import scalars
from schemas.shape import Shape, has_strangers, root_types

_UNQUOTES: Final = frozenset({"unquoted-string", "number"})
DEFAULT_ACCEPT: Final = frozenset({"lossless", "choice", "coercion"})

# Another valid value whose cost is within this of the best one's makes the choice a guess.
MARGIN: Final = 0.15
# The schema chooses among readings that are about as cheap as the cheapest: not the one that happens to satisfy it.
SLACK: Final = 1.6
# Where the schema says nothing there is no evidence but the text itself: beyond this it is a guess.
DEAREST_GUESS: Final = 3.25
BASE_FUEL: Final = 1500
MAX_READINGS: Final = 20
MAX_SEGMENTS: Final = 32


@dataclass(slots=True)
class _Candidate:
    """A value that may be the answer, and what it took."""

    value: Any
    cost: float
    edits: list[Edit]
    start: int
    end: int
    valid: bool


def mend(text: str, schema: Compiled, accept: frozenset[str] = DEFAULT_ACCEPT) -> Mended:
    """What can be made of `text` so that it satisfies `schema`, using only changes of the kinds in `accept`.

    "valid": the text is forwarded as it is. "repaired": `text` is the compact JSON of `value`, `changes`
    tells what was done. "invalid": `problems` say what is wrong with the best reading; where there was
    one, `parsed` is true and `value` is it. Never raises, whatever the text.
    """
    try:
        value = strict.parse(text)
    except strict.NotStrict as error:
        if len(text) > strict.MAX_CHARS:
            return Mended("invalid", None, problems=(Problem("", "json", str(error)),))
        work = _Work(text, schema, accept)
        run = work.from_text
    else:
        if schema.is_valid(value):
            return Mended("valid", text, value)
        work = _Work(text, schema, accept)
        run = lambda: work.from_value(value)  # noqa: E731 - the value must not be parsed twice
    try:
        best = run()
    except OutOfFuel:
        best = None
    if best is not None:
        changes = tuple(_change(text, edit) for edit in best.edits)
        return Mended("repaired", compact(best.value), best.value, changes)
    return work.refusal()


def compact(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):  # long integers and lone surrogates
        return json.dumps(value, separators=(",", ":"))


def _change(text: str, edit: Edit) -> Change:
    start, end = (edit.start, edit.end) if edit.start >= 0 else (0, len(text))
    before, after = text[start:end], edit.after
    if edit.start < 0 and " -> " in after:
        before, _, after = after.partition(" -> ")
    return Change(edit.operation, edit.kind, (start, end), edit.pointer, before, after)


class _Work:
    """The attempts for one text, and the best one that failed."""

    def __init__(self, text: str, schema: Compiled, accept: frozenset[str], *, layer: int = 0) -> None:
        self.text = text
        self.schema = schema
        self.accept = accept | {"lossless"}
        self.layer = layer
        self.fuel = Fuel(BASE_FUEL + len(text) // 16)
        self.best_invalid: _Candidate | None = None
        self.ambiguous = False
        self.types = root_types(schema.schema)
        self.dearest = DEAREST_GUESS if schema.schema in (True, {}) else float("inf")

    # -- verdicts -------------------------------------------------------------------------------

    def judge(
        self,
        value: Any,
        cost: float,
        edits: list[Edit],
        span: tuple[int, int],
        raw: dict[tuple[int, Any], str],
    ) -> _Candidate:
        """Validate, with coercion where that is needed."""
        start, end = span
        candidate = _Candidate(value, cost, edits, start, end, valid=False)
        acceptable = cost <= self.dearest and all(edit.kind in self.accept for edit in edits)
        if self.schema.is_valid(value):
            candidate.valid = acceptable
        else:
            fitter = Fitter(self.schema.schema, raw)
            try:
                fitted = fitter.fit(value)
            except ValueError:
                fitted = None
            else:
                allowed = all(edit.kind in self.accept for edit in fitter.edits)
                if any(edit.operation == "wrapped" for edit in fitter.edits):
                    # A bracket may be what is missing: then this scalar is not the only item.
                    allowed = allowed and all(edit.kind == "lossless" for edit in edits)
                if fitter.edits and allowed and self.schema.is_valid(fitted):
                    candidate = _Candidate(
                        fitted,
                        cost + COERCION_COST * min(len(fitter.edits), 4),
                        [*edits, *fitter.edits],
                        start,
                        end,
                        valid=acceptable,
                    )
        if not candidate.valid and (self.best_invalid is None or candidate.cost < self.best_invalid.cost):
            self.best_invalid = candidate
        return candidate

    def refusal(self) -> Mended:
        """Why there is no answer."""
        best = self.best_invalid
        if self.ambiguous:
            problem = Problem("", "json", "more than one value would do")
            value = best.value if best is not None else None
            return Mended("invalid", None, value, problems=(problem,), parsed=best is not None)
        if best is None:
            return Mended("invalid", None, problems=(Problem("", "json", "no JSON value found"),))
        problems = self.schema.problems(best.value)
        if not problems:
            lossy = sorted({edit.operation for edit in best.edits if edit.kind not in self.accept})
            problems = (Problem("", "json", f"readable only with loss: {', '.join(lossy)}"),)
        return Mended("invalid", None, best.value, problems=problems, parsed=True)

    # -- from a value -----------------------------------------------------------------------------

    def from_value(self, value: Any, edits: list[Edit] | None = None) -> _Candidate | None:
        """The answer, given that the text (or a part of it) is the strict JSON of `value`."""
        edits = edits or []
        end = len(self.text)
        direct = self.judge(value, 0.0, edits, (0, end), {})
        if direct.valid:
            return direct
        if isinstance(value, list) and len(value) == 1:
            inner = self.judge(
                value[0], 1.0, [*edits, Edit("unwrapped", "choice", 0, end, "", "")], (0, end), {}
            )
            if inner.valid:
                return inner
        if isinstance(value, str) and self.layer == 0:
            return self._from_layer(value, edits)
        return None

    def _from_layer(self, text: str, edits: list[Edit]) -> _Candidate | None:
        """The answer, given that the document was put into a string."""
        work = _Work(text, self.schema, self.accept, layer=1)
        try:
            value = strict.parse(text)
        except strict.NotStrict:
            best = work.from_text()
        else:
            if self.schema.is_valid(value):
                best = _Candidate(value, 0.0, [], 0, len(text), valid=True)
            else:
                best = work.from_value(value)
        if work.best_invalid is not None:
            self.best_invalid = replace(work.best_invalid)
        if best is None:
            return None
        layer = Edit("stringified", "lossless", 0, len(self.text), "", "")
        inner = [edit._replace(start=0, end=len(self.text)) for edit in best.edits]
        return _Candidate(best.value, best.cost + 0.5, [*edits, layer, *inner], 0, len(self.text), valid=True)

    # -- from broken text -------------------------------------------------------------------------

    def from_text(self) -> _Candidate | None:
        """The answer, given that the text is not strict JSON."""
        text = self.text
        start = found.after_thinking(text)
        quick = self._quick(start)
        if quick is not None:
            return quick
        if not self.types & {"object", "array"}:
            return self._scalar_in_prose(start)
        fenced = self._segments_in_fences(start)
        if fenced:
            best = self._settle(fenced, start)
            if best is not None or self.ambiguous:
                return best
        segments = self._segments(start)
        best = self._settle(segments, start) if segments else None
        if best is not None or self.ambiguous:
            return best
        return self._scalar_in_prose(start)

    def _quick(self, start: int) -> _Candidate | None:
        """The usual case of extraction: everything between the first and the last bracket is strict JSON."""
        text = self.text
        openers = [at for at in (text.find("{", start), text.find("[", start)) if at >= 0]
        first = min(openers, default=-1)
        last = max(text.rfind("}"), text.rfind("]"))
        if first < 0 or last <= first:
            return None
        piece = text[first : last + 1]
        if found.quoted_at(text, start):
            return self._escaped(piece, first, last + 1, start) if "\\" in piece else None
        try:
            value = strict.parse(piece)
        except strict.NotStrict:
            return self._escaped(piece, first, last + 1, start) if '\\"' in piece else None
        return self.from_value(value, self._dropped(start, [(first, last + 1)]))

    def _escaped(self, piece: str, first: int, last: int, start: int) -> _Candidate | None:
        """A document as it stands inside a string, without the quotes round it."""
        try:
            inner = json.loads(f'"{piece}"', strict=False)
            value = strict.parse(inner)
        except ValueError:
            return None
        layer = Edit("stringified", "lossless", first, last, "", "")
        return self.from_value(value, [*self._dropped(start, [(first, last)]), layer])

    def _segments_in_fences(self, start: int) -> list[_Candidate]:
        text = self.text
        first = found.first_start(text, start)
        segments: list[_Candidate] = []
        for begin, end in found.fences(text, start)[:MAX_SEGMENTS]:
            if segments and begin < segments[-1].end:
                continue  # the fence stood inside a string
            if first is not None and first < begin and not segments and self._inside(first, begin):
                return []
            opener = found.first_start(text, begin)
            if opener is not None and opener < end:
                segments.append(self._search(opener, members=False))
            elif found.begins_inside(text, begin) is not None:
                segments.append(self._search(begin, members=True))
        return segments

    def _inside(self, first: int, begin: int) -> bool:
        """Whether the fence at `begin` stands inside the JSON that begins at `first`."""
        segment = self._search(first, members=False)
        return segment.end > begin and segment.cost < 6.0

    def _segments(self, start: int) -> list[_Candidate]:
        """Everything from `start` on that looks like JSON, side by side."""
        text = self.text
        segments: list[_Candidate] = []
        inside = found.begins_inside(text, start)
        opener = found.first_start(text, start)
        if inside is not None and (opener is None or inside < opener):
            labelled = (
                opener is not None
                and not found.quoted_at(text, start)
                and found.is_label(text, inside, opener)
            )
            if not labelled or not self._search(opener or 0, members=False).valid:
                whole = self._search(inside, members=True)
                if whole.valid or found.quoted_at(text, start):
                    return [whole]
        position = start
        while opener is not None and len(segments) < MAX_SEGMENTS:
            segment = self._search(opener, members=False)
            segments.append(segment)
            position = max(segment.end, opener + 1)
            opener = found.first_start(text, position)
        return segments

    def _search(self, start: int, *, members: bool) -> _Candidate:
        """The cheapest valid reading from `start`, or the cheapest one; best first, bounded."""
        text = self.text
        order = itertools.count()
        queue: list[tuple[float, int, dict[int, int], Shape | None]] = [(0.0, next(order), {}, None)]
        best: _Candidate | None = None
        rival: _Candidate | None = None
        fallback: _Candidate | None = None
        cheapest: float | None = None
        guided = False
        for _ in range(MAX_READINGS):
            if not queue:
                break
            bound, _, plan, shape = heapq.heappop(queue)
            if best is not None and bound > best.cost + MARGIN:
                break
            if cheapest is not None and bound > cheapest + SLACK:
                break
            try:
                reading = Reader(text, start, self.fuel, plan, shape).read(members=members)
            except OutOfFuel:
                if best is None and fallback is None:
                    raise
                break
            if shape is not None:
                # Where members go by the schema's own names, that is less of a guess than it looks.
                reading.cost -= 1.0
            candidate = self._of_reading(reading)
            cheapest = reading.cost if cheapest is None else min(cheapest, reading.cost)
            if candidate.valid and reading.cost <= cheapest + SLACK:
                if best is None or candidate.cost < best.cost:
                    if best is not None and not same(best.value, candidate.value):
                        rival = best
                    best = candidate
                elif not same(best.value, candidate.value) and (rival is None or candidate.cost < rival.cost):
                    rival = candidate
            if fallback is None or candidate.cost < fallback.cost:
                fallback = candidate
            last = max(plan, default=-1)
            for option in reading.options:
                if option.position > last:
                    heapq.heappush(
                        queue, (option.cost, next(order), {**plan, option.position: option.choice}, shape)
                    )
            if reading.closers and not guided:
                guided = True
                whole = Shape(self.schema.schema, [self.schema.schema])
                if (
                    not candidate.valid
                    or found.closed_at_margin(text, reading.start)
                    or has_strangers(reading.value, whole)
                ):
                    heapq.heappush(queue, (bound, next(order), {}, whole))
        if best is not None and self._torn(best):
            best.valid = False
        if best is not None and rival is not None and rival.cost <= best.cost + MARGIN:
            self.ambiguous = True
            best.valid = False
        assert fallback is not None
        return best or fallback

    def _of_reading(self, reading: Reading) -> _Candidate:
        reading.cost += self._leftover(reading.end)
        # Only where the writer leaves out quotes may a number be a string that lost them.
        raw = reading.raw if any(edit.operation in _UNQUOTES for edit in reading.edits) else {}
        candidate = self.judge(reading.value, reading.cost, reading.edits, (reading.start, reading.end), raw)
        if not candidate.valid and isinstance(reading.value, list) and len(reading.value) == 1:
            edits = [*reading.edits, Edit("unwrapped", "choice", reading.start, reading.end, "", "")]
            inner = self.judge(reading.value[0], reading.cost + 1.0, edits, (reading.start, reading.end), raw)
            if inner.valid:
                return inner
        return candidate

    def _leftover(self, end: int) -> float:
        """What follows the end of a reading costs something where it looks like the rest of the JSON."""
        rest = self.text[end:]
        closers = rest.count("}") + rest.count("]")
        return 2.0 if closers > rest.count("{") + rest.count("[") else 0.0

    def _torn(self, candidate: _Candidate) -> bool:
        """Whether the text goes on after `candidate` with what belongs to the same document."""
        rest = self.text[candidate.end :].strip(" \t\r\n,;)}]")
        return bool(rest) and self._leftover(candidate.end) > 0

    # -- which of several ---------------------------------------------------------------------------

    def _settle(self, segments: list[_Candidate], start: int) -> _Candidate | None:
        """The one segment that is the answer, or all of them as an array."""
        full = [segment for segment in segments if segment.value not in ({}, [])]
        if len(full) == 1 and full[0].valid:
            segments = full
        valid = _distinct([segment for segment in segments if segment.valid])
        if len(segments) > 1 and "array" in self.types and (len(valid) != 1 or self._side_by_side(segments)):
            array = self._as_array(segments, start)
            if array is not None:
                return array
        if len(valid) == 1:
            chosen = valid[0]
            if chosen.start != segments[0].start and self._part_of_more(chosen):
                return None
            edits = self._dropped(start, [(chosen.start, chosen.end)])
            return replace(chosen, edits=[*edits, *chosen.edits])
        if len(valid) > 1:
            self.ambiguous = True
            self.best_invalid = valid[0]
        return None

    def _part_of_more(self, chosen: _Candidate) -> bool:
        """Whether a later segment is a piece of a document whose beginning could not be read."""
        return self._leftover(chosen.end) > 0 or found.is_named(self.text, chosen.start)

    def _side_by_side(self, segments: list[_Candidate]) -> bool:
        """Whether nothing but separators stands between the segments."""
        gaps = (self.text[one.end : other.start] for one, other in itertools.pairwise(segments))
        return all(not gap.strip(" \t\r\n,;") for gap in gaps)

    def _as_array(self, segments: list[_Candidate], start: int) -> _Candidate | None:
        values = [segment.value for segment in segments]
        edits = [edit for segment in segments for edit in segment.edits]
        first, last = segments[0].start, segments[-1].end
        edits.append(Edit("side-by-side", "choice", first, last, "", "[]"))
        cost = sum(segment.cost for segment in segments) + 1.0
        candidate = self.judge(values, cost, edits, (first, last), {})
        if not candidate.valid:
            return None
        spans = [(segment.start, segment.end) for segment in segments]
        return replace(candidate, edits=[*self._dropped(start, spans), *candidate.edits])

    def _dropped(self, start: int, spans: list[tuple[int, int]]) -> list[Edit]:
        """Edits that name the text round `spans`, which is not part of the answer."""
        text = self.text
        edits = []
        if start > 0:
            operation = "byte-order-mark" if start == 1 and text[0] == "\ufeff" else "think-block"
            edits.append(Edit(operation, "lossless", 0, start, "", ""))
        at = start
        for first, last in [*spans, (len(text), len(text))]:
            gap = text[at:first]
            if gap.strip():
                edits.append(Edit(self._gap(gap, at, first), "lossless", at, first, "", ""))
            at = last
        return edits

    def _gap(self, gap: str, at: int, stop: int) -> str:
        if "```" in gap or "~~~" in gap:
            return "fence"
        if found.is_call(self.text, at, stop) or gap.strip() in (")", ");"):
            return "call"
        return "separator" if gap.strip(" \t\r\n,;}])") == "" else "prose"

    # -- scalars --------------------------------------------------------------------------------------

    def _scalar_in_prose(self, start: int) -> _Candidate | None:
        """The answer where the schema takes a string or a word: the text itself, or the one word of its list."""
        text = self.text
        body = text[start:].strip()
        if not body or self.types >= {"object", "array", "string"}:
            return None
        for value, operation in scalars(body, self.schema.schema):
            first = text.find(body, start)
            edit = Edit(operation, "choice", first, first + len(body), "", compact(value))
            candidate = self.judge(value, 1.0, [*self._dropped(start, []), edit][-1:], (first, len(text)), {})
            if candidate.valid:
                return candidate
        return None


def _distinct(candidates: list[_Candidate]) -> list[_Candidate]:
    kept: list[_Candidate] = []
    for candidate in candidates:
        if not any(same(candidate.value, other.value) for other in kept):
            kept.append(candidate)
    return kept
