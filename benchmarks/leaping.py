"""An event loop whose time leaps to the next timer as soon as nothing else is under way, so that nobody waits.

Timers, time-outs and sleeps keep their order and their distances; only what they wait for is left out.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sandbox.clock import Clock

_MOMENT = 0.005
"""Real seconds to look for what is under way, before looking again."""


class LeapingLoop(asyncio.SelectorEventLoop):
    """Time stands still within ``under_way``: what happens there, in threads or on sockets, is not of this loop."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._under_way = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._seconds

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def leap(self, seconds: float | None) -> bool:
        """Let so many *seconds* pass, None if no timer is set; say whether they have."""
        if seconds is None or self._under_way:
            return False
        self._seconds += seconds
        return True


class _Selector(selectors.BaseSelector):
    """Asked by the loop for what has happened within the time to its next timer."""

    def __init__(self, loop: LeapingLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        happened = self._real.select(0)
        if happened or (timeout is not None and timeout <= 0) or self._loop.leap(timeout):
            return happened
        return self._real.select(_MOMENT)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class LoopsClock(Clock):
    """The simulated world's time, as the *loop* has it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, begun: datetime) -> None:
        super().__init__()
        self._loop = loop
        self._begun = begun

    def now(self) -> datetime:
        return self._begun + timedelta(seconds=self._loop.time())
