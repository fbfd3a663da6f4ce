"""The app dies before or after each of its external effects, people go on, it starts again: the promises hold.

Each scenario runs once for each of its crash points and for each thing that people may do before the restart. How many
these are stands in docs/guarantees.md, in a table that is compared here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sync.errors import Refused, SyncError, Transient
from sync.messages.changes import Batch, Change, Evidence, SweepRequest
from sync.messages.codec import (
    CHANGES,
    SWEEPS,
    build_change_message,
    build_sweep_message,
    parse_changes,
)
from sync.messages.taking import GRACE
from sync.model import Booking, ConflictPolicy, Event, Span
from sync.pairs.actions import CancelBooking, MoveBooking, Write
from sync.pairs.entry import GONE, Entry, Kind
from sync.storage.ledger import LedgerTable
from sync.storage.tables import StorageTable
from tests.world.crashing import KINDS, Hosted, Tape
from tests.world.fakes import ANNA, BEN, NOW, Calendars, Table, evidence_of, span

E1, E2 = "E1", "E2"
"""What a scenario is about; their bookings are B1 and B2."""
B1, B2 = "b0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000002"
BYSTANDERS = {"E8": (ANNA, "b0000000-0000-4000-8000-000000000008"), "E9": (BEN, "b0000000-0000-4000-8000-000000000009")}


class JudgedTable(Table):
    """Shows each write of the app to the world at the moment it is made."""

    world: World

    async def write(self, action: Write) -> str:
        before = self.rows[action.booking_id]
        written = await super().write(action)
        self.world.judge(before, action)
        return written


class TroubledCalendars(Calendars):
    """Answers with an error where one is due, and remembers since when an event was seen to be missing."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, SyncError] = {}
        self.answers_from = NOW + timedelta(days=7)
        self.missing_since: dict[str, datetime] = {}

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        if event_id in self.errors and self.world.now < self.answers_from:
            raise self.errors[event_id]
        event = await super().read(mailbox, event_id)
        if event is None:
            self.missing_since.setdefault(event_id, self.world.now)
        return event

    async def with_extension(self, mailbox: str) -> Any:
        for event_id in self.deleted:
            self.missing_since.setdefault(event_id, self.world.now)
        return await super().with_extension(mailbox)


