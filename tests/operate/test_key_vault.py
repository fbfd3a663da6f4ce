"""Secrets that settings refer to, read by the real client from a vault here that demands what Azure's does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from sync.calls.credentials import LoopbackCredential
from sync.errors import Misconfigured, SyncError, Transient
from sync.operate.key_vault import parse_reference, read_secrets
from tests.world.vault import VAULT, Vault

KEY = f"@Microsoft.KeyVault(SecretUri={VAULT}/secrets/client-state-key)"

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
