"""One thing is wrong at a time, and the doctor names that one and only that one, with its cure.

Everybody is subscribed before, as in a deployment that has worked until now.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.identity.aio
import pytest
from aiohttp import web
from azure.core.exceptions import ClientAuthenticationError
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient
from typer.testing import CliRunner, Result

from sandbox.dataverse import errors as dataverse_errors
from sandbox.dataverse.columns import Column
from sandbox.faults import Fault
from sandbox.graph import errors as graph_errors
from sandbox.graph.mailboxes import Mailbox, MailboxState
from sandbox.server import Sandbox
from sandbox.world.people import Technician
from sync.doctor.examining import CHECKS, SETTINGS
from sync.doctor.findings import State
from sync.doctor.service_checks import TO_READ, TO_WRITE
from sync.operate.commands import cli
from tests.world.environment import Environment
from tests.world.waits import leave_out_waits

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "the-key-of-all-client-states-0123456789"
CODE = "the-function-key"
COLUMN = "contoso_outlookeventid"
BOOKING = "bookableresourcebooking"
NOBODY = "33333333-3333-4333-8333-333333333333"
NOWHERE = "http://127.0.0.1:9"
PRIVILEGE_MISSING = dataverse_errors.error(403, "0x80040220", "Principal user is missing a privilege.")
NAMES = [SETTINGS, *(check.name for check in CHECKS)]


@dataclass
class Hospital:
    """A deployment that is well, until a test breaks something."""

    sandbox: Sandbox
    storage: str
    environment: Environment
    monkeypatch: pytest.MonkeyPatch
    outside: Mailbox
    reply: Callable[[web.Request], web.Response] = field(
        default=lambda request: web.Response(text=request.query.get("validationToken", ""))
    )
    """The app's answer to a handshake."""

    @property
    def ana(self) -> Technician:
        return self.sandbox.people.technicians[0]

    @property
    def column(self) -> Column:
        return self.sandbox.tables.schema[BOOKING].columns[COLUMN]

    def set(self, **settings: str) -> None:
        self.environment.set(**settings)

    def move_storage(self, *services: str) -> None:
        """To where nobody answers: the Queue endpoint, the Table endpoint, or both."""
        moved = self.storage
        for service in services:
            moved = re.sub(rf"{service}Endpoint=[^;]+", f"{service}Endpoint={NOWHERE}/x", moved)
        self.set(AzureWebJobsStorage=moved)

    def books(self) -> None:
        """Ana, tomorrow; the booking is linked to its event."""
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        booking, event = self.sandbox.people.dispatcher.book(self.ana, start, start + timedelta(hours=1))
        self.sandbox.tables.update(booking, {COLUMN: event.immutable_id})

    async def types(self, command: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, command.split())

    async def examine(self, options: str | None = None) -> tuple[int, dict[str, Any]]:
        """The exit status, and the result of each check by its name."""
        options = f"--outside {self.outside.id}" if options is None else options
        result = await self.types(f"doctor --json {options}")
        checks = json.loads(result.stdout)["checks"]
        assert [check["check"] for check in checks] == NAMES
        for secret in (KEY, CODE):
            assert secret not in result.output
        return result.exit_code, {check["check"]: check for check in checks}


