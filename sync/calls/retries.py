"""Short waits inside one call, the same for both services. The queue does the longer waits.

If a service asks for more than ``LONGEST_WAIT``, nothing waits here: the error goes up with its ``retry_after``, and
the change is put back on the queue, hidden for that long. No other layer below retries.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from sync.errors import Stale, Transient

ATTEMPTS = 3
"""Tries of one call. With one, each hiccup costs a trip through the queue. With many, one call holds a worker long."""

LONGEST_WAIT = 2.0
"""Seconds before one more attempt. If this is too small, more changes are put back on the queue. If it is too large, a
call takes longer than its message is hidden for, and the message comes twice."""


def short_waits(sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> AsyncRetrying:
    """Return the attempts of one call that does no harm if it is repeated: a read, or a write that carries an etag.

    *sleep* takes seconds; a test hands in one that returns at once.
    """
    return AsyncRetrying(
        sleep=sleep,
        retry=retry_if_exception(_is_worth_a_short_wait),
        stop=stop_after_attempt(ATTEMPTS),
        wait=_wait,
        reraise=True,
    )


def _is_worth_a_short_wait(error: BaseException) -> bool:
    return isinstance(error, Transient) and not isinstance(error, Stale) and (error.retry_after or 0) <= LONGEST_WAIT


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Transient) and error.retry_after is not None:
        return error.retry_after
    return float(0.2 * 2**state.attempt_number * random.uniform(0.5, 1.0))  # noqa: S311  jitter needs no secrecy
