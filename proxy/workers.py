r"""Several processes that serve one port, and the supervisor that keeps them.

    starting -- says that it listens --> serving -- told to end --> draining --> gone
        \__________________ ends by itself: started again, after a pause ______/

The supervisor makes one listening socket per place (SO_REUSEPORT: the system spreads connections over them) and
keeps them for as long as it lives; a worker inherits the socket of its place. So a connection that comes while no
worker serves its place waits in the socket's queue for the next one, and is not refused. A rolling restart (SIGHUP)
starts the next worker of a place, waits until it listens, and only then tells the one before to drain.

The supervisor has no event loop and no threads, which is what makes forking safe; it opens no store and serves
nothing. Workers see its end, however it ends, by a pipe whose other side only it holds.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

BACKLOG = 1024
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
"""A worker that lived this long did not fail at its start: the pauses begin anew."""
READY = b"r"


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is given: its number (never used twice), a bound socket, and how it hears and speaks.

    `lifeline` can be read when the supervisor has ended. `say_ready` is called once it listens.
    """

    number: int
    socket: socket.socket
    lifeline: int
    ready: int

    def say_ready(self) -> None:
        """Tell the supervisor that connections are accepted."""
        os.write(self.ready, READY)


Work = Callable[[Post], int]
"""Serves until told to end; gives the exit status. It runs in a process of its own."""


@dataclass(slots=True)
class _Worker:
    pid: int
    number: int
    pipe: int
    began_s: float
    listens: bool = False
    told_to_end: bool = False


@dataclass(slots=True)
class _Place:
    """A socket, who serves it, and who is to take over."""

    socket: socket.socket
    serving: _Worker | None = None
    next: _Worker | None = None
    draining: list[_Worker] = field(default_factory=list)
    pause_s: float = 0.0
    due_s: float | None = None
    """When a worker that ended by itself is started again."""
    number: int | None = None
    """Of the worker that ended by itself: the one in its place goes on with its figures."""


