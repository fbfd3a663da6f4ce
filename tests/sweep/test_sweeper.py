"""What notifications did not bring is found from both lists, and repaired the way a notification would have been."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox.dataverse.tables import Row
from sandbox.faults import Fault
from sandbox.graph.errors import ACCESS_DENIED, INTERNAL_ERROR, TOO_MANY_REQUESTS
from sandbox.graph.mailboxes import Event as OutlookEvent
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY, Technician
from sync.errors import MailboxUnavailable, SyncError, Transient
from sync.messages.changes import SweepRequest
from sync.messages.codec import OUTLOOK_CHANGES, SWEEPS, parse_change_message, parse_sweep_message
from sync.model import Event, Unreadable
from sync.pairs.reasons import HoldKind
from sync.sweep.sweeper import EventLists
from tests.world.app import COLUMN, HOUR, START, App, is_canceled, is_in_step
from tests.world.sweeping import be_deaf, hire, pairs_of, sweep_all


def costs(app: App) -> tuple[int, int, int]:
    calls = app.sandbox.calls
    return calls.reads("graph"), calls.reads("dataverse"), calls.writes("dataverse")


@pytest.mark.parametrize(("crew", "pairs"), [(1, 0), (1, 1), (3, 7), (2, 120)])
async def test_in_step_a_sweep_costs_its_list_pages_and_no_write_and_no_message(app, crew, pairs):
    technicians = hire(app, *(f"Person {number}" for number in range(crew)))
    for technician in technicians:
        await pairs_of(app, technician, pairs)
    be_deaf(app)
    for technician in technicians:
        technician.meet(START + HOUR, START + 2 * HOUR)
    app.sandbox.calls.clear()
    app.inbox.sent = 0
    for technician in technicians:
        assert await app.sweeper.sweep(technician.mailbox.id) == []
    pages = -(-max(pairs, 1) // 100)
    assert costs(app) == (crew * pages, crew * 2, 0)
    assert app.inbox.sent == 0
    assert app.sandbox.calls.writes("graph") == 0


def in_another_calendar(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    ana.file(event)


def with_a_copy_in_the_default_calendar(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    ana.move(ana.copy(event), HOUR)
    ana.file(event)


def of_an_inactive_booking(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    app.sandbox.tables.update(booking, {"statecode": 1, "statuscode": 2})


def of_a_canceled_booking(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    app.sandbox.tables.update(booking, {"_bookingstatus_value": app.sandbox.tables.status("Canceled").id})


def of_a_deleted_booking(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    app.sandbox.tables.delete(booking)


def of_a_booking_that_went_to_somebody_else(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    app.sandbox.tables.update(booking, {"_resource_value": app.sandbox.people.hire("Ben").resource.id})


def of_a_booking_of_another_year(app: App, ana: Technician, booking: Row, event: OutlookEvent) -> None:
    """Linked to a copy there, which the list shows as well."""
    there = START + timedelta(days=400)
    copy = ana.copy(event)
    app.sandbox.mailboxes.change(copy, start=there, end=there + HOUR)
    app.sandbox.tables.update(booking, {COLUMN: copy.immutable_id, "starttime": there, "endtime": there + HOUR})


@pytest.mark.parametrize(
    ("leave", "lists"),
    [
        (in_another_calendar, (3, 2)),
        (with_a_copy_in_the_default_calendar, (3, 2)),
        (of_a_deleted_booking, (1, 3)),
        (of_a_booking_that_went_to_somebody_else, (1, 3)),
        (of_a_booking_of_another_year, (1, 3)),
    ],
)
async def test_what_stays_as_it_is_costs_a_list_more_and_no_message_for_ever(app, leave, lists):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    leave(app, ana, *pairs[0])
    for _ in range(3):
        app.sandbox.calls.clear()
        app.inbox.sent = 0
        assert await app.sweeper.sweep(ana.mailbox.id) == []
        assert costs(app) == (*lists, 0)
        assert app.inbox.sent == 0


@pytest.mark.parametrize("close", [of_an_inactive_booking, of_a_canceled_booking])
async def test_an_event_beside_a_closed_booking_is_looked_at_once_and_then_waits_for_outlook(app, close):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    close(app, ana, *pairs[0])
    [difference] = await app.sweeper.sweep(ana.mailbox.id)
    assert difference.change.event_id == pairs[0][1].immutable_id
    await app.work()
    assert await app.sweeper.sweep(ana.mailbox.id) == []


@pytest.mark.parametrize(("leftovers", "lists"), [(40, 1), (41, 2), (100, 3)])
async def test_bookings_that_the_list_lacks_are_read_forty_at_a_time(app, leftovers, lists):
    (ana,) = hire(app, "Ana")
    be_deaf(app)
    dispatcher = app.sandbox.people.dispatcher
    for number in range(leftovers):
        booking, _ = dispatcher.book(ana, START + number * HOUR, START + (number + 1) * HOUR)
        app.sandbox.tables.delete(booking)
    assert await app.sweeper.sweep(ana.mailbox.id) == []
    assert costs(app) == (1, 2 + lists, 0)


async def test_an_event_that_moves_in_another_calendar_is_followed(app):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    ana.file(pairs[0][1])
    ana.move(pairs[0][1], HOUR)
    await sweep_all(app)
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    assert await app.sweeper.sweep(ana.mailbox.id) == []


async def test_an_event_that_no_booking_is_linked_to_is_looked_for_in_the_default_calendar_only(app):
    """Whatever else is missing there: else it would depend on other bookings whether it counts."""
    (ana,) = hire(app, "Ana")
    [(_, event)] = await pairs_of(app, ana, 1)
    be_deaf(app)
    _, unlinked = app.sandbox.people.dispatcher.book(ana, START, START + HOUR)
    ana.file(unlinked)
    ana.file(event)
    assert await app.sweeper.sweep(ana.mailbox.id) == []


OTHER_CALENDARS = [r"^/users/[^/]+/calendars$", r"^/users/[^/]+/calendars/[^/]+/events$"]


@pytest.mark.parametrize("trouble", [ACCESS_DENIED, INTERNAL_ERROR])
async def test_a_calendar_that_cannot_be_read_hides_no_deletion_and_cancels_nothing(app, trouble):
    """One that somebody else shares, or that Outlook fills by itself."""
    (ana,) = hire(app, "Ana")
    filed, deleted, *_ = pairs = await pairs_of(app, ana, 4)
    be_deaf(app)
    ana.file(filed[1], "Shared")
    app.sandbox.faults.order(trouble.fault(path=OTHER_CALENDARS[1], times=None))
    ana.delete(deleted[1])
    await sweep_all(app)
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    assert [is_canceled(app.sandbox, booking) for booking, _ in pairs] == [False, True, False, False]


async def test_calendars_that_cannot_be_listed_have_the_sweep_put_back(app):
    (ana,) = hire(app, "Ana")
    [(booking, event)] = await pairs_of(app, ana, 1)
    be_deaf(app)
    app.sandbox.faults.order(TOO_MANY_REQUESTS.retry_after("120").fault(path=OTHER_CALENDARS[0], times=1))
    ana.delete(event)
    await sweep_all(app)
    assert not is_canceled(app.sandbox, booking)
    app.sandbox.clock.move(timedelta(minutes=3))
    await app.work()
    app.sandbox.clock.move(timedelta(minutes=3))
    await app.work()
    assert is_canceled(app.sandbox, booking)


@pytest.mark.parametrize("holds", ["all day", "series"])
async def test_a_copy_that_is_held_takes_over_when_its_original_was_deleted(app, holds):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    booking, event = pairs[0]
    midnight, mailboxes = START.replace(hour=0) + timedelta(days=1), app.sandbox.mailboxes
    if holds == "all day":
        mailboxes.change(ana.copy(event), is_all_day=True, start=midnight, end=midnight + timedelta(days=1))
    else:
        extension = {EXTENSION_NAME: {EXTENSION_PROPERTY: booking.id}}
        mailboxes.create_series(ana.mailbox, START, START + HOUR, weeks=3, extensions=extension)
    assert await app.sweeper.sweep(ana.mailbox.id) == []
    ana.delete(event)
    await sweep_all(app)
    assert not is_canceled(app.sandbox, booking)
    assert [entry.booking_id for entry in app.ledger.entries.values() if entry.held is not None] == [booking.id]


async def test_a_pair_that_comes_between_the_two_lists_is_in_step(app):
    """The bookings are read first: its event would else be missing in a list that is older than its booking's."""
    (ana,) = hire(app, "Ana")
    await pairs_of(app, ana, 1)

    def then(read):
        async def read_and_then(*arguments: object) -> object:
            found = await read(*arguments)
            if len(bookings()) == 1:
                app.sandbox.people.dispatcher.book(ana, START + 5 * HOUR, START + 6 * HOUR)
                await app.work()
            return found

        return read_and_then

    def bookings() -> list[Row]:
        return app.sandbox.tables.rows("bookableresourcebooking")

    app.sweeper.events.with_extension = then(app.sweeper.events.with_extension)
    app.sweeper.bookings.of_mailbox = then(app.sweeper.bookings.of_mailbox)
    assert await app.sweeper.compare(ana.mailbox.id) == []
    assert len(bookings()) == 2


