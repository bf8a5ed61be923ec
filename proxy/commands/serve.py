"""`python -m proxy serve`: one process, or a supervisor and its workers, until a signal ends it."""

from __future__ import annotations  # the types of what is imported late

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from proxy.app import App
    from proxy.config import ConfigRefused
    from proxy.snapshot import Snapshot
    from proxy.workers import Post, Work

    Read = Callable[[], Snapshot]


@dataclass(frozen=True, slots=True)
class Start:
    """What to serve. `read` reads the configuration file again; None for the demo, which has none."""

    snapshot: Snapshot
    greeting: Callable[[str, Snapshot], str]
    read: Read | None = None


class CannotStart(Exception):
    """The message says why, and what to do."""


def serve(chosen: argparse.Namespace, own_file: Path) -> int:
    """Serve what `chosen` names, else `own_file` if it is there, else the demo; gives the exit status."""
    from proxy.config import ConfigRefused, load, render_problems  # noqa: PLC0415  heavy, see config
    from proxy.stores.base import StoreError  # noqa: PLC0415

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    path = chosen.config or (own_file if own_file.exists() else None)
    try:
        if path is None:
            return _run(_serve_demo(chosen))
        read = partial(load, path, os.environ, host=chosen.host, port=chosen.port)
        start = Start(read(), partial(_greeting, path), read)
        if start.snapshot.server.workers > 1:
            return _supervise(start, read)
        return _run(_serve_one(start))
    except ConfigRefused as refused:
        _say(render_problems(refused.problems))
    except (CannotStart, StoreError) as error:
        _say(f"cannot start: {error}")
    return 1


def _run(main: Coroutine[Any, Any, int]) -> int:
    import uvloop  # noqa: PLC0415  not needed by the other commands

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# One process


async def _serve_demo(chosen: argparse.Namespace) -> int:
    """The built-in configuration; its model runs meanwhile."""
    from proxy import demo  # noqa: PLC0415  it brings aiohttp's server
    from proxy.config import loads  # noqa: PLC0415

    try:
        async with demo.running(os.environ, _say) as shown:
            snapshot = loads(
                shown.text,
                name="the demo",
                environ=os.environ,
                base_dir=Path.cwd(),
                host=chosen.host,
                port=chosen.port,
            )
            return await _serve_one(
                Start(snapshot, lambda url, _: demo.greeting(url, shown.kind, shown.model))
            )
    except demo.UnknownDemoError as error:
        raise CannotStart(str(error)) from None


def _greeting(path: Path, url: str, snapshot: Snapshot) -> str:
    routes = ", ".join(snapshot.routes) or "none"
    workers = f"; {snapshot.server.workers} workers" if snapshot.server.workers > 1 else ""
    return f"Tailrace listens at {url}/v1 (configuration: {path}; routes: {routes}{workers}). Ctrl-C ends it."


def _bound_admin(listen: str | None) -> socket.socket | None:
    """The socket of `server.admin_listen`, where there is one. Raises CannotStart."""
    if listen is None:
        return None
    from proxy.doors import bound_admin  # noqa: PLC0415  the app has it by now

    try:
        return bound_admin(listen)
    except OSError as error:
        raise CannotStart(f"server.admin_listen {listen}: {error.strerror or error}") from None


def _greet(start: Start, host: str, port: int, admin: socket.socket | None) -> None:
    if start.snapshot.keys is None:
        _say(
            "This proxy is open: it asks nobody for a key, and listens on loopback only (configuration: keys)."
        )
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    _say(start.greeting(url, start.snapshot))
    if admin is not None:
        from proxy.doors import told  # noqa: PLC0415  the app has it by now

        _say(f"Administration, metrics and the page are at {told(admin)} only.")


async def _serve_one(start: Start) -> int:
    from proxy.app import App  # noqa: PLC0415

    app = App(start.snapshot, read=start.read)
    await app.start()
    app.warm()
    try:
        told = _heed_signals(app)
        server = start.snapshot.server
        with _told_why(server.host, server.port):
            host, port = await app.listen(server.host, server.port)
        admin = _bound_admin(server.admin_listen)
        if admin is not None:
            await app.listen_on(admin, admin=True)
        _greet(start, host, port, admin)
        settle()
        await told.wait()
        _say("Draining; a second signal ends at once.")
        await app.drain()
    finally:
        whole = await _closed(app)
    return 0 if whole else 1


async def _closed(app: App) -> bool:
    """Everything is stopped; False, and said, where not all of the ledger is on the disk."""
    from proxy.stores.base import StoreError  # noqa: PLC0415  the app has it by now

    try:
        await app.close()
    except StoreError as error:
        _say(f"stopped; the ledger is not whole: {error}")
        return False
    return True


