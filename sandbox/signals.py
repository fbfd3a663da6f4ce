"""Waiting for the signal that says stop, on every platform."""

from __future__ import annotations

import asyncio
import signal

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, a polite kill, a closed terminal, and Windows' Ctrl-Break; not every platform has each."""


class StopSignal:
    """Made in the main thread's event loop; from then on the signals end ``wait`` and nothing else."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._arrived.set))

    async def wait(self) -> None:
        await self._arrived.wait()
