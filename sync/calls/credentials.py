"""The fixed token for services simulated on this machine; it opens nothing anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from azure.core.credentials import AccessToken


class LoopbackCredential:
    """An AsyncTokenCredential whose token never ends."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("loopback", 2**40)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> LoopbackCredential:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()
