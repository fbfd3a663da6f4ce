"""The world of the stateful test: two services, storage and instances of the app, all with faults on demand.

It remembers all that ever was, and judges each write of the app by that alone, at the moment it is made; the rules
under test are not asked. What people do to it is test_sync_machine.py's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import note

from sync.errors import MailboxUnavailable, NotWritten, SyncError, Transient
from sync.graph.client_state import build_client_state
from sync.intake.coalescing import Notified
from sync.intake.spreading import spread
from sync.messages.changes import Batch, Change
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message, parse_change_message, parse_changes
from sync.model import Booking, ConflictPolicy, Event, EventType, Span, SyncMode
from sync.pairs.actions import Action, CancelBooking, Ignore, LinkBooking, MoveBooking, Observed, UnlinkBooking, Write
from sync.pairs.entry import GONE, Entry
from sync.pairs.holds import Holds, Listed
from sync.pairs.processing import Processor
from sync.sweep.sweeper import Sweeper
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
)
from tests.world.interleaving import Died, Steps
from tests.world.taking import posted, take

KEY = "k" * 40

MINUTE = timedelta(minutes=1)

LAG = 2 * MINUTE
"""So long a copy of Exchange's may lag behind."""

SKEW = 15 * MINUTE


@dataclass
class Clocks:
    """The true time, and how far everybody's clock is ahead of it."""

    true: datetime = NOW
    exchange: timedelta = timedelta(0)
    storage: timedelta = timedelta(0)
    instances: Sequence[timedelta] = (timedelta(0), timedelta(0))

    def of_storage(self) -> datetime:
        return self.true + self.storage


@dataclass
class Faults:
    """What happens to the next call of each kind, once."""

    errors: dict[str, Callable[[], SyncError]] = field(default_factory=dict)
    lag: int = 0
    """So many states behind is the next event that is read."""

    def strike(self, call: str) -> None:
        if call in self.errors:
            raise self.errors.pop(call)()

    def clear(self) -> None:
        self.errors.clear()
        self.lag = 0


@dataclass(frozen=True)
class Saved:
    """A state of an event, when it was saved by the world's count of changes, and by true time."""

    event: Event
    moment: int
    at: datetime


@dataclass(frozen=True)
class Known:
    """Times that a booking and its event had in common, and that the ledger must have learned of."""

    span: Span
    moment: int
    epoch: int


@dataclass(eq=False)
class Message:
    text: str
    visible: datetime
    """In true time."""
    receipt: int = 0
    is_taken: bool = False


@dataclass(eq=False)
class Worker:
    """One run of ``process_outlook_change``, in steps."""

    message: Message
    receipt: int
    change: Change
    running: Coroutine[Any, Any, Action]
    began: int
    """The moment of the world when it began."""
    epoch: int
    """How often the ledger had been lost by then."""
    has_lagged: bool = False


class LaggingCalendars(Calendars):
    """Stamps each state by Exchange's clock, and answers with an earlier one on demand."""

    world: World

    def put(self, mailbox: str, event: Event) -> Event:
        return self.world.saved(super().put(mailbox, self.world.stamped(event)))

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        await self.pause()
        self.world.faults.strike("event")
        self.check_owner(mailbox, event_id)
        if self.owner.get(event_id) != mailbox:
            return None
        states: list[Event | None] = [each.event for each in self.world.states[event_id]]
        if event_id in self.deleted and not self.stays_readable:
            states.append(None)
        return states[-1 - self.world.behind(event_id, len(states))]

    async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
        await self.pause()
        self.world.faults.strike("event")
        return self.owner.get(event_id) == mailbox and event_id not in self.deleted

    async def with_extension(self, mailbox: str) -> Sequence[Event]:
        await self.pause()
        found = [event for event in self.events.values() if self.owner[event.id] == mailbox and self.has(event.id)]
        return [event for event in found if event.has_extension]

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event]:
        return []


