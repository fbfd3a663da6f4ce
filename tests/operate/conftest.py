"""Fixtures of the tests about commands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox.server import Sandbox
from sandbox.world.people import Technician
from tests.world.environment import Environment
from tests.world.operator import KEY, Operator, a_webhook
from tests.world.vault import Vault, a_vault
from tests.world.waits import leave_out_waits


@pytest.fixture
async def webhook() -> AsyncIterator[str]:
    """A URL that answers handshakes."""
    async with a_webhook() as url:
        yield url


@pytest.fixture
async def operator(storage: str, webhook: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    """An operator with all settings that the commands need; no command waits for a retry."""
    leave_out_waits(monkeypatch)
    async with Sandbox(seed=3, time_scale=0.001) as sandbox:
        with Environment() as environment:
            environment.set(
                **sandbox.settings, AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY, NOTIFICATION_URL=webhook
            )
            yield Operator(sandbox, storage, environment)


@pytest.fixture
def ana(operator: Operator) -> Technician:
    """A technician whom the app looks after."""
    return operator.sandbox.people.hire("Ana")


@pytest.fixture
async def vault(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vault]:
    """A Key Vault on this machine, in the place of Azure's."""
    async with a_vault(monkeypatch) as vault:
        yield vault
