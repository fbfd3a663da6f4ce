"""Calls to subscriptions within Graph's limits: a number in each second, and none while Graph throttles.

This file knows when a write may be sent. It does not know the write.

One limit holds for all writes of the app in a
tenant, so all of them go through one ``Pace``, and the few lists too.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiolimiter import AsyncLimiter

from sync.errors import Paused, Throttled, Transient

T = TypeVar("T")

WRITES_PER_SECOND = 45
"""Writes in a second. Graph allows 1,000 in 20 seconds, and a full limiter lets this many through at once. If this is
too small, a run takes long. If it is too large, Graph throttles all writes of the tenant.

Source: Graph, "Microsoft Graph service-specific throttling limits".
"""

TRIES = 4
"""Tries of one write that gets no answer, or an error that passes. With one, each hiccup leaves a mailbox to the next
run. With many, one mailbox takes the time of others."""

THROTTLED = 10
"""Times that Graph may throttle one write, also if no other write passes. If this is too small, a run gives up while
Graph is busy. If it is too large, one write is sent in vain until the run ends."""

LONGEST_OWN_WAIT = 5.0
"""Seconds that a run waits for one write that alone is in trouble. If this is too small, its mailbox waits for the next
run. If it is too large, the other mailboxes wait."""

LONGEST_PAUSE = 3_600.0
"""Seconds that all writes wait at most, even if Graph asks for more. If this is too small, Graph throttles again. If it
is too large, one odd answer stops the renewals for long."""


def _patience(failures: int) -> float:
    """Return the seconds to wait after so many *failures*: about one, doubling to half a minute."""
    return float(min(2.0 ** (failures - 1), 30.0) * random.uniform(0.75, 1.25))  # noqa: S311  jitter needs no secrecy


class Pace:
    """All writes of one process to subscriptions, one after the other as fast as Graph allows.

    *sleep*, *patience* and the numbers are handed in by tests, which have no time.
    """

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        writes_per_second: float = WRITES_PER_SECOND,
        patience: Callable[[int], float] | None = None,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._limiter = AsyncLimiter(writes_per_second, 1.0)
        self._sleep = sleep
        self._patience = patience or _patience
        self._longest_pause = longest_pause
        self._paused_until = 0.0
        self._passed = 0

    async def run(self, write: Callable[[], Awaitable[T]], until: float) -> T:
        """Do *write* when its turn has come, and again if it may succeed then; *until* is a time of the event loop's.

        A write that is throttled makes all of them wait, as long as Graph asks for. One that is so again and again
        while others pass is its mailbox's trouble, and is not to keep them waiting for ever.
        Raises: Paused, with nothing written, if that is beyond *until*; Transient after so many tries; else at once.
        """
        failures = throttled = 0
        passed = math.inf
        while True:
            await self._wait(until)
            try:
                async with self._limiter:
                    done = await write()
                self._passed += 1
                return done
            except Transient as error:
                if isinstance(error, Throttled):
                    throttled += 1
                    passed = min(passed, self._passed)
                    failures += self._passed > passed
                    if failures == TRIES or throttled == THROTTLED:
                        raise
                    self._pause(error.retry_after, throttled)
                    continue
                failures += 1
                if failures == TRIES or (error.retry_after or 0) > LONGEST_OWN_WAIT:
                    raise  # the trouble of one mailbox, which is not to keep the others waiting
                seconds = max(self._patience(failures), error.retry_after or 0)
            await self._sleep(seconds)

    async def _wait(self, until: float) -> None:
        clock = asyncio.get_running_loop().time
        while (pause := self._paused_until - clock()) > 0:
            if self._paused_until > until:
                raise Paused("subscriptions: throttled for longer than there is time", retry_after=pause)
            await self._sleep(pause)
        if clock() > until:
            raise Paused("subscriptions: no time left")

    def _pause(self, retry_after: float | None, throttled: int) -> None:
        """Source: RFC 6585: a 429 may come without Retry-After; "0" is no reason to press on either."""
        seconds = self._patience(throttled) if retry_after is None else min(max(retry_after, 0.2), self._longest_pause)
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)
