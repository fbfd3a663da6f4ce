"""The operator: types commands against the simulated services and real storage, and looks at what came of it.

What more than one file of tests about commands needs lives here. The fixtures are in ``tests/operate/conftest.py``.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from azure.storage.queue import QueueServiceClient
from typer.testing import CliRunner, Result

from sandbox.server import Sandbox
from sync.errors import Misconfigured
from sync.messages.parking import park
from sync.operate.commands import cli
from sync.storage.queues import StorageQueues
from tests.world.environment import Environment

KEY = "the-key-of-all-client-states-0123456789"
CODE = "the-function-key"
HOUR = timedelta(hours=1)
TOMORROW = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1)
MAILBOX = "0d5c8f5e-0000-4000-8000-00000000000a"


@dataclass
class Operator:
    """Has the settings of the app in the environment, and types."""

    sandbox: Sandbox
    storage: str
    environment: Environment

    async def types(self, command: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, command.split())

    async def reads(self, command: str) -> Any:
        """The JSON document that a successful command prints."""
        result = await self.types(f"{command} --json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def writes(self) -> int:
        return self.sandbox.calls.writes("graph") + self.sandbox.calls.writes("dataverse")

    def queued(self, queue: str) -> list[Any]:
        """What lies in *queue*, whether it is to be seen already or not."""
        with QueueServiceClient.from_connection_string(self.storage) as service:
            if queue not in [each.name for each in service.list_queues()]:
                return []
            messages = service.get_queue_client(queue).receive_messages(visibility_timeout=1)
            found = [json.loads(base64.b64decode(message.content)) for message in messages]
            return [{name: value for name, value in each.items() if name != "for"} for each in found]

    def count(self, queue: str) -> int:
        """Of the messages in *queue*, hidden ones too."""
        with QueueServiceClient.from_connection_string(self.storage) as service:
            return service.get_queue_client(queue).get_queue_properties().approximate_message_count or 0

    async def parked(self, queue: str, *messages: str) -> None:
        queues = StorageQueues.of_connection_string(self.storage)
        for message in messages:
            await park(queues, queue, message, Misconfigured("DATAVERSE_URL names nobody"))
        await queues.close()


@asynccontextmanager
async def a_webhook() -> AsyncIterator[str]:
    """Give the URL of an app that answers handshakes, and nothing else."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.query.get("validationToken", ""))

    app = web.Application()
    app.router.add_post("/api/notifications", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/notifications?code={CODE}"
    finally:
        await runner.cleanup()