def moves(app: App, technician: Technician, event: OutlookEvent) -> None:
    technician.move(event, HOUR)


def is_deleted(app: App, technician: Technician, event: OutlookEvent) -> None:
    technician.delete(event)


def is_canceled_by_its_organizer(app: App, technician: Technician, event: OutlookEvent) -> None:
    app.sandbox.mailboxes.cancel_by_organizer(event)


@pytest.mark.parametrize(("crew", "differing"), [(1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize(
    ("event_that", "lists"),
    [(moves, (1, 2, 0)), (is_canceled_by_its_organizer, (1, 2, 0)), (is_deleted, (2, 2, 0))],
)
async def test_a_sweep_costs_its_list_pages_and_what_the_differing_ones_would_have_cost_by_notification(
    app, crew, differing, event_that, lists
):
    """If an event is missing, the list of the mailbox's calendars is one page more."""
    technicians = hire(app, *(f"Person {number}" for number in range(crew)))
    pairs = {technician: await pairs_of(app, technician, 10) for technician in technicians}
    first = technicians[0]
    for _, event in pairs[first][:2]:
        app.sandbox.calls.clear()
        event_that(app, first, event)
        await app.work()
    by_notification = costs(app)
    be_deaf(app)
    for technician in technicians:
        for _, event in pairs[technician][-differing:]:
            event_that(app, technician, event)
    app.sandbox.calls.clear()
    app.inbox.sent = 0
    for technician in technicians:
        assert len(await app.sweeper.sweep(technician.mailbox.id, after_gap=True)) == differing
    assert app.inbox.sent == crew * differing
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    one = zip(lists, by_notification, strict=True)
    assert costs(app) == tuple(crew * (pages + differing * change) for pages, change in one)
    for technician in technicians:
        for booking, event in pairs[technician]:
            assert is_canceled(app.sandbox, booking) if event.is_cancelled else is_in_step(app.sandbox, booking, event)


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("calendar", ["not_found", "folder", "default"])
async def test_a_lost_deleted_is_repaired_by_the_next_sweep(app, readable, calendar):
    switches = app.sandbox.graph_switches
    switches.deleted_stay_readable, switches.calendar_of_deleted = readable, calendar
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    ana.delete(pairs[1][1])
    await sweep_all(app)
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    assert [is_canceled(app.sandbox, booking) for booking, _ in pairs] == [False, True, False]


@pytest.mark.parametrize("readable", [False, True])
async def test_everything_that_can_be_missed_is_repaired_by_one_sweep(app, readable):
    app.sandbox.graph_switches.deleted_stay_readable = readable
    ana, ben = hire(app, "Ana", "Ben")
    pairs = [*await pairs_of(app, ana, 8), *await pairs_of(app, ben, 4)]
    be_deaf(app)
    dispatcher = app.sandbox.people.dispatcher
    ana.move(pairs[0][1], HOUR)
    ana.move(pairs[1][1], timedelta(days=300))
    ana.delete(pairs[2][1])
    app.sandbox.mailboxes.cancel_by_organizer(pairs[3][1])
    app.sandbox.mailboxes.purge(pairs[4][1])
    ben.move(pairs[8][1], -2 * HOUR)
    ben.edit(pairs[9][1])
    new = dispatcher.book(ben, START + 7 * HOUR, START + 8 * HOUR)
    await sweep_all(app)
    expected = [pair for place, pair in enumerate(pairs) if place != 3]
    assert all(is_in_step(app.sandbox, *pair) for pair in [*expected, new])
    assert is_canceled(app.sandbox, pairs[3][0])
    app.inbox.sent = 0
    await sweep_all(app)
    assert app.inbox.sent == 2, "only the sweeps themselves: all is in step"


def state(name: str):
    def spoil(app: App, technician: Technician) -> None:
        technician.mailbox.state = name  # type: ignore[assignment]

    return spoil


def order(fault_of) -> object:
    def spoil(app: App, technician: Technician) -> None:
        app.sandbox.faults.order(fault_of())

    return spoil


LIST = r"^/users/[^/]+/events$"
EMPTY = Fault("graph", "GET", LIST, status=200, body={"value": []}, times=None)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(state("not_enabled"), id="404 MailboxNotEnabledForRESTAPI"),
        pytest.param(state("not_discovered"), id="404 ResourceNotFound"),
        pytest.param(state("invalid_user"), id="404 ErrorInvalidUser"),
        pytest.param(state("denied"), id="403 by policy"),
        pytest.param(order(lambda: ACCESS_DENIED.fault(path=LIST, times=None)), id="403 for the list only"),
        pytest.param(order(lambda: TOO_MANY_REQUESTS.fault(path=LIST, times=None)), id="429"),
        pytest.param(order(lambda: INTERNAL_ERROR.fault(path=LIST, times=None)), id="500"),
        pytest.param(order(lambda: Fault("graph", path=LIST, status=None, times=None)), id="a cut connection"),
        pytest.param(order(lambda: Fault("graph", path=LIST, status=200, body={}, times=None)), id="no list at all"),
        pytest.param(order(lambda: replace(EMPTY)), id="an empty list"),
    ],
)
@pytest.mark.parametrize("readable", [False, True])
async def test_nothing_is_canceled_and_nothing_written_while_the_mailbox_answers(app, spoil, readable):
    app.sandbox.graph_switches.deleted_stay_readable = readable
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    spoil(app, ana)
    app.sandbox.calls.clear()
    for _ in range(3):
        await sweep_all(app)
        app.sandbox.clock.move(timedelta(hours=2))
    await app.work()
    assert app.sandbox.calls.writes("dataverse") == 0
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    # And when it answers again, all is as it was.
    ana.mailbox.state = "ok"
    app.sandbox.faults.clear()
    app.sandbox.clock.move(timedelta(hours=2))
    await sweep_all(app)
    assert app.sandbox.calls.writes("dataverse") == 0
    assert app.inbox.parked == []


async def test_nothing_is_canceled_because_a_gateway_knows_nothing(app):
    """A 404 without a code of Graph's is none of those that mean something; the sweep is tried again later."""
    (ana,) = hire(app, "Ana")
    await pairs_of(app, ana, 3)
    app.sandbox.faults.order(Fault("graph", path=LIST, status=404, body="<html/>", times=None))
    app.sandbox.calls.clear()
    await sweep_all(app)
    assert app.sandbox.calls.writes("dataverse") == 0
    assert app.inbox.parked == []
    assert len(app.inbox.of(SWEEPS)) == 1


async def test_an_empty_page_before_the_last_one_is_not_the_end(app):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    app.sandbox.graph_switches.empty_page = True
    ana.move(pairs[2][1], HOUR)
    [difference] = await app.sweeper.sweep(ana.mailbox.id)
    assert (difference.change.event_id, difference.is_held) == (pairs[2][1].immutable_id, False)
    assert [entry for entry in app.ledger.entries.values() if entry.held] == []


class Unreadably:
    """The lists of *events*, in which the event *odd* cannot be read."""

    def __init__(self, events: EventLists, odd: str) -> None:
        self.events, self.odd = events, odd

    async def with_extension(self, mailbox: str) -> Sequence[Event | Unreadable]:
        return self._without_odd(await self.events.with_extension(mailbox))

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event | Unreadable]:
        return self._without_odd(await self.events.in_other_calendars(mailbox))

    def _without_odd(self, listed: Sequence[Event | Unreadable]) -> Sequence[Event | Unreadable]:
        return [Unreadable(each.id) if each.id == self.odd else each for each in listed]


