"""What becomes of a queue message: done, put back or parked; and the order of reads."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from sync.errors import (
    InvalidId,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotOurs,
    Refused,
    Stale,
    SyncError,
    Throttled,
    Transient,
    Withdrawn,
)
from sync.handlers import GRACE, LOOKS, Processor, process_change
from sync.model import (
    Action,
    Booking,
    CancelBooking,
    Change,
    Event,
    Hold,
    Ignore,
    LinkBooking,
    MoveBooking,
    Postpone,
    Write,
)
from sync.notifications import build_change_message, parse_change_message
from sync.parking import PARKS
from tests.fakes import ANNA, NOW, BreakerInMemory, Calendars, LedgerInMemory, QueuesInMemory, Table, no_batch, span

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
EVENT = Event("E1", "", span(9), has_extension=True, booking_id=GUID)
BOOKING = Booking(GUID, "", span(9), "E1", ANNA)
UPDATED = Change(ANNA, "E1")
DELETED = Change(ANNA, "E1", deleted=True)


class TestProcess:
    """The reads and writes of one change; the decisions themselves are test_decide.py's."""

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
        return self.remembered

    def processor(self, calendars: Calendars, bookings: Table) -> Processor:
        return Processor(calendars, bookings, self.remembered, BreakerInMemory(), lambda: NOW)

    async def process(self, calendars: Calendars, bookings: Table, change: Change = UPDATED) -> Action:
        return await self.processor(calendars, bookings).process(change)

    async def test_an_ordinary_meeting_costs_one_read(self, calendars: Calendars, bookings: Table) -> None:
        calendars.put(ANNA, Event("E9", "", span(9)))
        assert isinstance(await self.process(calendars, bookings, Change(ANNA, "E9")), Ignore)
        assert (calendars.reads, bookings.reads) == (["E9"], [])

    async def test_a_pair_in_step_costs_one_read_each(self, calendars: Calendars, bookings: Table) -> None:
        assert isinstance(await self.process(calendars, bookings), Ignore)
        assert (calendars.reads, bookings.reads, bookings.written) == (["E1"], [GUID], [])

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

    async def test_a_404_that_nobody_announced_is_believed_after_a_second_look(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings), Postpone)
        assert bookings.written == []
        assert isinstance(await self.process(calendars, bookings, replace(UPDATED, missing=True)), CancelBooking)

    async def test_an_event_out_of_sight_for_a_moment_cancels_nothing(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings), Postpone)
        calendars.restore("E1")
        assert isinstance(await self.process(calendars, bookings, replace(UPDATED, missing=True)), Ignore)
        assert bookings.written == []

    async def test_a_new_booking_learns_its_events_id_by_one_write(self, calendars: Calendars, bookings: Table) -> None:
        bookings.edit(GUID, event_id=None)
        assert isinstance(await self.process(calendars, bookings), LinkBooking)
        assert (len(bookings.written), bookings.rows[GUID].event_id) == (1, "E1")

    async def test_a_deleted_event_that_stays_readable_is_gone(self, calendars: Calendars, bookings: Table) -> None:
        calendars.stays_readable = True
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), CancelBooking)

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
        assert isinstance(await self.process(calendars, bookings, Change(ANNA, "E9", deleted=True)), Ignore)
        assert calendars.reads == ["E9"]

    async def test_late_news_of_a_deleted_event_do_not_link_its_canceled_booking_again(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.stays_readable = True
        calendars.delete("E1")
        await self.process(calendars, bookings, DELETED)
        assert isinstance(await self.process(calendars, bookings, UPDATED), Ignore)
        assert len(bookings.written) == 1

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
            async def write(self, action: Write) -> None:
                if not calendars.deleted:
                    calendars.delete("E1")
                    assert isinstance(await processing(calendars, self).process(DELETED), Ignore)
                    if outcome == "refused":
                        raise Stale("412")
                    self.answer_is_lost = outcome != "written"
                await super().write(action)

        overtaken = Overtaken(rows=bookings.rows, version=bookings.version)
        queues = QueuesInMemory()
        processor = self.processor(calendars, overtaken)
        await process_change(build_change_message(UPDATED), processor.process, no_batch, queues)
        for message in queues.of("booking-changes"):
            await process_change(message, processor.process, no_batch, queues)
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

    async def test_a_copy_of_the_event_changes_nothing(self, calendars: Calendars, bookings: Table) -> None:
        calendars.put(ANNA, replace(EVENT, id="E2", span=span(15)))
        assert isinstance(await self.process(calendars, bookings, Change(ANNA, "E2")), Ignore)
        assert bookings.rows[GUID].span == span(9)

    @pytest.mark.parametrize("readable", [False, True])
    async def test_a_copy_takes_over_when_the_original_was_deleted_unnoticed(
        self, calendars: Calendars, bookings: Table, readable: bool
    ) -> None:
        calendars.stays_readable = readable
        calendars.put(ANNA, replace(EVENT, id="E2", span=span(15)))
        calendars.delete("E1")
        await self.process(calendars, bookings, Change(ANNA, "E2"))
        assert (bookings.rows[GUID].event_id, bookings.rows[GUID].span) == ("E2", span(15))

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

    async def test_an_event_id_that_was_typed_in_is_replaced(self, calendars: Calendars, bookings: Table) -> None:
        class Strict(Calendars):
            async def read(self, mailbox: str, event_id: str) -> Event | None:
                if event_id == "see Outlook!":
                    raise InvalidId("400 ErrorInvalidIdMalformed")
                return await super().read(mailbox, event_id)

        strict = Strict(events=calendars.events, owner=calendars.owner)
        bookings.edit(GUID, event_id="see Outlook!")
        assert isinstance(await self.process(strict, bookings), LinkBooking)

    async def test_an_event_in_deleted_items_does_not_keep_its_successor_from_the_booking(
        self, calendars: Calendars, bookings: Table
    ) -> None:
        calendars.stays_readable = True
        calendars.delete("E1")
        calendars.put(ANNA, replace(EVENT, id="E2"))
        assert isinstance(await self.process(calendars, bookings, Change(ANNA, "E2")), LinkBooking)

    async def test_an_ordinary_meeting_that_cannot_be_read_is_ignored(self, bookings: Table) -> None:
        class Odd(Calendars):
            async def read(self, mailbox: str, event_id: str) -> Event | None:
                raise NotOurs("an event that cannot be read")

        assert isinstance(await self.process(Odd(), bookings, DELETED), Ignore)
        assert bookings.written == []

    async def test_two_bookings_with_one_event_id_are_held(self, calendars: Calendars, bookings: Table) -> None:
        bookings.put(replace(BOOKING, id="e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10"))
        calendars.delete("E1")
        assert isinstance(await self.process(calendars, bookings, DELETED), Hold)
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

    async def test_a_row_that_never_keeps_still_goes_back_to_the_queue(self, calendars: Calendars) -> None:
        class Restless(Table):
            async def read(self, booking_id: str) -> Booking | None:
                row = await super().read(booking_id)
                self.edit(booking_id)
                return row

        bookings = Restless()
        bookings.put(BOOKING)
        calendars.change("E1", span=span(12))
        with pytest.raises(Stale):
            await self.process(calendars, bookings)
        assert bookings.reads == [GUID] * LOOKS

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

    async def run(self, queues: QueuesInMemory, outcome: Action | SyncError, text: str | None = None) -> None:
        async def process(change: Change) -> Action:
            self.processed = change
            if isinstance(outcome, SyncError):
                raise outcome
            return outcome

        await process_change(build_change_message(UPDATED) if text is None else text, process, no_batch, queues)

    async def test_a_processed_change_leaves_nothing_behind(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Ignore("in step"))
        assert queues.sent == []

    async def test_a_change_waits_as_long_as_the_service_asks(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Transient("503", retry_after=300))
        [(queue, message, hidden)] = queues.sent
        assert queue == "booking-changes"
        assert parse_change_message(message) == replace(UPDATED, attempt=1)
        assert 300 <= hidden <= 360

    async def test_being_throttled_is_no_attempt_however_often(self, queues: QueuesInMemory) -> None:
        last = replace(UPDATED, attempt=PARKS)
        await self.run(queues, Throttled("429", retry_after=300), build_change_message(last))
        [(queue, message, hidden)] = queues.sent
        assert queue == "booking-changes"
        assert parse_change_message(message) == last
        assert hidden >= 300

    async def test_a_change_that_is_not_let_in_is_put_back_unprocessed(self, queues: QueuesInMemory) -> None:
        async def process(change: Change) -> Action:
            raise AssertionError("processed")

        async def let_in(mailbox: str) -> None:
            assert mailbox == ANNA
            raise Throttled("429", retry_after=300)

        assert await process_change(build_change_message(UPDATED), process, no_batch, queues, let_in) == "put back"
        [(_, message, hidden)] = queues.sent
        assert parse_change_message(message) == UPDATED
        assert 300 <= hidden <= 303

    async def test_to_wait_to_be_let_in_takes_nothing_of_a_changes_patience(
        self, queues: QueuesInMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sync.handlers.PATIENCE", 0.05)

        async def process(change: Change) -> Action:
            return Ignore("in step")

        async def let_in(mailbox: str) -> None:
            await asyncio.sleep(0.1)

        assert await process_change(build_change_message(UPDATED), process, no_batch, queues, let_in) != "put back"
        assert queues.sent == []

    async def test_an_outage_puts_changes_back_and_loses_their_hint_never(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Transient("no answer"), build_change_message(replace(DELETED, attempt=3)))
        [(_, message, _)] = queues.sent
        assert parse_change_message(message) == replace(DELETED, attempt=4)

    async def test_what_is_not_believed_is_looked_at_again_later(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Postpone("the event is not there", GUID))
        [(queue, message, hidden)] = queues.sent
        assert (queue, hidden) == ("booking-changes", GRACE)
        assert parse_change_message(message) == replace(UPDATED, missing=True)

    async def test_a_change_that_takes_too_long_is_put_back(
        self, queues: QueuesInMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def never(change: Change) -> Action:
            await asyncio.sleep(60)
            raise AssertionError

        monkeypatch.setattr("sync.handlers.PATIENCE", 0.01)
        await process_change(build_change_message(UPDATED), never, no_batch, queues)
        assert [queue for queue, _, _ in queues.sent] == ["booking-changes"]

    async def test_a_change_waits_while_a_setting_is_wrong(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Misconfigured("EVENT_ID_COLUMN"))
        assert [queue for queue, _, _ in queues.sent] == ["booking-changes"]

    async def test_a_change_that_cannot_be_done_for_a_day_is_parked(self, queues: QueuesInMemory) -> None:
        await self.run(queues, Transient("503"), build_change_message(replace(UPDATED, attempt=30)))
        [(queue, _, _)] = queues.sent
        assert queue == "booking-changes-poison"

    @pytest.mark.parametrize("error", [Refused("dataverse 403 0x80040220"), Malformed("graph: an answer without id")])
    async def test_what_another_try_cannot_mend_is_parked_at_once_with_its_reason(
        self, queues: QueuesInMemory, error: SyncError
    ) -> None:
        await self.run(queues, error)
        [(queue, message, _)] = queues.sent
        assert queue == "booking-changes-poison"
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
        assert queue == "booking-changes-poison"
        assert json.loads(message)["error"] == "Malformed"
        assert json.loads(message)["message"] == text

    async def test_a_parked_message_of_any_size_fits_into_the_queue(self, queues: QueuesInMemory) -> None:
        """64 KiB after base64; a quote or a control character takes up to six bytes in JSON."""
        await self.run(queues, Ignore("never reached"), "\x00" * 64_000)
        [(_, message, _)] = queues.sent
        assert len(message.encode()) < 48 * 1024

    async def test_an_unavailable_mailbox_parks_nothing(
        self, queues: QueuesInMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.run(queues, MailboxUnavailable("graph 404 MailboxNotEnabledForRESTAPI"))
        assert queues.sent == []
        assert "MailboxNotEnabledForRESTAPI" in caplog.text

    async def test_if_the_queue_refuses_the_host_brings_the_message_back(self, queues: QueuesInMemory) -> None:
        queues.refuses = True
        with pytest.raises(Transient):
            await self.run(queues, Transient("503"))

    async def test_a_hold_is_logged_as_a_warning_with_its_reason(
        self, queues: QueuesInMemory, caplog: pytest.LogCaptureFixture
    ) -> None:
        await self.run(queues, Hold("the event lasts all day", GUID))
        assert [(record.levelno, GUID in record.getMessage()) for record in caplog.records] == [(logging.WARNING, True)]
