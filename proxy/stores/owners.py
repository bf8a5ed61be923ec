"""Which processes are alive, so that the open intents of dead ones can be settled.

Each store that is open on a database holds a lock on a file of its own beside it. The system lets go of the
lock when the process ends, however it ends; a lock that can be taken is that of a dead one. No clocks, no
process numbers: both lie after a restart or in a container.
"""

import fcntl
import os
import uuid
from pathlib import Path


class Owner:
    """The claim of a process on the rows it writes, until `release`."""

    def __init__(self, database: Path) -> None:
        """Raises OSError where the folder cannot be written."""
        while True:
            self.name = uuid.uuid4().hex
            self._path = _lock_path(database, self.name)
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if _is_still(self._path, self._file):
                return
            os.close(self._file)  # swept away between its making and its locking

    def release(self) -> None:
        """The rows have no living owner any more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def is_dead(database: Path, name: str) -> bool:
    """Whether the process that wrote as `name` has ended; its file is gone afterwards."""
    path = _lock_path(database, name)
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(file)


def sweep(database: Path) -> None:
    """No dead process's file is left."""
    prefix = _lock_path(database, "").name
    for path in database.parent.iterdir():
        if path.name.startswith(prefix):
            is_dead(database, path.name.removeprefix(prefix))


def _lock_path(database: Path, name: str) -> Path:
    return database.with_name(f"{database.name}-owner-{name}")


def _is_still(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False
