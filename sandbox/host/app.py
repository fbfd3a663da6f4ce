"""The function app as a child process: under Core Tools if they are on PATH, else under ``functions_host``."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from sandbox.host.child import Child, ChildFailed, watched
from sandbox.server import Sandbox
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 180.0
"""Seconds until the app must run; ``func`` downloads its extension bundle when it is started for the first time."""


@dataclass(frozen=True)
class Host:
    """What runs the triggers; *name* is for people."""

    name: str
    command: Sequence[str | Path]


def choose_host(port: int, *, core_tools: bool = True, path: str | None = None) -> Host:
    """Core Tools where ``func`` is on PATH, unless *core_tools* forbids them; *path* stands for PATH."""
    func = shutil.which("func", path=path) if core_tools else None
    if func is not None:
        return Host("Azure Functions Core Tools (func start)", [func, "start", "--port", str(port)])
    why = "there is no `func` on PATH" if core_tools else "as asked"
    command = [
        sys.executable,
        "-m",
        "sandbox.host.functions_host",
        "--app",
        ".",
        "--port",
        str(port),
        "--until-stdin-ends",
    ]
    return Host(f"the sandbox's own small host ({why})", command)


def app_settings(world: Sandbox, storage: str, port: int) -> dict[str, str]:
    """All settings of the app that lead it to *world* and to the *storage* of this connection string.

    Those that it should do without are empty, so that a local.settings.json that somebody has does not fill them in.
    """
    return {
        **world.settings,
        "AzureWebJobsStorage": storage,
        "NOTIFICATION_URL": f"http://127.0.0.1:{port}/api/notifications?code=sandbox",
        "CLIENT_STATE_KEY": secrets.token_urlsafe(32),
        "CLIENT_STATE_KEY_PREVIOUS": "",
        "EXTENSION_NAME": EXTENSION_NAME,
        "EXTENSION_PROPERTY": EXTENSION_PROPERTY,
        "CANCELED_STATUS_ID": "",
        "MAILBOXES": "",
        "SETTLE_SECONDS": "1",
        "SYNC_MODE": "",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",
    }


class FunctionsApp:
    """Runs the project's app while entered; everything it prints goes to *log*, and to *on_line* (in a thread)."""

    def __init__(
        self,
        host: Host,
        port: int,
        settings: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._host = host
        self.url = f"http://127.0.0.1:{port}"
        self._settings = settings
        self._log_path = log
        self._on_line = on_line

    async def __aenter__(self) -> Self:
        """Raises: ChildFailed."""
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._log_path.open("w", encoding="utf-8")
        self._session = aiohttp.ClientSession(self.url)
        self._child = Child("the app", self._host.command, cwd=ROOT, env=self._environment(), on_line=self._hear)
        try:
            await asyncio.wait_for(watched(self._answer(), self._child), PATIENCE)
        except BaseException as trouble:
            await self._stop()
            if isinstance(trouble, TimeoutError):
                raise ChildFailed(f"the app did not answer within {PATIENCE:g} s") from trouble
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def watch(self) -> None:
        """Raises: ChildFailed as soon as it ends by itself."""
        await self._child.watch()

    async def run_timer(self, name: str) -> None:
        """Start a timer function now; it goes on in the background.

        Source: "Manually run a non HTTP-triggered function".
        """
        async with self._session.post(f"/admin/functions/{name}", json={"input": ""}) as answer:
            answer.raise_for_status()

    def _environment(self) -> dict[str, str]:
        """What an activated virtual environment has, which ``func`` looks for its Python in, and the settings."""
        binaries = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "VIRTUAL_ENV": sys.prefix,
            "PATH": os.pathsep.join([binaries, os.environ.get("PATH", "")]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            **self._settings,
        }

    def _hear(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        self._on_line(line)

    async def _answer(self) -> None:
        while True:
            try:
                async with self._session.get("/admin/host/status") as answer:
                    if answer.ok and (await answer.json(content_type=None))["state"] == "Running":
                        return
            except (aiohttp.ClientError, ValueError, KeyError):
                pass  # not up yet
            await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        await self._session.close()
        await asyncio.to_thread(self._child.stop)
        self._log.close()
