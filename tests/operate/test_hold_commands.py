"""The commands that look after the ledger, as they are typed: against the simulated services and real storage."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence

import pytest
from azure.storage.queue import QueueServiceClient, TextBase64DecodePolicy

from sandbox.dataverse.tables import Row
from sandbox.faults import Fault
from sandbox.graph.mailboxes import Event
from sandbox.world.people import Technician
from sync import triggers
from sync.messages.changes import Change
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message
from sync.storage.breaker import EVERYBODY
from sync.wiring.app import App
from tests.world.fakes import evidence_of
from tests.world.operator import HOUR, MAILBOX, TOMORROW, Operator

AT_ONCE = 16
"""As many messages as the host gives a process at a time."""

Pair = tuple[Row, Event]


def linked(operator: Operator, technician: Technician, hours: int = 0) -> Pair:
    """A booking of tomorrow or later, and its event, which it is linked to."""
    start = TOMORROW + hours * HOUR
    booking, event = operator.sandbox.people.dispatcher.book(technician, start, start + HOUR)
    operator.sandbox.tables.link(booking, event.immutable_id)
    return booking, event


def is_canceled(operator: Operator, booking: Row) -> bool:
    return bool(booking["_bookingstatus_value"] == operator.sandbox.tables.status("Canceled").id)


def is_linked(operator: Operator, booking: Row) -> bool:
    return booking[operator.sandbox.tables.event_id_column or ""] is not None


async def told(operator: Operator, *events: Event, deleted: bool = False) -> None:
    """The app is told of these, and does what it does about them."""
    await work(
        operator,
        [build_change_message(Change(each.mailbox.id, each.immutable_id, evidence_of(deleted))) for each in events],
    )


async def work(operator: Operator, messages: Sequence[str] = ()) -> None:
    """The app works off *messages*, and what is to be seen on its queue."""
    messages = messages or taken(operator)
    app = App(os.environ)
    with triggers.serving(app):
        for place in range(0, len(messages), AT_ONCE):
            some = messages[place : place + AT_ONCE]
            await asyncio.gather(*(triggers.process_outlook_change(each.encode()) for each in some))
    await app.close()


def taken(operator: Operator) -> list[str]:
    with QueueServiceClient.from_connection_string(operator.storage) as service:
        if OUTLOOK_CHANGES not in [each.name for each in service.list_queues()]:
            return []
        queue = service.get_queue_client(OUTLOOK_CHANGES, message_decode_policy=TextBase64DecodePolicy())
        found = list(queue.receive_messages(messages_per_page=32))
        for message in found:
            queue.delete_message(message)
        return [message.content for message in found]


async def sweep(operator: Operator, technician: Technician) -> list[str]:
    """What a sweep of the mailbox queues."""
    app = App(os.environ)
    await app.sweeper.sweep(technician.mailbox.id)
    await app.close()
    return [message["event"] for message in operator.queued(OUTLOOK_CHANGES)]


@pytest.fixture
async def held(operator: Operator, ana: Technician) -> list[Pair]:
    """Three deleted events of Ana's, whose bookings may not be canceled without a word."""
    operator.environment.set(CANCELLATIONS_IN_ALL="0")
    pairs = [linked(operator, ana, hours) for hours in range(3)]
    await told(operator, *(event for _, event in pairs))
    for _, event in pairs:
        ana.delete(event)
    await told(operator, *(event for _, event in pairs), deleted=True)
    assert not any(is_canceled(operator, booking) for booking, _ in pairs)
    return pairs


@pytest.fixture
async def waiting(operator: Operator, ana: Technician) -> Pair:
    """Dora has moved a booking of Ana's, its event was not brought along, and Ana has edited it."""
    booking, event = linked(operator, ana, 9)
    await told(operator, event)
    operator.sandbox.people.dispatcher.reschedule(booking, HOUR)
    ana.edit(event)
    await told(operator, event)
    assert (booking["starttime"], event.start) == (TOMORROW + 10 * HOUR, TOMORROW + 9 * HOUR)
    return booking, event


# --- holds ---


async def test_what_is_held_is_listed_with_its_reason(operator: Operator, ana: Technician, held: list[Pair]) -> None:
    document = await operator.reads("holds")
    assert (document["held"], document["waiting"]) == (3, 0)
    [tripped] = document["breaker"]
    assert tripped["scope"] == EVERYBODY
    rows = {row["booking"]: row for row in document["holds"]}
    for booking, event in held:
        row = rows[booking.id]
        assert (row["id"], row["mailbox"], row["event"]) == (booking.id, ana.mailbox.id, event.immutable_id)
        assert (row["state"], row["if_released"]) == ("held", "canceled")
        assert row["reason"] == "too many bookings in all were to be canceled within an hour"


