"""The app's identity, and the fixed token for services that are simulated on this machine.

This file says which credential is used. It reads no setting, and it knows no secret.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential


def app_credential(is_loopback: bool, client_id: str | None = None) -> AsyncTokenCredential:
    """Return the app's identity for a service, or the fixed token if the service is simulated on this machine.

    *client_id* names one of several managed identities, None the only one. The caller closes the credential.
    Source: azure-identity, "DefaultAzureCredential".
    """
    if is_loopback:
        return LoopbackCredential()
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential(managed_identity_client_id=client_id) if client_id else DefaultAzureCredential()


class LoopbackCredential:
    """An AsyncTokenCredential whose token never ends."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return the fixed token, which opens nothing anywhere else."""
        return AccessToken("loopback", 2**40)

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    async def __aenter__(self) -> LoopbackCredential:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()
