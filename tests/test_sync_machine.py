"""A hostile user: moves, deletes, copies, cancels, reassigns, repeats, reorders and stalls, and the promises hold.

What is right is told by an oracle that knows the history of the world, not by the rules under test.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from sync.errors import MailboxUnavailable, Transient
from sync.handlers import Processor
from sync.model import (
    Booking,
    CancelBooking,
    Change,
    Event,
    EventType,
    LinkBooking,
    MoveBooking,
    Span,
    SyncMode,
    UnlinkBooking,
    Write,
)
from tests.fakes import ANNA, BEN, NOW, BreakerInMemory, Calendars, LedgerInMemory, Table, span
from tests.interleaving import Schedule, Steps


@dataclass
class Worker:
    change: Change
    running: Coroutine[Any, Any, Any]
    began: int
    """The moment of the world when it began."""


class WatchedTable(Table):
    """Judges each write of the app at the moment it is made."""

    machine: SyncMachine

    async def write(self, action: Write) -> None:
        before = self.rows.get(action.booking_id)
        await super().write(action)
        assert before is not None
        self.machine.judge(before, action)


class SyncMachine(RuleBasedStateMachine):
    """Changes happen at once; their notifications arrive in any order, several times, and are processed in steps."""

    events = Bundle("events")
    bookings = Bundle("bookings")
    mode = SyncMode.SYNC

    def __init__(self) -> None:
        super().__init__()
        self.steps = Steps()
        self.calendars = Calendars(self.steps.pause)
        self.table = WatchedTable(self.steps.pause)
        self.table.machine = self
        self.ledger = LedgerInMemory(self.steps.pause)
        self.notifications: list[Change] = []
        self.workers: list[Worker] = []
        self.history: dict[str, list[Span]] = {}
        """Of each event, all spans it had; the hours rise, so that each is there once."""
        self.gone_at: dict[str, int] = {}
        """The last moment at which an event was gone or cancelled."""
        self.moment = 0
        self.hour = 0.0
        self.last_span_written: dict[str, tuple[str, int]] = {}

    @initialize(stays_readable=st.booleans())
    def deleted_items(self, stays_readable: bool) -> None:
        self.calendars.stays_readable = stays_readable

    # --- people ---

    def new_span(self) -> Span:
        self.hour += 1
        return span(10 + self.hour)

    def put(self, mailbox: str, event: Event) -> None:
        self.calendars.put(mailbox, event)
        self.history.setdefault(event.id, []).append(event.span)

    def notify(self, event_id: str, change_type: str, times: int = 1) -> None:
        self.moment += 1
        if not self.calendars.has(event_id) or self.calendars.events[event_id].is_cancelled:
            self.gone_at[event_id] = self.moment
        change = Change(self.calendars.owner[event_id], event_id, change_type == "deleted")
        self.notifications += [change] * times

    @precondition(lambda self: len(self.table.rows) < 2)  # few, so that much happens to each
    @rule(target=events, times=st.integers(1, 4), mailbox=st.sampled_from([ANNA, BEN]))
    def a_dispatcher_books(self, times: int, mailbox: str) -> str:
        number = len(self.table.rows)
        booking_id, event_id, at = f"{number:08d}-0000-4000-8000-000000000000", f"E{len(self.history)}", self.new_span()
        self.table.put(Booking(booking_id, "", at, None, mailbox))
        self.put(mailbox, Event(event_id, "", at, has_extension=True, booking_id=booking_id))
        self.notify(event_id, "created", times)
        return event_id

    @precondition(lambda self: len(self.history) < 4)
    @rule(target=events, mailbox=st.sampled_from([ANNA, BEN]))
    def a_technician_makes_an_ordinary_meeting(self, mailbox: str) -> str:
        event_id = f"E{len(self.history)}"
        self.put(mailbox, Event(event_id, "", self.new_span()))
        self.notify(event_id, "created")
        return event_id

    @rule(event_id=events, times=st.integers(1, 3))
    def a_technician_moves_an_event(self, event_id: str, times: int) -> None:
        if self.calendars.has(event_id):
            self.put(self.calendars.owner[event_id], replace(self.calendars.events[event_id], span=self.new_span()))
            self.notify(event_id, "updated", times)

    @rule(event_id=events)
    def a_technician_edits_the_subject(self, event_id: str) -> None:
        if self.calendars.has(event_id):
            self.calendars.change(event_id)
            self.notify(event_id, "updated")

    @rule(event_id=events, all_day=st.booleans(), kind=st.sampled_from(EventType))
    def a_technician_makes_it_a_series_or_an_all_day_event(self, event_id: str, all_day: bool, kind: EventType) -> None:
        if self.calendars.has(event_id):
            self.calendars.change(event_id, is_all_day=all_day, type=kind)
            self.notify(event_id, "updated")

    @rule(event_id=events)
    def a_technician_deletes_an_event(self, event_id: str) -> None:
        if self.calendars.has(event_id):
            self.calendars.delete(event_id)
            self.notify(event_id, "deleted")

    @rule(event_id=events)
    def a_technician_restores_an_event(self, event_id: str) -> None:
        if event_id in self.calendars.deleted:
            self.calendars.restore(event_id)
            self.notify(event_id, "created")

    @rule(event_id=events)
    def a_technician_moves_it_to_another_calendar(self, event_id: str) -> None:
        if self.calendars.has(event_id):
            self.notify(event_id, "deleted")
            self.notify(event_id, "created")

    @precondition(lambda self: len(self.history) < 4)
    @rule(target=events, event_id=events)
    def a_technician_copies_an_event(self, event_id: str) -> Any:
        if not self.calendars.has(event_id):
            return multiple()
        copy = f"E{len(self.history)}"
        self.put(
            self.calendars.owner[event_id], replace(self.calendars.events[event_id], id=copy, span=self.new_span())
        )
        self.notify(copy, "created")
        return copy

    @rule(event_id=events)
    def the_organizer_cancels(self, event_id: str) -> None:
        if self.calendars.has(event_id):
            self.calendars.change(event_id, is_cancelled=True)
            self.notify(event_id, "updated")

    def a_booking(self, pick: int) -> Booking | None:
        rows = list(self.table.rows.values())
        return rows[pick % len(rows)] if rows else None

    @rule(
        pick=st.integers(0, 9),
        edit=st.sampled_from(
            [{"is_canceled": True}, {"has_begun": True}, {"is_active": False}, {"mailbox": ANNA}, {"mailbox": BEN}]
        ),
    )
    def a_dispatcher_cancels_starts_deactivates_or_reassigns(self, pick: int, edit: dict[str, Any]) -> None:
        if booking := self.a_booking(pick):
            self.moment += 1
            self.table.edit(booking.id, **edit)
            # What the customer's other direction does to the event. Without it nothing in Outlook tells that a booking
            # came back to its first mailbox; that is for the sweep to find.
            for event in list(self.calendars.events.values()):
                if event.booking_id == booking.id and self.calendars.has(event.id):
                    self.calendars.change(event.id)
                    self.notify(event.id, "updated")

    @rule(pick=st.integers(0, 9))
    def a_dispatcher_retires_a_booking(self, pick: int) -> None:
        if booking := self.a_booking(pick):
            self.moment += 1
            self.table.edit(booking.id, is_active=False, event_id=None, mailbox=None)

    # --- the app ---

    @precondition(lambda self: self.notifications)
    @rule(pick=st.integers(0, 99), again=st.booleans())
    def a_notification_is_taken_up(self, pick: int, again: bool) -> None:
        place = pick % len(self.notifications)
        change = self.notifications[place] if again else self.notifications.pop(place)
        self.workers.append(Worker(change, self.processing(change), self.moment))

    @precondition(lambda self: self.workers)
    @rule(pick=st.integers(0, 99), steps=st.integers(1, 6))
    def a_worker_goes_on(self, pick: int, steps: int) -> None:
        worker = self.workers[pick % len(self.workers)]
        for _ in range(steps):
            if not self.step(worker):
                return

    @rule(
        event_id=events,
        act=st.sampled_from(["move", "delete"]),
        order=st.lists(st.integers(0, 2), min_size=4, max_size=14),
        processed_at_once=st.booleans(),
    )
    def two_deliveries_race_with_the_technician(
        self, event_id: str, act: str, order: list[int], processed_at_once: bool
    ) -> None:
        """What the other rules do as well, but all of it to one event, which is where it hurts."""
        owner = self.calendars.owner[event_id]
        late = Worker(Change(owner, event_id), self.processing(Change(owner, event_id)), self.moment)
        self.workers.append(late)
        other: Worker | None = None
        for choice in order:
            if choice == 0 and late in self.workers:
                self.step(late)
            elif choice == 1 and other is not None and other in self.workers:
                self.step(other)
            elif choice == 2 and other is None:
                if act == "move":
                    self.a_technician_moves_an_event(event_id, 1)
                else:
                    self.a_technician_deletes_an_event(event_id)
                change = self.notifications.pop() if self.notifications else Change(owner, event_id)
                other = Worker(change, self.processing(change), self.moment)
                self.workers.append(other)
                while processed_at_once and self.step(other):
                    pass

    def processing(self, change: Change) -> Coroutine[Any, Any, Any]:
        breaker = BreakerInMemory()
        return Processor(self.calendars, self.table, self.ledger, breaker, lambda: NOW, mode=self.mode).process(change)

    @precondition(lambda self: self.workers)
    @rule(pick=st.integers(0, 99))
    def a_worker_dies_and_its_message_comes_back(self, pick: int) -> None:
        worker = self.workers.pop(pick % len(self.workers))
        worker.running.close()
        self.notifications.append(worker.change)

    @rule()
    def the_next_answer_of_a_write_is_lost(self) -> None:
        self.table.answer_is_lost = True

    @rule(error=st.sampled_from([Transient("503"), Transient("429", 30), MailboxUnavailable("404")]))
    def a_read_of_the_mailbox_fails(self, error: Exception) -> None:
        self.calendars.trouble = [error]  # type: ignore[list-item]

    def step(self, worker: Worker) -> bool:
        self.working = worker
        try:
            worker.running.send(None)
        except StopIteration:
            self.workers.remove(worker)
            return False
        except (Transient, MailboxUnavailable):
            self.workers.remove(worker)
            self.notifications.append(worker.change)
            return False
        return True

    # --- the oracle ---

    def judge(self, before: Booking, action: Write) -> None:
        """P3, P4, P5 at the moment of a write."""
        assert before.is_active or isinstance(action, LinkBooking), "an inactive booking is not ours to change"
        assert before.mailbox == self.working.change.mailbox, "a reassigned booking was written"
        after = self.table.rows[before.id]
        assert replace(after, etag="") != replace(before, etag=""), "a write that changes nothing"
        match action:
            case CancelBooking():
                event_id = before.event_id or self.working.change.event_id
                assert not before.has_begun
                assert self.gone_at.get(event_id, -1) >= 0, "canceled, but its event was never gone"
                still_there = self.calendars.has(event_id) and not self.calendars.events[event_id].is_cancelled
                assert not still_there or self.gone_at[event_id] >= self.working.began
            case MoveBooking():
                event_id = self.working.change.event_id
                version = self.history[event_id].index(action.span)
                last_event, last = self.last_span_written.get(before.id, (event_id, -1))
                assert last_event != event_id or version >= last, "an older state of the event was written"
                self.last_span_written[before.id] = (event_id, version)
                assert before.is_open
            case UnlinkBooking():
                assert before.is_canceled or before.has_begun or before.span.end <= NOW
            case LinkBooking():
                assert self.calendars.owner[action.event_id] == before.mailbox

    @invariant()
    def ordinary_meetings_touch_no_booking(self) -> None:
        linked = {booking.event_id for booking in self.table.rows.values()} - {None}
        assert all(self.calendars.events[event_id].has_extension for event_id in linked)  # type: ignore[index]

    def teardown(self) -> None:
        """Faults end, everything is processed: P1, and P5 for what comes after."""
        self.calendars.trouble.clear()
        while self.workers:
            while self.step(self.workers[0]):
                pass
            self.calendars.trouble.clear()
        self.table.answer_is_lost = False
        while self.notifications:
            self.drain(self.notifications.pop(0))
        for booking in self.table.rows.values():
            self.check_in_step(booking)
        written = len(self.table.written)
        for event_id in self.history:
            for deleted in (False, True):
                self.drain(Change(self.calendars.owner[event_id], event_id, deleted))
        assert len(self.table.written) == written, "nothing has changed, and something was written"

    def drain(self, change: Change) -> None:
        worker = Worker(change, self.processing(change), self.moment)
        self.working = worker
        assert Schedule([]).run([worker.running]) == [None]

    def check_in_step(self, booking: Booking) -> None:
        """P1 for one booking, told from the world alone."""
        if booking.mailbox is None or not booking.is_open:
            return
        event = self.calendars.events.get(booking.event_id or "")
        if event is not None and self.calendars.owner[event.id] == booking.mailbox:
            assert self.calendars.has(event.id), "linked to an event that is gone"
            assert not event.is_cancelled, "linked to an event that its organizer cancelled"
            if event.type is EventType.SINGLE and not event.is_all_day:
                assert event.span == booking.span, "not in step with its event"
        if booking.event_id is None:
            assert not [
                event
                for event in self.calendars.events.values()
                if event.booking_id == booking.id
                and self.calendars.has(event.id)
                and self.calendars.owner[event.id] == booking.mailbox
                and event.type is EventType.SINGLE
                and not event.is_all_day
            ], "not linked, though its event is there"


SyncMachine.TestCase.settings = settings(max_examples=500, stateful_step_count=50, deadline=None)


@pytest.mark.timeout(600)  # what fails takes minutes to be made small
class TestTheHostileUser(SyncMachine.TestCase):  # type: ignore[misc]
    """The quick form."""


class ThoroughMachine(SyncMachine):
    """The same with more of everything."""


ThoroughMachine.TestCase.settings = settings(max_examples=3_000, stateful_step_count=80, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestTheHostileUserForLonger(ThoroughMachine.TestCase):  # type: ignore[misc]
    """The exhaustive form."""
