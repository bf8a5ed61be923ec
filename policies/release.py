"""When pieces of a streamed answer may reach the client.

Until the first piece is released an exchange may go back and try again: that is the commit point. After
it there is only forward or stop.
"""

from typing import Protocol

from policies.contract import Contract
from policies.route import StreamMode


class Gate(Protocol):
    """Stands between one attempt and the client."""

    held: list[bytes]
    """What was offered and not released, in order."""

    def offer(self, piece: bytes, *, speaks: bool) -> list[bytes]:
        """The pieces that may go out now. `speaks`: this one carries something of the answer."""
        ...


class OpenGate:
    """Releases everything, from the first piece that speaks.

    What comes before (a role, a vendor's preamble) waits, so that an upstream which dies right after it
    can still be replaced unseen.
    """

    __slots__ = ("held", "opened")

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.opened = False

    def offer(self, piece: bytes, *, speaks: bool) -> list[bytes]:
        if self.opened:
            return [piece]
        self.held.append(piece)
        if not speaks:
            return []
        self.opened = True
        released, self.held = self.held, []
        return released


class HoldGate:
    """Releases nothing: the answer must be whole and judged first."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def offer(self, piece: bytes, *, speaks: bool) -> list[bytes]:  # noqa: ARG002  the Protocol's shape
        self.held.append(piece)
        return []


def gate_for(mode: StreamMode, contract: Contract) -> Gate:
    """A fresh gate for one attempt. Without a contract there is nothing to wait for."""
    if mode == "pass" or contract.schema is None:
        return OpenGate()
    return HoldGate()
