"""The event-id column is made once, or taken as it is, or refused; and nothing is done that was not shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sandbox.calls import Call
from sandbox.dataverse.columns import Column
from sandbox.faults import Fault
from sandbox.server import Sandbox
from sync.dataverse.definitions import LENGTH
from sync.dataverse.definitions import Column as Found
from sync.errors import Misconfigured
from sync.operate.commands import cli
from sync.operate.setup import Step, plan_setup
from tests.world.environment import Environment
from tests.world.waits import leave_out_waits

COLUMN = "contoso_outlookeventid"
OTHERS = ("AzureWebJobsStorage", "CLIENT_STATE_KEY", "NOTIFICATION_URL")
BOTH = ["create the column", "publish the table bookableresourcebooking"]


@dataclass
class Desk:
    """A customizer's, of an environment that does not have the column yet."""

    sandbox: Sandbox
    environment: Environment

    @property
    def columns(self) -> dict[str, Column]:
        return self.sandbox.tables.schema["bookableresourcebooking"].columns

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.sandbox.calls if call.is_write]

    async def types(self, command: str, answer: str = "") -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, command.split(), answer)

    async def sets_up(self, options: str = "") -> dict[str, Any]:
        result = await self.types(f"setup --yes --json {options}")
        assert result.exit_code == 0, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def has(self, **column: Any) -> Column:
        return self.sandbox.tables.add_column("bookableresourcebooking", Column(COLUMN, **column))


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    leave_out_waits(monkeypatch)
    with Environment() as environment:
        environment.unset(*OTHERS)
        async with Sandbox(seed=3) as sandbox:
            environment.set(**sandbox.settings)
            desk = Desk(sandbox, environment)
            del desk.columns[COLUMN]
            yield desk


async def test_the_column_is_made_published_and_usable(desk: Desk) -> None:
    document = await desk.sets_up()
    assert document == {
        "environment": desk.sandbox.dataverse_url,
        "column": COLUMN,
        "solution": None,
        "steps": BOTH,
        "done": True,
    }
    column = desk.columns[COLUMN]
    assert (column.kind, column.max_length, column.published, column.required) == ("string", LENGTH, True, False)


async def test_it_goes_into_the_solution_that_is_named(desk: Desk) -> None:
    assert (await desk.sets_up("--solution ContosoBookingSync"))["solution"] == "ContosoBookingSync"
    assert desk.columns[COLUMN].solution == "ContosoBookingSync"


async def test_a_column_that_is_there_is_added_to_no_solution_and_that_is_said(desk: Desk) -> None:
    desk.has(max_length=LENGTH)
    result = await desk.types("setup --solution ContosoBookingSync")
    assert result.exit_code == 0
    assert f"{COLUMN} was there before, and is not added to ContosoBookingSync" in result.stdout
    assert (await desk.sets_up("--solution ContosoBookingSync"))["solution"] is None
    assert desk.writes == []


async def test_a_solution_that_is_not_there_is_asked_for(desk: Desk) -> None:
    result = await desk.types("setup --yes --solution Nope")
    assert result.exit_code == 1
    assert "is there a solution Nope" in result.stderr
    assert COLUMN not in desk.columns


@pytest.mark.parametrize("solution", ["", "--solution ContosoBookingSync"])
async def test_a_prefix_that_is_not_the_publishers_is_asked_for(desk: Desk, solution: str) -> None:
    desk.environment.set(EVENT_ID_COLUMN="fabrikam_new")
    result = await desk.types(f"setup --yes {solution}")
    assert result.exit_code == 1
    assert "fabrikam" in result.stderr
    assert "fabrikam_new" not in desk.columns


async def test_its_label_is_in_the_language_that_is_named(desk: Desk) -> None:
    desk.sandbox.dataverse_switches.languages = {1031}
    result = await desk.types("setup --yes")
    assert result.exit_code == 1
    assert "is 1033 (--language) one of the environment's languages?" in result.stderr
    assert "customize" not in result.stderr
    await desk.sets_up("--language 1031")


async def test_a_second_time_nothing_is_left_to_do(desk: Desk) -> None:
    await desk.sets_up()
    desk.sandbox.calls.clear()
    assert (await desk.sets_up())["steps"] == []
    result = await desk.types("setup")
    assert (result.exit_code, result.stdout) == (0, f"{COLUMN} is there and published: nothing to do\n")
    assert desk.writes == []


async def test_a_column_that_was_never_published_is_published(desk: Desk) -> None:
    desk.has(max_length=LENGTH, published=False)
    assert (await desk.sets_up())["steps"] == BOTH[1:]
    assert desk.columns[COLUMN].published


