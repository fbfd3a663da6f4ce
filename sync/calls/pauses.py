"""Until when a service is left alone. A pause that one worker of an instance is told of holds for all of them.

This file keeps pauses in memory. It sends nothing, and it does not know why a service throttles.

A refused request counts like any other, so each worker that finds out for itself lengthens the wait of all. How much
is allowed, only the service knows: Dataverse's limits are those of each web server, of which there may be several.
Source: Dataverse, "Service protection API limits"; Graph, "Microsoft Graph throttling guidance".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sync.calls.retries import LONGEST_WAIT
from sync.errors import ShutOut, Throttled

UNTOLD = 5.0
"""Seconds of a pause, if the service does not say how long. If this is too small, the next call is refused as well. If
it is too large, changes wait in vain. Source: RFC 6585: a 429 may come without Retry-After."""

LONGEST_PAUSE = 3_600.0
"""Seconds of a pause at most, even if the service asks for more. If this is too small, the service is asked too early.
If it is too large, one odd answer stops the app for long."""

LONGEST_SHUT_OUT = 120.0
"""Seconds of a pause at most while a service refuses the app as a whole, which may be for days. If this is too small,
that is many calls. If it is too large, changes wait after the service was opened again."""

LONGEST_IN_HAND = 420.0
"""Seconds that a change waits with its message in hand. Dataverse counts in windows of 300 seconds: if this is smaller,
the change goes back to the queue in each of them. With the time to process the change, it has to stay below the time
that the host gives to a function (host.json)."""

DATAVERSE = "dataverse"


class Pauses:
    """One pause for each thing that has a limit of its own: all of Dataverse, or one mailbox. *now* is the clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._until: dict[str, datetime] = {}
        self._shut_out: dict[str, tuple[str, float]] = {}
        """Why the app is shut out, where that began the last pause, and the seconds of that pause."""

    @contextmanager
    def kept(self, what: str) -> Iterator[None]:
        """Guard one call: if it is throttled, or the app is shut out, a pause begins.

        Raises: with nothing sent during a pause, Throttled, or ShutOut with the reason of the one that began it.
        """
        if left := self.left(what):
            shut_out = self._shut_out.get(what)
            raise ShutOut(shut_out[0], left) if shut_out else Throttled(f"{what}: to be left alone", left)
        try:
            yield
        except ShutOut as error:
            seconds = min(2 * self._shut_out[what][1], LONGEST_SHUT_OUT) if what in self._shut_out else UNTOLD
            seconds = max(seconds, error.retry_after or 0.0)
            self._shut_out[what] = (str(error), seconds)
            self._begin(what, seconds)
            raise
        except Throttled as error:
            self._shut_out.pop(what, None)
            self._begin(what, UNTOLD if error.retry_after is None else min(error.retry_after, LONGEST_PAUSE))
            raise
        self._shut_out.pop(what, None)

    def left(self, what: str) -> float:
        """Return the seconds that are left of the pause, 0 if there is none."""
        until = self._until.get(what)
        if until is None:
            return 0.0
        left = (until - self._now()).total_seconds()
        if left <= 0:
            del self._until[what]
        return max(left, 0.0)

    def _begin(self, what: str, seconds: float) -> None:
        until = self._now() + timedelta(seconds=seconds)
        self._until[what] = max(until, self._until.get(what, until))


class Door:
    """Lets a change in when its mailbox and Dataverse take calls, so that it is not begun in vain.

    *sleep* takes seconds; a test hands in one that returns at once.
    """

    def __init__(
        self, graph: Pauses, dataverse: Pauses, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._graph = graph
        self._dataverse = dataverse
        self._sleep = sleep

    async def let_in(self, mailbox: str) -> None:
        """Return when there is nothing to wait for.

        Raises: Throttled if that is too long, or for the mailbox's sake only: others' changes need the worker.
        """
        await self.wait_for_dataverse()
        if (left := self._graph.left(mailbox)) > LONGEST_WAIT:
            raise Throttled("graph: the mailbox is to be left alone", left)

    async def wait_for_dataverse(self) -> None:
        """Wait until Dataverse takes calls. All changes need Dataverse, so the worker has nothing else to do.

        Raises: Throttled if that takes more than ``LONGEST_IN_HAND`` seconds.
        """
        waited = 0.0
        while left := self._dataverse.left(DATAVERSE):
            if waited + left > LONGEST_IN_HAND:
                raise Throttled("dataverse: to be left alone", left)
            await self._sleep(left)
            waited += left
