"""What outlives a request: ledger, schemas, keys. `open_store` makes one from the configuration's URL."""

from pathlib import Path
from urllib.parse import unquote

from proxy.stores.base import Store, UnknownStore
from proxy.stores.limiter import Limiter, MemoryLimiter
from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_limiter import SqliteLimiter


def open_store(url: str) -> Store:
    """The store that `url` names, ready for use.

    `sqlite:///tailrace.db` is relative to the working directory, `sqlite:////var/lib/tailrace.db` absolute;
    `memory:` forgets everything at the end. Raises UnknownStore for any other, StoreFailed where it cannot be opened.
    """
    if url == "memory:":
        return MemoryStore()
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return SqliteStore(Path(unquote(url.removeprefix("sqlite:///"))))
    if url.startswith(("postgres:", "postgresql:")):
        raise UnknownStore(
            "Postgres stores are not built yet; use sqlite:///PATH (several workers may share it)"
        )
    raise UnknownStore(f"{url.split(':', 1)[0]!r} names no store; use sqlite:///PATH or memory:")


def open_limiter(store: Store, workers: int = 1) -> Limiter:
    """Who keeps the meters of budgets and rates: this process, or all workers together where there are several.

    Raises StoreFailed where the shared meters cannot be opened. A `memory:` store is of one process anyway.
    """
    if workers > 1 and isinstance(store, SqliteStore):
        return SqliteLimiter(store)
    return MemoryLimiter(store)