@pytest.fixture
async def hospital(storage: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hospital]:
    leave_out_waits(monkeypatch)
    patients: list[Hospital] = []

    async def answer(request: web.Request) -> web.Response:
        return patients[0].reply(request)

    app = web.Application()
    app.router.add_post("/api/notifications", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Sandbox(seed=3, time_scale=0.001) as sandbox:
        with Environment() as environment:
            for name in ("Ana", "Ben"):
                sandbox.people.hire(name)
            sandbox.graph_switches.application_readable = True
            sandbox.graph_switches.secrets_end = [datetime.now(UTC) + timedelta(days=200)]
            hospital = Hospital(sandbox, storage, environment, monkeypatch, sandbox.mailboxes.add(state="denied"))
            patients.append(hospital)
            hospital.set(
                **sandbox.settings,
                AzureWebJobsStorage=storage,
                CLIENT_STATE_KEY=KEY,
                NOTIFICATION_URL=f"http://127.0.0.1:{runner.addresses[0][1]}/api/notifications?code={CODE}",
            )
            assert (await hospital.types("subscriptions apply")).exit_code == 0
            yield hospital
    await runner.cleanup()


def named(checks: dict[str, Any]) -> dict[str, str]:
    """What is not well by itself."""
    return {name: check["state"] for name, check in checks.items() if check["state"] in (State.FAILED, State.WARNING)}


async def test_all_is_green_where_nothing_is_wrong(hospital: Hospital) -> None:
    hospital.books()
    hospital.sandbox.calls.clear()
    status, checks = await hospital.examine()
    assert {name: check["state"] for name, check in checks.items()} == dict.fromkeys(NAMES, "ok")
    assert {check["cure"] for check in checks.values()} == {None}
    assert status == 0
    assert not [call for call in hospital.sandbox.calls if call.is_write]


async def test_probes_leave_nothing_in_storage(hospital: Hospital) -> None:
    def stored() -> tuple[list[Any], list[Any]]:
        with (
            QueueServiceClient.from_connection_string(hospital.storage) as queues,
            TableServiceClient.from_connection_string(hospital.storage) as tables,
        ):
            rows = [
                dict(row) for each in tables.list_tables() for row in tables.get_table_client(each.name).list_entities()
            ]
            return [queue.name for queue in queues.list_queues()], rows

    before = stored()
    for _ in range(2):
        assert (await hospital.examine())[0] == 0
    assert stored() == before


# --- one thing is wrong ---


def without(*privileges: str) -> Callable[[Hospital], None]:
    return lambda hospital: hospital.sandbox.dataverse_switches.missing_privileges.update(privileges)


def replies(reply: Callable[[web.Request], web.Response]) -> Callable[[Hospital], None]:
    return lambda hospital: setattr(hospital, "reply", reply)


def switched(service: str, name: str, value: object) -> Callable[[Hospital], None]:
    return lambda hospital: setattr(getattr(hospital.sandbox, f"{service}_switches"), name, value)


def faulty(service: str, status: int | None, path: str | None = None, body: Any = None) -> Callable[[Hospital], object]:
    fault = Fault(service, status=status, path=path, body=body, times=None)  # type: ignore[arg-type]
    return lambda hospital: hospital.sandbox.faults.order(fault)


def refuses_tokens(service: str) -> Callable[[Hospital], object]:
    return faulty(service, 401, body={"error": {"code": "InvalidAuthenticationToken", "message": "…"}})


def gives_no_token(service: str) -> Callable[[Hospital], None]:
    """The service is taken for a real one, for which this machine has no identity."""

    class Nobody:
        async def get_token(self, *scopes: str, **options: Any) -> Any:
            raise ClientAuthenticationError("nobody is signed in")

        async def close(self) -> None: ...

    def break_it(hospital: Hospital) -> None:
        hospital.monkeypatch.setattr(azure.identity.aio, "DefaultAzureCredential", Nobody)
        hospital.set(**{f"{service.upper()}_URL": f"https://127.0.0.1:9{'/v1.0' if service == 'graph' else ''}"})

    return break_it


def deny(mailboxes: slice) -> Callable[[Hospital], None]:
    def break_it(hospital: Hospital) -> None:
        for technician in hospital.sandbox.people.technicians[mailboxes]:
            technician.mailbox.state = "denied"

    return break_it


def column(**changes: Any) -> Callable[[Hospital], None]:
    return lambda hospital: vars(hospital.column).update(changes)


def no_column(hospital: Hospital) -> None:
    del hospital.sandbox.tables.schema[BOOKING].columns[COLUMN]


def secured(*rights: str) -> Callable[[Hospital], None]:
    def break_it(hospital: Hospital) -> None:
        hospital.sandbox.dataverse_switches.secured_columns = {COLUMN}
        hospital.sandbox.dataverse_switches.column_rights = set(rights)

    return break_it


def rename_navigation(hospital: Hospital) -> None:
    [lookup] = [each for each in hospital.sandbox.tables.schema[BOOKING].lookups() if each.name == "resource"]
    lookup.navigation = "resource"


def disable_all(hospital: Hospital) -> None:
    for technician in hospital.sandbox.people:
        hospital.sandbox.tables.update(technician.user, {"isdisabled": True})


def expire(subscriptions: slice) -> Callable[[Hospital], None]:
    def break_it(hospital: Hospital) -> None:
        for each in list(hospital.sandbox.subscriptions)[subscriptions]:
            each.expiration = datetime.now(UTC) - timedelta(minutes=1)

    return break_it


def listing_refused(hospital: Hospital) -> None:
    hospital.sandbox.faults.order(graph_errors.ACCESS_DENIED.fault(method="GET", path="subscriptions", times=None))


FAILURES = [
    pytest.param(lambda h: h.set(DATAVERSE_URL=""), SETTINGS, "DATAVERSE_URL is missing", id="a missing setting"),
    pytest.param(lambda h: h.set(CLIENT_STATE_KEY="short"), SETTINGS, "CLIENT_STATE_KEY", id="an unreadable setting"),
    pytest.param(lambda h: h.set(AzureWebJobsStorage="x"), SETTINGS, "AzureWebJobsStorage", id="no connection string"),
    pytest.param(refuses_tokens("graph"), "graph token", "401", id="Graph refuses the token"),
    pytest.param(gives_no_token("graph"), "graph token", "no token for Graph", id="there is no token for Graph"),
    pytest.param(faulty("graph", None), "graph token", "no answer", id="Graph does not answer"),
    pytest.param(refuses_tokens("dataverse"), "dataverse token", "401", id="Dataverse refuses the token"),
    pytest.param(gives_no_token("dataverse"), "dataverse token", "no token", id="there is no token for Dataverse"),
    pytest.param(faulty("dataverse", 503), "dataverse token", "503", id="Dataverse is down"),
    pytest.param(
        switched("dataverse", "not_a_member", True), "dataverse user", "0x80072560", id="there is no application user"
    ),
    pytest.param(
        lambda h: h.sandbox.tables.update(h.sandbox.tables.app_user, {"isdisabled": True}),
        "dataverse user",
        "is disabled",
        id="the application user is disabled",
    ),
    pytest.param(without(*TO_READ, *TO_WRITE), "may read", "no role", id="the application user has no role"),
    *(pytest.param(without(each), "may read", f"missing {each}", id=each) for each in TO_READ),
    *(pytest.param(without(each), "may write", f"missing {each}", id=each) for each in TO_WRITE),
    pytest.param(
        switched("dataverse", "optimistic_concurrency", False),
        "optimistic concurrency",
        "do not have it",
        id="no etags",
    ),
    pytest.param(no_column, "event-id column", f"no column {COLUMN}", id="there is no column"),
    pytest.param(column(max_length=450), "event-id column", "450 characters only", id="the column is too short"),
    pytest.param(column(kind="integer"), "event-id column", "of type Integer", id="the column is of another type"),
    pytest.param(column(published=False), "column published", f"do not know {COLUMN}", id="it is not published"),
    *(
        pytest.param(secured(*rights), "event-id column", f"do not let the caller {missing} it", id=f"not to {missing}")
        for rights, missing in ((("read",), "update"), (("update",), "read"), ((), "read and update"))
    ),
    pytest.param(rename_navigation, "names", "called otherwise", id="a navigation property is spelt otherwise"),
    pytest.param(
        lambda h: h.sandbox.tables.add_status("Called off", 3, 690970005),
        "canceled status",
        "Called off",
        id="two statuses mean Canceled",
    ),
    pytest.param(
        lambda h: h.sandbox.tables.update(h.sandbox.tables.status("Canceled"), {"statecode": 1}),
        "canceled status",
        "none",
        id="no active status means Canceled",
    ),
    pytest.param(
        lambda h: h.set(CANCELED_STATUS_ID=NOBODY),
        "canceled status",
        "names no active",
        id="the chosen one is not there",
    ),
    pytest.param(
        lambda h: h.set(CANCELED_STATUS_ID=h.sandbox.tables.status("Completed").id),
        "canceled status",
        "Completed, which does not mean Canceled",
        id="the chosen one means something else",
    ),
    pytest.param(disable_all, "mailboxes", "nobody", id="nobody is to be synchronized"),
    pytest.param(lambda h: h.set(MAILBOXES=NOBODY), "mailboxes", "nobody", id="the pilot has no member"),
    pytest.param(
        switched("graph", "calendars_read", False), "calendars", "403 ErrorAccessDenied", id="no Calendars.Read"
    ),
    pytest.param(deny(slice(None)), "calendars", "403 ErrorAccessDenied", id="nobody is within the access policy"),
    pytest.param(
        lambda h: setattr(h.outside, "state", "ok"), "scope", "can be read", id="the app reads more than it should"
    ),
    pytest.param(listing_refused, "subscriptions", "403", id="subscriptions may not be listed"),
    pytest.param(expire(slice(None)), "subscriptions", "0 of 2 wanted", id="all subscriptions are dead"),
    pytest.param(expire(slice(1)), "subscriptions", "1 of 2 wanted", id="one subscription is dead"),
    pytest.param(
        lambda h: h.set(CLIENT_STATE_KEY="another-key-of-all-client-states-01234"),
        "subscriptions",
        "2 of 2 subscriptions at this NOTIFICATION_URL have another CLIENT_STATE_KEY",
        id="not the key of the app",
    ),
    pytest.param(
        lambda h: h.set(AzureWebJobsStorage=re.sub("AccountKey=[^;]+", "AccountKey=bm90LXRoZS1rZXk=", h.storage)),
        "storage account",
        "was it rotated",
        id="a wrong account key",
    ),
    pytest.param(
        lambda h: h.move_storage("Queue", "Table"), "storage account", "ServiceRequestError", id="no storage account"
    ),
    pytest.param(lambda h: h.move_storage("Queue"), "queues", "queue: ServiceRequestError", id="no queues"),
    pytest.param(lambda h: h.move_storage("Table"), "table", "table roster: ServiceRequestError", id="no tables"),
    pytest.param(
        switched("graph", "secrets_end", [datetime.now(UTC) - timedelta(days=days) for days in (40, 2)]),
        "secrets",
        "the last of 2 ended",
        id="all secrets have ended",
    ),
    pytest.param(replies(lambda request: web.Response(status=401)), "notification URL", "401", id="a wrong key"),
    pytest.param(
        lambda h: h.set(NOTIFICATION_URL=os.environ["NOTIFICATION_URL"].replace("/api/", "/apy/")),
        "notification URL",
        "404",
        id="a wrong path",
    ),
    pytest.param(
        lambda h: h.set(NOTIFICATION_URL=f"{NOWHERE}/api/notifications?code={CODE}"),
        "notification URL",
        "no answer (ConnectError)",
        id="nobody is there",
    ),
    pytest.param(
        replies(lambda request: web.Response(text=request.rel_url.raw_query_string)),
        "notification URL",
        "did not echo",
        id="the token does not come back decoded",
    ),
    pytest.param(
        replies(lambda request: web.Response(text=request.query["validationToken"], content_type="text/html")),
        "notification URL",
        "text/html",
        id="the token comes back as HTML",
    ),
]


QUICK = {
    *("a missing setting", "there is no token for Graph", "Dataverse is down", "there is no application user"),
    *("there is no column", "no etags", "nobody is within the access policy", "all subscriptions are dead"),
    *("not the key of the app", "no queues", "no tables", "all secrets have ended", "nobody is there"),
}
"""Whole examinations of the quick form. What each check makes of all that may be wrong is in test_checks.py."""


def some(cases: list[Any]) -> list[Any]:
    """All *cases*, those that are not QUICK as exhaustive ones."""
    return [
        case if case.id in QUICK else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in cases
    ]


@pytest.mark.parametrize(("break_it", "name", "seen"), some(FAILURES))
async def test_what_is_wrong_is_named_and_nothing_else(
    hospital: Hospital, break_it: Callable[[Hospital], object], name: str, seen: str
) -> None:
    break_it(hospital)
    status, checks = await hospital.examine()
    assert named(checks) == {name: "failed"}
    assert seen in checks[name]["seen"]
    assert checks[name]["cure"]
    assert status == 1


@pytest.mark.parametrize(
    ("break_it", "name", "seen"),
    [
        pytest.param(
            lambda h: h.sandbox.tables.update(h.sandbox.tables.app_user, {"applicationid": None}),
            "dataverse user",
            "is a person",
            id="a person is signed in",
        ),
        pytest.param(
            lambda h: h.set(MAILBOXES=f"{h.ana.mailbox.id},{NOBODY}"), "mailboxes", NOBODY, id="a stranger in the pilot"
        ),
        pytest.param(deny(slice(1)), "calendars", "1 of 2", id="one mailbox is out of reach"),
        pytest.param(
            lambda h: setattr(h.outside, "state", "invalid_user"), "scope", "proves nothing", id="nobody is outside"
        ),
        pytest.param(
            lambda h: h.sandbox.clock.move(timedelta(minutes=-3)),
            "clock",
            "Graph -180 s, Dataverse -180 s",
            id="a clock is wrong",
        ),
        pytest.param(
            switched("graph", "secrets_end", [datetime.now(UTC) + timedelta(days=7)]),
            "secrets",
            "of 1",
            id="a secret ends",
        ),
    ],
)
@pytest.mark.slow
async def test_what_may_be_meant_is_a_warning(
    hospital: Hospital, break_it: Callable[[Hospital], object], name: str, seen: str
) -> None:
    break_it(hospital)
    status, checks = await hospital.examine()
    assert named(checks) == {name: "warning"}
    assert seen in checks[name]["seen"].replace("-179", "-180").replace("-181", "-180")
    assert checks[name]["cure"]
    assert status == 0


@pytest.mark.parametrize(
    ("settings", "state", "seen"),
    [
        ({}, "ok", "carries it"),
        ({"EXTENSION_NAME": "com.contoso.other"}, "warning", "none of 1 events of bookings carries com.contoso.other"),
        ({"EXTENSION_PROPERTY": "other"}, "warning", "BookingSyncOpenExtension, other"),
    ],
)
@pytest.mark.slow
async def test_events_of_bookings_are_to_carry_the_extension(
    hospital: Hospital, settings: dict[str, str], state: str, seen: str
) -> None:
    hospital.books()
    hospital.set(**settings)
    status, checks = await hospital.examine()
    assert named(checks) == ({} if state == "ok" else {"extension": state})
    assert seen in checks["extension"]["seen"]
    assert status == 0


@pytest.mark.parametrize(
    ("break_it", "name", "cure"),
    [
        pytest.param(faulty("graph", 429), "graph token", "too many calls", id="Graph throttles"),
        pytest.param(faulty("dataverse", 429), "dataverse token", "too many calls", id="Dataverse throttles"),
        pytest.param(
            faulty("dataverse", 403, "bookingstatuses", PRIVILEGE_MISSING.body),
            "canceled status",
            "the role of the application user",
            id="statuses may not be read",
        ),
        pytest.param(
            lambda h: h.set(CANCELED_STATUS_ID=NOBODY), "canceled status", "CANCELED_STATUS_ID", id="no such status"
        ),
        pytest.param(listing_refused, "subscriptions", "Calendars.Read", id="subscriptions may not be listed"),
        pytest.param(faulty("graph", 503), "graph token", "Service health", id="Graph is down"),
        pytest.param(faulty("dataverse", 503), "dataverse token", "Service health", id="Dataverse is down"),
    ],
)
@pytest.mark.slow
async def test_the_cure_is_for_what_was_seen(
    hospital: Hospital, break_it: Callable[[Hospital], object], name: str, cure: str
) -> None:
    break_it(hospital)
    _, checks = await hospital.examine()
    assert named(checks) == {name: "failed"}
    assert cure in checks[name]["cure"]


@pytest.mark.parametrize("state", ["on_premises", "invalid_user"])
@pytest.mark.slow
async def test_mailboxes_are_tried_until_one_can_be_read(hospital: Hospital, state: MailboxState) -> None:
    for name in ("Cleo", "Dan", "Eve"):
        hospital.sandbox.people.hire(name)
    await hospital.types("subscriptions apply")
    first = sorted(hospital.sandbox.people, key=lambda technician: technician.mailbox.id)[:3]
    for technician in first:
        technician.mailbox.state = state
    _, checks = await hospital.examine()
    assert checks["calendars"]["state"] == "warning"
    assert "1 of 4 tried can be read" in checks["calendars"]["seen"]


@pytest.mark.slow
async def test_privileges_for_one_business_unit_are_a_warning(hospital: Hospital) -> None:
    hospital.sandbox.dataverse_switches.privilege_depth = "Local"
    status, checks = await hospital.examine()
    assert named(checks) == {"may read": "warning", "may write": "warning"}
    assert "prvReadUser (Local)" in checks["may read"]["seen"]
    assert status == 0


@pytest.mark.slow
async def test_who_may_not_write_may_still_read(hospital: Hospital) -> None:
    hospital.books()
    without(TO_WRITE[0])(hospital)
    _, checks = await hospital.examine()
    assert [name for name, check in checks.items() if check["state"] != "ok"] == ["may write"]


async def test_a_role_that_may_not_see_definitions_or_itself_is_no_failure(hospital: Hospital) -> None:
    hospital.sandbox.dataverse_switches.definitions_readable = False
    hospital.sandbox.faults.order(PRIVILEGE_MISSING.fault(path="RetrieveUserPrivileges", times=None))
    status, checks = await hospital.examine()
    assert named(checks) == dict.fromkeys(
        ("may read", "may write", "optimistic concurrency", "event-id column"), "warning"
    )
    assert checks["column published"]["state"] == "ok"
    assert status == 0


@pytest.mark.slow
async def test_a_secured_column_that_the_app_may_read_and_update_is_well(hospital: Hospital) -> None:
    secured("read", "update")(hospital)
    _, checks = await hospital.examine()
    assert named(checks) == {}
    assert "secured, and open to the caller" in checks["event-id column"]["seen"]


@pytest.mark.slow
async def test_rights_to_a_secured_column_that_cannot_be_seen_are_a_warning(hospital: Hospital) -> None:
    secured()(hospital)
    hospital.sandbox.faults.order(PRIVILEGE_MISSING.fault(path="RetrievePrincipalAttributePrivileges", times=None))
    status, checks = await hospital.examine()
    assert named(checks) == {"event-id column": "warning"}
    assert "may read and update it cannot be seen" in checks["event-id column"]["seen"]
    assert status == 0


@pytest.mark.slow
async def test_subscriptions_that_nobody_renews_are_a_warning(hospital: Hospital) -> None:
    for subscription in hospital.sandbox.subscriptions:
        subscription.expiration = datetime.now(UTC) + timedelta(hours=5)
    _, checks = await hospital.examine()
    assert named(checks) == {"subscriptions": "warning"}
    assert "2 of 2 wanted are subscribed, and the first expires" in checks["subscriptions"]["seen"]


async def test_nobody_is_subscribed_before_the_app_has_looked_after_it(hospital: Hospital) -> None:
    expire(slice(None))(hospital)
    with TableServiceClient.from_connection_string(hospital.storage) as tables:
        tables.delete_table("roster")
    status, checks = await hospital.examine()
    assert named(checks) == {"subscriptions": "warning"}
    assert "0 of 2 wanted are subscribed; the app has not looked after them yet" in checks["subscriptions"]["seen"]
    assert status == 0


@pytest.mark.slow
async def test_a_mailbox_that_refuses_its_subscription_is_a_warning(hospital: Hospital) -> None:
    hospital.sandbox.people.hire("Cleo").mailbox.state = "denied"
    await hospital.types("subscriptions apply")
    status, checks = await hospital.examine()
    assert named(checks) == {"calendars": "warning", "subscriptions": "warning"}
    assert checks["subscriptions"]["seen"] == "2 of 3 wanted are subscribed; refused: 1"
    assert status == 0


async def test_somebody_hired_since_is_missing_until_the_app_looks_after_them(hospital: Hospital) -> None:
    hospital.sandbox.people.hire("Cleo")
    assert "2 of 3 wanted" in (await hospital.examine())[1]["subscriptions"]["seen"]
    await hospital.types("subscriptions apply")
    assert named((await hospital.examine())[1]) == {}


@pytest.mark.slow
async def test_most_leave_and_a_person_is_to_say_so(hospital: Hospital) -> None:
    for name in ("Cleo", "Dan"):
        hospital.sandbox.people.hire(name)
    await hospital.types("subscriptions apply")
    for technician in hospital.sandbox.people.technicians[1:3]:
        hospital.sandbox.tables.update(technician.user, {"isdisabled": True})
    _, checks = await hospital.examine()
    assert named(checks) == {"subscriptions": "warning"}
    assert "2 of 4 mailboxes are not wanted any more" in checks["subscriptions"]["seen"]


@pytest.mark.slow
async def test_a_new_key_is_a_warning_while_the_former_one_is_valid(hospital: Hospital) -> None:
    hospital.set(CLIENT_STATE_KEY="another-key-of-all-client-states-01234", CLIENT_STATE_KEY_PREVIOUS=KEY)
    _, checks = await hospital.examine()
    assert named(checks) == {"subscriptions": "warning"}
    assert "2 of 2 wanted are subscribed; to be replaced: 2" in checks["subscriptions"]["seen"]


@pytest.mark.slow
async def test_an_expired_subscription_that_is_still_listed_is_not_looked_at(hospital: Hospital) -> None:
    hospital.sandbox.graph_switches.list_shows_expired = True
    expire(slice(None))(hospital)
    await hospital.types("subscriptions apply")
    assert named((await hospital.examine())[1]) == {}


async def test_what_depends_on_the_notification_url_is_not_named_beside_it(hospital: Hospital) -> None:
    hospital.set(NOTIFICATION_URL=os.environ["NOTIFICATION_URL"].replace(CODE, "another"))
    hospital.reply = lambda request: web.Response(status=401)
    _, checks = await hospital.examine()
    assert named(checks) == {"notification URL": "failed"}
    assert checks["subscriptions"]["seen"] == "needs notification URL"


async def test_what_a_person_may_do_in_graph_is_not_taken_for_what_the_app_may(hospital: Hospital) -> None:
    hospital.sandbox.tables.update(hospital.sandbox.tables.app_user, {"applicationid": None})
    hospital.sandbox.graph_switches.calendars_read = False
    listing_refused(hospital)
    status, checks = await hospital.examine()
    assert named(checks) == {"dataverse user": "warning"}
    assert status == 0
    assert checks["calendars"] == {
        "check": "calendars",
        "state": "skipped",
        "seen": "a person is signed in, not the app",
        "cure": None,
    }
    assert {checks[name]["state"] for name in ("scope", "subscriptions", "extension", "secrets")} == {"skipped"}


async def test_what_cannot_be_seen_or_was_not_asked_for_says_so(hospital: Hospital) -> None:
    hospital.sandbox.graph_switches.application_readable = False
    status, checks = await hospital.examine("")
    assert {name for name, check in checks.items() if check["state"] == "skipped"} == {"scope", "extension", "secrets"}
    assert "no event" in checks["extension"]["seen"]
    assert "--outside" in checks["scope"]["seen"]
    assert "cannot be seen" in checks["secrets"]["seen"]
    assert status == 0


async def test_what_depends_on_a_failure_says_on_which(hospital: Hospital) -> None:
    hospital.sandbox.dataverse_switches.not_a_member = True
    _, checks = await hospital.examine()
    skipped = {name: check["seen"] for name, check in checks.items() if check["state"] == "skipped"}
    assert skipped["may read"] == "needs dataverse user"
    assert skipped["mailboxes"] == "needs may read"
    assert skipped["scope"] == "needs calendars"
    assert checks["queues"]["state"] == checks["notification URL"]["state"] == "ok"


async def test_all_missing_settings_are_named_at_once(hospital: Hospital) -> None:
    hospital.set(CLIENT_STATE_KEY="", EVENT_ID_COLUMN="", NOTIFICATION_URL="")
    _, checks = await hospital.examine()
    assert all(name in checks[SETTINGS]["seen"] for name in ("CLIENT_STATE_KEY", "EVENT_ID_COLUMN", "NOTIFICATION_URL"))
    assert {check["state"] for name, check in checks.items() if name != SETTINGS} == {"skipped"}


async def test_two_failures_are_both_named(hospital: Hospital) -> None:
    without(TO_READ[0])(hospital)
    hospital.move_storage("Table")
    assert named((await hospital.examine())[1]) == {"may read": "failed", "table": "failed"}


async def test_the_app_is_asked_as_graph_asks(hospital: Hospital) -> None:
    asked: list[web.Request] = []

    def reply(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(text=request.query["validationToken"])

    hospital.reply = reply
    expire(slice(None))(hospital)
    await hospital.types("subscriptions apply")
    of_graph = list(asked)
    asked.clear()
    await hospital.examine()
    [of_doctor] = asked
    for each in (*of_graph, of_doctor):
        assert {name: value for name, value in each.query.items() if name != "validationToken"} == {
            name: value for name, value in of_graph[0].query.items() if name != "validationToken"
        }
        assert each.content_type == "text/plain"
    assert set("+ €") <= set(of_doctor.query["validationToken"])


def test_a_check_needs_only_what_stands_above_it() -> None:
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= {above.name for above in CHECKS[:place]}


def test_nothing_that_runs_in_azure_imports_the_doctor() -> None:
    runs = "function_app, sync.wiring, sync.messages.taking, sync.pairs.processing, sync.subscriptions.keeper"
    code = f"import sys, {runs}; print('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [name for name in found.split() if name.startswith(("sync.doctor", "sync.operate", "typer"))]


# --- what is shown ---


async def test_the_table_says_what_was_seen_and_the_lines_below_it_the_cures(hospital: Hospital) -> None:
    no_column(hospital)
    result = await hospital.types("doctor")
    lines = result.stdout.splitlines()
    [row] = [line for line in lines if line.startswith("event-id column")]
    assert re.split(r"\s{2,}", row.strip()) == ["event-id column", "failed", f"bookings have no column {COLUMN}"]
    assert "failed: event-id column: python -m sync setup" in lines
    assert lines[-1] == "checks: ok: 18, failed: 1, skipped: 4"
    assert result.exit_code == 1
    assert (CODE in result.output, "\x1b" in result.output) == (False, False)


async def test_the_command_runs_as_a_process(hospital: Hospital, tmp_path: Path) -> None:
    names = ("AzureWebJobsStorage", "CLIENT_STATE_KEY", "NOTIFICATION_URL", *hospital.sandbox.settings)
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": {name: os.environ[name] for name in names}}))
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "HOME")}
    for expected in (0, 1):
        process = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "sync", "doctor", "--json", "--outside", hospital.outside.id],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (process.returncode, process.stderr) == (expected, "")
        assert json.loads(process.stdout)["counts"].get("failed", 0) == expected
        hospital.sandbox.dataverse_switches.optimistic_concurrency = False