class WatchedTable(Table):
    """Has each write of the app judged at the moment it is made."""

    world: World

    async def read(self, booking_id: str) -> Booking | None:
        self.world.faults.strike("booking")
        return await super().read(booking_id)

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        self.world.faults.strike("booking")
        return await super().linked_to(event_id)

    async def write(self, action: Write) -> str:
        self.world.faults.strike("write")
        before = self.rows.get(action.booking_id)
        try:
            await self.pause()
            before = self.rows.get(action.booking_id)
            written = await super().write(action)
        except NotWritten as error:
            if self.world.faults.errors.pop("answer of the write", None) is not None:
                raise error.reason from error  # an earlier try may have been done
            raise
        assert before is not None
        self.world.judge(before, action)
        self.world.faults.strike("answer of the write")
        return written

    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        await self.pause()
        return [booking for booking in self.rows.values() if booking.mailbox == mailbox and booking.is_active]

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        await self.pause()
        return [self.rows[booking_id] for booking_id in booking_ids if booking_id in self.rows]


class FallibleLedger(LedgerInMemory):
    world: World

    async def read(self, mailbox: str, event_id: str) -> Entry:
        self.world.faults.strike("ledger")
        return await super().read(mailbox, event_id)

    async def write(self, entry: Entry) -> Entry:
        self.world.faults.strike("ledger's write")
        written = await super().write(entry)
        self.world.faults.strike("answer of the ledger")
        return written

    async def look(self, changes: Sequence[Change], within: float) -> Sequence[Notified]:
        if self.world.faults.errors.pop("notes", None):
            return [Notified(NOW)] * len(changes)
        return await super().look(changes, within)

    async def queued(self, change: Change, due: datetime, settle: int, streak: int) -> None:
        await self.world.meanwhile("queued note")
        if not self.world.faults.errors.pop("notes", None):
            await super().queued(change, due, settle, streak)


class FallibleBreaker(BreakerInMemory):
    world: World

    async def refuses(self, mailbox: str, event_key: str, now: datetime) -> str | None:
        await self.world.steps.pause()
        self.world.faults.strike("ledger")
        reason = await super().refuses(mailbox, event_key, now)
        self.world.has_tripped |= reason is not None
        return reason


@dataclass
class VisibleQueues:
    """One queue of changes, whose messages are hidden for a time, and one of poison."""

    world: World
    messages: list[Message] = field(default_factory=list)
    poison: list[str] = field(default_factory=list)

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        if messages:
            await self.world.meanwhile("send")
            self.world.faults.strike("queue")
        due = self.world.clocks.of_storage() + timedelta(seconds=hidden)
        if queue == OUTLOOK_CHANGES:
            visible = self.world.clocks.true + timedelta(seconds=hidden)
            self.messages += [Message(text, visible) for text in messages]
        elif queue == f"{OUTLOOK_CHANGES}-poison":
            self.poison += messages
        if messages:
            self.world.faults.strike("answer of the queue")
        return [due.replace(microsecond=0)] * len(messages)  # storage tells whole seconds