@pytest.mark.parametrize("is_filed", [False, True])
async def test_an_event_that_is_listed_and_cannot_be_read_is_not_missing(app, is_filed):
    """To look at it would park one message more each night."""
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    odd = pairs[0][1]
    if is_filed:
        ana.file(odd)
    app.sweeper.events = Unreadably(app.sweeper.events, odd.immutable_id)
    ana.move(pairs[1][1], HOUR)
    for expected in (1, 0, 0):
        assert len(await app.sweeper.sweep(ana.mailbox.id)) == expected
        app.sandbox.clock.move(timedelta(minutes=2))
        await app.work()
    assert app.inbox.parked == []
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)


@pytest.mark.parametrize(("name", "error"), [("denied", MailboxUnavailable), ("not_enabled", MailboxUnavailable)])
async def test_a_mailbox_out_of_reach_says_so_to_who_asks(app, name, error):
    (ana,) = hire(app, "Ana")
    ana.mailbox.state = name
    with pytest.raises(error):
        await app.sweeper.compare(ana.mailbox.id)


@pytest.mark.parametrize("spans_calendars", [False, True])
async def test_an_event_in_another_calendar_is_not_gone(app, spans_calendars):
    app.sandbox.graph_switches.events_list_spans_calendars = spans_calendars
    (ana,) = hire(app, "Ana")
    [pair] = await pairs_of(app, ana, 1)
    be_deaf(app)
    ana.file(pair[1])
    await sweep_all(app)
    assert is_in_step(app.sandbox, *pair)