async def test_what_waits_for_outlook_is_listed_apart(operator: Operator, waiting: Pair) -> None:
    document = await operator.reads("holds")
    assert (document["held"], document["waiting"], document["breaker"]) == (0, 1, [])
    [row] = document["holds"]
    assert (row["id"], row["state"], row["if_released"]) == (waiting[0].id, "waiting", "moved")


async def test_the_table_says_the_same(operator: Operator, held: list[Pair]) -> None:
    text = (await operator.types("holds")).stdout
    for booking, _ in held:
        [line] = [line for line in text.splitlines() if line.startswith(booking.id)]
        assert "canceled" in line
        assert "too many bookings" in line
    assert "held: 3; waiting for Outlook: 0" in text
    assert "breaker: tripped for all at " in text
    assert "release --breaker all" in text


async def test_nothing_is_held_where_nothing_ever_was(operator: Operator) -> None:
    assert await operator.reads("holds") == {"breaker": [], "held": 0, "waiting": 0, "holds": []}


async def test_one_mailbox_is_listed_alone(operator: Operator, ana: Technician, held: list[Pair]) -> None:
    assert len((await operator.reads(f"holds --mailbox {ana.mailbox.id}"))["holds"]) == 3
    assert (await operator.reads(f"holds --mailbox {MAILBOX}"))["holds"] == []


# --- release and discard ---


