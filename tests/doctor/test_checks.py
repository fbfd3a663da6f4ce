"""What each check makes of what it sees, in memory; a dozen whole examinations over HTTP are in test_examining.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from sync.dataverse.definitions import Column, User
from sync.doctor import checks, service_checks, storage_checks
from sync.doctor.checks import SLOW, judge_handshake
from sync.doctor.findings import Finding, Instruments, State
from sync.doctor.probes import Answer
from sync.doctor.service_checks import TO_READ, TO_WRITE
from sync.errors import AccessDenied, MailboxUnavailable, Misconfigured, Refused, SyncError, Transient
from sync.model import Event, Subscription
from sync.subscriptions.outages import LastRun, Trouble
from sync.subscriptions.planning import Plan
from tests.world.fakes import ANNA, BEN, NOW, span

CLEO = "33333333-3333-4333-8333-333333333333"
OUTSIDE = "44444444-4444-4444-8444-444444444444"
PRIVILEGES = dict.fromkeys((*TO_READ, *TO_WRITE), "Global")
DAY = timedelta(days=1)
LINKED = SimpleNamespace(event_id="E1")
CARRIES_IT = Event("E1", "1", span(9), booking_id="b1")
CARRIES_NOTHING = Event("E1", "1", span(9))


def subscription(mailbox: str, expires: timedelta = 5 * DAY) -> tuple[str, Subscription]:
    return mailbox, Subscription(f"s{mailbox[:4]}", mailbox, frozenset(), "https://x", "https://x", NOW + expires)


BOTH = (subscription(ANNA), subscription(BEN))
REFUSES = Trouble(BEN, "403", NOW, 1, NOW + DAY)
WELL: dict[str, Any] = {
    "who_am_i": "u1",
    "user": User(is_enabled=True, application_id="a1"),
    "privileges": PRIVILEGES,
    "has_optimistic_concurrency": True,
    "column": Column("String", 1024),
    "rights": frozenset(),
    "knows_event_id_column": True,
    "knows_names": True,
    "canceled_status": "Canceled",
    "mailboxes": [ANNA, BEN],
    "of_mailbox": [LINKED],
    "check_access": lambda mailbox: AccessDenied("403") if mailbox == OUTSIDE else None,
    "read": CARRIES_IT,
    "plan": Plan(keep=BOTH),
    "last_run": LastRun(NOW, 7 * DAY),
    "backlog": None,
    "probe": None,
}
"""What each method of the clients answers: a value, an error to raise, or a function of the arguments."""


def instruments(pilot: tuple[str, ...] = (), outside: str | None = OUTSIDE, **answers: Any) -> Instruments:
    """Where all is well, but for *answers*."""
    client = SimpleNamespace()
    for name, answer in (WELL | answers).items():
        setattr(client, name, answering(answer))
    client.resources = client.statuses = client
    settings = SimpleNamespace(
        mailboxes=frozenset(pilot),
        event_id_column="contoso_id",
        extension_name="com.contoso",
        extension_property="booking",
        keys=("k1",),
        notification_url=SimpleNamespace(get_secret_value=lambda: "https://x"),
    )
    clients: dict[str, Any] = dict.fromkeys(
        ("events", "bookings", "definitions", "queues", "memory", "ownership"), client
    )
    nothing: Any = None
    return Instruments(
        settings=settings,  # type: ignore[arg-type]
        deployment=nothing,
        to_graph=nothing,
        plan=client.plan,
        now=lambda: NOW,
        outside=outside,
        **clients,
    )


def answering(answer: Any) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any) -> Any:
        told = answer(*arguments) if callable(answer) else answer
        if isinstance(told, BaseException):
            raise told
        return told

    return call


Look = Callable[[Instruments], Awaitable[Finding]]
OK, WARNING, FAILED, SKIPPED = State.OK, State.WARNING, State.FAILED, State.SKIPPED
REFUSED = Refused("403")


@pytest.mark.parametrize(
    "look",
    [
        *(service_checks.graph_token, service_checks.dataverse_token, service_checks.dataverse_user),
        *(service_checks.may_read, service_checks.may_write, service_checks.optimistic_concurrency),
        *(service_checks.event_id_column, service_checks.published, service_checks.names, service_checks.canceled),
        *(checks.mailboxes, checks.calendars, checks.extension, checks.scope, checks.subscriptions),
        *(storage_checks.storage_account, storage_checks.queues, storage_checks.table),
    ],
    ids=lambda look: look.__name__,
)
async def test_all_is_well_where_nothing_is_wrong(look: Look) -> None:
    assert (await look(instruments())).state is OK


TO_BE_REPLACED = replace(Plan(keep=BOTH[:1]), replace=BOTH[1:])
FINDINGS = [
    (service_checks.graph_token, {"check_access": REFUSED}, OK, "takes it"),
    (service_checks.dataverse_token, {"who_am_i": REFUSED}, OK, "takes it"),
    (service_checks.dataverse_user, {"user": User(False, "a1")}, FAILED, "is disabled"),
    (service_checks.dataverse_user, {"user": User(True, None)}, WARNING, "is a person"),
    (service_checks.dataverse_user, {"user": REFUSED}, OK, "cannot be read"),
    (service_checks.may_read, {"privileges": {}}, FAILED, "no role"),
    (service_checks.may_write, {"privileges": {}}, SKIPPED, "needs may read"),
    (service_checks.may_read, {"privileges": REFUSED}, WARNING, "cannot be seen"),
    *(
        (look, {"privileges": {name: depth for name, depth in PRIVILEGES.items() if name != each}}, FAILED, each)
        for look, wanted in ((service_checks.may_read, TO_READ), (service_checks.may_write, TO_WRITE))
        for each in wanted
    ),
    (service_checks.may_write, {"privileges": PRIVILEGES | {TO_WRITE[0]: "Local"}}, WARNING, f"{TO_WRITE[0]} (Local)"),
    (service_checks.optimistic_concurrency, {"has_optimistic_concurrency": False}, FAILED, "do not have it"),
    (service_checks.optimistic_concurrency, {"has_optimistic_concurrency": REFUSED}, WARNING, "cannot be seen"),
    (service_checks.event_id_column, {"column": None}, FAILED, "no column contoso_id"),
    (service_checks.event_id_column, {"column": Column("String", 450)}, FAILED, "450 characters only"),
    (service_checks.event_id_column, {"column": Column("Integer", None)}, FAILED, "of type Integer"),
    (service_checks.event_id_column, {"column": REFUSED}, WARNING, "cannot be seen"),
    *(
        (service_checks.event_id_column, {"column": Column("String", 1024, "c1"), "rights": rights}, state, seen)
        for rights, state, seen in [
            (frozenset({"read", "update"}), OK, "open to the caller"),
            (frozenset({"read"}), FAILED, "do not let the caller update it"),
            (frozenset({"update"}), FAILED, "do not let the caller read it"),
            (frozenset(), FAILED, "do not let the caller read and update it"),
            (REFUSED, WARNING, "may read and update it cannot be seen"),
        ]
    ),
    (service_checks.published, {"knows_event_id_column": False}, FAILED, "do not know contoso_id"),
    (service_checks.names, {"knows_names": False}, FAILED, "called otherwise"),
    (checks.mailboxes, {"mailboxes": []}, FAILED, "nobody"),
    (checks.mailboxes, {"pilot": (CLEO,)}, FAILED, "nobody"),
    (checks.mailboxes, {"pilot": (ANNA, CLEO)}, WARNING, CLEO),
    (checks.calendars, {"check_access": AccessDenied("403 X")}, FAILED, "none of 2 tried can be read; "),
    (checks.calendars, {"check_access": lambda m: AccessDenied("403") if m == ANNA else None}, WARNING, "1 of 2"),
    (checks.extension, {"of_mailbox": []}, SKIPPED, "no event of a booking"),
    (checks.extension, {"read": CARRIES_NOTHING}, WARNING, "none of 2 events of bookings carries com.contoso, booking"),
    (checks.extension, {"read": REFUSED}, SKIPPED, "no event of a booking"),
    (checks.scope, {"outside": None}, SKIPPED, "--outside"),
    (checks.scope, {"check_access": None}, FAILED, "can be read"),
    (checks.scope, {"check_access": MailboxUnavailable("404")}, WARNING, "proves nothing"),
    (checks.subscriptions, {"plan": REFUSED}, FAILED, "may not be listed"),
    (checks.subscriptions, {"plan": Plan(create=(ANNA, BEN))}, FAILED, "0 of 2 wanted"),
    (checks.subscriptions, {"plan": Plan(create=(BEN,), keep=BOTH[:1])}, FAILED, "1 of 2 wanted"),
    (checks.subscriptions, {"plan": Plan(create=(BEN,)), "last_run": None}, WARNING, "not looked after them yet"),
    (checks.subscriptions, {"plan": Plan(keep=BOTH, other_key="2 of 2 have another key")}, OK, "2 of 2 wanted"),
    (checks.subscriptions, {"plan": Plan(replace=BOTH, other_key="they have another key")}, FAILED, "another key"),
    (
        checks.subscriptions,
        {"plan": Plan(keep=BOTH[:1], wait=(REFUSES,), troubles={BEN: REFUSES})},
        WARNING,
        "1 of 2 wanted are subscribed; refused: 1",
    ),
    (checks.subscriptions, {"plan": Plan(keep=BOTH, refusal="2 of 4 are not wanted")}, WARNING, "2 of 4 are not"),
    (checks.subscriptions, {"plan": TO_BE_REPLACED}, WARNING, "2 of 2 wanted are subscribed; to be replaced: 1"),
    (checks.subscriptions, {"plan": Plan(keep=(subscription(ANNA, DAY / 4),))}, WARNING, "the first expires"),
    (
        storage_checks.storage_account,
        {"backlog": Transient("503 a"), "last_run": Transient("503 b")},
        FAILED,
        "503 a; 503 b",
    ),
    (storage_checks.storage_account, {"backlog": Transient("503")}, OK, "there"),
]


@pytest.mark.parametrize(("look", "answers", "state", "seen"), FINDINGS)
async def test_what_is_wrong_is_seen(look: Look, answers: dict[str, Any], state: State, seen: str) -> None:
    finding = await look(instruments(**answers))
    assert finding.state is state
    assert seen in finding.seen


@pytest.mark.parametrize(
    ("look", "answers"),
    [
        (service_checks.graph_token, {"check_access": Transient("no answer")}),
        (service_checks.dataverse_token, {"who_am_i": Transient("dataverse 503")}),
        (service_checks.dataverse_user, {"who_am_i": REFUSED}),
        (service_checks.canceled, {"canceled_status": Misconfigured("two statuses mean Canceled")}),
        (checks.mailboxes, {"mailboxes": REFUSED}),
        (storage_checks.queues, {"probe": Transient("queue: ServiceRequestError")}),
        (storage_checks.table, {"probe": Transient("table: ServiceRequestError")}),
    ],
)
async def test_what_a_check_cannot_judge_is_raised(look: Look, answers: dict[str, Any]) -> None:
    [error] = answers.values()
    with pytest.raises(SyncError) as caught:
        await look(instruments(**answers))
    assert caught.value is error


@pytest.mark.parametrize("readable", [1, 4, 20])
async def test_mailboxes_are_tried_until_one_can_be_read(readable: int) -> None:
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(30)]
    tried: list[str] = []

    def access(mailbox: str) -> SyncError | None:
        tried.append(mailbox)
        return None if mailbox == mailboxes[readable - 1] else MailboxUnavailable("404")

    finding = await checks.calendars(instruments(mailboxes=mailboxes, check_access=access))
    assert finding.state is WARNING
    assert len(tried) == max(3, readable)


async def test_of_a_large_tenant_no_more_than_twenty_are_tried() -> None:
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(30)]
    finding = await checks.calendars(instruments(mailboxes=mailboxes, check_access=MailboxUnavailable("404")))
    assert finding.seen.startswith("none of 20 tried can be read")


@pytest.mark.parametrize(
    ("answer", "state", "seen"),
    [
        (Answer(200, "text/plain", b"t", SLOW - 0.1), OK, "echoed in 2.9 s"),
        (Answer(200, "text/plain", b"t", SLOW + 0.1), WARNING, "three seconds"),
        (Answer(200, "text/html", b"t", 0.1), FAILED, "text/html"),
        (Answer(200, "", b"t", 0.1), FAILED, "as nothing"),
        (Answer(200, "text/plain", b"%74", 0.1), FAILED, "did not echo"),
        (Answer(401, "", b"", 0.1), FAILED, "401"),
        (Answer(403, "", b"", 0.1), FAILED, "403"),
        (Answer(404, "", b"", 0.1), FAILED, "404"),
        (Answer(500, "", b"", 0.1), FAILED, "500"),
    ],
)
def test_a_handshake_is_judged_as_graph_does(answer: Answer, state: State, seen: str) -> None:
    finding = judge_handshake(answer, "t")
    assert finding.state is state
    assert seen in finding.seen
