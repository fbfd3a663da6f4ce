"""Waiting for the signal that says stop, on every platform."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

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

    def also_when_stdin_ends(self) -> None:
        """For a child whose stdin is a pipe: it ends with its starter, however that came about."""
        loop = asyncio.get_running_loop()

        def watch() -> None:
            # Not through sys.stdin, whose lock a thread must not hold when the interpreter ends.
            while os.read(0, 4096):
                pass
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(self._arrived.set)

        threading.Thread(target=watch, daemon=True).start()

    async def wait(self) -> None:
        await self._arrived.wait()
