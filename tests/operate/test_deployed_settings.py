"""Every command takes the settings that infra/modules/app.bicep gives the app, in which secrets are references."""

from __future__ import annotations

import json

import pytest
import typer

from sandbox.world.people import Technician
from sync.calls.credentials import LoopbackCredential
from sync.operate.commands import cli
from tests.world.infra import APP, app_settings
from tests.world.operator import KEY, MAILBOX, Operator
from tests.world.vault import VAULT, Vault

FORMER = "the-key-that-was-valid-before-0123456789"

OF_STORAGE = ["status", "holds", "poison", "release --all", "discard --all", "replay --all"]
OF_THE_SERVICES = [
    *(
        "subscriptions",
        "subscriptions plan",
        "subscriptions apply",
        "sweep",
        "sweep --dry-run",
        "report",
        "doctor",
        "take-over",
    )
]
WITHOUT_SECRETS = [*OF_STORAGE, f"explain {MAILBOX}", "setup", "settings"]
WITHOUT_SECRETS += ["capacity --mailboxes 3 --changes-per-day 9"]


@pytest.fixture
def fetched(operator: Operator, webhook: str, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """The settings as `func azure functionapp fetch-app-settings` brings them, but for storage and the sandbox's."""
    prefix = str(APP.variables["secrets"]).strip("'").replace("${vault.properties.vaultUri}", f"{VAULT}/")
    references = {name: text for name, text in app_settings().items() if "${secrets}" in text}
    assert set(references) == {"CLIENT_STATE_KEY", "CLIENT_STATE_KEY_PREVIOUS", "NOTIFICATION_URL"}
    for name, text in references.items():
        value = text.strip("'").replace("${secrets}", prefix).replace("${previousClientStateKeyVersion}", "0123")
        assert "$" not in value
        operator.environment.set(**{name: value})
    vault.secrets = {"client-state-key": KEY, "client-state-key/0123": FORMER, "notification-url": webhook}
    monkeypatch.setattr("sync.wiring.app.App.identity", lambda app: LoopbackCredential())
    return vault


def test_no_command_is_missing_here() -> None:
    listed = {each.split()[0] for each in [*WITHOUT_SECRETS, *OF_THE_SERVICES]}
    group = typer.main.get_command(cli)
    assert set(group.commands) == listed  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", WITHOUT_SECRETS)
async def test_who_may_read_no_secret_can_type(
    fetched: Vault, operator: Operator, ana: Technician, command: str
) -> None:
    fetched.status = 403
    result = await operator.types(f"{command} --json")
    assert result.stderr == ""
    assert "error" not in json.loads(result.stdout)


@pytest.mark.parametrize("command", OF_THE_SERVICES)
async def test_who_may_read_the_secrets_can_type(
    fetched: Vault, operator: Operator, ana: Technician, command: str
) -> None:
    result = await operator.types(f"{command} --json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not any(secret in result.output for secret in (KEY, FORMER))


@pytest.mark.parametrize("command", OF_THE_SERVICES)
async def test_who_may_not_read_them_learns_what_it_takes_to_type(
    fetched: Vault, operator: Operator, ana: Technician, command: str
) -> None:
    fetched.status = 403
    result = await operator.types(command)
    assert result.exit_code != 0
    assert "Key Vault Secrets User" in result.output
    assert operator.writes() == 0
