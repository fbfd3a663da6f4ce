"""Azurite, Microsoft's storage emulator, as a child process on free ports; everything is kept in memory only."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.host.child import Child

PACKAGE = Path(__file__).resolve().parent.parent.parent / "node_modules" / "azurite"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Published in Azurite's README and the same everywhere: no secret."""

START = """
if (parseInt(process.versions.node) < 20) {
  console.error(`Azurite needs Node 20 or newer, this is ${process.versions.node}: install one from https://nodejs.org`);
  process.exit(1);
}
process.stdin.on("end", () => process.exit()).resume();  // whoever started this is gone
require(process.argv[1]);
"""
OPTIONS = [
    "--silent",
    "--inMemoryPersistence",
    "--disableTelemetry",
    "--skipApiVersionCheck",  # the Python libraries speak newer versions of the protocol than Azurite knows
    *(option for service in ("blob", "queue", "table") for option in (f"--{service}Port", "0")),
]


class AzuriteMissing(Exception):
    """Azurite cannot be started here; the text names the cure."""


class Azurite:
    """Runs while entered, by ``with`` or ``async with``; ``connection_string`` is for every Azure client library."""

    def __init__(self, package: Path = PACKAGE, start: str = START, path: str | None = None) -> None:
        """*package* is Azurite's folder, *start* the script that Node runs it by; *path* stands for PATH."""
        self._package, self._start, self._path = package, start, path
        self.connection_string = ""
        self._child: Child | None = None

    def start(self) -> None:
        """Raises: AzuriteMissing, ChildFailed."""
        child = self._launch()
        try:
            self._wait_for(child)
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> Child:
        node = shutil.which("node", path=self._path)
        if node is None:
            raise AzuriteMissing("Azurite needs Node 20 or newer, and there is no `node`: https://nodejs.org")
        entry = self._package / "dist" / "src" / "azurite.js"
        if not entry.is_file():
            raise AzuriteMissing("Azurite is not installed: run `npm ci` in the project's folder, or `dev.py` does it")
        self._child = Child("Azurite", [node, "-e", self._start, "--", entry, *OPTIONS])
        return self._child

    def _wait_for(self, child: Child) -> None:
        endpoints = {
            service: child.wait_for(rf"{service} service is successfully listening at (http\S+)")[1]
            for service in ("Blob", "Queue", "Table")
        }
        self.connection_string = ";".join(
            [
                "DefaultEndpointsProtocol=http",
                f"AccountName={ACCOUNT}",
                f"AccountKey={KEY}",
                *(f"{service}Endpoint={url}/{ACCOUNT}" for service, url in endpoints.items()),
            ]
        )

    async def watch(self) -> None:
        """Raises: ChildFailed as soon as it ends by itself."""
        if self._child is not None:
            await self._child.watch()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        child = self._launch()
        try:
            await asyncio.to_thread(self._wait_for, child)
        except BaseException:  # a cancellation, too: the thread waits on until the child has ended
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
