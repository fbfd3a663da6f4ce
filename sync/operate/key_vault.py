"""Reads the secrets that app settings refer to, for commands typed outside Azure, where nobody puts them in place.

In Azure the platform reads them before the app starts; nothing that runs there imports this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.keyvault.secrets import KeyVaultSecretIdentifier
from azure.keyvault.secrets.aio import SecretClient

from sync.errors import Misconfigured, Transient

_OPTIONS: dict[str, Any] = {"retry_total": 2, "connection_timeout": 5, "read_timeout": 10}

_PARTS = re.compile(r"\s*(\w+)\s*=\s*([^;]*?)\s*(?:;|$)")


async def read_secrets(references: Mapping[str, str], identity: AsyncTokenCredential) -> dict[str, str]:
    """The secrets behind *references*, setting → ``@Microsoft.KeyVault(…)``, read as *identity*.

    Raises: Misconfigured, naming the setting, what is wrong and its cure, but no value; Transient.
    """
    return {name: await _read(name, parse_reference(name, text), identity) for name, text in references.items()}


def parse_reference(setting: str, text: str) -> KeyVaultSecretIdentifier:
    """Where the secret is: vault, name and version, None for the newest.

    Source: App Service, "Use Key Vault references as app settings", Source app settings from key vault.
    Raises: Misconfigured.
    """
    given = dict(_PARTS.findall(text.removeprefix("@Microsoft.KeyVault(").removesuffix(")")))
    url = given.get("SecretUri", "")
    if "VaultName" in given and "SecretName" in given:
        path = f"{given['SecretName']}/{given.get('SecretVersion', '')}"
        url = f"https://{given['VaultName']}.vault.azure.net/secrets/{path}"
    try:
        return KeyVaultSecretIdentifier(url.rstrip("/"))
    except ValueError:
        raise Misconfigured(f"{setting} is a Key Vault reference that names no secret") from None


async def _read(setting: str, secret: KeyVaultSecretIdentifier, identity: AsyncTokenCredential) -> str:
    what = f"{setting} refers to the secret {secret.name} of {secret.vault_url}"
    try:
        async with SecretClient(secret.vault_url, identity, **_OPTIONS) as client:
            return (await client.get_secret(secret.name, secret.version)).value or ""
    except ResourceNotFoundError:
        raise Misconfigured(f"{what}, which is not there: infra/scripts/vault.py writes it") from None
    except ClientAuthenticationError:
        raise Misconfigured(f"{what}, and the vault does not know you: az login, in the app's tenant") from None
    except HttpResponseError as error:
        if error.status_code == 403:
            raise Misconfigured(
                f"{what}, which you may not read: you have to be Key Vault Secrets User of the vault,"
                " as the members of OPERATORS_GROUP_ID are"
            ) from None
        raise Transient(f"{what}: key vault {error.status_code}") from None
    except AzureError as error:
        raise Transient(f"{what}: {type(error).__name__}") from None  # its text may hold secrets
