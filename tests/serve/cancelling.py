"""Cancels, from inside a replica, the tasks that wait for its engine: what Ray does to a task that it ends below."""

import asyncio


class Cancelling:
    """To be made in a deployment's event loop. Cancels once for each reason."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reasons: set[object] = set()

    def cancel_once(self, reason: object) -> bool:
        """Whether it has; called from another thread."""
        if reason in self._reasons:
            return False
        self._reasons.add(reason)
        self._loop.call_soon_threadsafe(self._cancel_all)
        return True

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            if "call_user" in repr(task):  # those that run the deployment's methods, as Serve's replica names them
                task.cancel()
