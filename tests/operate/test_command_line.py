"""What all commands have in common, as they are typed: settings, wrong command lines, and errors in one line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sandbox.faults import Fault
from sandbox.world.people import Technician
from sync.errors import Misconfigured
from sync.operate.command_line import take_local_settings
from sync.operate.commands import cli
from tests.world.operator import CODE, MAILBOX, Operator

ROOT = Path(__file__).resolve().parent.parent.parent


# --- a command line ---


@pytest.mark.parametrize("command", ["replay", f"replay --all {MAILBOX}", "poison --queue other", "sweep --mailbox x"])
async def test_a_command_line_that_cannot_be_meant_is_refused(operator: Operator, command: str) -> None:
    assert (await operator.types(command)).exit_code == 2


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("replay --json", "either --all or at least one ID"),
        ("poison --queue other --json", "--queue"),
        ("sweep --json --mailbox x", "--mailbox"),
        ("sweep --json --mailbox", "--mailbox"),
        ("subscriptions apply --nonsense --json", "--nonsense"),
        ("subscriptions --json nonsense", "nonsense"),
        ("nonsense --json", "nonsense"),
        ("--json", "--json"),
    ],
)
def test_what_is_wrong_with_a_command_line_is_in_the_document_too(command: str, reason: str) -> None:
    result = CliRunner().invoke(cli, command.split())
    assert result.exit_code == 2
    assert reason in json.loads(result.stdout)["error"]
    assert len(result.stderr.splitlines()) == 1


def test_an_option_of_subscriptions_holds_for_its_subcommands(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[bool, bool]] = []
    monkeypatch.setattr(
        "sync.operate.subscription_commands.run", lambda work, as_json, verbose: given.append((as_json, verbose))
    )
    for command in ("subscriptions --json plan -v", "subscriptions plan --json -v", "subscriptions plan"):
        CliRunner().invoke(cli, command.split(), catch_exceptions=False)
    assert given == [(True, True), (True, True), (False, False)]


# --- settings ---


async def test_all_missing_settings_are_named_in_one_line(operator: Operator) -> None:
    for name in ("CLIENT_STATE_KEY", "DATAVERSE_URL", "NOTIFICATION_URL"):
        operator.environment.unset(name)
    result = await operator.types("subscriptions")
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert all(name in line for name in ("CLIENT_STATE_KEY", "DATAVERSE_URL", "NOTIFICATION_URL"))


def test_local_settings_are_taken_where_the_environment_has_none(tmp_path: Path) -> None:
    path = tmp_path / "local.settings.json"
    environment = {"A": "environment"}
    take_local_settings(path, environment)
    path.write_text('{"IsEncrypted": false, "Values": {"A": "file", "B": 7}}')
    take_local_settings(path, environment)
    assert environment == {"A": "environment", "B": "7"}


@pytest.mark.parametrize("text", ["", "[]", '"x"', '{"Values": 7}', '{"IsEncrypted": true, "Values": {"A": "x"}}'])
def test_local_settings_that_cannot_be_read_are_misconfigured(tmp_path: Path, text: str) -> None:
    path = tmp_path / "local.settings.json"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=r"local\.settings\.json"):
        take_local_settings(path, {})


# --- a service in trouble ---


@pytest.mark.parametrize("command", ["subscriptions", "subscriptions apply", "sweep"])
async def test_a_service_in_trouble_is_one_line(operator: Operator, ana: Technician, command: str) -> None:
    operator.sandbox.faults.order(Fault("dataverse", status=503, times=None))
    result = await operator.types(f"{command} --json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": "dataverse 503"}
    assert result.stderr == "error: dataverse 503\n"


async def test_storage_that_cannot_be_reached_is_one_line(operator: Operator) -> None:
    nowhere = "DefaultEndpointsProtocol=http;AccountName=x;AccountKey=eA==;QueueEndpoint=http://127.0.0.1:9/x"
    operator.environment.set(AzureWebJobsStorage=nowhere)
    result = await operator.types("poison")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: queue outlook-changes-poison: ")
    assert len(result.stderr.splitlines()) == 1


# --- a process ---


def in_a_process(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m sync`` without a terminal, in *folder*."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "HOME")}
    return subprocess.run(
        [sys.executable, "-m", "sync", *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_a_process_finds_the_local_settings_and_logs_only_if_asked(
    operator: Operator, ana: Technician, tmp_path: Path
) -> None:
    names = ("AzureWebJobsStorage", "CLIENT_STATE_KEY", "NOTIFICATION_URL", *operator.sandbox.settings)
    values = {name: os.environ[name] for name in names}
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": values}))
    quiet = await asyncio.to_thread(in_a_process, tmp_path, "subscriptions", "apply")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert (
        quiet.stdout == "mailboxes wanted: 1; created: 1, adopted: 0, replaced: 0, renewed: 0, deleted: 0, failed: 0\n"
    )
    verbose = await asyncio.to_thread(in_a_process, tmp_path, "subscriptions", "apply", "-v", "--json")
    assert json.loads(verbose.stdout)["created"] == 0
    assert "roster wanted=1" in verbose.stderr
    assert CODE not in verbose.stderr


@pytest.mark.parametrize("missing", ["typer", "rich", "azure.keyvault"])
def test_without_its_packages_the_cure_is_named(tmp_path: Path, missing: str) -> None:
    first = missing.partition(".")[0]  # planted before the installed one, and without what should be in it
    (tmp_path / f"{first}.py").write_text(
        "" if first != missing else f"raise ModuleNotFoundError('x', name={missing!r})"
    )
    result = in_a_process(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"error: {missing} is missing: pip install -r requirements.txt -r requirements-ops.txt"
    ]