class World:
    """All of it, and its history."""

    def __init__(self) -> None:
        self.clocks, self.faults, self.steps = Clocks(), Faults(), Steps()
        self.calendars, self.table = LaggingCalendars(self.steps.pause), WatchedTable(self.steps.pause)
        self.ledger, self.breaker = FallibleLedger(self.steps.pause), FallibleBreaker()
        self.calendars.world = self.table.world = self.ledger.world = self.breaker.world = self
        self.ledger.now = lambda: self.clocks.of_storage().replace(microsecond=0)
        self.queues = VisibleQueues(self)
        self.policy, self.mode = ConflictPolicy.DATAVERSE, SyncMode.SYNC
        self.settle = 0
        self.meanwhile: Callable[[str], Awaitable[None]] = self.nothing
        self.loop = asyncio.new_event_loop()

        self.notifications: list[dict[str, Any]] = []
        """What Graph has still to deliver."""
        self.workers: list[Worker] = []
        self.working: Worker | None = None

        self.moment = 0
        """Counts the changes of the world."""
        self.epoch = 0
        """Counts the losses of the ledger."""
        self.states: dict[str, list[Saved]] = {}
        self.gone_at: dict[str, int] = {}
        """The last moment at which an event was gone or cancelled."""
        self.written: dict[tuple[str, str], tuple[int, int]] = {}
        """Of a booking and an event: the newest state that was written, and in which epoch."""
        self.known: dict[tuple[str, str], Known] = {}
        self.moved_by_dispatcher: dict[str, int] = {}
        """When each booking got the times that it has, if it was not from us."""
        self.edited: set[str] = set()
        """The bookings that people have changed in whatever way."""
        self.released: set[tuple[str, str, Span | None]] = set()
        """Of an event, a version of it, and where the booking was."""
        self.discarded: dict[tuple[str, str], tuple[int, int]] = {}
        self.canceled: set[tuple[str, str]] = set()
        """What was canceled since the breaker was reset, but for what a person released."""
        self.has_tripped = False
        self.was_reset = False
        self.was_lost_amid_work = False
        """Whether workers were at it, of whose writes nobody knows then."""
        self.misled: set[tuple[str, int]] = set()
        """Of an event, in which epoch a state that lags behind was taken for what both sides agree on."""
        self.left_to_the_sweep: set[str] = set()
        """Events about which no notification may tell the whole truth any more."""

    async def nothing(self, place: str) -> None:
        return None

    # --- Outlook ---

    def stamped(self, event: Event) -> Event:
        """No two states of an event have the same time; Graph tells seven digits of a second."""
        self.clocks.true += timedelta(milliseconds=1)
        now = self.clocks.true + self.clocks.exchange
        return replace(event, created=event.created or now, modified=now)

    def saved(self, event: Event) -> Event:
        self.moment += 1
        self.states.setdefault(event.id, []).append(Saved(event, self.moment, self.clocks.true))
        return event

    def behind(self, event_id: str, states: int) -> int:
        """How many states too old the one is that is read now."""
        lag, self.faults.lag = self.faults.lag, 0
        # After a third try a lagging copy is believed, as the clocks of two servers need not agree for ever.
        if not lag or self.working is None or self.working.change.attempt >= 3:
            return 0
        superseded = [each.at for each in self.states[event_id][1:]]
        if states > len(superseded) + 1:
            superseded.append(self.clocks.true)  # it was deleted; a little more of a lag than there would be
        recent = [at for at in superseded if at >= self.clocks.true - LAG]
        lag = min(lag, len(recent))
        if lag:
            self.working.has_lagged = True
            self.left_to_the_sweep.add(event_id)
        return lag

    def event(self, event_id: str) -> Event:
        return self.calendars.events[event_id]

    def is_there(self, event_id: str) -> bool:
        """Whether it stands in a calendar, and nobody has cancelled it."""
        return self.calendars.has(event_id) and not self.event(event_id).is_cancelled

    def version(self, event_id: str) -> str:
        return self.event(event_id).etag if self.calendars.has(event_id) else GONE

    def notify(self, event_id: str, change_type: str, times: int = 1) -> None:
        self.moment += 1
        if not self.is_there(event_id):
            self.gone_at[event_id] = self.moment
        mailbox = self.calendars.owner[event_id]
        notification = {
            "changeType": change_type,
            "resource": f"Users/{mailbox}/Events/{event_id}",
            "resourceData": {"id": event_id, "@odata.etag": self.event(event_id).etag},
            "clientState": build_client_state(KEY, mailbox),
        }
        self.notifications += [notification] * times

    # --- Dynamics ---

    def edit(self, booking: Booking, **changes: Any) -> None:
        """What a person does to a booking."""
        self.moment += 1
        self.edited.add(booking.id)
        if "span" in changes:
            self.moved_by_dispatcher[booking.id] = self.moment
        self.table.edit(booking.id, **changes)

    def lose_the_ledger(self, entries: dict[tuple[str, str], Entry], notes: dict[tuple[str, str], Notified]) -> None:
        """*entries* of yesterday are put back, or none; what they say is not read any more (see ledger_table.py)."""
        self.epoch += 1
        self.was_lost_amid_work |= bool(self.workers)
        self.ledger.wipe()
        for place in entries:
            self.ledger.version += 1
            self.ledger.entries[place] = Entry(*place, etag=str(self.ledger.version))
        self.ledger.notes.update(notes)
        self.left_to_the_sweep.update(self.states)

    # --- operators ---

    def say(self, word: str, each: Listed) -> None:
        """A person, who tries until it is done, says "release" or "discard" of what is held."""
        desk = Holds(self.ledger, self.queues, lambda: self.clocks.true)  # type: ignore[arg-type]
        faults, self.faults = self.faults, Faults()
        self.run(desk.release([each]) if word == "release" else desk.discard([each]))
        self.faults = faults
        event_id, version = each.entry.event_id, each.held.version
        if word == "release" and each.held.outcome:
            self.released.add((event_id, version, each.held.booking_span))
            self.discarded.pop((event_id, version), None)
        elif word == "discard":
            self.discarded[event_id, version] = self.moment, self.epoch
            self.released -= {said for said in self.released if said[:2] == (event_id, version)}

    def is_still(self, each: Listed) -> bool:
        """Whether event and booking are as they were when they were held."""
        booking = self.table.rows.get(each.entry.booking_id or "")
        is_there = booking is not None and booking.span == each.held.booking_span
        return is_there and self.version(each.entry.event_id) == each.held.version

    def reset_the_breaker(self) -> None:
        self.breaker.asked.clear()
        self.canceled.clear()
        self.was_reset = True

    # --- the app ---

    def run(self, running: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(running)

    async def post(self, notifications: Sequence[dict[str, Any]]) -> bool:
        """Graph delivers, and what it told is spread; whether that came to its end. If not, all of it comes again.

        As it does: a batch that is not spread to its end comes back from the queue.
        """
        batches = QueuesInMemory()
        await posted(json.dumps({"value": list(notifications)}).encode(), [KEY], batches)
        try:
            for batch in map(parse_changes, batches.of(OUTLOOK_CHANGES)):
                assert isinstance(batch, Batch)
                await spread(batch, self.queues, self.ledger, self.settle)
        except (Died, Transient):
            return False
        return True

    def visible(self) -> list[Message]:
        return [each for each in self.queues.messages if not each.is_taken and each.visible <= self.clocks.true]

    def take(self, message: Message, instance: int = 0) -> Worker:
        message.is_taken = True
        message.receipt += 1
        change = parse_change_message(message.text)
        running = self.processing(change, instance)
        self.workers.append(Worker(message, message.receipt, change, running, self.moment, self.epoch))
        return self.workers[-1]

    def processing(self, change: Change, instance: int = 0) -> Coroutine[Any, Any, Action]:
        def now() -> datetime:
            return self.clocks.true + self.clocks.instances[instance]

        processor = Processor(self.calendars, self.table, self.ledger, self.breaker, now, self.policy, mode=self.mode)
        return processor.process(change)

    async def step(self, worker: Worker) -> bool:
        """Whether *worker* has more to do."""
        self.working = worker
        try:
            worker.running.send(None)
        except StopIteration as end:
            await self.finish(worker, end.value)
            return False
        except SyncError as error:
            if isinstance(error, MailboxUnavailable):
                self.left_to_the_sweep.add(worker.change.event_id)
            await self.finish(worker, error)
            return False
        except BaseException:
            self.die(worker)  # or what comes after would hide what went wrong
            raise
        return True

    async def finish(self, worker: Worker, outcome: Action | SyncError) -> None:
        async def processed(change: Change) -> Action:
            if isinstance(outcome, SyncError):
                raise outcome
            return outcome

        self.workers.remove(worker)
        note(f"{worker.change.event_id}: {outcome!r}")
        if isinstance(outcome, Ignore):
            self.learn(worker)
            if worker.has_lagged:
                self.misled.add((worker.change.event_id, self.epoch))
        if isinstance(outcome, Observed):
            self.forget(worker)
        try:
            await take(worker.message.text, processed, no_batch, self.queues)
        except Transient:
            worker.message.is_taken = False  # the host brings it back
        else:
            if worker.receipt == worker.message.receipt:
                self.queues.messages.remove(worker.message)

    def die(self, worker: Worker) -> None:
        self.steps.end(worker.running)
        self.workers.remove(worker)
        if worker.receipt == worker.message.receipt:
            worker.message.is_taken = False

    async def sweep(self) -> list[str]:
        """Sweep both mailboxes, and queue what differs; the events that are held."""
        sweeper = Sweeper(
            events=self.calendars,
            bookings=self.table,
            queues=self.queues,
            ledger=self.ledger,
            now=lambda: self.clocks.true,
        )
        held = []
        for mailbox in (ANNA, BEN):
            with suppress(SyncError):  # it is put back; the next one does it
                found = await to_its_end(sweeper.compare(mailbox))
                await self.queues.send(
                    OUTLOOK_CHANGES, [build_change_message(each.change) for each in found if not each.is_held]
                )
                held += [each.change.event_id for each in found if each.is_held]
        return held

    async def process_all(self) -> None:
        """What has happened is delivered and processed, as far as that can be now."""
        if await self.post(self.notifications):
            self.notifications.clear()
        self.clocks.true += timedelta(seconds=self.settle + 1)
        for message in self.visible():
            worker = self.take(message)
            while await self.step(worker):
                pass

    async def drain(self) -> None:
        """Everything that waits is done, one after the other."""
        for _ in range(100):
            for worker in list(self.workers):
                while await self.step(worker):
                    pass
            if not (self.notifications or self.queues.messages or self.queues.poison):
                return
            assert await self.post(self.notifications)
            self.notifications.clear()
            replayed = [json.loads(text)["message"] for text in self.queues.poison]
            self.queues.poison.clear()
            await self.queues.send(OUTLOOK_CHANGES, replayed)
            hidden = [each.visible for each in self.queues.messages if not each.is_taken]
            self.clocks.true = max([self.clocks.true, *hidden])
            for message in self.visible():
                worker = self.take(message)
                while await self.step(worker):
                    pass
        raise AssertionError("it never comes to rest")

    # --- the oracle ---

    def forget(self, worker: Worker) -> None:
        """Where a write was left out, nobody knows what both sides have in common from then on."""
        for place in [place for place in self.known if place[1] == worker.change.event_id]:
            del self.known[place]

    def learn(self, worker: Worker) -> None:
        """Where nothing happened while a worker looked, the ledger knows what it saw."""
        event_id = worker.change.event_id
        if worker.began != self.moment or worker.epoch != self.epoch or worker.has_lagged:
            return
        for booking in self.table.rows.values():
            if booking.event_id == event_id and self.is_in_step(booking):
                self.known[booking.id, event_id] = Known(booking.span, self.moment, self.epoch)

    def is_in_step(self, booking: Booking) -> bool:
        event = self.calendars.events.get(booking.event_id or "")
        return (
            event is not None
            and self.is_there(event.id)
            and self.calendars.owner[event.id] == booking.mailbox
            and (event.booking_id, event.span) == (booking.id, booking.span)
        )

    def judge(self, before: Booking, action: Write) -> None:
        """P3, P4, P5 at the moment of a write."""
        worker = self.working
        assert worker is not None
        note(f"{worker.change.event_id}: writes {action!r}")
        self.moment += 1
        assert before.is_active or isinstance(action, LinkBooking), "an inactive booking is not ours to change"
        assert before.mailbox == worker.change.mailbox, "a reassigned booking was written"
        after = self.table.rows[before.id]
        assert replace(after, etag="") != replace(before, etag=""), "a write that changes nothing"
        match action:
            case CancelBooking():
                self.judge_cancellation(before, before.event_id or worker.change.event_id, worker)
            case MoveBooking():
                self.judge_move(before, action, worker)
            case UnlinkBooking():
                is_over = before.span.end <= self.clocks.true + SKEW
                assert before.is_canceled or before.has_begun or is_over
                # A copy of the event may take its place, of which nobody tells.
                claiming = [each.id for each in self.calendars.events.values() if each.booking_id == before.id]
                self.left_to_the_sweep.update(claiming)
            case LinkBooking():
                assert self.calendars.owner[action.event_id] == before.mailbox
                if before.is_open:
                    self.known[before.id, action.event_id] = Known(before.span, self.moment, worker.epoch)

    def judge_cancellation(self, before: Booking, event_id: str, worker: Worker) -> None:
        assert not before.has_begun
        assert self.gone_at.get(event_id, -1) >= 0, "canceled, but its event was never gone"
        assert not self.is_there(event_id) or self.gone_at[event_id] >= worker.began, "canceled, but its event is there"
        version = self.version(event_id)
        # What is in Deleted Items may still be read as it was when a person decided.
        versions = [version, self.event(event_id).etag]
        if worker.has_lagged:
            versions += [each.event.etag for each in self.states[event_id]]
        is_released = any((event_id, each, before.span) in self.released for each in versions)
        self.judge_edit_lost(before, worker.change.event_id, is_released)
        at, epoch = self.discarded.get((event_id, version), (-1, -1))
        assert epoch != self.epoch or self.last_change(event_id) > at, "canceled, though a person let it be"
        if not is_released:
            self.canceled.add((worker.change.mailbox, event_id))
        assert len(self.canceled) <= self.breaker.ceiling, "canceled beyond the ceiling"

    def judge_move(self, before: Booking, action: MoveBooking, worker: Worker) -> None:
        event_id = action.event_id or before.event_id or worker.change.event_id
        assert before.is_open
        number = max(n for n, each in enumerate(self.states[event_id]) if each.event.span == action.span)
        last, epoch = self.written.get((before.id, event_id), (-1, -1))
        # Without the ledger nobody can tell a state that lags behind.
        is_excused = worker.has_lagged and epoch != self.epoch
        assert number >= last or is_excused, "an older state of the event was written"
        self.written[before.id, event_id] = (number, worker.epoch)
        states = [each.event for each in self.states[event_id] if each.event.span == action.span]
        is_released = any((event_id, each.etag, before.span) in self.released for each in states)
        assert is_released or not all(map(is_special, states)), "a series or all-day event was followed"
        known = self.known.get((before.id, event_id))
        # Without the ledger, a booking that was unlinked when it was over is as one that was never linked.
        if before.event_id is not None or (known is not None and known.epoch == self.epoch):
            self.judge_edit_lost(before, event_id, is_released)
        self.known[before.id, event_id] = Known(action.span, self.moment, worker.epoch)
        self.moved_by_dispatcher.pop(before.id, None)

    def judge_edit_lost(self, before: Booking, event_id: str, is_released: bool) -> None:
        """A dispatcher's move since the last agreement is nobody's to overwrite, whether or not the ledger was lost.

        What it knows is of a booking and one event: a copy that takes over from a lost original has no agreement yet.
        """
        since, known = self.moved_by_dispatcher.get(before.id), self.known.get((before.id, event_id))
        if since is None or known is None or known.moment > since:
            return
        # Without the ledger nobody can tell a state that lags behind: where a dispatcher moved a booking back, it looks
        # as if it were still in step.
        if known.epoch != self.epoch and (event_id, self.epoch) in self.misled:
            return
        # Times that the event has had since then as well may have been agreed on meanwhile, and moved back to.
        had = [
            each.event.span == before.span and (after is None or after.moment > known.moment)
            for each, after in zip(self.states[event_id], [*self.states[event_id][1:], None], strict=True)
        ]
        assert any(had) or is_released or self.policy is ConflictPolicy.OUTLOOK, "a dispatcher's edit was lost"

    def last_change(self, event_id: str) -> int:
        return max(self.states[event_id][-1].moment, self.gone_at.get(event_id, -1))

    def is_listed(self, booking: Booking, event_id: str) -> bool:
        """Whether a person sees that the pair is out of step, and why, or has said that it may be."""
        entry = self.ledger.entries.get((self.calendars.owner[event_id], event_id))
        version = self.version(event_id)
        if entry is None or not (entry.held or entry.discarded == version):
            return False
        if entry.discarded == version:
            assert entry.held is None or entry.held.is_waiting, "a person let it be, and it is still held"
            return True
        assert entry.held is not None
        assert entry.held.reason
        is_only_missed = entry.held.is_missed and not self.is_there(event_id)  # nobody told of a deletion
        return entry.held.version == version and (is_only_missed or self.is_reason_to_hold(booking, event_id))

    def is_reason_to_hold(self, booking: Booking, event_id: str) -> bool:
        """What nobody but people and losses of the ledger bring about."""
        is_tripped = self.has_tripped and not self.is_there(event_id)
        is_edited = booking.id in self.edited
        return is_special(self.event(event_id)) or is_tripped or is_edited or self.was_lost_amid_work

    def trouble_with(self, booking: Booking) -> tuple[str, str] | None:
        """P1 for one booking, told from the world alone: the event that it is out of step with, and how."""
        if booking.mailbox is None or not booking.is_open:
            return None
        event = self.calendars.events.get(booking.event_id or "")
        if event is not None and self.calendars.owner[event.id] == booking.mailbox:
            if not self.is_there(event.id):
                return event.id, "linked to an event that is gone or cancelled"
            return None if event.span == booking.span else (event.id, "not in step with its event")
        for event in self.calendars.events.values():
            is_its = event.booking_id == booking.id and self.calendars.owner[event.id] == booking.mailbox
            if booking.event_id is None and is_its and self.is_there(event.id):
                return event.id, "not linked, though its event is there"
        return None

    def would_be_news(self, event_id: str, listed: Sequence[str]) -> bool:
        """Whether one more notification of the event may have an effect, though everything is done.

        The breaker was reset and lets pass now what is held; or no notification told the truth, and a sweep did no more
        than list the event or have it held as missed, or nothing as its booking is closed.
        """
        entry = self.ledger.entries.get((self.calendars.owner[event_id], event_id))
        booking = self.table.rows.get(self.event(event_id).booking_id or "")
        is_closed = booking is not None and not booking.is_open and event_id in self.left_to_the_sweep
        held = entry.held if entry is not None else None
        return event_id in listed or is_closed or (held is not None and (self.was_reset or held.is_missed))

    def check_convergence(self, excused: set[str], listed: Sequence[str] = ()) -> None:
        for booking in self.table.rows.values():
            trouble = self.trouble_with(booking)
            if trouble is not None:
                event_id, what = trouble
                told = [event_id]
                if not self.is_there(event_id):  # a person is to decide on another event that claims the booking
                    told += [each.id for each in self.calendars.events.values() if each.booking_id == booking.id]
                is_told = any(each in listed or self.is_listed(booking, each) for each in told)
                assert event_id in excused or is_told, what


def is_special(event: Event) -> bool:
    return event.is_all_day or event.type is not EventType.SINGLE


async def _nobody() -> Sequence[str]:
    return []


async def to_its_end(running: Coroutine[Any, Any, Any]) -> Any:
    """All steps of *running* at once."""
    while True:
        try:
            running.send(None)
        except StopIteration as end:
            return end.value
