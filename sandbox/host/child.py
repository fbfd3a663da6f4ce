"""A child process: its output is read line by line, and it is ended as a whole tree by the one who started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar

T = TypeVar("T")


class ChildFailed(Exception):
    """It ended early, or did not say in time what was waited for; the text holds the last lines it printed."""


class Child:
    """Starts *command* at once, out of reach of the terminal's Ctrl-C: its starter ends it, in the right order.

    Its stdin is a pipe that closes when the starter is gone, however that came about, so that a child may watch it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        """*name* is for messages; *env* is the whole environment; *on_line* hears each line, in a thread of its own."""
        self.name = name
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=1000)
        self._heard = threading.Condition()
        self._process = subprocess.Popen(  # noqa: S603, the commands are the sandbox's own
            [str(part) for part in command],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def wait_for(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """The first line in which *pattern* is found, printed already or to come.

        Raises: ChildFailed when it ends or the time is over before.
        """
        deadline = time.monotonic() + seconds
        with self._heard:
            while True:
                for line in self._lines:
                    if match := re.search(pattern, line):
                        return match
                if not self._reader.is_alive():
                    raise self._death()
                if time.monotonic() >= deadline:
                    raise self._failure(f"{self.name} was not ready within {seconds:g} s")
                self._heard.wait(0.2)

    async def watch(self) -> NoReturn:
        """Raises: ChildFailed as soon as it ends by itself."""
        while self._reader.is_alive():  # noqa: ASYNC110 - a thread has no event
            await asyncio.sleep(0.1)
        raise self._death()

    def stop(self, seconds: float = 15.0) -> None:
        """Ask it to end, wait, and kill what is left of it and its own children."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self.status is None:
            _end(self._process, by_force=False)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                _end(self._process, by_force=True)
                self._process.wait()
        self._reader.join(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            for line in output:
                with self._heard:
                    self._lines.append(line.rstrip("\n"))
                    self._heard.notify_all()
                self._on_line(line.rstrip("\n"))

    def _death(self) -> ChildFailed:
        return self._failure(f"{self.name} ended with status {self._process.wait()}")

    def _failure(self, what: str) -> ChildFailed:
        last = list(self._lines)[-15:]
        return ChildFailed("\n  ".join([what + (":" if last else "."), *last]))


class Watchable(Protocol):
    async def watch(self) -> None:
        """Raises: ChildFailed as soon as it ends by itself."""


async def watched(work: Coroutine[Any, Any, T], *children: Watchable) -> T:
    """Do *work*, which needs the *children* alive. Raises: ChildFailed as soon as one of them ends."""
    working = asyncio.create_task(work)
    watching = [asyncio.create_task(child.watch()) for child in children]
    try:
        await asyncio.wait({working, *watching}, return_when=asyncio.FIRST_COMPLETED)
        for task in watching:
            if task.done():
                task.result()
        return await working
    finally:
        working.cancel()
        for task in watching:
            task.cancel()
        await asyncio.gather(working, *watching, return_exceptions=True)


def _end(process: subprocess.Popen[str], *, by_force: bool) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if by_force else signal.SIGTERM)
    elif by_force:
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    else:
        with contextlib.suppress(OSError):
            process.send_signal(signal.CTRL_BREAK_EVENT)