@pytest.mark.parametrize("readable", [False, True])
async def test_a_copy_is_left_alone_beside_its_original_and_takes_over_when_that_is_gone(app, readable):
    """As by a notification of the copy: the booking follows the one event that still stands."""
    app.sandbox.graph_switches.deleted_stay_readable = readable
    (ana,) = hire(app, "Ana")
    [(booking, event)] = await pairs_of(app, ana, 1)
    be_deaf(app)
    copy = ana.copy(event)
    ana.move(copy, HOUR)
    app.sandbox.calls.clear()
    await sweep_all(app)
    assert app.sandbox.calls.writes("dataverse") == 0
    ana.delete(event)
    await sweep_all(app)
    assert is_in_step(app.sandbox, booking, copy)


async def test_series_and_events_of_all_day_are_held_not_written(app):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 2)
    be_deaf(app)
    mailboxes = app.sandbox.mailboxes
    midnight = START.replace(hour=0) + timedelta(days=1)
    mailboxes.change(pairs[0][1], is_all_day=True, start=midnight, end=midnight + timedelta(days=1))
    extension = {EXTENSION_NAME: {EXTENSION_PROPERTY: pairs[1][0].id}}
    mailboxes.create_series(ana.mailbox, START + HOUR, START + 2 * HOUR, weeks=3, extensions=extension)
    app.sandbox.calls.clear()
    await sweep_all(app)
    assert app.sandbox.calls.writes("dataverse") == 0


