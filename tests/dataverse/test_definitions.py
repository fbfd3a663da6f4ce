"""What an environment says of itself, over HTTP, against the simulated Dataverse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sandbox.dataverse.columns import Column as Made
from sandbox.faults import Fault
from sandbox.server import Sandbox
from sync.calls.credentials import LoopbackCredential
from sync.dataverse.definitions import LENGTH, Column, Definitions, User, why_unfit
from sync.dataverse.transport import Transport
from sync.errors import Malformed, Refused, Transient

COLUMN = "contoso_outlookeventid"


async def at_once(seconds: float) -> None:
    """Wait for no time."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(seed=3) as sandbox:
        yield sandbox


@pytest.fixture
def definitions(sandbox: Sandbox) -> Iterator[Definitions]:
    transport = Transport(sandbox.dataverse_url, LoopbackCredential(), sandbox.clock.now, sleep=at_once)
    yield Definitions(transport)
    transport.close()


async def test_the_caller_is_an_application_user(sandbox: Sandbox, definitions: Definitions) -> None:
    user = sandbox.tables.app_user
    assert await definitions.who_am_i() == user.id
    assert await definitions.user(user.id) == User(True, user["applicationid"])


async def test_of_a_privilege_held_twice_the_widest_depth_counts(sandbox: Sandbox, definitions: Definitions) -> None:
    depths = [{"PrivilegeName": "prvReadUser", "Depth": depth} for depth in ("Local", "Deep", "Basic", "New")]
    sandbox.faults.order(Fault("dataverse", path="Privileges", status=200, body={"RolePrivileges": depths}))
    assert await definitions.privileges(sandbox.tables.app_user.id) == {"prvReadUser": "Deep"}


async def test_a_column_is_told_with_its_type_and_length(sandbox: Sandbox, definitions: Definitions) -> None:
    sandbox.tables.add_column("bookableresourcebooking", Made("contoso_notes", "memo", max_length=2000))
    assert await definitions.column(COLUMN) == Column("String", LENGTH)
    assert await definitions.column("contoso_notes") == Column("Memo", 2000)
    assert await definitions.column("duration") == Column("Integer", None)
    assert await definitions.column("contoso_nothing") is None


async def test_a_secured_column_is_told_with_what_the_user_may_do_with_it(
    sandbox: Sandbox, definitions: Definitions
) -> None:
    sandbox.dataverse_switches.secured_columns = {COLUMN}
    column = await definitions.column(COLUMN)
    assert column is not None
    assert column.secured_as is not None
    user = sandbox.tables.app_user.id
    assert await definitions.rights(user, column.secured_as) == {"read", "update"}
    sandbox.dataverse_switches.column_rights = {"read"}
    assert await definitions.rights(user, column.secured_as) == {"read"}
    sandbox.dataverse_switches.column_rights = set()
    assert await definitions.rights(user, column.secured_as) == set()


async def test_a_column_that_was_just_made_is_seen(definitions: Definitions) -> None:
    await definitions.create_column("contoso_otherid", None, 1033)
    assert await definitions.column("contoso_otherid") == Column("String", LENGTH)
    with pytest.raises(Refused):
        await definitions.create_column("contoso_otherid", None, 1033)


async def test_a_creation_is_not_repeated(sandbox: Sandbox, definitions: Definitions) -> None:
    sandbox.faults.order(Fault("dataverse", method="POST", status=503, times=None))
    with pytest.raises(Transient):
        await definitions.create_column("contoso_otherid", None, 1033)
    assert sandbox.calls.writes("dataverse") == 1


@pytest.mark.parametrize("enabled", [True, False])
async def test_the_table_says_whether_writes_can_be_guarded(
    sandbox: Sandbox, definitions: Definitions, enabled: bool
) -> None:
    sandbox.dataverse_switches.optimistic_concurrency = enabled
    assert await definitions.has_optimistic_concurrency() is enabled


async def test_another_shape_is_malformed(sandbox: Sandbox, definitions: Definitions) -> None:
    sandbox.faults.order(Fault("dataverse", status=200, body=[]))
    with pytest.raises(Malformed):
        await definitions.who_am_i()


@pytest.mark.parametrize(
    ("column", "is_fit"),
    [
        (Column("String", LENGTH), True),
        (Column("String", LENGTH - 1), False),
        (Column("Memo", 4000), True),
        (Column("Lookup", None), False),
    ],
)
def test_event_ids_take_a_text_that_is_long_enough(column: Column, is_fit: bool) -> None:
    assert (why_unfit(column) is None) is is_fit
