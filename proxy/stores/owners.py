"""Which processes are alive, so that what dead ones left behind can be taken over.

Each store that is open on a database has a file of its own beside it, its journal, and holds a lock on it. The
system lets go of the lock when the process ends, however it ends; a file whose lock can be taken is that of a
dead one. No clocks, no process numbers: both lie after a restart or in a container.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Owner:
    """The claim of a process on the rows it writes, until `release`."""

    def __init__(self, database: Path) -> None:
        """Raises OSError where the folder cannot be written."""
        while True:
            self.name = uuid.uuid4().hex
            self._path = _path_of(database, self.name)
            self.file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self.file, fcntl.LOCK_EX)
            if _is_still(self._path, self.file):
                return
            os.close(self.file)  # taken for a dead one's between its making and its locking

    def release(self, *, keep: bool = False) -> None:
        """The process is done with its rows; `keep` leaves the journal for the next start."""
        if not keep:
            self._path.unlink(missing_ok=True)
        os.close(self.file)


def is_dead(database: Path, name: str) -> bool:
    """Whether the process that wrote as `name` has ended."""
    with _locked(_path_of(database, name)) as path:
        return path is not None


@contextmanager
def _locked(path: Path) -> Iterator[Path | None]:
    """`path` while its lock is ours, whether it is there or not; None where its process lives."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield path
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield path
    finally:
        os.close(file)


@contextmanager
def dead_owner(database: Path, path: Path) -> Iterator[str | None]:
    """The name of the dead process that left `path`; None where it lives. The file goes when all went well."""
    with _locked(path) as ours:
        yield None if ours is None else path.name.removeprefix(_path_of(database, "").name)
        if ours is not None:
            path.unlink(missing_ok=True)


def journals(database: Path) -> list[Path]:
    """The files of all processes, living and dead."""
    prefix = _path_of(database, "").name
    return [path for path in database.parent.iterdir() if path.name.startswith(prefix)]


def _path_of(database: Path, name: str) -> Path:
    return database.with_name(f"{database.name}-owner-{name}")


def _is_still(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False