async def test_work_that_is_canceled_or_done_in_dynamics_costs_nothing_for_ever(app):
    (ana,) = hire(app, "Ana")
    (done, event), (canceled, _), (begun, other) = await pairs_of(app, ana, 3)
    dispatcher = app.sandbox.people.dispatcher
    dispatcher.complete(done)
    dispatcher.cancel(canceled)
    dispatcher.start(begun)
    be_deaf(app)
    ana.move(event, HOUR)
    ana.move(other, HOUR)
    await sweep_all(app)
    app.sandbox.calls.clear()
    app.inbox.sent = 0
    await sweep_all(app)
    assert app.sandbox.calls.writes("dataverse") == 0
    assert app.inbox.sent == 1, "the sweep itself"


async def test_a_reassigned_booking_is_not_taken_back(app):
    ana, ben = hire(app, "Ana", "Ben")
    [(booking, event)] = await pairs_of(app, ana, 1)
    be_deaf(app)
    app.sandbox.tables.update(booking, {"_resource_value": ben.resource.id})
    ana.move(event, HOUR)
    app.sandbox.calls.clear()
    await sweep_all(app)
    assert booking["starttime"] == START + timedelta(days=1)
    new = app.sandbox.people.dispatcher.reassign(booking, ben)
    await sweep_all(app)
    assert is_in_step(app.sandbox, booking, new)


