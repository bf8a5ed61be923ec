"""The JSON inside a streamed text, read as it comes: think blocks and a code fence around it stripped."""

from typing import Final

from schemas.compiled import Compiled
from schemas.viable import PrefixChecker

_THINK, _THINK_END, _FENCE = "<think", "</think>", "```"
_SPACE: Final = " \t\r\n\ufeff"
MAX_LEAD: Final = 1_000_000
"""Characters of thinking before an answer; more is no preamble."""


class Unwrapped:
    """Feeds on a text and gives the part of it that is the document.

    `failed`: from some character on the text cannot become valid; `complete`: the document is whole. What
    was around it is not given out; the judge names it as dropped when the whole reply is there.
    """

    __slots__ = ("_checker", "_lead", "_started", "complete", "failed")

    def __init__(self, schema: Compiled) -> None:
        self._checker = PrefixChecker(schema)
        self._lead = ""
        self._started = False
        self.failed = False
        self.complete = False

    def feed(self, text: str) -> str | None:
        """Read on; the new part of the document, or None once it has failed."""
        if not self._started and not self.failed:
            self._lead += text
            found = _document(self._lead)
            if found is None:
                self.failed = len(self._lead) > MAX_LEAD
                return ""
            self._started, self._lead, text = True, "", found
        read = "" if self.failed else self._read(text)
        return None if self.failed else read

    def _read(self, text: str) -> str:
        """The part of `text` that is document. Characters after its end must be blank or close a fence."""
        if self.complete and not _may_continue(text):
            self.failed = bool(text.strip(_SPACE + "`"))
            return ""
        if not any(c in text for c in "}]`"):
            return self._fed(text)
        taken = ""
        for n, character in enumerate(text):
            if self.complete and not _may_continue(character):
                self.failed = bool(text[n:].strip(_SPACE + "`"))
                return taken
            taken += self._fed(character)
            if self.failed:
                return taken
        return taken

    def _fed(self, text: str) -> str:
        if not self._checker.feed(text):
            self.failed = True
            self.complete = False
            return ""
        self.complete = self._checker.complete
        return text


def _may_continue(text: str) -> bool:
    """Whether characters after a complete document may belong to it: only a number at the root goes on."""
    return text[:1] in "0123456789.eE+-" and bool(text)


def _document(lead: str) -> str | None:
    """The text from where a document may begin; None while the lead may still be a wrapping."""
    rest = lead.lstrip(_SPACE)
    while rest.startswith(_THINK) or _THINK.startswith(rest):
        end = rest.find(_THINK_END)
        if not rest or end < 0:
            return None
        rest = rest[end + len(_THINK_END) :].lstrip(_SPACE)
    if _FENCE.startswith(rest[:3]):
        line_end = rest.find("\n")
        return None if line_end < 0 else rest[line_end + 1 :]
    return rest
