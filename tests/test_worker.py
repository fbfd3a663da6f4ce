"""The app on Microsoft's own Python worker, where its harness and a Python 3.13 are at hand."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from sandbox.host.child import Child
from sandbox.host.functions_host import free_port
from sandbox.server import Sandbox
from tests.world.running import until

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
    pytest.mark.worker,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not HARNESS.exists() or python_313() is None, reason="needs ../shared/worker_host and Python 3.13"
    ),
]


def environment(**others: str) -> dict[str, str]:
    """Where the worker's libraries are kept, its Python, and *others*."""
    cache = os.environ.get("WORKER_HOST_CACHE") or str(ROOT / ".sandbox" / "worker_host")
    return {**os.environ, "WORKER_HOST_CACHE": cache, "WORKER_HOST_PYTHON": str(python_313()), **others}


def test_the_worker_sees_all_functions() -> None:
    """A signature that the worker refuses empties the whole app, without a word from the functions themselves."""
    code = "import function_app; print(*[each.get_function_name() for each in function_app.app.get_functions()])"
    ours = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    command = [sys.executable, str(HARNESS), "list", "--app", str(ROOT)]
    listed = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240)
    assert listed.returncode == 0, listed.stderr
    names = re.findall(r'^ {4}"name": "(\w+)"', listed.stdout, re.MULTILINE)
    assert sorted(names) == sorted(ours.stdout.split()) != []


async def test_a_booking_lives_with_its_event_on_the_real_worker(storage: str) -> None:
    port = free_port()
    async with Sandbox() as sandbox:
        settings = environment(
            **sandbox.settings,
            AzureWebJobsStorage=storage,
            CLIENT_STATE_KEY="k" * 40,
            NOTIFICATION_URL=f"http://127.0.0.1:{port}/api/notifications?code=x",
        )
        command = [sys.executable, str(HARNESS), "serve", "--app", str(ROOT), "--port", str(port)]
        ana = sandbox.people.hire("Ana")
        start = datetime.now(UTC).replace(microsecond=0) + 24 * HOUR
        with Child("worker_host", command, cwd=ROOT, env=settings) as host:
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
