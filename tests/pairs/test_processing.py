"""What becomes of a queue message: done, put back or parked; and the order of reads."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sync.errors import (
    AccessDenied,
    InvalidId,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotOurs,
    NotWritten,
    Refused,
    Stale,
    SyncError,
    Throttled,
    Transient,
    Withdrawn,
)
from sync.intake.coalescing import is_known
from sync.messages.changes import Batch, Change, Evidence, SweepRequest
from sync.messages.codec import (
    OUTLOOK_CHANGES,
    SWEEPS,
    build_batch_messages,
    build_change_message,
    parse_change_message,
    parse_sweep_message,
)
from sync.messages.parking import PARKS
from sync.messages.taking import MAILBOX_TRIES, SPREAD
from sync.model import Booking, ConflictPolicy, Event, EventType
from sync.pairs.actions import GRACE, Action, CancelBooking, Hold, Ignore, LinkBooking, LookAgain, MoveBooking, Write
from sync.pairs.entry import Entry, Kind
from sync.pairs.holding import release
from sync.pairs.processing import LOOKS, Breaker, Processor
from sync.pairs.reasons import HoldKind
from tests.world.fakes import (
    ANNA,
    BEN,
    NOW,
    BreakerInMemory,
    Calendars,
    LedgerInMemory,
    QueuesInMemory,
    Table,
    no_batch,
    span,
    waits,
)
from tests.world.taking import take

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
EVENT = Event("E1", "", span(9), has_extension=True, booking_id=GUID)
BOOKING = Booking(GUID, "", span(9), "E1", ANNA)
UPDATED = Change(ANNA, "E1")
DELETED = Change(ANNA, "E1", evidence=Evidence.TOLD)
MISSED = replace(UPDATED, evidence=Evidence.MISSED)
MISSED_IN_GAP = replace(UPDATED, evidence=Evidence.MISSED_IN_GAP)


def is_cancelled_by_its_organizer(calendars: Calendars) -> None:
    calendars.change("E1", is_cancelled=True)


class TestProcess:
    """The reads and writes of one change; the decisions themselves are test_decision.py's."""

    @pytest.fixture
    def calendars(self) -> Calendars:
        calendars = Calendars()
        calendars.put(ANNA, EVENT)
        return calendars

    @pytest.fixture
    def bookings(self) -> Table:
        bookings = Table()
        bookings.put(BOOKING)
        return bookings

    @pytest.fixture(autouse=True)
    def ledger(self) -> LedgerInMemory:
        self.remembered = LedgerInMemory()
        self.breaker: Breaker = BreakerInMemory()
        return self.remembered

    def processor(self, calendars: Calendars, bookings: Table) -> Processor:
        return Processor(calendars, bookings, self.remembered, self.breaker, lambda: NOW)

    async def process(self, calendars: Calendars, bookings: Table, change: Change = UPDATED) -> Action:
        return await self.processor(calendars, bookings).process(change)

    async def test_an_ordinary_meeting_costs_one_read(self, calendars: Calendars, bookings: Table) -> None:
        old = Event("E9", "", span(9), created=NOW - timedelta(days=3), modified=NOW)
        calendars.put(ANNA, old)
        action = await self.process(calendars, bookings, Change(ANNA, "E9"))
        assert action == Ignore("the event was born in Outlook")
        assert (calendars.reads, bookings.reads) == (["E9"], [])
        assert self.remembered.entries[ANNA, "E9"].kind is Kind.NOT_OURS

    async def test_a_pair_in_step_costs_one_read_each(self, calendars: Calendars, bookings: Table) -> None:
        assert isinstance(await self.process(calendars, bookings), Ignore)
        assert (calendars.reads, bookings.reads, bookings.written) == (["E1"], [GUID], [])

    async def test_without_the_ledger_an_edit_of_a_dispatchers_is_not_lost(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """Nobody knows any more whether the booking or its event was moved; a person is shown both."""
        await self.process(calendars, bookings)
        bookings.edit(GUID, span=span(16))
        self.remembered.wipe()
        assert waits(await self.process(calendars, bookings))
        calendars.delete("E1")
        assert waits(await self.process(calendars, bookings, DELETED))
        assert bookings.written == []
        assert self.remembered.entries[ANNA, "E1"].held is not None

    async def test_without_the_ledger_a_booking_that_the_app_wrote_last_follows_its_event(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """It was in step then, and nobody has moved it since."""
        calendars.change("E1", span=span(12))
        self.remembered.wipe()
        assert isinstance(await self.process(calendars, bookings), MoveBooking)
        calendars.delete("E1")
        self.remembered.wipe()
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)

    async def test_at_first_contact_a_booking_follows_its_event_whoever_wrote_it(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """Nothing was ever agreed on, so nothing is forgotten."""
        bookings.edit(GUID, event_id=None)
        calendars.change("E1", span=span(12))
        assert isinstance(await self.process(calendars, bookings), MoveBooking)

    @pytest.mark.parametrize(("hour", "expected"), [(9, CancelBooking), (12, Hold)])
    async def test_at_first_contact_a_cancelled_event_cancels_only_a_booking_that_stands_where_it_does(
        self, calendars: Calendars, bookings: Table, hour: int, expected: type[Action]
    ) -> None:
        """Linked once and unlinked when it was over, a booking may have been moved to another day since."""
        bookings.edit(GUID, event_id=None)
        calendars.change("E1", span=span(hour), is_cancelled=True)
        assert isinstance(await self.process(calendars, bookings), expected)

    async def test_a_booking_that_still_holds_the_id_of_an_event_that_is_gone_is_not_at_first_contact(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """Reassigned, it may have been moved once more before Outlook followed, or its new event was: nobody knows."""
        bookings.edit(GUID, event_id="E0")
        calendars.change("E1", span=span(12))
        assert waits(await self.process(calendars, bookings))

    async def test_a_moved_event_is_read_again_after_its_booking(self, calendars: Calendars, bookings: Table) -> None:
        calendars.change("E1", span=span(12))
        assert isinstance(await self.process(calendars, bookings), MoveBooking)
        assert (calendars.reads, bookings.reads) == (["E1", "E1"], [GUID])
        assert bookings.rows[GUID].span == span(12)

    async def test_a_deletion_costs_one_read_each_and_one_write(self, calendars: Calendars, bookings: Table) -> None:
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)
        assert (calendars.reads, bookings.reads, len(bookings.written)) == (["E1"], ["E1"], 1)
        assert bookings.rows[GUID].is_canceled
        assert bookings.rows[GUID].event_id is None

    async def test_a_404_that_nobody_announced_is_held_after_a_second_look(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """A mailbox that was restored has new ids, and a resource may point to another user for an hour."""
        await self.process(calendars, bookings)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings), LookAgain)
        action = await self.process(calendars, bookings, MISSED)
        assert isinstance(action, Hold)
        assert (action.kind, bookings.written) == (HoldKind.UNTOLD, [])

    async def test_once_the_deletion_is_told_of_what_was_held_is_canceled(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, MISSED), Hold)
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)
        assert self.remembered.entries[ANNA, "E1"].held is None

    async def test_a_404_after_a_gap_in_the_notifications_is_believed_if_nobody_edited_the_booking(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        calendars.delete("E1")
        bookings.edit(GUID)
        action = await self.process(calendars, bookings, MISSED_IN_GAP)
        assert isinstance(action, Hold)
        assert action.kind is HoldKind.EDITED_SINCE
        calendars.restore("E1")
        await self.process(calendars, bookings)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, MISSED_IN_GAP), CancelBooking)

    async def test_a_404_that_nobody_announced_is_held_if_the_booking_was_edited_since_its_event_was_seen(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """It may have been reassigned and handed back meanwhile; or nobody knows, as nothing is remembered."""
        missing = MISSED
        await self.process(calendars, bookings)
        bookings.edit(GUID, mailbox=BEN)
        calendars.delete("E1")
        bookings.edit(GUID, mailbox=ANNA)
        assert isinstance(await self.process(calendars, bookings), LookAgain)
        assert isinstance(await self.process(calendars, bookings, missing), Hold)
        self.remembered.wipe()
        assert waits(await self.process(calendars, bookings, missing))
        assert bookings.written == []

    async def test_a_deletion_that_was_told_of_is_believed_whatever_was_edited(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        calendars.delete("E1")
        bookings.edit(GUID)
        assert isinstance(await self.process(calendars, bookings, MISSED), Hold)
        told = replace(DELETED, version='W/"9"')
        [known] = await self.remembered.look([told], 1.0)
        assert not is_known(told, known), "it was only missed until now"
        assert isinstance(await self.process(calendars, bookings, told), LookAgain), "it may be replaced yet"
        told = replace(told, is_second_look=True)
        assert isinstance(await self.process(calendars, bookings, told), CancelBooking)

    async def test_a_flow_that_replaces_the_event_after_the_booking_was_moved_cancels_nothing(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """The dispatcher moves the booking to 12:00; the flow deletes the event at 9:00 and makes one at 12:00."""
        await self.process(calendars, bookings)
        bookings.edit(GUID, span=span(12))
        calendars.delete("E1")
        waits(await self.process(calendars, bookings, DELETED))
        calendars.put(ANNA, replace(EVENT, id="E2", span=span(12)))
        await self.process(calendars, bookings, replace(DELETED, is_second_look=True))
        booking = bookings.rows[GUID]
        assert (booking.is_canceled, booking.event_id, booking.span) == (False, "E2", span(12))

    async def test_a_flow_that_replaces_the_event_after_a_note_was_edited_cancels_nothing(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        bookings.edit(GUID)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), LookAgain)
        calendars.put(ANNA, replace(EVENT, id="E2"))
        again = replace(DELETED, is_second_look=True)
        assert isinstance(await self.process(calendars, bookings, again), Ignore)
        assert (bookings.rows[GUID].is_canceled, bookings.rows[GUID].event_id) == (False, "E2")

    @pytest.mark.parametrize("ends", [lambda calendars: calendars.delete("E1"), is_cancelled_by_its_organizer])
    @pytest.mark.parametrize("hour", [9, 15])
    async def test_a_copy_takes_over_when_the_original_ends(
        self, calendars: Calendars, bookings: Table, ends: Callable[[Calendars], None], hour: float
    ) -> None:
        await self.process(calendars, bookings)
        calendars.put(ANNA, replace(EVENT, id="E2", span=span(hour)))
        await self.process(calendars, bookings, Change(ANNA, "E2"))
        ends(calendars)
        await self.process(calendars, bookings, DELETED)
        booking = bookings.rows[GUID]
        assert (booking.is_canceled, booking.event_id, booking.span) == (False, "E2", span(hour))
        calendars.delete("E2")
        await self.process(calendars, bookings, Change(ANNA, "E2", evidence=Evidence.TOLD))
        assert bookings.rows[GUID].is_canceled

    async def test_a_copy_that_takes_over_leaves_the_booking_where_a_dispatcher_put_it(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        calendars.put(ANNA, replace(EVENT, id="E2"))
        bookings.edit(GUID, span=span(15))
        calendars.delete("E1")
        await self.process(calendars, bookings, DELETED)
        assert (bookings.rows[GUID].is_canceled, bookings.rows[GUID].span) == (False, span(15))
        held = self.remembered.entries[ANNA, "E2"].held
        assert held is not None
        assert held.kind is HoldKind.WAITS_FOR_OUTLOOK

    async def test_a_copy_in_series_that_takes_over_is_held(self, calendars: Calendars, bookings: Table) -> None:
        await self.process(calendars, bookings)
        calendars.put(ANNA, replace(EVENT, id="E2", type=EventType.SERIES_MASTER))
        calendars.delete("E1")
        await self.process(calendars, bookings, DELETED)
        assert not bookings.rows[GUID].is_canceled
        held = self.remembered.entries[ANNA, "E2"].held
        assert held is not None
        assert held.kind is HoldKind.SERIES

    async def test_what_a_person_released_is_canceled_whatever_else_claims_the_booking(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        bookings.edit(GUID)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, MISSED), Hold)
        entry = self.remembered.entries[ANNA, "E1"]
        assert entry.held is not None
        await self.remembered.write(release(entry, entry.held, NOW))
        calendars.put(ANNA, replace(EVENT, id="E2"))
        assert isinstance(await self.process(calendars, bookings, MISSED), CancelBooking)

    async def test_a_booking_that_waits_for_an_event_that_was_only_missed_is_not_canceled_once_it_moves_back(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        missing = MISSED
        await self.process(calendars, bookings)
        bookings.edit(GUID, mailbox=BEN)
        calendars.delete("E1")
        bookings.edit(GUID, mailbox=ANNA, span=span(15))
        assert waits(await self.process(calendars, bookings, missing))
        bookings.edit(GUID, span=span(9))
        assert isinstance(await self.process(calendars, bookings, missing), Hold)
        assert not bookings.rows[GUID].is_canceled

    async def test_a_late_notification_does_not_cancel_a_booking_that_was_handed_back(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """Its event's deletion was told of while the booking was somebody else's, and ignored for that."""
        await self.process(calendars, bookings)
        bookings.edit(GUID, mailbox=BEN)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), Ignore)
        bookings.edit(GUID, mailbox=ANNA)
        for _ in range(2):
            assert isinstance(await self.process(calendars, bookings, UPDATED), Hold)
        assert not bookings.rows[GUID].is_canceled

    async def test_what_was_written_by_the_app_itself_is_no_edit(self, calendars: Calendars, bookings: Table) -> None:
        calendars.change("E1", span=span(12))
        assert isinstance(await self.process(calendars, bookings), MoveBooking)
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, MISSED_IN_GAP), CancelBooking)

    async def test_a_404_costs_a_pair_that_is_known_one_read_each(self, calendars: Calendars, bookings: Table) -> None:
        await self.process(calendars, bookings)
        calendars.delete("E1")
        calendars.reads.clear()
        bookings.reads.clear()
        assert isinstance(await self.process(calendars, bookings), LookAgain)
        assert (calendars.reads, bookings.reads) == (["E1"], [GUID])

    async def test_a_deletion_that_is_one_too_many_is_held_with_what_the_breaker_says(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        class Refusing:
            async def refuses(self, mailbox: str, event_id: str, now: datetime) -> str:
                return f"no more for {mailbox}, {event_id}, {now}"

        self.breaker = Refusing()
        calendars.delete("E1")
        held = await self.process(calendars, bookings, DELETED)
        cancel = CancelBooking(GUID, bookings.rows[GUID].etag, unlink=True)
        assert held == Hold(HoldKind.TOO_MANY, GUID, cancel, f"no more for {ANNA}, E1, {NOW}")
        noted = self.remembered.entries[ANNA, "E1"].held
        assert noted is not None
        assert noted.booking_span == span(9), "a release holds as long as it is there"

    async def test_an_event_out_of_sight_for_a_moment_cancels_nothing(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings), LookAgain)
        calendars.restore("E1")
        assert isinstance(await self.process(calendars, bookings, MISSED), Ignore)
        assert bookings.written == []

    async def test_a_new_booking_learns_its_events_id_by_one_write(self, calendars: Calendars, bookings: Table) -> None:
        bookings.edit(GUID, event_id=None)
        assert isinstance(await self.process(calendars, bookings), LinkBooking)
        assert (len(bookings.written), bookings.rows[GUID].event_id) == (1, "E1")

    async def test_a_deleted_event_that_stays_readable_is_gone(self, calendars: Calendars, bookings: Table) -> None:
        calendars.stays_readable = True
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)

    async def test_a_deleted_event_that_stays_readable_and_lost_our_extension_is_gone(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.change("E1", has_extension=False, booking_id=None)
        calendars.stays_readable = True
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)

    async def test_an_event_that_is_deleted_between_two_looks_is_not_followed(self, bookings: Table) -> None:
        class Deleting(Calendars):
            async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
                stood = await super().stands(mailbox, event_id, event)
                self.delete(event_id)
                return stood

        calendars = Deleting(stays_readable=True)
        calendars.put(ANNA, replace(EVENT, span=span(12)))
        bookings.edit(GUID, event_id=None)
        assert isinstance(await self.process(calendars, bookings, DELETED), Ignore)
        assert bookings.written == []

    async def test_an_older_state_than_is_known_is_not_acted_on(self, calendars: Calendars, bookings: Table) -> None:
        calendars.change("E1", modified=NOW)
        await self.process(calendars, bookings)
        calendars.change("E1", modified=NOW - timedelta(seconds=1), span=span(12))
        with pytest.raises(Transient, match=r"^graph: an older state of the event than is known$"):
            await self.process(calendars, bookings)
        assert bookings.written == []

    async def test_an_event_moved_to_another_calendar_is_not_gone(self, calendars: Calendars, bookings: Table) -> None:
        """It raises `deleted` and `created` and keeps its immutable id."""
        assert isinstance(await self.process(calendars, bookings, DELETED), Ignore)
        assert bookings.written == []

    async def test_an_ordinary_meeting_from_deleted_items_is_not_looked_for(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.put(ANNA, Event("E9", "", span(9)))
        calendars.stays_readable = True
        calendars.delete("E9")
        assert isinstance(await self.process(calendars, bookings, Change(ANNA, "E9", evidence=Evidence.TOLD)), Ignore)
        assert calendars.reads == ["E9"]

    async def test_late_news_of_a_deleted_event_do_not_link_its_canceled_booking_again(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.stays_readable = True
        calendars.delete("E1")
        await self.process(calendars, bookings, DELETED)
        assert isinstance(await self.process(calendars, bookings, UPDATED), Ignore)
        assert len(bookings.written) == 1

    async def test_beside_a_canceled_booking_an_event_is_out_of_step_only_if_it_stands_in_a_calendar(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """As it does after it was restored from Deleted Items, or its organizer took the cancellation back."""
        bookings.edit(GUID, event_id=None, is_canceled=True)
        calendars.stays_readable = True
        calendars.delete("E1")
        assert await self.process(calendars, bookings) == Ignore("no booking is linked to the event")
        calendars.restore("E1")
        assert await self.process(calendars, bookings) == Hold(HoldKind.CLOSED, GUID)
        assert self.remembered.entries[ANNA, "E1"].held is not None
        assert bookings.written == []

    async def test_an_event_that_lost_our_extension_is_still_followed_by_its_booking(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        calendars.change("E1", has_extension=False, booking_id=None, span=span(12))
        assert await self.process(calendars, bookings) == MoveBooking(GUID, 'W/"1"', span(12))
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)

    async def test_an_event_of_somebodys_whose_id_was_typed_into_the_column_is_held(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.put(ANNA, Event("E7", "", span(15), created=NOW - timedelta(days=9), modified=NOW))
        bookings.edit(GUID, event_id="E7")
        for _ in range(2):
            action = await self.process(calendars, bookings, Change(ANNA, "E7", evidence=Evidence.MISSED))
            assert isinstance(action, Hold)
            assert action.kind is HoldKind.LOST_EXTENSION
        assert bookings.written == []

    async def test_an_item_that_is_neither_readable_nor_in_a_calendar_is_gone(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.delete("E1")
        calendars.trouble = [Withdrawn("403 ErrorCannotDeleteObject")]
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)

    async def test_an_item_that_is_not_readable_but_stands_in_a_calendar_is_not_gone(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.trouble = [Withdrawn("403 ErrorCannotDeleteObject")]
        with pytest.raises(Withdrawn):
            await self.process(calendars, bookings, DELETED)
        assert bookings.written == []

    async def test_with_the_hint_the_booking_that_the_event_names_is_the_one(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        """Another booking holds the event's id, and must not be moved in its place."""
        other = bookings.put(replace(BOOKING, id="e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10", span=span(20)))
        bookings.edit(GUID, event_id=None)
        calendars.change("E1", span=span(12))
        await self.process(calendars, bookings, DELETED)
        assert bookings.rows[GUID].span == span(12)
        assert bookings.rows[other.id] == other

    async def test_an_event_that_gets_another_booking_meanwhile_is_looked_at_anew(self, bookings: Table) -> None:
        class Repointed(Calendars):
            async def read(self, mailbox: str, event_id: str) -> Event | None:
                if len(self.reads) == 1:
                    self.change("E1", booking_id="e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10")
                return await super().read(mailbox, event_id)

        calendars = Repointed()
        calendars.put(ANNA, replace(EVENT, span=span(12)))
        assert isinstance(await self.process(calendars, bookings), Ignore)
        assert bookings.written == []

    async def test_an_event_that_gets_other_bookings_for_ever_goes_back_to_the_queue(self, bookings: Table) -> None:
        class Restless(Calendars):
            async def read(self, mailbox: str, event_id: str) -> Event | None:
                other = "e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10"
                self.change("E1", booking_id=other if len(self.reads) % 2 else GUID)
                return await super().read(mailbox, event_id)

        calendars = Restless()
        calendars.put(ANNA, replace(EVENT, span=span(12)))
        with pytest.raises(Stale, match=f"looked at {LOOKS} times: the event went, or got another booking"):
            await self.process(calendars, bookings)
        assert bookings.written == []

    async def test_a_deleted_event_that_stays_readable_is_not_linked_to_its_unlinked_booking(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        bookings.edit(GUID, event_id=None)
        calendars.stays_readable = True
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), Ignore)
        assert bookings.written == []

    @pytest.mark.parametrize("outcome", ["written", "written, but the answer is lost", "refused"])
    async def test_a_deletion_that_was_processed_before_a_link_is_not_forgotten_by_it(
        self, calendars: Calendars, bookings: Table, outcome: str
    ) -> None:
        """Its own processing found nothing to cancel, for the booking was not linked yet."""
        bookings.edit(GUID, event_id=None)
        calendars.stays_readable = True
        calendars.change("E1", span=span(12))
        processing = self.processor

        class Overtaken(Table):
            async def write(self, action: Write) -> str:
                if not calendars.deleted:
                    calendars.delete("E1")
                    assert isinstance(await processing(calendars, self).process(DELETED), Ignore)
                    if outcome == "refused":
                        raise NotWritten(Stale("412"))
                    self.answer_is_lost = outcome != "written"
                return await super().write(action)

        overtaken = Overtaken(rows=bookings.rows, version=bookings.version)
        queues = QueuesInMemory()
        processor = self.processor(calendars, overtaken)
        await take(build_change_message(UPDATED), processor.process, no_batch, queues)
        for message in queues.of("outlook-changes"):
            await take(message, processor.process, no_batch, queues)
        assert overtaken.rows[GUID].is_canceled == (outcome != "refused")
        assert overtaken.rows[GUID].event_id is None

    async def test_a_booking_that_is_over_does_not_flap(self, calendars: Calendars, bookings: Table) -> None:
        yesterday = span(9, day=-1)
        bookings.edit(GUID, span=yesterday)
        calendars.change("E1", span=yesterday)
        calendars.stays_readable = True
        calendars.delete("E1")
        for change in (DELETED, UPDATED, UPDATED, UPDATED):
            await self.process(calendars, bookings, change)
        assert len(bookings.written) == 1

    async def test_an_unreadable_item_alone_cancels_nothing(self, calendars: Calendars, bookings: Table) -> None:
        calendars.delete("E1")
        calendars.trouble = [Withdrawn("403 ErrorCannotDeleteObject")]
        with pytest.raises(Withdrawn):
            await self.process(calendars, bookings, UPDATED)
        assert bookings.written == []

    @pytest.mark.parametrize("change", [UPDATED, DELETED])
    @pytest.mark.parametrize("trouble", [MailboxUnavailable("404"), Transient("503"), Refused("400"), Malformed("?")])
    async def test_no_trouble_with_a_mailbox_cancels_anything(
        self, calendars: Calendars, bookings: Table, change: Change, trouble: SyncError
    ) -> None:
        calendars.trouble = [trouble]
        with pytest.raises(type(trouble)):
            await self.process(calendars, bookings, change)
        assert bookings.written == []

    @pytest.mark.parametrize("hour", [9, 15])
    async def test_a_copy_of_the_event_changes_nothing(
        self, calendars: Calendars, bookings: Table, hour: float
    ) -> None:
        calendars.put(ANNA, replace(EVENT, id="E2", span=span(hour)))
        assert isinstance(await self.process(calendars, bookings, Change(ANNA, "E2")), Ignore)
        assert bookings.written == []

    @pytest.mark.parametrize("readable", [False, True])
    async def test_a_copy_takes_over_when_the_original_was_deleted_unnoticed(
        self, calendars: Calendars, bookings: Table, readable: bool
    ) -> None:
        calendars.stays_readable = readable
        calendars.put(ANNA, replace(EVENT, id="E2", span=span(15)))
        calendars.delete("E1")
        await self.process(calendars, bookings, Change(ANNA, "E2"))
        assert (bookings.rows[GUID].event_id, bookings.rows[GUID].span) == ("E2", span(15))

    async def test_a_reassigned_booking_is_linked_though_it_holds_an_id_that_graph_refuses(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        bookings.edit(GUID, event_id="OTHERMAILBOX")
        calendars.trouble_of["OTHERMAILBOX"] = InvalidId("400 RequestBrokerParseUri")
        await self.process(calendars, bookings)
        assert bookings.rows[GUID].event_id == "E1"

    @pytest.mark.parametrize("trouble", [Refused("400 Whatever"), AccessDenied("403"), Malformed("an odd time")])
    async def test_if_graph_refuses_to_show_the_former_event_a_person_is_asked(
        self, calendars: Calendars, bookings: Table, trouble: SyncError
    ) -> None:
        bookings.edit(GUID, event_id="E0", span=span(15))
        calendars.trouble_of["E0"] = trouble
        action = await self.process(calendars, bookings)
        assert (isinstance(action, Hold), bookings.written) == (True, [])
        held = self.remembered.entries[ANNA, "E1"].held
        assert held is not None
        assert (held.kind, held.detail) == (HoldKind.FORMER_UNREAD, str(trouble))

    async def test_a_plain_id_of_an_adopted_deployment_is_replaced(self, calendars: Calendars, bookings: Table) -> None:
        calendars.aliases["PLAIN"] = "E1"
        bookings.edit(GUID, event_id="PLAIN")
        assert isinstance(await self.process(calendars, bookings), LinkBooking)
        assert bookings.rows[GUID].event_id == "E1"

    async def test_what_is_linked_is_the_events_own_form_of_its_id(self, calendars: Calendars, bookings: Table) -> None:
        """A message may still name the event by an older form of its id."""
        calendars.aliases["PLAIN"] = "E1"
        bookings.edit(GUID, event_id=None)
        await self.process(calendars, bookings, Change(ANNA, "PLAIN"))
        assert bookings.rows[GUID].event_id == "E1"

    @pytest.mark.parametrize("trouble", [InvalidId("400"), Withdrawn("403"), NotOurs("it cannot be read")])
    async def test_what_is_no_event_of_the_mailbox_does_not_keep_this_one_from_the_booking(
        self, bookings: Table, trouble: SyncError
    ) -> None:
        """Somebody typed it in, or it was copied from another system."""

        class Strict(Calendars):
            async def read(self, mailbox: str, event_id: str) -> Event | None:
                if event_id != "E1":
                    raise trouble
                return await super().read(mailbox, event_id)

        strict = Strict()
        strict.put(ANNA, EVENT)
        for typed_in in ("see Outlook!", "seeOutlook"):
            bookings.edit(GUID, event_id=typed_in)
            assert isinstance(await self.process(strict, bookings), LinkBooking)

    async def test_an_event_in_deleted_items_does_not_keep_its_successor_from_the_booking(
        self, bookings: Table
    ) -> None:
        class Noting(Calendars):
            async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
                looked_for.append((mailbox, event_id, event))
                return await super().stands(mailbox, event_id, event)

        looked_for: list[object] = []
        noting = Noting(stays_readable=True)
        original = noting.put(ANNA, EVENT)
        noting.delete("E1")
        noting.put(ANNA, replace(EVENT, id="E2"))
        assert isinstance(await self.process(noting, bookings, Change(ANNA, "E2")), LinkBooking)
        assert looked_for == [(ANNA, "E1", original)], "where its times say"

    async def test_an_ordinary_meeting_that_cannot_be_read_is_ignored(self, bookings: Table) -> None:
        class Odd(Calendars):
            async def read(self, mailbox: str, event_id: str) -> Event | None:
                raise NotOurs("an event that cannot be read")

        assert await self.process(Odd(), bookings, DELETED) == Ignore("an event that cannot be read")
        assert bookings.written == []

    async def test_two_bookings_with_one_event_id_are_held(self, calendars: Calendars, bookings: Table) -> None:
        bookings.put(replace(BOOKING, id="e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10"))
        calendars.delete("E1")
        reason = "2 bookings hold this event's id"
        assert await self.process(calendars, bookings) == LookAgain(reason), "as it may be there again"
        assert await self.process(calendars, bookings, DELETED) == Hold(HoldKind.AMBIGUOUS, detail="2")
        assert bookings.written == []

    async def test_a_lost_answer_is_found_to_have_been_our_own_write(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.change("E1", span=span(12))
        bookings.answer_is_lost = True
        with pytest.raises(Transient):
            await self.process(calendars, bookings)
        assert isinstance(await self.process(calendars, bookings), Ignore)
        assert len(bookings.written) == 1

    async def test_what_was_written_by_a_worker_that_died_is_nobody_elses_edit(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        await self.process(calendars, bookings)
        calendars.change("E1", span=span(12))
        bookings.answer_is_lost = True
        with pytest.raises(Transient):
            await self.process(calendars, bookings)
        calendars.change("E1", span=span(15))
        assert isinstance(await self.process(calendars, bookings), MoveBooking)

    @pytest.mark.parametrize(
        ("policy", "kind"),
        [(ConflictPolicy.DATAVERSE, Hold), (ConflictPolicy.OUTLOOK, MoveBooking), (ConflictPolicy.HOLD, Hold)],
    )
    async def test_who_wins_a_conflict_is_a_setting(
        self, calendars: Calendars, bookings: Table, policy: ConflictPolicy, kind: type[Action]
    ) -> None:
        await self.process(calendars, bookings)
        calendars.change("E1", span=span(12))
        bookings.edit(GUID, span=span(15))
        processor = replace(self.processor(calendars, bookings), policy=policy)
        assert isinstance(await processor.process(UPDATED), kind)

    async def test_a_write_that_was_refused_in_the_end_may_have_been_done_at_first(self, calendars: Calendars) -> None:
        """Its first answer was lost; then a dispatcher moved the booking on, and nobody moved the event."""

        class Doubtful(Table):
            async def write(self, action: Write) -> str:
                await super().write(action)
                self.edit(GUID, span=span(15))
                raise Stale("412")

        bookings = Doubtful()
        bookings.put(BOOKING)
        await self.process(calendars, bookings)
        calendars.change("E1", span=span(12))
        with pytest.raises(Transient, match="in doubt"):
            await self.process(calendars, bookings)
        action = await self.process(calendars, bookings, replace(UPDATED, attempt=1))
        assert waits(action)
        assert action.kind is HoldKind.WAITS_FOR_OUTLOOK, "which is no conflict that Outlook might win"
        assert bookings.rows[GUID].span == span(15)

    async def test_a_row_that_never_keeps_still_goes_back_to_the_queue(self, calendars: Calendars) -> None:
        class Restless(Table):
            async def read(self, booking_id: str) -> Booking | None:
                row = await super().read(booking_id)
                self.put(self.rows[booking_id])
                return row

        bookings = Restless()
        bookings.put(BOOKING)
        calendars.change("E1", span=span(12))
        with pytest.raises(Stale, match=f"looked at {LOOKS} times: 412"):
            await self.process(calendars, bookings)
        assert bookings.reads == [GUID] * LOOKS

    @pytest.mark.parametrize(("is_gone", "looks"), [(False, 1), (True, 2)])
    async def test_what_somebody_else_notes_meanwhile_costs_another_look_only_if_there_is_something_to_add(
        self, calendars: Calendars, bookings: Table, is_gone: bool, looks: int
    ) -> None:
        class Overtaken(LedgerInMemory):
            async def write(self, entry: Entry) -> Entry:
                if not self.entries:
                    await super().write(Entry(entry.mailbox, entry.event_id))
                return await super().write(entry)

        self.remembered = Overtaken()
        if is_gone:
            calendars.delete("E1")
            bookings.edit(GUID, event_id=None)
        action = await self.process(calendars, bookings, DELETED if is_gone else UPDATED)
        assert isinstance(action, Ignore)
        assert calendars.reads == ["E1"] * looks
        assert (self.remembered.entries[ANNA, "E1"].kind is Kind.GONE) == is_gone

    async def test_a_booking_deleted_meanwhile_is_let_go(self, calendars: Calendars) -> None:
        class Vanishing(Table):
            async def read(self, booking_id: str) -> Booking | None:
                return self.rows.pop(booking_id, None)

        bookings = Vanishing()
        bookings.put(BOOKING)
        calendars.change("E1", span=span(12))
        assert isinstance(await self.process(calendars, bookings), Ignore)


class TestQueueMessages:
    @pytest.fixture
    def queues(self) -> QueuesInMemory:
        return QueuesInMemory()

    async def run(self, queues: QueuesInMemory, outcome: Action | SyncError, text: str | None = None) -> str:
        async def process(change: Change) -> Action:
            self.processed = change
            if isinstance(outcome, SyncError):
                raise outcome
            return outcome

        return await take(build_change_message(UPDATED) if text is None else text, process, no_batch, queues)

    @pytest.mark.parametrize(
        ("outcome", "said"),
        [
            (Ignore("in step"), "ignored"),
            (Hold(HoldKind.ALL_DAY), "held"),
            (Transient("429"), "put back"),
            (Misconfigured("EVENT_ID_COLUMN"), "put back"),
            (MailboxUnavailable("404"), "put back"),
            (Refused("403"), "parked"),
        ],
    )
    async def test_what_became_of_it_is_said(
        self, queues: QueuesInMemory, outcome: Action | SyncError, said: str
    ) -> None:
        assert await self.run(queues, outcome) == said
        assert await self.run(queues, outcome, "no json") == "parked"

    async def test_an_unreadable_change_of_a_batch_is_parked_alone(self, queues: QueuesInMemory) -> None:
        spread: list[Batch] = []

        async def note(batch: Batch) -> None:
            spread.append(batch)

        async def process(change: Change) -> Action:
            raise AssertionError(f"{change} came in no message of its own")

        [message] = build_batch_messages([UPDATED])
        mixed = json.dumps({"changes": [7, *json.loads(message)["changes"]]})
        assert await take(mixed, process, note, queues) == SPREAD
        assert [batch.changes for batch in spread] == [(UPDATED,)]
        [parked] = queues.of(f"{OUTLOOK_CHANGES}-poison")
        assert (json.loads(parked)["error"], json.loads(parked)["message"]) == ("Malformed", "7")

    async def test_a_processed_change_leaves_nothing_behind(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Ignore("in step"))
        assert queues.sent == []

    async def test_a_change_waits_as_long_as_the_service_asks(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Transient("503", retry_after=300))
        [(queue, message, hidden)] = queues.sent
        assert queue == "outlook-changes"
        assert parse_change_message(message) == replace(UPDATED, attempt=1)
        assert 300 <= hidden <= 360

    async def test_being_throttled_is_no_attempt_however_often(self, queues: QueuesInMemory) -> None:
        last = replace(UPDATED, attempt=PARKS)
        await self.run(queues, Throttled("429", retry_after=300), build_change_message(last))
        [(queue, message, hidden)] = queues.sent
        assert queue == "outlook-changes"
        assert parse_change_message(message) == last
        assert hidden >= 300

    async def test_a_change_that_is_not_let_in_is_put_back_unprocessed(self, queues: QueuesInMemory) -> None:
        async def process(change: Change) -> Action:
            raise AssertionError("processed")

        async def let_in(mailbox: str) -> None:
            assert mailbox == ANNA
            raise Throttled("429", retry_after=300)

        assert await take(build_change_message(UPDATED), process, no_batch, queues, let_in) == "put back"
        [(_, message, hidden)] = queues.sent
        assert parse_change_message(message) == UPDATED
        assert 300 <= hidden <= 303

    async def test_to_wait_to_be_let_in_takes_nothing_of_a_changes_patience(self, queues: QueuesInMemory) -> None:
        async def process(change: Change) -> Action:
            return Ignore("in step")

        async def let_in(mailbox: str) -> None:
            await asyncio.sleep(0.1)

        assert await take(build_change_message(UPDATED), process, no_batch, queues, let_in, patience=0.05) != "put back"
        assert queues.sent == []

    async def test_an_outage_puts_changes_back_and_loses_their_hint_never(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Transient("no answer"), build_change_message(replace(DELETED, attempt=3)))
        [(_, message, _)] = queues.sent
        assert parse_change_message(message) == replace(DELETED, attempt=4)

    async def test_what_is_not_believed_is_looked_at_again_later(self, queues: QueuesInMemory) -> None:
        await self.run(queues, LookAgain("the event is not there", GUID))
        [(queue, message, hidden)] = queues.sent
        assert (queue, hidden) == ("outlook-changes", GRACE)
        assert parse_change_message(message) == replace(MISSED, is_second_look=True)

    async def test_a_change_that_takes_too_long_is_put_back(
        self, queues: QueuesInMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def never(change: Change) -> Action:
            await asyncio.sleep(60)
            raise AssertionError

        assert await take(build_change_message(UPDATED), never, no_batch, queues, patience=0.01) == "put back"
        assert [queue for queue, _, _ in queues.sent] == ["outlook-changes"]
        assert "'it took too long'" in caplog.text

    async def test_a_change_waits_while_a_setting_is_wrong(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Misconfigured("EVENT_ID_COLUMN"))
        assert [queue for queue, _, _ in queues.sent] == ["outlook-changes"]

    async def test_a_change_that_cannot_be_done_for_a_day_is_parked(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Transient("503"), build_change_message(replace(UPDATED, attempt=30)))
        [(queue, _, _)] = queues.sent
        assert queue == "outlook-changes-poison"

    @pytest.mark.parametrize("error", [Refused("dataverse 403 0x80040220"), Malformed("graph: an answer without id")])
    async def test_what_another_try_cannot_mend_is_parked_at_once_with_its_reason(
        self, queues: QueuesInMemory, error: SyncError
    ) -> None:
        await self.run(queues, error)
        [(queue, message, _)] = queues.sent
        assert queue == "outlook-changes-poison"
        parked = json.loads(message)
        assert parked["reason"] == str(error)
        assert parse_change_message(parked["message"]) == UPDATED

    @pytest.mark.parametrize(
        "text", ["", "no json", "[]", "{}", '{"mailbox": 1}', '{"event": "E1"}', "\x00", "9" * 5000]
    )
    async def test_a_malformed_message_is_parked_at_once_with_its_reason(
        self, queues: QueuesInMemory, text: str
    ) -> None:
        await self.run(queues, Ignore("never reached"), text)
        [(queue, message, _)] = queues.sent
        assert queue == "outlook-changes-poison"
        assert json.loads(message)["error"] == "Malformed"
        assert json.loads(message)["message"] == text

    async def test_a_parked_message_of_any_size_fits_into_the_queue(self, queues: QueuesInMemory) -> None:
        """64 KiB after base64; a quote or a control character takes up to six bytes in JSON."""
        await self.run(queues, Ignore("never reached"), "\x00" * 64_000)
        [(_, message, _)] = queues.sent
        assert len(message.encode()) < 48 * 1024

    async def test_a_mailbox_that_is_unavailable_for_an_hour_is_swept_instead(
        self, queues: QueuesInMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        text, waited = build_change_message(UPDATED), 0.0
        for _ in range(MAILBOX_TRIES):
            await self.run(queues, MailboxUnavailable("graph 404 MailboxNotEnabledForRESTAPI"), text)
            [(queue, text, hidden)] = queues.sent
            assert queue == OUTLOOK_CHANGES
            waited += hidden
            queues.sent.clear()
        assert 3_600 < waited < 1.3 * 3_600
        await self.run(queues, MailboxUnavailable("graph 404 MailboxNotEnabledForRESTAPI"), text)
        [(queue, text, _)] = queues.sent
        assert (queue, parse_sweep_message(text)) == (SWEEPS, SweepRequest(ANNA, after_gap=True))
        assert "MailboxNotEnabledForRESTAPI" in caplog.text

    async def test_if_the_queue_refuses_the_host_brings_the_message_back(self, queues: QueuesInMemory) -> None:
        queues.refuses = True
        with pytest.raises(Transient):
            await self.run(queues, Transient("503"))

    async def test_a_hold_is_logged_as_a_warning_with_its_reason(
        self, queues: QueuesInMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.run(queues, Hold(HoldKind.ALL_DAY, GUID))
        assert [(record.levelno, GUID in record.getMessage()) for record in caplog.records] == [(logging.WARNING, True)]