@pytest.mark.parametrize(
    ("people", "each", "ceiling"), [(4, 10, 16), pytest.param(20, 25, 200, marks=pytest.mark.slow, id="500")]
)
async def test_many_deletions_at_once_cancel_no_more_until_a_person_says_so(
    operator: Operator, people: int, each: int, ceiling: int
) -> None:
    """Everybody's calendar is emptied, by a tool gone wrong."""
    operator.environment.set(CANCELLATIONS_IN_ALL=str(ceiling))
    crew = [operator.sandbox.people.hire(f"Person {number}") for number in range(people)]
    pairs = [linked(operator, technician, hours) for technician in crew for hours in range(each)]
    for place, (_, event) in enumerate(pairs):
        crew[place // each].delete(event)
    await told(operator, *(event for _, event in pairs), deleted=True)
    canceled = sum(is_canceled(operator, booking) for booking, _ in pairs)
    assert 0 < canceled <= ceiling

    document = await operator.reads("holds")
    assert document["held"] == len(pairs) - canceled
    assert [tripped["scope"] for tripped in document["breaker"]] == [EVERYBODY]
    assert await operator.reads("release --breaker all") == {"scope": EVERYBODY, "reset": True}
    assert (await operator.reads("holds"))["breaker"] == []
    await work(operator)
    assert sum(is_canceled(operator, booking) for booking, _ in pairs) == canceled, "the breaker alone releases nothing"

    first = document["holds"][0]["mailbox"]
    of_first = [row for row in document["holds"] if row["mailbox"] == first]
    assert len((await operator.reads(f"release --all --mailbox {first}"))["released"]) == len(of_first)
    await work(operator)
    assert sum(is_canceled(operator, booking) for booking, _ in pairs) == canceled + len(of_first)

    released = await operator.reads("release --all")
    assert len(released["released"]) == len(pairs) - canceled - len(of_first)
    assert {row["state"] for row in (await operator.reads("holds"))["holds"]} == {"released"}
    await work(operator)
    assert all(is_canceled(operator, booking) and not is_linked(operator, booking) for booking, _ in pairs)
    assert (await operator.reads("holds"))["holds"] == []


async def test_what_is_released_is_canceled_though_the_breaker_stays_tripped(
    operator: Operator, held: list[Pair]
) -> None:
    (first, _), (second, event), (third, _) = held
    document = await operator.reads(f"release {first.id} {event.immutable_id[-20:]}")
    assert [row["id"] for row in document["released"]] == [first.id, second.id]
    await work(operator)
    assert [is_canceled(operator, booking) for booking in (first, second, third)] == [True, True, False]
    assert len((await operator.reads("holds"))["breaker"]) == 1


async def test_what_is_discarded_stays_for_good(operator: Operator, ana: Technician, held: list[Pair]) -> None:
    assert len((await operator.reads("discard --all"))["discarded"]) == 3
    assert (await operator.reads("holds"))["holds"] == []
    await operator.reads("release --breaker all")
    operator.environment.set(CANCELLATIONS_IN_ALL="200")
    assert await sweep(operator, ana) == []
    await told(operator, *(event for _, event in held), deleted=True)
    assert not any(is_canceled(operator, booking) for booking, _ in held)
    assert (await operator.reads("holds"))["holds"] == []


async def test_an_event_that_is_restored_is_held_no_more(operator: Operator, ana: Technician, held: list[Pair]) -> None:
    (first, event), *_ = held
    ana.restore(event)
    await told(operator, event)
    assert first.id not in [row["booking"] for row in (await operator.reads("holds"))["holds"]]
    assert (is_canceled(operator, first), is_linked(operator, first)) == (False, True)


async def test_what_waits_for_outlook_takes_a_word_of_its_own(operator: Operator, waiting: Pair) -> None:
    booking, event = waiting
    for command in ("release --all", "discard --all"):
        assert next(iter((await operator.reads(command)).values())) == []
    assert len((await operator.reads(f"release {booking.id[:8]}"))["released"]) == 1
    await work(operator)
    assert booking["starttime"] == event.start == TOMORROW + 9 * HOUR
    assert (await operator.reads("holds"))["holds"] == []


async def test_an_id_that_is_not_held_or_fits_several_is_said(operator: Operator, held: list[Pair]) -> None:
    start = held[0][1].immutable_id[:8]
    assert all(event.immutable_id.startswith(start) for _, event in held)
    result = await operator.types(f"release {MAILBOX} {start} --json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"released": [], "refused": [], "missing": [MAILBOX], "ambiguous": [start]}
    assert operator.queued(OUTLOOK_CHANGES) == []
    text = (await operator.types(f"discard {MAILBOX} {start}")).stdout
    assert text.splitlines() == ["discarded: 0", f"not held: {MAILBOX}", f"fits several: {start}"]


async def test_a_breaker_that_has_not_tripped_is_not_reset(operator: Operator, ana: Technician) -> None:
    result = await operator.types(f"release --breaker {ana.mailbox.id.upper()}")
    assert (result.exit_code, result.stdout) == (1, f"{ana.mailbox.id}: the breaker has not tripped\n")


async def test_one_mailboxs_breaker_is_reset_by_its_id(operator: Operator, ana: Technician) -> None:
    operator.environment.set(CANCELLATIONS_PER_MAILBOX="1")
    pairs = [linked(operator, ana, hours) for hours in range(3)]
    for _, event in pairs:
        ana.delete(event)
        await told(operator, event, deleted=True)
        if event is pairs[0][1]:
            early = await operator.types(f"release --breaker {ana.mailbox.id}")
            assert early.exit_code == 1, "nor is what it counted forgotten before it has tripped"
    assert [is_canceled(operator, booking) for booking, _ in pairs] == [True, False, False]
    text = (await operator.types("holds")).stdout
    assert f"release --breaker {ana.mailbox.id}" in text
    assert (await operator.reads(f"release --breaker {ana.mailbox.id}"))["reset"] is True
    assert (await operator.reads("holds"))["breaker"] == []


async def test_storage_is_all_that_it_takes(operator: Operator, held: list[Pair]) -> None:
    for name in ("DATAVERSE_URL", "GRAPH_URL", "EVENT_ID_COLUMN", "NOTIFICATION_URL"):
        operator.environment.unset(name)
    assert len((await operator.reads("holds"))["holds"]) == 3
    assert len((await operator.reads(f"release {held[0][0].id}"))["released"]) == 1
    assert len((await operator.reads(f"discard {held[1][0].id}"))["discarded"]) == 1
    assert (await operator.reads("release --breaker all"))["reset"] is True
    assert len((await operator.reads(f"explain {held[0][0].id}"))["entries"]) == 1


@pytest.mark.parametrize(
    "command",
    [
        "release",
        "discard",
        "release --all abcdef",
        f"release abcdef --mailbox {MAILBOX}",
        f"discard abcdef --mailbox {MAILBOX}",
        "release --breaker everything",
        "release --breaker all --all",
        "release --breaker all abcdef",
        "holds --mailbox x",
        "explain",
    ],
)
async def test_a_command_line_that_cannot_be_meant_is_refused(operator: Operator, command: str) -> None:
    assert (await operator.types(command)).exit_code == 2


@pytest.mark.parametrize("command", ["holds", "release --all", "discard --all", "release --breaker all", "explain x"])
async def test_storage_that_cannot_be_reached_is_one_line(operator: Operator, command: str) -> None:
    parts = ("http", "AccountName=x", "AccountKey=eA==", "TableEndpoint=http://127.0.0.1:9/x")
    nowhere = ";".join((f"DefaultEndpointsProtocol={parts[0]}", *parts[1:], "QueueEndpoint=http://127.0.0.1:9/x"))
    operator.environment.set(AzureWebJobsStorage=nowhere)
    result = await operator.types(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: table ledger: ServiceRequestError\n"


# --- explain ---


async def test_why_a_booking_is_where_it_is(operator: Operator, ana: Technician, waiting: Pair) -> None:
    booking, event = waiting
    document = await operator.reads(f"explain {booking.id}")
    [entry] = document["entries"]
    assert (entry["mailbox"], entry["event"], entry["booking"]) == (ana.mailbox.id, event.immutable_id, booking.id)
    assert [each["start"] for each in entry["agreed"]] == [f"{TOMORROW + 9 * HOUR:%Y-%m-%dT%H:%M:%SZ}"]
    assert entry["held"]["reason"] == "the booking was moved in Dynamics, and its event is to follow"
    first, last = entry["decisions"]
    assert (first["outcome"], last["outcome"]) == ("ignored", "left")
    assert last["cause"] == "told of a change"
    assert last["event_version"] != first["event_version"]
    assert last["booking_span"]["start"] == f"{TOMORROW + 10 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
    assert last["event_span"]["start"] == f"{TOMORROW + 9 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
    assert document["booking_now"]["span"] == last["booking_span"]


async def test_the_text_says_the_same(operator: Operator, waiting: Pair) -> None:
    booking, event = waiting
    for asked in (booking.id, event.immutable_id):
        result = await operator.types(f"explain {asked}")
        assert result.exit_code == 0
        assert f"agreed on    {TOMORROW + 9 * HOUR:%Y-%m-%d %H:%M} - " in result.stdout
        assert "left: the booking was moved in Dynamics, and its event is to follow" in result.stdout
        assert f"booking  {TOMORROW + 10 * HOUR:%Y-%m-%d %H:%M} - " in result.stdout
        assert result.stderr == ""


async def test_a_canceled_booking_is_explained_too(operator: Operator, ana: Technician, held: list[Pair]) -> None:
    booking, event = held[0]
    await operator.reads(f"release {booking.id}")
    await work(operator)
    text = (await operator.types(f"explain {booking.id}")).stdout
    places = [text.index(f"  {said}") for said in ("ignored", "held", "released", "canceled")]
    assert places == sorted(places)
    assert "linked to no event" in text
    assert text == (await operator.types(f"explain {booking.id}")).stdout
    assert (await operator.reads(f"explain {event.immutable_id} --mailbox {ana.mailbox.id}"))["entries"]


async def test_dataverse_need_not_answer(operator: Operator, waiting: Pair) -> None:
    operator.sandbox.faults.order(Fault("dataverse", status=503, times=None))
    document = await operator.reads(f"explain {waiting[0].id}")
    assert document["notes"] == ["the booking could not be read: dataverse 503"]
    assert len(document["entries"]) == 1


@pytest.mark.parametrize("asked", ["AAMkNobodys=", MAILBOX])
async def test_that_nothing_is_known_is_said(operator: Operator, asked: str) -> None:
    result = await operator.types(f"explain {asked}")
    assert result.exit_code == 1
    assert f"nothing is known of {asked}" in result.stdout


# --- while the app only observes ---


async def test_what_was_not_written_is_shown_beside_what_happened(operator: Operator, ana: Technician) -> None:
    operator.environment.set(SYNC_MODE="observe")
    people, tables = operator.sandbox.people, operator.sandbox.tables
    pairs = [
        people.dispatcher.book(ana, TOMORROW + day * 24 * HOUR, TOMORROW + day * 24 * HOUR + HOUR) for day in (0, 1)
    ]
    for booking, event in pairs:
        tables.link(booking, event.immutable_id)
        ana.move(event, HOUR)
    app = App(os.environ)
    for _, event in pairs:
        await app.processor.process(Change(ana.mailbox.id, event.immutable_id))
    await app.close()
    first, second = (booking for booking, _ in pairs)
    tables.update(second, {name: second[name] + HOUR for name in ("starttime", "endtime")})
    operator.sandbox.calls.clear()
    document = await operator.reads("report")
    assert operator.sandbox.calls.reads("dataverse") == 1
    assert document["mode"] == "observe"
    assert {row["booking"]: row["outcome"] for row in document["changes"]} == {
        first.id: "nothing yet",
        second.id: "the same",
    }
    assert operator.writes() == 0
    result = await operator.types("report")
    assert "nothing yet: 1, the same: 1" in result.output
    assert "would be" in result.output
    assert (await operator.reads("report --since 0"))["changes"] == []
    status = await operator.reads("status")
    assert status["mode"] == "observe"
    assert "only observes" in status["findings"][-1]["text"]


async def test_nothing_was_left_out_where_everything_is_written(operator: Operator, ana: Technician) -> None:
    result = await operator.types("report")
    assert result.exit_code == 0
    assert result.output.startswith("mode: sync; not written since")
