"""Secrets that settings refer to, read by the real client from a vault here that demands what Azure's does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from copy import copy
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.keyvault.secrets.aio import SecretClient

from sync.calls.credentials import LoopbackCredential
from sync.errors import Misconfigured, SyncError, Transient
from sync.operate.key_vault import parse_reference, read_secrets

VAULT = "https://kv-contoso.vault.azure.net"
KEY = f"@Microsoft.KeyVault(SecretUri={VAULT}/secrets/client-state-key)"


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


@pytest.fixture
async def vault(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vault]:
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
    yield vault
    await runner.cleanup()


read = partial(read_secrets, identity=LoopbackCredential())


async def complaint(references: Mapping[str, str], kind: type[SyncError] = Misconfigured) -> str:
    with pytest.raises(kind) as caught:
        await read(references)
    assert "planted" not in str(caught.value)
    return str(caught.value)


async def test_a_setting_gets_the_secret_that_it_refers_to(vault: Vault) -> None:
    vault.secrets = {"client-state-key": "the newest", "client-state-key/0123": "a former one"}
    former = f"@Microsoft.KeyVault(SecretUri={VAULT}/secrets/client-state-key/0123)"
    assert await read({"CLIENT_STATE_KEY": KEY, "CLIENT_STATE_KEY_PREVIOUS": former}) == {
        "CLIENT_STATE_KEY": "the newest",
        "CLIENT_STATE_KEY_PREVIOUS": "a former one",
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (KEY, None),
        (KEY.replace(")", "/)"), None),
        (KEY.replace(")", "/0123)"), "0123"),
        ("@Microsoft.KeyVault(VaultName=kv-contoso;SecretName=client-state-key)", None),
        ("@Microsoft.KeyVault(VaultName=kv-contoso; SecretName=client-state-key; SecretVersion=0123)", "0123"),
    ],
)
def test_a_reference_has_two_forms(text: str, version: str | None) -> None:
    found = parse_reference("CLIENT_STATE_KEY", text)
    assert (found.vault_url, found.name, found.version) == (VAULT, "client-state-key", version)


@pytest.mark.parametrize("inside", ["", "SecretUri=", f"SecretUri={VAULT}", "VaultName=kv-contoso", "SecretUri=x"])
async def test_a_reference_that_names_no_secret_is_told_by_its_setting(inside: str) -> None:
    text = await complaint({"CLIENT_STATE_KEY": f"@Microsoft.KeyVault({inside})"})
    assert text == "CLIENT_STATE_KEY is a Key Vault reference that names no secret"


async def test_a_secret_that_is_not_there_is_named_with_what_writes_it(vault: Vault) -> None:
    text = await complaint({"CLIENT_STATE_KEY": KEY})
    assert "the secret client-state-key of https://kv-contoso.vault.azure.net, which is not there" in text
    assert "infra/scripts/vault.py" in text


async def test_who_may_not_read_it_learns_which_role_it_takes(vault: Vault) -> None:
    vault.status = 403
    assert "Key Vault Secrets User" in await complaint({"CLIENT_STATE_KEY": KEY})


class Nobody(LoopbackCredential):
    async def get_token(self, *scopes: str, **options: Any) -> Any:
        raise ClientAuthenticationError("planted")


async def test_who_is_not_signed_in_is_told_to(vault: Vault) -> None:
    with pytest.raises(Misconfigured, match="az login"):
        await read_secrets({"CLIENT_STATE_KEY": KEY}, Nobody())


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_vault_in_trouble_is_worth_another_try(vault: Vault, status: int) -> None:
    vault.status = status
    assert f"key vault {status}" in await complaint({"CLIENT_STATE_KEY": KEY}, Transient)


async def test_a_vault_out_of_reach_is_worth_another_try(vault: Vault) -> None:
    vault.url = "http://127.0.0.1:9"
    assert "ServiceRequestError" in await complaint({"CLIENT_STATE_KEY": KEY}, Transient)