class Supervisor:
    """`work` is what workers do; `renewed` gives what they do from now on, None where nothing may change."""

    def __init__(
        self,
        sockets: list[socket.socket],
        work: Work,
        *,
        say: Callable[[str], None],
        renewed: Callable[[], Work | None],
    ) -> None:
        self._places = [_Place(bound) for bound in sockets]
        self._work = work
        self._say = say
        self._renewed = renewed
        self._numbers = 0
        self._ending = False
        self._rolling: list[_Place] = []
        """Places whose worker is still to be replaced; the first one is being replaced now."""
        self._failed_at_start = False
        self._selector = selectors.DefaultSelector()
        self._life_read, self._life_write = os.pipe()
        self._heard, self._wake = socket.socketpair()

    def run(self, on_ready: Callable[[], None]) -> int:
        """Serve until SIGTERM or SIGINT; gives the exit status. `on_ready`: all workers listen."""
        with self._signals():
            for place in self._places:
                place.serving = self._start(place)
            told_ready = False
            while any(p.serving or p.next or p.draining or p.due_s is not None for p in self._places):
                self._wait()
                if not told_ready and all(p.serving and p.serving.listens for p in self._places):
                    told_ready = True
                    on_ready()
                if self._failed_at_start and not told_ready and not self._ending:
                    self._end()
        return 1 if self._failed_at_start and not told_ready else 0

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals become bytes on a socket; nothing is done in a handler."""
        self._heard.setblocking(False)
        self._wake.setblocking(False)
        before = {n: signal.signal(n, _nothing) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        old = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._heard, selectors.EVENT_READ, None)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(self._life_write)
            os.close(self._life_read)
            self._heard.close()
            self._wake.close()

    def _wait(self) -> None:
        """Until something has happened, and it is dealt with."""
        dues = [p.due_s for p in self._places if p.due_s is not None]
        left = max(0.0, min(dues) - time.monotonic()) if dues else None
        for key, _ in self._selector.select(left):
            if key.data is None:
                for number in self._heard.recv(64):
                    self._told(number)
            else:
                self._news(*key.data)
        now = time.monotonic()
        for place in self._places:
            if place.due_s is not None and place.due_s <= now:
                place.due_s = None
                place.serving = self._start(place, place.number)

    def _told(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._roll()
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._end()

    # Workers

    def _start(self, place: _Place, number: int | None = None) -> _Worker:
        """A new worker of this place; `number`: that of the one whose figures it goes on with."""
        if number is None:
            number, self._numbers = self._numbers, self._numbers + 1
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(place, Post(number, place.socket, self._life_read, write), read)
        os.close(write)
        worker = _Worker(pid, number, read, time.monotonic())
        self._selector.register(read, selectors.EVENT_READ, (place, worker))
        return worker

    def _become(self, place: _Place, post: Post, read: int) -> None:
        """In the new process: work, and end with it."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            self._forget_others(place, read)
            status = self._work(post)
        except BaseException as error:  # noqa: BLE001  nothing may go on as a second supervisor
            self._say(f"worker {post.number} failed: {type(error).__name__}")
        finally:
            os._exit(status)

    def _forget_others(self, place: _Place, read: int) -> None:
        """Close what is the supervisor's and the other workers'."""
        pipes = [key.fd for key in self._selector.get_map().values() if key.data is not None]
        self._selector.close()
        for number in (*pipes, read, self._life_write):
            os.close(number)
        self._heard.close()
        self._wake.close()
        for other in self._places:
            if other is not place:
                other.socket.close()

    def _news(self, place: _Place, worker: _Worker) -> None:
        """A worker says that it listens, or its end of the pipe is closed: it has ended."""
        if os.read(worker.pipe, 1) == READY:
            worker.listens = True
            if worker is place.next:
                self._taken_over(place)
            return
        self._selector.unregister(worker.pipe)
        os.close(worker.pipe)
        _, status = os.waitpid(worker.pid, 0)
        self._ended(place, worker, os.waitstatus_to_exitcode(status))

    def _ended(self, place: _Place, worker: _Worker, code: int) -> None:
        if worker in place.draining:
            place.draining.remove(worker)
        elif worker is place.next:
            place.next = None
            self._say(f"The new worker {worker.number} {_how(code)}: the ones before go on.")
            self._rolling.clear()
        else:
            place.serving = None
            if self._ending or worker.told_to_end:
                return
            self._failed_at_start |= not worker.listens
            lived = time.monotonic() - worker.began_s
            pause = FIRST_PAUSE_S if lived > STEADY_S or not place.pause_s else place.pause_s * 2
            place.pause_s = min(pause, LONGEST_PAUSE_S)
            place.due_s = time.monotonic() + place.pause_s
            place.number = worker.number
            self._say(f"Worker {worker.number} {_how(code)}; started again in {place.pause_s:g} s.")

    # What signals ask for

    def _roll(self) -> None:
        """Replace every worker, one after the other, if what is to be served now can be served."""
        if self._ending or self._rolling:
            return
        work = self._renewed()
        if work is None:
            return
        self._work = work
        self._rolling = [p for p in self._places if p.serving is not None]
        self._replace_first()

    def _replace_first(self) -> None:
        if self._rolling:
            self._rolling[0].next = self._start(self._rolling[0])
        else:
            self._say("Reloaded: every worker is a new one.")

    def _taken_over(self, place: _Place) -> None:
        """The next worker of a place listens: the one before may drain."""
        before, place.serving, place.next = place.serving, place.next, None
        if before is None:
            place.due_s = None
        else:
            place.draining.append(before)
            self._tell_to_end(before)
        if self._rolling and self._rolling[0] is place:
            self._rolling.pop(0)
            self._replace_first()

    def _end(self) -> None:
        """Every worker drains; where that is said a second time, they end at once."""
        number = signal.SIGKILL if self._ending else signal.SIGTERM
        self._ending = True
        self._rolling.clear()
        for place in self._places:
            place.due_s = None
            for worker in (place.serving, place.next, *place.draining):
                if worker is not None:
                    self._tell_to_end(worker, number)

    def _tell_to_end(self, worker: _Worker, number: int = signal.SIGTERM) -> None:
        worker.told_to_end = True
        os.kill(worker.pid, number)  # it is not reaped yet, so its number is still its own


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets for one address, listening; port 0 picks a free one. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Two proxies that both share their port would silently share their clients: refuse as one alone does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        address = probe.getsockname()
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            bound = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
            bound.setblocking(False)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal's number arrives on the wake-up socket; this only keeps its default from happening."""


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