async def test_a_crash_halfway_is_mended_by_running_it_again(desk: Desk) -> None:
    desk.sandbox.faults.order(Fault("dataverse", method="POST", path="PublishXml", status=503))
    assert (await desk.types("setup --yes")).exit_code == 1
    assert not desk.columns[COLUMN].published
    assert (await desk.sets_up())["steps"] == BOTH[1:]
    assert desk.columns[COLUMN].published


async def test_a_creation_that_is_not_answered_is_sent_once(desk: Desk) -> None:
    desk.sandbox.faults.order(Fault("dataverse", method="POST", path="Attributes", status=None, moment="after"))
    assert (await desk.types("setup --yes")).exit_code == 1
    assert len(desk.writes) == 1
    assert (await desk.sets_up())["steps"] == BOTH[1:]


@pytest.mark.parametrize(("kind", "length"), [("string", LENGTH), ("string", 4000), ("memo", 2000)])
async def test_the_column_of_a_running_deployment_is_taken_as_it_is(desk: Desk, kind: Any, length: int) -> None:
    desk.has(kind=kind, max_length=length)
    assert (await desk.sets_up())["steps"] == []
    assert desk.writes == []


@pytest.mark.parametrize(
    ("kind", "length", "reason"),
    [
        ("string", 450, "holds 450 characters only"),
        ("memo", 100, "make it longer in Power Apps, or choose another EVENT_ID_COLUMN"),
        ("integer", None, "is of type Integer, not a text; choose another EVENT_ID_COLUMN"),
    ],
)
async def test_a_column_that_does_not_do_is_left_alone_and_the_cure_named(
    desk: Desk, kind: Any, length: int | None, reason: str
) -> None:
    desk.has(kind=kind, max_length=length)
    result = await desk.types("setup --yes")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert desk.writes == []


# --- the plan is shown first ---


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "maybe\n"])
async def test_without_a_yes_the_plan_is_shown_and_nothing_done(desk: Desk, answer: str) -> None:
    result = await desk.types("setup", answer)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        f"{desk.sandbox.dataverse_url}, {COLUMN}:",
        "  1. create the column",
        "  2. publish the table bookableresourcebooking",
        "nothing was changed; --yes goes ahead without asking",
    ]
    assert desk.writes == []


async def test_with_a_yes_it_is_done(desk: Desk) -> None:
    result = await desk.types("setup", "y\n")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"{COLUMN} is there and published"
    assert desk.columns[COLUMN].published


async def test_a_document_alone_is_a_plan(desk: Desk) -> None:
    result = await desk.types("setup --json", "y\n")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["steps"] == BOTH
    assert json.loads(result.stdout)["done"] is False
    assert desk.writes == []


# --- what else it takes ---


async def test_it_takes_two_settings_and_names_both(desk: Desk) -> None:
    desk.environment.unset("DATAVERSE_URL")
    desk.environment.set(EVENT_ID_COLUMN="Event Id")
    result = await desk.types("setup")
    assert result.exit_code == 2
    assert "DATAVERSE_URL is missing" in result.stderr
    assert "EVENT_ID_COLUMN must be" in result.stderr
    assert not any(name in result.stderr for name in OTHERS)


@pytest.mark.parametrize("privilege", ["prvCreateAttribute", "prvPublishCustomization"])
async def test_somebody_who_may_not_customize_learns_what_it_may_be(desk: Desk, privilege: str) -> None:
    desk.sandbox.dataverse_switches.missing_privileges = {privilege}
    result = await desk.types("setup --yes")
    assert result.exit_code == 1
    assert "0x80040220" in result.stderr
    assert "may you customize tables, and has a publisher of the environment the prefix contoso?" in result.stderr


async def test_a_column_that_stays_unknown_is_no_success(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.sandbox.tables, "publish", lambda tables: None)
    result = await desk.types("setup --yes")
    assert result.exit_code == 1
    assert "run this again in a minute" in result.stderr


@pytest.mark.parametrize(
    ("found", "is_known", "steps"),
    [
        (None, False, (Step.CREATE, Step.PUBLISH)),
        (Found("String", LENGTH), False, (Step.PUBLISH,)),
        (Found("Memo", 4000), True, ()),
    ],
)
def test_the_plan_is_what_is_missing(found: Found | None, is_known: bool, steps: tuple[Step, ...]) -> None:
    assert plan_setup(COLUMN, found, is_known) == steps


def test_no_plan_changes_a_column() -> None:
    with pytest.raises(Misconfigured):
        plan_setup(COLUMN, Found("String", LENGTH - 1), True)
