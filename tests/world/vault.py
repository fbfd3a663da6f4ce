"""A Key Vault on this machine that demands what Azure's does, for the real client. Tests stay out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from typing import Any

import pytest
from aiohttp import web
from azure.core.pipeline.transport import AioHttpTransport
from azure.keyvault.secrets.aio import SecretClient

VAULT = "https://kv-contoso.vault.azure.net"


class Vault:
    """Of secrets by name and version; *status* is what it answers in the place of a secret."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.status = 200
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        if "Authorization" not in request.headers:
            challenge = 'Bearer authorization="https://login.microsoftonline.com/x", resource="https://vault.azure.net"'
            return web.json_response({}, status=401, headers={"WWW-Authenticate": challenge})
        if self.status != 200:
            return web.json_response({"error": {"code": "x", "message": "planted"}}, status=self.status)
        value = self.secrets.get(request.path.removeprefix("/secrets/").rstrip("/"))
        if value is None:
            return web.json_response({"error": {"code": "SecretNotFound", "message": "planted"}}, status=404)
        return web.json_response({"value": value, "id": f"{VAULT}{request.path}", "attributes": {}})


class Detour(AioHttpTransport):
    """Leads what is sent to Azure's vault to the one on this machine."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**options)
        self._url = url

    async def send(self, request: Any, **options: Any) -> Any:
        led = copy(request)
        led.url = request.url.replace(VAULT, self._url)
        return await super().send(led, **options)


@asynccontextmanager
async def a_vault(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vault]:
    """Run a vault, which the commands find in the place of Azure's."""
    vault = Vault()
    app = web.Application()
    app.router.add_get("/{path:.*}", vault.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    vault.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    def client(url: str, identity: Any, **options: Any) -> SecretClient:
        return SecretClient(url, identity, **{**options, "retry_total": 0}, transport=Detour(vault.url))

    monkeypatch.setattr("sync.operate.key_vault.SecretClient", client)
    try:
        yield vault
    finally:
        await runner.cleanup()
