"""The one place that starts a task: it has a name, somebody holds it, and its failure is not silent."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("tailrace.tasks")


class Tasks:
    """The background tasks of one app; `close` ends them all."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, coro: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start `coro`. An exception in it is logged by type (its text may quote a client)."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %s", task.get_name(), type(error).__name__)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