@pytest.mark.parametrize("stale", [False, True])
async def test_a_booking_that_holds_a_plain_id_is_linked_anew_and_never_canceled(app, stale):
    """Adopted deployments hold plain ids, which change when the event goes to another calendar and back."""
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    for booking, event in pairs:
        app.sandbox.tables.update(booking, {COLUMN: event.plain_id})
        if stale:
            default = event.calendar
            ana.file(event)
            assert default is not None
            app.sandbox.mailboxes.move(event, default)
    ana.move(pairs[0][1], HOUR)
    assert len(await app.sweeper.compare(ana.mailbox.id)) == 3, "one message each"
    await sweep_all(app)
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    assert not any(is_canceled(app.sandbox, booking) for booking, _ in pairs)


async def test_the_most_imminent_differences_are_queued_first(app):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 12)
    be_deaf(app)
    for _, event in reversed(pairs):
        ana.move(event, HOUR)
    app.inbox.messages.clear()
    await app.sweeper.sweep(ana.mailbox.id)
    queued = [parse_change_message(text).event_id for text in app.inbox.of(OUTLOOK_CHANGES)]
    assert queued == [event.immutable_id for _, event in pairs]


async def test_many_differences_are_not_queued_in_one_breath(app):
    app.sweeper.messages_at_once = 5
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 12)
    be_deaf(app)
    for _, event in pairs:
        ana.move(event, HOUR)
    sizes, send = [], app.inbox.send

    async def counted(queue: str, messages: list[str], hidden: float = 0) -> None:
        sizes.append(len(messages))
        await send(queue, messages, hidden)

    app.inbox.send = counted
    await app.sweeper.sweep(ana.mailbox.id)
    assert sizes == [5, 5, 2]


async def test_a_dry_comparison_queues_nothing(app):
    (ana,) = hire(app, "Ana")
    [(_, event)] = await pairs_of(app, ana, 1)
    be_deaf(app)
    ana.move(event, HOUR)
    app.inbox.sent = 0
    [difference] = await app.sweeper.compare(ana.mailbox.id)
    assert (difference.reason, difference.change.is_deletion) == ("its booking has other times", False)
    assert app.inbox.sent == 0