@dataclass
class World(Hosted):
    """Pairs of bookings and events, the people around them, and the promises."""

    calendars: TroubledCalendars = field(default_factory=TroubledCalendars)
    bookings: JudgedTable = field(default_factory=JudgedTable)
    unagreed: dict[str, Span] = field(default_factory=dict)
    """Where dispatchers moved linked bookings to, as long as their events never were there."""
    common: dict[str, Span] = field(default_factory=dict)
    """What both sides last had in common."""
    linked_once: set[str] = field(default_factory=set)
    told_deleted: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    canceled: int = 0
    """Without a person's word."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calendars.world = self.bookings.world = self
        for event_id, (mailbox, booking_id) in BYSTANDERS.items():
            self.pair(event_id, booking_id, mailbox)

    # --- people ---

    def pair(self, event_id: str, booking_id: str, mailbox: str = ANNA, linked: bool = True) -> None:
        long_ago = NOW - timedelta(days=1)
        event = Event(event_id, "", span(9), has_extension=True, booking_id=booking_id)
        self.calendars.put(mailbox, replace(event, created=long_ago, modified=long_ago))
        self.bookings.put(Booking(booking_id, "", span(9), event_id if linked else None, mailbox))
        self.note_common(self.calendars.events[event_id])
        if linked:
            self.linked_once.add(booking_id)

    def changes(self, event_id: str, told: bool = True, **changes: object) -> None:
        """A technician, or who keeps Outlook in step with Dynamics."""
        self.calendars.change(event_id, modified=self.now, **changes)
        self.note_common(self.calendars.events[event_id])
        if told:
            self.tells(event_id)

    def note_common(self, event: Event) -> None:
        booking = self.bookings.rows[event.booking_id or ""]
        if booking.span == event.span and booking.event_id is not None:
            self.common[booking.id] = event.span
            self.unagreed.pop(booking.id, None)

    def deletes(self, event_id: str, told: bool = True) -> None:
        self.calendars.delete(event_id)
        if told:
            self.told_deleted.add(event_id)
            self.tells(event_id, deleted=True)

    def tells(self, event_id: str, deleted: bool = False) -> None:
        version = None if deleted else self.calendars.events[event_id].etag
        self.posts.append(Change(self.calendars.owner[event_id], event_id, evidence_of(deleted), version=version))

    def dispatcher_moves(self, booking_id: str, to: Span) -> None:
        if self.bookings.edit(booking_id, span=to).event_id is not None:
            self.unagreed[booking_id] = to
        if self.common.get(booking_id) == to:
            self.unagreed.pop(booking_id, None)  # as if nothing had been

    async def release(self) -> None:
        """What the command does for each event that is held: first the word, then the message."""
        for entry in [entry async for entry in self.ledger().held(NOW)]:
            assert entry.held is not None
            self.released.add(entry.event_id)
            if (entry.booking_id, entry.held.booking_span) in self.unagreed.items():
                del self.unagreed[entry.booking_id or ""]  # this is what was shown
            await self.ledger().write(replace(entry, released=entry.held.version))
            await self.queues().send(CHANGES, [build_change_message(Change(entry.mailbox, entry.event_id))])

    async def discard(self) -> None:
        """The same with the other word."""
        for entry in [entry async for entry in self.ledger().held(NOW)]:
            assert entry.held is not None
            await self.ledger().write(replace(entry, discarded=entry.held.version))
            await self.queues().send(CHANGES, [build_change_message(Change(entry.mailbox, entry.event_id))])

    # --- promises ---

    def judge(self, before: Booking, action: Write) -> None:
        """P3, P4 and P5 at the moment of a write."""
        after = self.bookings.rows[before.id]
        assert replace(after, etag="") != replace(before, etag=""), "P5: a write that changes nothing"
        if after.event_id is not None:
            self.linked_once.add(before.id)
        event = self.calendars.events[getattr(action, "event_id", None) or before.event_id or ""]
        if isinstance(action, MoveBooking):
            assert action.span == event.span, "P3: not the event's state as it is now"
        if isinstance(action, MoveBooking | CancelBooking):
            is_lost = before.id in self.unagreed and self.policy is not ConflictPolicy.OUTLOOK
            assert not is_lost, "P3: a dispatcher's edit is written over"
        self.note_common(event)
        if isinstance(action, CancelBooking):
            assert event.is_cancelled or not self.calendars.has(event.id), "P4: the event is there"
            waited = self.now - self.calendars.missing_since.get(event.id, self.now)
            is_known = event.is_cancelled or event.id in self.told_deleted or waited >= timedelta(seconds=GRACE)
            assert is_known, "P4: nobody told, and it was looked for only once"
            self.canceled += event.id not in self.released
            assert self.canceled <= self.ceiling, "P4: more are canceled than the breaker lets pass"

    async def acknowledged(self, change: Change) -> None:
        """P2: there is a message, or nothing new in it."""
        contents = [parse_changes(message.text) for message in self.messages if message.queue == CHANGES]
        queued = [each for found in contents for each in (found.changes if isinstance(found, Batch) else (found,))]
        entry = await self.known_of(change.event_id)
        is_known = entry.kind is Kind.GONE if change.is_deletion else change.version in entry.versions
        is_queued = change in queued or replace(change, evidence=Evidence.TOLD) in queued
        assert is_known or is_queued, "P2: acknowledged, and neither queued nor known"

    async def listed(self) -> dict[str, Entry]:
        """What is shown to people, by its event."""
        known = [entry for mailbox in (ANNA, BEN) for entry in await self.ledger().of_mailbox(mailbox)]
        listed = {entry.event_id: entry async for entry in self.ledger().held(NOW)}
        assert {entry.event_id for entry in known if entry.held} == set(listed), "held, and nobody is shown"
        return listed

    def waits(self, entry: Entry) -> bool:
        """Whether an event that is there is to follow its booking."""
        is_there = self.calendars.has(entry.event_id) and not self.calendars.events[entry.event_id].is_cancelled
        return is_there and entry.held is not None and entry.held.is_waiting

    def parked(self) -> set[str]:
        return {
            f"{wrapped['error']}: {wrapped['reason']} {wrapped['message']}"
            for message in self.messages
            if message.queue.endswith("-poison")
            for wrapped in [json.loads(message.text)]
        }

    async def check_in_step(self) -> None:
        """P1, from the world alone."""
        told = " ".join([*await self.listed(), *self.parked()])
        for event in self.calendars.events.values():
            booking, entry = self.bookings.rows[event.booking_id or ""], await self.known_of(event.id)
            version = event.etag if self.calendars.has(event.id) else GONE
            is_in_step = self.is_in_step(booking, event) or entry.discarded == version
            assert is_in_step or event.id in told, f"P1: out of step, and nobody is told: {booking} {event}"

    async def known_of(self, event_id: str) -> Entry:
        """Not by way of the tape: who judges has no effects."""
        return await LedgerTable(self.rows).read(self.calendars.owner[event_id], event_id)

    def is_in_step(self, booking: Booking, event: Event) -> bool:
        if self.calendars.has(event.id) and not event.is_cancelled:
            return booking.event_id == event.id and (booking.span == event.span or not booking.is_open)
        done = booking.is_canceled or booking.has_begun or booking.id not in self.linked_once
        return booking.event_id is None and done

    async def check_quiet(self) -> None:
        """P5: whatever is said once more, nothing is written."""
        written = len(self.bookings.written)
        listed = await self.listed()
        for event_id, mailbox in self.calendars.owner.items():
            # That an event was deleted which was only missed, and is held for that, would be news.
            is_news = event_id in listed and not self.calendars.has(event_id) and event_id not in self.told_deleted
            for deleted in (False,) if is_news else (False, True):
                self.posts.append(Change(mailbox, event_id, evidence_of(deleted)))
        await self.sweep()
        assert len(self.bookings.written) == written, "P5: nothing has changed, and something was written"

    async def sweep(self) -> None:
        await self.queues().send(SWEEPS, [build_sweep_message(SweepRequest(mailbox)) for mailbox in (ANNA, BEN)])
        await self.run()

    async def outcome(self) -> tuple[Any, ...]:
        """What remains of a scenario, whoever else was there."""
        rows = [replace(self.bookings.rows[booking], etag="") for booking in (B1, B2) if booking in self.bookings.rows]
        writes = [
            (booking, type(write).__name__)
            for booking in (B1, B2)
            for write in self.bookings.written
            if write.booking_id == booking
        ]
        reasons = sorted(
            (event_id, entry.held.reason) for event_id, entry in (await self.listed()).items() if entry.held
        )
        return rows, writes, reasons, self.parked()


# --- what happens ---


@dataclass(frozen=True)
class Scenario:
    name: str
    happens: Callable[[World], None]
    """On a pair in step that the ledger knows, unless it is a ``first_contact``."""
    first_contact: bool = False
    settle: int = 0
    policy: ConflictPolicy = ConflictPolicy.DATAVERSE
    ceiling: int = 1_000
    ends_the_same: bool = True
    """Whether a crash leaves no trace at all, where nobody did anything meanwhile."""

    async def world(self, rows: Any = None) -> World:
        world = World(rows=rows, settle=self.settle, policy=self.policy, ceiling=self.ceiling)
        if not self.first_contact:
            for event_id, booking_id in ((E1, B1), (E2, B2)):
                world.pair(event_id, booking_id)
                world.tells(event_id)
            await world.run()
        self.happens(world)
        return world


def moves(world: World) -> None:
    world.changes(E1, span=span(12))


def deletes(world: World) -> None:
    world.deletes(E1)


def deletes_and_it_stays_readable(world: World) -> None:
    world.calendars.stays_readable = True
    world.deletes(E1)


def organizer_cancels(world: World) -> None:
    world.changes(E1, is_cancelled=True)


def deletes_of_work_that_has_begun(world: World) -> None:
    world.bookings.edit(B1, has_begun=True)
    world.deletes(E1)


def is_booked(world: World) -> None:
    world.pair(E1, B1, linked=False)
    world.tells(E1)


def is_booked_and_moved(world: World) -> None:
    world.pair(E1, B1, linked=False)
    world.changes(E1, span=span(12))


def dispatcher_moves(world: World) -> None:
    """And something else about the event changes, so that the app is told."""
    world.dispatcher_moves(B1, span(15))
    world.changes(E1)


def both_move(world: World) -> None:
    world.dispatcher_moves(B1, span(15))
    world.changes(E1, span=span(12))


def moved_and_deleted(world: World) -> None:
    world.dispatcher_moves(B1, span(15))
    world.deletes(E1)


def burst(world: World) -> None:
    for hour in (12, 12.5, 13):
        world.changes(E1, span=span(hour))


def both_move_and_a_person_releases(world: World) -> None:
    both_move(world)
    world.later.append(World.release)  # type: ignore[arg-type]


def both_move_and_a_person_discards(world: World) -> None:
    both_move(world)
    world.later.append(World.discard)  # type: ignore[arg-type]


def too_many_are_deleted(world: World) -> None:
    world.deletes(E1)
    world.deletes(E2)


def too_many_are_deleted_and_a_person_releases(world: World) -> None:
    too_many_are_deleted(world)
    world.later.append(World.release)  # type: ignore[arg-type]


def moves_while_graph_throttles(world: World) -> None:
    moves(world)
    world.calendars.errors[E1] = Transient("graph 429", retry_after=300)
    world.calendars.answers_from = world.now + timedelta(minutes=4)


def moves_and_is_refused(world: World) -> None:
    moves(world)
    world.calendars.errors[E1] = Refused("graph 400 Unheard")


def disappears(world: World) -> None:
    world.changes(E1)
    world.deletes(E1, told=False)


def moves_and_deletes_unheard(world: World) -> None:
    world.changes(E1, told=False, span=span(12))
    world.deletes(E2, told=False)

    async def timer(hosted: Hosted) -> None:
        await hosted.nightly().ask_nightly()

    world.later.append(timer)


SCENARIOS = [
    Scenario("an event is moved", moves),
    Scenario("an event is deleted", deletes),
    Scenario("an event is deleted, and stays readable", deletes_and_it_stays_readable),
    Scenario("an event is canceled by its organizer", organizer_cancels),
    Scenario("an event is deleted, work on its booking has begun", deletes_of_work_that_has_begun),
    Scenario("an event disappears, nobody tells of a deletion (404)", disappears),
    Scenario("first contact: the booking is linked", is_booked, first_contact=True),
    Scenario("first contact: the event was moved already", is_booked_and_moved, first_contact=True),
    Scenario("only the booking is moved", dispatcher_moves),
    *(Scenario(f"conflict, {policy} wins", both_move, policy=policy) for policy in list(ConflictPolicy)[:2]),
    Scenario("conflict, held", both_move, policy=ConflictPolicy.HOLD),
    Scenario("conflict, held and released", both_move_and_a_person_releases, policy=ConflictPolicy.HOLD),
    Scenario("conflict, held and discarded", both_move_and_a_person_discards, policy=ConflictPolicy.HOLD),
    *(Scenario(f"moved and deleted, {p} wins", moved_and_deleted, policy=p) for p in list(ConflictPolicy)[:2]),
    Scenario("moved and deleted, held", moved_and_deleted, policy=ConflictPolicy.HOLD),
    BURST := Scenario("a burst of three moves", burst, settle=5),
    Scenario("too many are deleted: the breaker trips", too_many_are_deleted, ceiling=1, ends_the_same=False),
    BREAKER := Scenario("the same, and a person releases it", too_many_are_deleted_and_a_person_releases, ceiling=1),
    Scenario("Graph throttles: put back", moves_while_graph_throttles),
    Scenario("Graph refuses: parked", moves_and_is_refused),
    Scenario("a sweep finds what was moved and deleted unheard", moves_and_deletes_unheard),
]


# --- what people do before the app starts again ---


def nothing(world: World) -> bool:
    return True


def dispatcher_moves_it(world: World) -> bool:
    if not world.bookings.rows[B1].is_open:
        return False
    world.dispatcher_moves(B1, span(20))
    return True


def dispatcher_moves_it_back(world: World) -> bool:
    """To where both sides were before it all began, which is an edit of its own once the app has moved it away."""
    if not world.bookings.rows[B1].is_open or world.bookings.rows[B1].span == span(9):
        return False
    world.dispatcher_moves(B1, span(9))
    return True


def dispatcher_edits_the_note(world: World) -> bool:
    world.bookings.edit(B1)
    return True


def technician_moves_on(world: World) -> bool:
    if not world.calendars.has(E1):
        return False
    world.changes(E1, span=span(18))
    return True


def technician_deletes_it(world: World) -> bool:
    if not world.calendars.has(E1):
        return False
    world.deletes(E1)
    return True


MEANWHILE = [
    nothing,
    dispatcher_moves_it,
    dispatcher_moves_it_back,
    dispatcher_edits_the_note,
    technician_moves_on,
    technician_deletes_it,
]


# --- the runs ---


async def life(world: World, points: Sequence[int], meanwhile: Callable[[World], bool]) -> tuple[Tape, Any]:
    """From crash to crash, and on until all is quiet; what the last process did that died, and what remains."""
    for point in points or [None]:
        tape = await world.run_to_crash(point)
    if not meanwhile(world):
        return tape, None
    for event_id in BYSTANDERS:
        world.changes(event_id, span=span(16))
    await world.run(until=world.now + timedelta(minutes=1))
    for _, booking_id in BYSTANDERS.values():
        assert world.bookings.rows[booking_id].span == span(16), "P6: others have to wait"
    await world.run()
    if meanwhile in (dispatcher_moves_it, dispatcher_moves_it_back):
        await world.sweep()  # Dataverse tells us nothing, so that it may have come after the last look
    await world.check_in_step()
    await outlook_follows(world)
    outcome = await world.outcome()
    await world.check_quiet()
    return tape, outcome


async def outlook_follows(world: World) -> None:
    """What the customer's other direction does where a booking is ahead: nothing is left that waits for it."""
    for event_id, entry in (await world.listed()).items():
        booking = world.bookings.rows[entry.booking_id or ""]
        if world.waits(entry):
            world.changes(event_id, span=booking.span)
    await world.run()
    waiting = [event_id for event_id, entry in (await world.listed()).items() if world.waits(entry)]
    assert not waiting, "P1: Outlook has followed, and it is listed still"
    await world.check_in_step()