def settle() -> None:
    """What lives now lives long: keep the collector from walking it again and again.

    Requests leave hardly any cycles: looking for them a fourteenth as often takes 5 % off a request. And where a
    thread reads something large, the event loop has its turn after 1 ms and not after 5, as is Python's default.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    sys.setswitchinterval(0.001)


@contextlib.contextmanager
def _told_why(host: str, port: int) -> Iterator[None]:
    """Say in one line why an address cannot be listened on, and what to do. Raises CannotStart."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(f"port {port} of {host} is taken; --port names another, 0 a free one") from None
        if error.errno == errno.EACCES:
            raise CannotStart(f"port {port} may not be opened by this user; --port names another") from None
        raise CannotStart(f"{host}:{port}: {error.strerror or error}") from None


def _heed_signals(app: App) -> asyncio.Event:
    """SIGHUP reloads; the event is set by the first SIGTERM or SIGINT, and a second one ends the process."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def stop() -> None:
        if told.is_set():
            os._exit(130)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: app.services.tasks.spawn(_reload(app), name="reload"))
    return told


async def _reload(app: App) -> None:
    """Read the file again. A broken one changes nothing and is told in full."""
    from proxy.config import ConfigRefused  # noqa: PLC0415

    if not app.reloadable:
        _say("Nothing to reload: the demo has no configuration file.")
        return
    try:
        waiting = await app.reread()
    except ConfigRefused as refused:
        _not_reloaded(refused)
        return
    _say("Reloaded." + (f" These wait for a restart: {', '.join(waiting)}." if waiting else ""))


def _not_reloaded(refused: ConfigRefused) -> None:
    from proxy.config import render_problems  # noqa: PLC0415

    _say(f"Not reloaded, the configuration before stays:\n{render_problems(refused.problems)}")


# Several processes


def _supervise(start: Start, read: Read) -> int:
    """Keep `server.workers` processes serving one port."""
    from proxy import app, workers  # noqa: F401, PLC0415  imported once, shared by all workers
    from proxy.config import ConfigRefused  # noqa: PLC0415

    server = start.snapshot.server
    if not start.snapshot.store.startswith("sqlite:"):
        raise CannotStart("server.workers > 1 needs a store that processes can share: store: sqlite:///PATH")
    with _told_why(server.host, server.port):
        sockets = workers.bind(server.host, server.port, server.workers)
    host, port = sockets[0].getsockname()[:2]
    admin = _bound_admin(server.admin_listen)
    asyncio.run(_make_stores(start.snapshot))

    with tempfile.TemporaryDirectory(prefix="tailrace-") as folder:

        def work_with(snapshot: Snapshot) -> Work:
            return lambda post: _work(_serve_place(post, snapshot, read, Path(folder), admin))

        def renewed() -> Work | None:
            try:
                return work_with(read())
            except ConfigRefused as refused:
                _not_reloaded(refused)
                return None

        supervisor = workers.Supervisor(sockets, work_with(start.snapshot), say=_say, renewed=renewed)
        settle()
        return supervisor.run(lambda: _greet(start, host, port, admin))


async def _make_stores(snapshot: Snapshot) -> None:
    """Ledger and limits are there and up to date, before several try to make them; all threads have ended again."""
    from proxy.stores import open_limiter, open_store  # noqa: PLC0415

    store = open_store(snapshot.store)
    try:
        await open_limiter(store, snapshot.server.workers).close()
    finally:
        await store.close()


def _work(serving: Coroutine[Any, Any, int]) -> int:
    from proxy.stores.base import StoreError  # noqa: PLC0415

    try:
        return _run(serving)
    except StoreError as error:
        _say(f"cannot start: {error}")
        return 1


async def _serve_place(
    post: Post, snapshot: Snapshot, read: Read, folder: Path, admin: socket.socket | None
) -> int:
    """One worker: as one process alone, but that its socket is bound and others serve the same port.

    Of those who come to the socket `admin` each is served by one of the workers: it is that of all.
    """
    from proxy.app import App  # noqa: PLC0415
    from proxy.shared_series import Share  # noqa: PLC0415

    supervisor = os.getppid()

    def read_for_all() -> Snapshot:
        found = read()
        os.kill(supervisor, signal.SIGHUP)  # the others hear of it there
        return found

    app = App(snapshot, read=read_for_all, share=Share(folder, post.number))
    await app.start()
    app.warm()
    try:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Whoever signals a whole group or unit tells the supervisor, too, and that tells us; it ends us at once
        # where it is told a second time.
        loop.add_signal_handler(signal.SIGTERM, told.set)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        loop.add_reader(post.lifeline, told.set)
        await app.listen_on(post.socket)
        if admin is not None:
            await app.listen_on(admin, admin=True)
        settle()
        post.say_ready()
        await told.wait()
        loop.remove_reader(post.lifeline)
        await app.drain()
    finally:
        whole = await _closed(app)
    return 0 if whole else 1
