"""Until when a service is to be left alone: what one worker of an instance is told, all of them keep to.

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
from sync.errors import Throttled

UNTOLD = 5.0
"""Seconds, if the service does not say how long. Source: RFC 6585: a 429 may come without Retry-After."""

LONGEST_PAUSE = 3_600.0
"""Seconds, whatever the service asks for."""

HELD = 420.0
"""Seconds that a change waits with its message in hand: more than Dataverse's window of 300, and with the time to
process it less than the host gives to a function (host.json)."""

DATAVERSE = "dataverse"


class Pauses:
    """By what is limited by itself: all of Dataverse, one mailbox. *now* is the clock's."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._until: dict[str, datetime] = {}

    @contextmanager
    def kept(self, what: str) -> Iterator[None]:
        """For one call; if it is throttled, a pause begins. Raises: Throttled, with nothing sent, during a pause."""
        if left := self.left(what):
            raise Throttled(f"{what}: to be left alone", left)
        try:
            yield
        except Throttled as error:
            self._begin(what, UNTOLD if error.retry_after is None else min(error.retry_after, LONGEST_PAUSE))
            raise

    def left(self, what: str) -> float:
        """Seconds, 0 if there is no pause."""
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

    *sleep* is a test's way to let no time pass.
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
        """Nobody needs the worker meanwhile: all changes need Dataverse. Raises: Throttled if it takes too long."""
        waited = 0.0
        while left := self._dataverse.left(DATAVERSE):
            if waited + left > HELD:
                raise Throttled("dataverse: to be left alone", left)
            await self._sleep(left)
            waited += left