@pytest.fixture(autouse=True)
def unlogged() -> Iterator[None]:
    """Thousands of worlds have much to say."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["every fifth", "all points"])
@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda act: act.__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_the_promises_hold_wherever_the_process_dies(
    scenario: Scenario, meanwhile: Callable[[World], bool], each: int
) -> None:
    undisturbed, outcome = await life(await scenario.world(), [], nothing)
    for point in range(0, 2 * len(undisturbed.effects), each):
        tape, remains = await life(await scenario.world(), [point], meanwhile)
        assert tape.is_dead
        if meanwhile is nothing and scenario.ends_the_same:
            assert remains == outcome, f"point {point} of {undisturbed.effects}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_the_promises_hold_if_the_process_that_comes_after_dies_as_well(scenario: Scenario) -> None:
    undisturbed, outcome = await life(await scenario.world(), [], nothing)
    for first in range(2 * len(undisturbed.effects)):
        for second in count(step=2):  # before each effect; after it is before the next
            tape, remains = await life(await scenario.world(), [first, second], nothing)
            assert remains == outcome or not scenario.ends_the_same, f"points {first}, {second}"
            if not tape.is_dead:
                break


async def test_a_crash_costs_a_burst_one_run_too_many_at_most_and_never_one_too_few() -> None:
    undisturbed = await BURST.world()
    known = undisturbed.runs
    effects = (await undisturbed.run_to_crash(None)).effects
    assert undisturbed.runs == known + 1
    for point in range(2 * len(effects)):
        world = await BURST.world()
        await world.run_to_crash(point)
        await world.run()
        assert known + 1 <= world.runs <= known + 2
        await world.check_in_step()


@pytest.mark.parametrize("each", [15, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_it_is_the_same_with_real_storage(storage: str, each: int) -> None:
    """The scenario with the most rows of all, in Azurite."""
    undisturbed, outcome = await life(await BREAKER.world(), [], nothing)
    for point in range(0, 2 * len(undisturbed.effects), each):
        rows = StorageTable.of_connection_string(storage, f"ledger{point}")
        tape, remains = await life(await BREAKER.world(rows), [point], nothing)
        await rows.close()
        assert tape.effects == undisturbed.effects[: len(tape.effects)]
        assert remains == outcome, f"point {point}"


# --- the table of docs/guarantees.md; ``python -m tests.pairs.test_crashes`` writes it anew ---

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "guarantees.md"
TABLE = re.compile(r"(?<=<!-- crash points -->\n).*(?=<!-- end of crash points -->)", re.DOTALL)


async def crash_points() -> str:
    """The table of scenarios: how many effects of each kind they have, and that there are two crash points for each."""
    lines = [f"| scenario | {' | '.join(KINDS)} | crash points |", f"|---|{'---:|' * (len(KINDS) + 1)}"]
    points = 0
    for scenario in SCENARIOS:
        effects = (await (await scenario.world()).run_to_crash(None)).effects
        counts = [str(effects.count(kind) or "") for kind in KINDS]
        assert set(effects) <= set(KINDS)
        points += 2 * len(effects)
        lines.append(f"| {scenario.name} | {' | '.join(counts)} | {2 * len(effects)} |")
    lines.append(f"| all | {' | ' * (len(KINDS) - 1)} | {points} |")
    return "\n".join(lines) + "\n"


async def test_the_table_is_what_a_run_yields() -> None:
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == await crash_points(), "python -m tests.pairs.test_crashes writes it anew"


def test_the_page_tells_of_all_that_people_do_meanwhile() -> None:
    assert len(MEANWHILE) == 6
    assert "once for each of six things" in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__":
    logging.disable()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: asyncio.run(crash_points()), page), encoding="utf-8", newline="\n")
