"""When pieces of a streamed answer may reach the client.

    hold      nothing before the whole reply is judged
    checked   text while it can still become valid, in wrappings stripped; tool calls when they are judged
    pass      everything as it comes

Until the first piece is released an exchange may go back and try again: that is the commit point. After it
there is only forward or stop: a checked answer that went wrong can be gone on with where a corrected one
agrees with all that was said.
"""

from typing import Protocol

from policies.contract import Contract
from policies.route import StreamMode
from policies.unwrapped import Unwrapped


class Piece(Protocol):
    """A part of a streamed answer. `text`: what it adds to the only choice's content, None where it adds none."""

    @property
    def data(self) -> bytes: ...

    @property
    def speaks(self) -> bool:
        """Whether it carries something of the answer."""
        ...

    @property
    def text(self) -> str | None: ...

    @property
    def calls(self) -> bool:
        """Whether it carries a part of a tool call."""
        ...

    def saying(self, text: str) -> bytes:
        """The same with another text."""
        ...


class Gate(Protocol):
    """Stands between one attempt and the client."""

    held: list[bytes]
    """What was offered and not released, in order."""
    released: str
    """The text that went out, where the gate reads texts."""
    hopeless: bool
    """Whether nothing that may still come can make this a valid answer: hang up."""
    open: bool
    """Whether all that may still come is released as it comes, unseen by the gate."""

    def offer(self, piece: Piece) -> list[bytes]:
        """The pieces that may go out now."""
        ...


class OpenGate:
    """Releases everything, from the first piece that speaks; tool calls only where nobody judges them.

    What comes before (a role, a vendor's preamble) waits, so that an upstream which dies right after it
    can still be replaced unseen. `hold_calls`: from the first tool call on everything is held.
    """

    __slots__ = ("held", "hold_calls", "hopeless", "open", "opened", "released", "shut")

    def __init__(self, *, hold_calls: bool = False) -> None:
        self.held: list[bytes] = []
        self.released = ""
        self.hopeless = False
        self.open = False
        self.opened = False
        self.shut = False
        self.hold_calls = hold_calls

    def offer(self, piece: Piece) -> list[bytes]:
        if self.hold_calls and piece.calls:
            self.shut = True
        if self.opened and not self.shut:
            return [piece.data]
        self.held.append(piece.data)
        if self.shut or not piece.speaks:
            return []
        self.opened = True
        self.open = not self.hold_calls
        released, self.held = self.held, []
        return released


class HoldGate:
    """Releases nothing: the answer must be whole and judged first."""

    __slots__ = ("held", "hopeless", "open", "released")

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.released = ""
        self.hopeless = False
        self.open = False

    def offer(self, piece: Piece) -> list[bytes]:
        self.held.append(piece.data)
        return []


class CheckedGate:
    """Releases the JSON in a text as long as it can become valid.

    Nothing goes out before `LAG` characters of it or its end, so that what is wrong from the start can
    still be mended or replaced unseen. When the text cannot be read on strictly before anything was
    released, the rest is held: mending may save it for nothing. After that the gate is hopeless.
    """

    LAG = 24
    __slots__ = ("_reader", "_waiting", "held", "hopeless", "open", "released")

    def __init__(self, contract: Contract) -> None:
        assert contract.schema is not None
        self.held: list[bytes] = []
        self.released = ""
        self.hopeless = False
        self.open = False
        self._reader = Unwrapped(contract.schema)
        self._waiting = ""

    def offer(self, piece: Piece) -> list[bytes]:
        if piece.text is None or self._reader.failed:
            return self._beside(piece)
        read = self._reader.feed(piece.text)
        if read is None:
            self.hopeless = bool(self.released)
            return self._beside(piece)
        self._waiting += read
        begun = self.released or self._reader.complete or len(self._waiting) >= self.LAG
        text = self._ripe() if begun else ""
        if not text:
            self.held.append(piece.saying(""))
            return []
        self._waiting = self._waiting[len(text) :]
        self.released += text
        released, self.held = [*self.held, piece.saying(text)], []
        return released

    def _beside(self, piece: Piece) -> list[bytes]:
        """A piece that adds no checked text: it goes along with what is released, or waits."""
        if self.released and not self._reader.failed and not piece.calls:
            return [piece.data]
        self.held.append(piece.data)
        return []

    def _ripe(self) -> str:
        """What is surely part of the answer: a comma that ends the text may be one too many."""
        if self._reader.complete:
            return self._waiting
        text = self._waiting.rstrip(" \t\r\n")
        return text.rstrip(",") if text.endswith(",") else text


def gate_for(mode: StreamMode, contract: Contract, *, resumed: bool = False) -> Gate:
    """A fresh gate for one attempt. Without a contract there is nothing to wait for.

    `resumed`: part of an earlier attempt is out already, what follows must be judged whole.
    """
    if resumed:
        return HoldGate()
    if mode == "pass" or not contract.binds:
        return OpenGate()
    if contract.schema is None:
        return OpenGate(hold_calls=True)
    return CheckedGate(contract) if mode == "checked" else HoldGate()
