"""The app on Microsoft's own Python worker, where its harness and a Python 3.13 are at hand."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from sandbox.host.child import Child
from sandbox.host.functions_host import free_port
from sandbox.server import Sandbox

ROOT = Path(__file__).resolve().parent.parent
HARNESS = ROOT.parent / "shared" / "worker_host"
HOUR = timedelta(hours=1)


def python_313() -> str | None:
    candidates = [os.environ.get("WORKER_HOST_PYTHON"), shutil.which("python3.13")]
    candidates += map(str, Path("~/.pyenv/versions").expanduser().glob("3.13*/bin/python"))
    for python in filter(None, candidates):
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not HARNESS.exists() or python_313() is None, reason="needs ../shared/worker_host and Python 3.13"
    ),
]


async def until(is_true: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110  the world is watched, it has no event to wait for
            await asyncio.sleep(0.05)


async def test_a_booking_lives_with_its_event_on_the_real_worker(storage: str) -> None:
    port = free_port()
    async with Sandbox() as sandbox:
        environment = {
            **os.environ,
            **sandbox.settings,
            "WORKER_HOST_CACHE": str(ROOT / ".sandbox" / "worker_host"),
            "WORKER_HOST_PYTHON": str(python_313()),
            "AzureWebJobsStorage": storage,
            "CLIENT_STATE_KEY": "k" * 40,
            "NOTIFICATION_URL": f"http://127.0.0.1:{port}/api/notifications?code=x",
        }
        command = [sys.executable, str(HARNESS), "serve", "--app", str(ROOT), "--port", str(port)]
        ana = sandbox.people.hire("Ana")
        start = datetime.now(UTC).replace(microsecond=0) + 24 * HOUR
        with Child("worker_host", command, cwd=ROOT, env=environment) as host:
            await asyncio.to_thread(host.wait_for, r"serving on port", 240)
            url = f"http://127.0.0.1:{port}"
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{url}/admin/functions/renew_subscriptions", json={"input": ""}) as answer,
            ):
                assert answer.status == 202
            await until(lambda: list(sandbox.subscriptions))
            booking, event = sandbox.people.dispatcher.book(ana, start, start + HOUR)
            await until(lambda: booking["contoso_outlookeventid"] == event.immutable_id)
            ana.move(event, HOUR)
            await until(lambda: booking["starttime"] == start + HOUR)
            ana.delete(event)
            await until(lambda: booking["_bookingstatus_value"] == sandbox.tables.status("Canceled").id)
