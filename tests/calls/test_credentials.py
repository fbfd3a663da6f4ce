"""The fixed token for simulated services."""

from __future__ import annotations

import time

from azure.core.credentials_async import AsyncTokenCredential

from sync.calls.credentials import LoopbackCredential


async def test_the_token_is_the_same_for_everybody_and_does_not_end():
    credential: AsyncTokenCredential = LoopbackCredential()
    async with credential:
        token = await credential.get_token("http://127.0.0.1:1/.default", claims="any")
    assert token.token == "loopback"
    assert token.expires_on > time.time() + 365 * 86_400
