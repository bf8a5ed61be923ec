"""What an exchange asks of the world: one upstream call at a time, a client to tell, a ledger to book in."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from policies.chat import Failure, Purpose, Reply, Usage
from policies.contract import Contract, Verdict
from policies.ladder import Again, Attempt
from policies.patching import Patch
from policies.recall import Recalled
from policies.release import Piece
from schemas.values import dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """One upstream call that is to be made. `messages` None: the conversation goes as the client wrote it.

    `patch`: only these parts of an earlier answer are asked for. `reason` and `propensity` are for the ledger: why this
    call is made, and how probable it was that the exchange began where it did. `offers_recall`: the model may look up
    what was left out of its prompt. `recalled` are the pieces that it looked up, None where it never did. `goes_on`: the
    client was told what the model said before it looked something up, and this call's answer goes on after it.
    """

    number: int
    model: str
    purpose: Purpose
    messages: Sequence[Mapping[str, Any]] | None = None
    patch: Patch | None = None
    reason: str | None = None
    propensity: float | None = None
    offers_recall: bool = False
    recalled: frozenset[int] | None = None
    goes_on: bool = False


class Call(Protocol):
    """One upstream call under way; two, where a late one is hedged (`proxy/hedging.py`)."""

    async def more(self) -> Sequence[Piece] | None:
        """The next parts of a streamed answer, as they come; None when the answer is there. Makes the call first.

        Nothing: the client is to be waited for.
        """
        ...

    def flow(self, onward: Callable[[bytes], bool]) -> None:
        """What comes from here on may go `onward` at once; False of it: after the client has been waited for."""
        ...

    def result(self) -> Reply | Failure:
        """What came of it, once there is no more."""
        ...

    def so_far(self) -> Reply:
        """What the answer came to until it was ended."""
        ...

    def usage(self) -> Usage | None:
        """Tokens spent so far: reported, else estimated. None where nothing was spent."""
        ...

    def abort(self) -> None:
        """Close the connection now."""
        ...

    @property
    def first_byte_s(self) -> float | None:
        """When the first byte of the answer came."""
        ...

    @property
    def number(self) -> int:
        """Of the order that is answered: a hedge has the next one."""
        ...

    @property
    def beside(self) -> Sequence[Attempt]:
        """What was called for the same order and lost; it is booked."""
        ...


class Ports(Protocol):
    """What an exchange needs of the world."""

    def now(self) -> float:
        """A monotonic clock, seconds."""
        ...

    async def wait(self, seconds: float, jitter_s: float) -> None:
        """Let time pass: `seconds`, and by chance up to `jitter_s` more."""
        ...

    async def open(self, order: Order) -> Call | Failure:
        """A call, not yet started, with what it may cost held; a Failure where a limit forbids it."""
        ...

    def grant(self, step: Again, last: Attempt) -> bool:
        """Whether the upstream may be asked once more: a share of its calls may be repetitions (policies.budget)."""
        ...

    async def judge(self, reply: Reply, contract: Contract, order: Order) -> Verdict:
        """`policies.contract.judge` or `judge_patch`, wherever there is room for it."""
        ...

    async def recall(self, order: Order, asked: Attempt) -> Recalled:
        """What `asked` wanted to look up, for `order`: messages that go behind its conversation. Fails never."""
        ...

    async def both(self, one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
        """Run both at the same time; neither goes on when this has ended, however it ends."""
        ...

    async def tell(self, piece: bytes) -> None:
        """Send a piece to the client, now; waits while the client is slow."""
        ...

    def tell_at_once(self, piece: bytes) -> bool:
        """Send a further piece without waiting; False where the client should be waited for before the next."""
        ...

    def account(self, attempt: Attempt) -> Attempt:
        """Book one attempt; gives it back with its cost. Never waits: it runs when we are cancelled, too."""
        ...