async def test_messages_that_come_side_by_side_are_swept_for_once_more(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    app.inbox.messages.clear()
    found = await asyncio.gather(*(app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id)) for _ in range(8)))
    assert (found.count([]), found.count(None)) == (1, 7)
    assert len(app.inbox.of(SWEEPS)) == 1


async def test_a_sweep_that_failed_does_not_put_off_the_next_one(app):
    (ana,) = hire(app, "Ana")
    [pair] = await pairs_of(app, ana, 1)
    app.sandbox.clock.move(timedelta(minutes=2))
    be_deaf(app)
    ana.move(pair[1], HOUR)
    ana.mailbox.state = "denied"
    with pytest.raises(MailboxUnavailable):
        await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id))
    ana.mailbox.state = "ok"
    assert len(await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id))) == 1


async def test_a_sweep_that_could_not_be_put_off_is_asked_for_again(app):
    (ana,) = hire(app, "Ana")
    await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id))
    app.inbox.refuses = True
    with pytest.raises(Transient):
        await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id))
    app.inbox.refuses = False
    assert await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id)) is None
    assert len(app.inbox.of(SWEEPS)) == 1


@pytest.mark.parametrize("by", [timedelta(days=-30), timedelta(days=30)])
async def test_a_clock_that_is_put_right_keeps_no_mailbox_from_being_swept(app, by):
    (ana,) = hire(app, "Ana")
    for _ in range(2):
        await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id))
    app.sweeper.now = lambda: app.sandbox.clock.now() + by
    assert await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id)) == []


async def test_a_sweep_that_was_put_off_is_done_also_if_its_message_is_seen_early_by_our_own_clock(app):
    """The queue's clock runs by itself, and ours is put right by a second now and then."""
    (ana,) = hire(app, "Ana")
    [pair] = await pairs_of(app, ana, 1)
    app.sandbox.clock.move(timedelta(minutes=2))
    be_deaf(app)
    await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id))
    ana.move(pair[1], HOUR)
    assert await app.sweeper.sweep_in_turn(SweepRequest(ana.mailbox.id)) is None
    app.sweeper.now = lambda: app.sandbox.clock.now() - timedelta(seconds=2)
    [waiting] = app.inbox.messages
    app.sandbox.clock.move(waiting.visible_at - app.sandbox.clock.now())
    await app.work()
    assert is_in_step(app.sandbox, *pair)


async def test_a_missing_event_is_looked_at_a_while_later_and_what_moved_at_once(app):
    """On its way from one calendar to another, it may be in neither list."""
    (ana,) = hire(app, "Ana")
    (moved_booking, moved), (gone_booking, gone), _ = await pairs_of(app, ana, 3)
    be_deaf(app)
    ana.move(moved, HOUR)
    ana.delete(gone)
    await app.sweeper.sweep(ana.mailbox.id, after_gap=True)
    await app.work()
    assert is_in_step(app.sandbox, moved_booking, moved)
    assert not is_canceled(app.sandbox, gone_booking)
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    assert is_in_step(app.sandbox, gone_booking, gone)


async def test_a_night_that_misses_an_event_though_nothing_was_lost_asks_a_person(app):
    """As after a restore of the mailbox: two of three events are there, under ids that nobody knows."""
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    be_deaf(app)
    for _, event in pairs[:2]:
        ana.delete(event)
    await sweep_all(app, after_gap=False)
    assert not any(is_canceled(app.sandbox, booking) for booking, _ in pairs)
    held = [entry for entry in app.ledger.entries.values() if entry.held is not None]
    assert {entry.booking_id for entry in held} == {booking.id for booking, _ in pairs[:2]}
    assert {entry.held.kind for entry in held} == {HoldKind.UNTOLD}
    app.inbox.sent = 0
    await sweep_all(app, after_gap=False)
    assert app.inbox.sent == 1, "the sweep's own message"


