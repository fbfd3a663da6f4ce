"""Plays a day against the simulated services and whoever is notified of it, and bills each call to its change.

The simulated clock stands still between steps, so a day takes no longer than its calls.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Protocol

import aiohttp

from benchmarks.day import Calls, Change, Day, Kind, Notification, Save
from benchmarks.original import Flows
from benchmarks.posts import Item, build_item
from sandbox.calls import Call
from sandbox.clock import Clock
from sandbox.dataverse.tables import Row
from sandbox.graph.mailboxes import Event
from sandbox.server import Sandbox
from sandbox.world.people import Technician
from sync.settings.parts import AcknowledgeSettings
from tests.world.app import KEY, App, an_app, is_in_step

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Subject(Protocol):
    """Whoever is notified."""

    @property
    def sandbox(self) -> Sandbox: ...

    async def notify(self, items: Sequence[Item]) -> None:
        """Take one POST."""

    def next_due(self) -> datetime | None:
        """When there is something to do that waits for its time."""

    async def work(self) -> None:
        """Do all that is due."""


@dataclass
class TheApp:
    """The app as tests deploy it: its real clients over HTTP, its queues in memory."""

    app: App
    session: aiohttp.ClientSession

    @property
    def sandbox(self) -> Sandbox:
        return self.app.sandbox

    async def notify(self, items: Sequence[Item]) -> None:
        async with self.session.post(self.app.webhook, json={"value": items}) as answer:
            answer.raise_for_status()

    def next_due(self) -> datetime | None:
        return min((message.visible_at for message in self.app.inbox.messages), default=None)

    async def work(self) -> None:
        await self.app.work(delivered=False)
        if self.app.inbox.parked:
            raise AssertionError(f"parked: {self.app.inbox.parked[0]}")


@dataclass
class TheOriginal:
    """A run of the parent flow for each notification, one after the other."""

    sandbox: Sandbox
    flows: Flows

    async def notify(self, items: Sequence[Item]) -> None:
        for item in items:
            _, mailbox, _, event_id = item["resource"].split("/")
            await self.flows.run(mailbox, event_id)

    def next_due(self) -> datetime | None:
        return None

    async def work(self) -> None:
        """It keeps nothing for later."""


@asynccontextmanager
async def the_app(deleted_stay_readable: bool = False) -> AsyncIterator[TheApp]:
    """*deleted_stay_readable* is how Outlook may be, by its documentation: the event is in Deleted Items then."""
    async with an_app(clock=Clock(stopped_at=MIDNIGHT)) as app, aiohttp.ClientSession() as session:
        app.settle = AcknowledgeSettings.model_fields["settle_seconds"].default
        app.sandbox.graph_switches.deleted_stay_readable = deleted_stay_readable
        yield TheApp(app, session)


@asynccontextmanager
async def the_original() -> AsyncIterator[TheOriginal]:
    async with Sandbox(7, clock=Clock(stopped_at=MIDNIGHT)) as sandbox, aiohttp.ClientSession() as session:
        yield TheOriginal(sandbox, Flows(session, sandbox.graph_url, sandbox.dataverse_url))


async def replay(day: Day, subject: Subject) -> Mapping[Kind, Calls]:
    """What *subject*, with a fresh sandbox, spends on each kind of change.

    Raises: AssertionError if a booking is not in step with its event in the end, or nobody has looked at an event:
    what was left undone would count as saved.
    """
    clock = subject.sandbox.clock
    people = _People(subject.sandbox, day)
    bill = _Bill()
    subject.sandbox.calls.listeners.append(bill.add)

    async def pass_time_until(moment: datetime) -> None:
        while (due := subject.next_due()) is not None and due <= moment:
            clock.move(max(due - clock.now(), timedelta()))
            await subject.work()
        clock.move(max(moment - clock.now(), timedelta()))

    for at, steps in groupby(day.steps, key=lambda step: step.at):
        await pass_time_until(MIDNIGHT + timedelta(seconds=at))
        items = []
        for step in steps:
            match step:
                case Change():
                    people.change(step)
                case Save():
                    people.save(step)
                case Notification():
                    items.append(people.item(step))
                    bill.notified(people.changes[step.change], *people.ids(step.change))
        if items:
            await subject.notify(items)
            await subject.work()
    await pass_time_until(MIDNIGHT + timedelta(days=1))
    if wrong := people.out_of_step():
        raise AssertionError(f"{len(wrong)} bookings are not in step, the first: {wrong[0]}")
    if unseen := people.still_there() - bill.named:
        raise AssertionError(f"{len(unseen)} events were never looked at")
    return bill.calls()


class _People:
    """Does in the sandbox what the day says, and knows which number stands for what."""

    def __init__(self, sandbox: Sandbox, day: Day) -> None:
        self._sandbox = sandbox
        self._technicians: list[Technician] = [sandbox.people.hire(f"Person {each}") for each in range(day.mailboxes)]
        self._events: dict[int, Event] = {}
        self._bookings: dict[int, Row] = {}
        self._etags: dict[int, list[str]] = {}
        self.changes: dict[int, Change] = {}

    def change(self, change: Change) -> None:
        technician = self._technicians[change.mailbox]
        start = MIDNIGHT + timedelta(days=2) + change.event % 48 * HOUR
        match change.kind:
            case Kind.LINKED:
                booked = self._sandbox.people.dispatcher.book(technician, start, start + HOUR)
                self._bookings[change.event], self._events[change.event] = booked
            case Kind.MEETING_FIRST:
                self._events[change.event] = technician.meet(start, start + HOUR)
            case Kind.DELETED | Kind.MEETING_DELETED:
                technician.delete(self._events[change.event])
            case Kind.MOVED | Kind.MEETING_AGAIN | Kind.MEETING_KNOWN if change.minutes:
                technician.move(self._events[change.event], timedelta(minutes=change.minutes))
            case _:
                technician.edit(self._events[change.event])
        self.changes[change.number] = change
        self._etags[change.number] = [self._events[change.event].etag]

    def save(self, save: Save) -> None:
        event = self._events[self.changes[save.change].event]
        self._sandbox.mailboxes.change(event)
        self._etags[save.change].append(event.etag)

    def item(self, notification: Notification) -> Item:
        change = self.changes[notification.change]
        mailbox, event_id = self._technicians[change.mailbox].mailbox.id, self._events[change.event].immutable_id
        etag = self._etags[notification.change][notification.save]
        return build_item(KEY, mailbox, event_id, notification.change_type, etag)

    def ids(self, number: int) -> list[str]:
        """What a call that is about this change names."""
        event = self.changes[number].event
        booking = self._bookings.get(event)
        return [self._events[event].immutable_id, *([booking.id] if booking else [])]

    def still_there(self) -> set[str]:
        """The events that nobody has deleted."""
        return {event.immutable_id for event in self._events.values() if event.calendar is not None}

    def out_of_step(self) -> list[str]:
        pairs = [(booking, self._events[number]) for number, booking in self._bookings.items()]
        return [booking.id for booking, event in pairs if not is_in_step(self._sandbox, booking, event)]


class _Bill:
    """A call belongs to the change that was notified of last for the event or booking it names.

    One that names none (users, resources, statuses, a calendar) belongs to the same change as the call before it.
    """

    def __init__(self) -> None:
        self._change_of: dict[str, Change] = {}
        self._kind = Kind.LINKED
        self._count: Counter[tuple[Kind, str]] = Counter()
        self.named: set[str] = set()
        """The events and bookings that some call has named."""

    def notified(self, change: Change, *ids: str) -> None:
        self._change_of.update(dict.fromkeys(ids, change))

    def add(self, call: Call) -> None:
        for name in re.findall(r"[A-Za-z0-9_=-]{30,}", call.path + call.query):
            if name in self._change_of:
                self._kind = self._change_of[name].kind
                self.named.add(name)
        what = "graph" if call.service == "graph" else "writes" if call.is_write else "reads"
        self._count[self._kind, what] += 1

    def calls(self) -> dict[Kind, Calls]:
        def of(kind: Kind) -> Calls:
            return Calls(*(self._count[kind, what] for what in ("graph", "reads", "writes")))

        return {kind: of(kind) for kind in Kind}