async def test_a_gap_that_is_told_of_while_a_nights_sweep_is_put_off_is_not_forgotten(app):
    (ana,) = hire(app, "Ana")
    nightly = SweepRequest(ana.mailbox.id)
    after_gap = replace(nightly, after_gap=True)
    for request in (nightly, nightly, after_gap, nightly, after_gap):
        await app.sweeper.sweep_in_turn(request)
    assert [parse_sweep_message(text) for text in app.inbox.of(SWEEPS)] == [nightly, after_gap]


async def test_one_mailbox_in_trouble_does_not_keep_the_others_from_their_sweep(app):
    ana, ben = hire(app, "Ana", "Ben")
    pair = (await pairs_of(app, ben, 1))[0]
    be_deaf(app)
    ana.mailbox.state = "denied"
    ben.move(pair[1], HOUR)
    await sweep_all(app)
    assert is_in_step(app.sandbox, *pair)


async def test_a_throttled_sweep_comes_again(app):
    (ana,) = hire(app, "Ana")
    pair = (await pairs_of(app, ana, 1))[0]
    be_deaf(app)
    ana.move(pair[1], HOUR)
    app.sandbox.faults.order(TOO_MANY_REQUESTS.retry_after("120").fault(path=LIST, times=1))
    await sweep_all(app)
    assert not is_in_step(app.sandbox, *pair)
    app.sandbox.clock.move(timedelta(minutes=3))
    await app.work()
    assert is_in_step(app.sandbox, *pair)


@pytest.mark.parametrize("kind", [SyncError])
async def test_a_window_is_a_week_back_and_half_a_year_ahead(app, kind):
    (ana,) = hire(app, "Ana")
    dispatcher = app.sandbox.people.dispatcher
    be_deaf(app)
    days = {
        day: dispatcher.book(ana, START + timedelta(days=day), START + timedelta(days=day, hours=1))
        for day in (-8, -6, 179, 181)
    }
    await sweep_all(app)
    assert {day: booking[COLUMN] is not None for day, (booking, _) in days.items()} == {
        -8: False,
        -6: True,
        179: True,
        181: False,
    }


@pytest.mark.parametrize("readable", [True, False])
async def test_a_booking_that_was_reassigned_is_not_canceled_for_want_of_its_former_event(app, readable):
    """What the customer has today makes the event of the new technician later, or never."""
    app.sandbox.graph_switches.deleted_stay_readable = readable
    ana, ben = hire(app, "Ana", "Ben")
    [(booking, _), *_] = await pairs_of(app, ana, 1)
    await sweep_all(app)
    app.sandbox.tables.update(booking, {"_resource_value": ben.resource.id})
    for _ in range(2):
        await sweep_all(app)
    assert not is_canceled(app.sandbox, booking)


async def test_an_outdated_id_of_an_adopted_booking_cancels_nothing(app):
    """The column holds a plain id, and the event was dragged to another calendar before anybody looked."""
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    booking, event = app.sandbox.people.dispatcher.book(
        ana, START + timedelta(days=1), START + timedelta(days=1, hours=1)
    )
    app.sandbox.tables.update(booking, {COLUMN: event.plain_id})
    be_deaf(app)
    app.inbox.messages.clear()
    ana.file(event)
    for _ in range(2):
        await sweep_all(app)
    assert not is_canceled(app.sandbox, booking)


async def test_a_mailbox_that_was_restored_with_new_ids_cancels_nothing(app):
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 5)
    await sweep_all(app)
    be_deaf(app)
    for _, event in pairs:
        app.sandbox.mailboxes.purge(event)
    await sweep_all(app)
    assert not any(is_canceled(app.sandbox, booking) for booking, _ in pairs)
