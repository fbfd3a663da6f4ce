"""Two workers and the people around them, in every order of their reads and writes.

No older state of the event is written, no edit made in Dynamics is lost, and in the end both sides are in step.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sync.errors import Transient
from sync.messages.changes import Change, Evidence
from sync.model import Booking, ConflictPolicy, Event, Span
from sync.pairs.actions import CancelBooking, LookAgain, MoveBooking, Write
from sync.pairs.processing import LOOKS, Processor
from tests.world.fakes import ANNA, BEN, NOW, BreakerInMemory, Calendars, LedgerInMemory, Table, at_once, span
from tests.world.interleaving import Schedule, Steps, all_schedules, some_schedules

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
UPDATED = Change(ANNA, "E1")
DELETED = Change(ANNA, "E1", evidence=Evidence.TOLD)


class JudgedTable(Table):
    """Shows each write of the app to the world at the moment it is made."""

    world: World

    def put(self, booking: Booking) -> Booking:
        row = super().put(booking)
        self.world.spans_at[row.etag] = len(self.world.spans) - 1
        return row

    async def write(self, action: Write) -> str:
        before = self.rows[action.booking_id]
        written = await super().write(action)
        self.world.judge(before, action)
        return written


@dataclass
class World:
    """One event and its booking, linked or not yet."""

    linked: bool = True
    stays_readable: bool = False
    ledger_takes_time: bool = True
    """Whether others may act before each step with the ledger; without, there are fewer orders."""
    policy: ConflictPolicy = ConflictPolicy.DATAVERSE
    is_known: bool = False
    """Whether the ledger knows what both sides agreed on; without, an event that differs from its booking is right."""
    steps: Steps = field(default_factory=Steps)
    looks: int = LOOKS

    def __post_init__(self) -> None:
        self.spans = [span(9)]
        self.spans_at: dict[str, int] = {}
        """The place of the event's span at the time of each version of the booking."""
        self.agreed = span(9)
        """What both sides last had in common."""
        self.unagreed: Span | None = None
        """Where a dispatcher moved the booking to, as long as the event was not there since."""
        self.calendars = Calendars(self.steps.pause, self.stays_readable)
        self.bookings = JudgedTable(self.steps.pause)
        self.bookings.world = self
        self.ledger = LedgerInMemory(self.steps.pause if self.ledger_takes_time else at_once)
        self.calendars.put(ANNA, Event("E1", "", span(9), has_extension=True, booking_id=GUID))
        self.bookings.put(Booking(GUID, "", span(9), "E1" if self.linked else None, ANNA))
        if self.is_known:
            self.settle()

    @property
    def booking(self) -> Booking:
        return self.bookings.rows[GUID]

    async def worker(self, change: Change) -> None:
        processor = Processor(
            self.calendars, self.bookings, self.ledger, BreakerInMemory(), lambda: NOW, self.policy, looks=self.looks
        )
        if isinstance(await processor.process(change), LookAgain):
            again = replace(change, evidence=max(change.evidence, Evidence.MISSED), is_second_look=True)
            await processor.process(again)

    async def moves_to(self, *spans: Span) -> None:
        for new in spans:
            await self.steps.pause()
            self.move_to(new)

    def move_to(self, new: Span) -> None:
        self.calendars.change("E1", span=new)
        self.spans.append(new)
        self.note_agreement()

    async def deletes(self) -> None:
        await self.steps.pause()
        self.calendars.delete("E1")

    async def edits(self, **changes: object) -> None:
        await self.steps.pause()
        self.bookings.edit(GUID, **changes)

    async def dispatcher_moves_to(self, *spans: Span) -> None:
        """And what the other direction does then: it reads the booking, and a while later writes its event."""
        for new in spans:
            await self.edits(span=new)
            self.unagreed = new
            self.note_agreement()
        await self.steps.pause()
        read = self.booking.span
        await self.steps.pause()
        if self.calendars.has("E1"):
            self.move_to(read)

    def note_agreement(self) -> None:
        if self.booking.span == self.spans[-1]:
            self.agreed = self.spans[-1]
        if self.booking.span == self.agreed:
            self.unagreed = None

    def judge(self, before: Booking, action: Write) -> None:
        """P3 and P4 at the moment of a write."""
        if isinstance(action, MoveBooking):
            since = self.spans[self.spans_at[before.etag] :]
            assert action.span in since, "the event left these times before the booking was as it is"
        if isinstance(action, CancelBooking):
            assert not self.calendars.has("E1")
        if self.is_known and isinstance(action, MoveBooking | CancelBooking):
            is_lost = self.unagreed is not None and self.policy is not ConflictPolicy.OUTLOOK
            assert not is_lost, "a dispatcher's edit is written over"
        self.note_agreement()

    def settle(self, change: Change = UPDATED) -> None:
        """The notifications of the last changes are processed, alone and to the end."""
        for _ in range(2):
            errors = Schedule([]).run([self.worker(change)])
            if errors != [None]:
                errors = Schedule([]).run([self.worker(replace(change, attempt=1))])
            assert errors == [None]


Actors = Callable[[World], list[Coroutine[Any, Any, Any]]]


def assert_ended_well(errors: list[BaseException | None]) -> None:
    """What was looked at too often, or is in doubt, is brought back by the queue."""
    assert all(error is None or isinstance(error, Transient) for error in errors), errors


def run_all(world: Callable[[], World], actors: Actors, check: Callable[[World], None]) -> int:
    """Run *actors* in every order, *check* the world after each; how many orders there were."""

    def scenario(schedule: Schedule) -> None:
        here = world()
        assert_ended_well(schedule.run(actors(here)))
        check(here)

    return sum(1 for _ in all_schedules(scenario))


def assert_no_older_state_was_written(world: World) -> None:
    """P3: what is written to the booking never goes back in the event's history."""
    written = [world.spans.index(write.span) for write in world.bookings.written if isinstance(write, MoveBooking)]
    assert written == sorted(written)


def assert_it_ends_where_the_event_is(world: World) -> None:
    assert_no_older_state_was_written(world)
    world.settle()
    assert world.booking.span == world.spans[-1]
    assert world.booking.event_id == "E1"


@pytest.mark.parametrize(
    ("linked", "looks"),
    [
        (False, 1),
        pytest.param(True, 1, marks=pytest.mark.slow),
        *(pytest.param(linked, 2, marks=[pytest.mark.slow, pytest.mark.timeout(900)]) for linked in (True, False)),
    ],
)
def test_two_deliveries_of_one_moved_event(linked: bool, looks: int) -> None:
    """All orders, those of their steps with the ledger included; after so many *looks* the queue brings them back."""

    def moved() -> World:
        world = World(linked, looks=looks)
        world.move_to(span(15))
        return world

    def once(world: World) -> None:
        assert len(world.bookings.written) == 1, "the second delivery writes nothing"
        assert_it_ends_where_the_event_is(world)

    orders = run_all(moved, lambda world: [world.worker(UPDATED), world.worker(UPDATED)], once)
    assert orders > 500


@pytest.mark.parametrize(
    "linked",
    [
        pytest.param(True, id="linked"),
        pytest.param(False, id="first contact", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_two_deliveries_of_one_event_that_moves_on_meanwhile(linked: bool) -> None:
    orders = run_all(
        lambda: World(linked, ledger_takes_time=False),
        lambda world: [world.worker(UPDATED), world.worker(UPDATED), world.moves_to(span(15))],
        assert_it_ends_where_the_event_is,
    )
    assert orders > 200


OF_ALL_ORDERS = pytest.mark.parametrize("count", [500, pytest.param(None, marks=pytest.mark.slow)])
"""So many orders drawn by lot, or all there are: too many for each run."""


def orders_of(scenario: Callable[[Schedule], None], count: int | None) -> int:
    """Run *scenario* in *count* orders, or in all of them; how many these were."""
    schedules = all_schedules(scenario) if count is None else some_schedules(scenario, count)
    return sum(1 for _ in schedules)


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("count", [300, pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_three_deliveries_of_one_event_that_moves_twice_in_orders_drawn_by_lot(linked: bool, count: int) -> None:
    """With the steps of the ledger among the others there are too many orders for all of them."""

    def scenario(schedule: Schedule) -> None:
        world = World(linked)
        actors = [world.worker(UPDATED), world.worker(UPDATED), world.worker(UPDATED)]
        assert_ended_well(schedule.run([*actors, world.moves_to(span(15), span(18))]))
        assert_it_ends_where_the_event_is(world)

    assert sum(1 for _ in some_schedules(scenario, count)) == count


@pytest.mark.parametrize(
    ("linked", "stays_readable"),
    [(True, True), (True, False), (False, False), pytest.param(False, True, marks=pytest.mark.slow)],
)
@OF_ALL_ORDERS
def test_a_deletion_overtakes_the_link_of_a_new_booking(linked: bool, stays_readable: bool, count: int | None) -> None:
    """Whoever links late must not leave a booking behind whose event is gone: its deletion was processed already."""

    def scenario(schedule: Schedule) -> None:
        world = World(linked, stays_readable)
        deleted = False

        async def deletion() -> None:
            nonlocal deleted
            await world.deletes()
            deleted = True
            await world.worker(DELETED)

        assert not any(schedule.run([world.worker(UPDATED), deletion()]))
        assert deleted
        assert world.booking.is_canceled or not (linked or world.bookings.written)
        assert world.booking.event_id is None

    assert orders_of(scenario, count) > 20


def test_a_dispatcher_moves_the_booking_between_our_read_and_our_write() -> None:
    """The edit is not lost unseen: what is written over it was decided with it in sight."""

    def scenario(schedule: Schedule) -> None:
        world = World()
        edited: list[Booking] = []

        async def dispatcher() -> None:
            await world.steps.pause()
            edited.append(world.bookings.edit(GUID, span=span(20)))

        assert not any(schedule.run([world.worker(UPDATED), world.moves_to(span(12)), dispatcher()]))
        assert_no_older_state_was_written(world)
        if world.booking.span != span(20):
            assert world.bookings.written[-1].etag == edited[0].etag

    assert sum(1 for _ in all_schedules(scenario)) > 20


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ({"is_canceled": True}, "cancels"),
        ({"mailbox": BEN}, "reassigns"),
        ({"has_begun": True}, "starts"),
        ({"is_active": False}, "deactivates"),
    ],
)
@pytest.mark.parametrize("change", [UPDATED, DELETED])
def test_nothing_is_written_over_what_a_dispatcher_has_done(edit: dict[str, Any], what: str, change: Change) -> None:
    """Once somebody cancels, reassigns or starts the booking, neither its times nor its status are written."""

    def scenario(schedule: Schedule) -> None:
        world = World()
        if change.is_deletion:
            world.calendars.delete("E1")
        else:
            world.move_to(span(12))
        before: list[Booking] = []

        async def dispatcher() -> None:
            await world.steps.pause()
            before.append(world.bookings.edit(GUID, **edit))

        assert not any(schedule.run([world.worker(change), dispatcher()]))
        after = world.booking
        assert (after.span, after.is_canceled) == (before[0].span, before[0].is_canceled), what

    assert sum(1 for _ in all_schedules(scenario)) > 4


def moved_away() -> World:
    """A pair that the ledger knows at 9:00, and its event is at 15:00."""
    world = World(is_known=True)
    world.move_to(span(15))
    return world


def assert_nobody_is_asked(world: World, change: Change = UPDATED) -> None:
    """Whatever the queue brings back, no hold is left."""
    world.settle(change)
    entry = world.ledger.entries[ANNA, "E1"]
    assert entry.held is None, entry.held


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_two_workers_are_refused_as_a_dispatcher_edits_another_column(count: int) -> None:
    """Both send 15:00. Whichever is refused first, the pair ends in step, and nobody is asked."""

    def scenario(schedule: Schedule) -> None:
        world = moved_away()
        assert_ended_well(schedule.run([world.worker(UPDATED), world.worker(UPDATED), world.edits()]))
        assert_nobody_is_asked(world)
        assert world.booking.span == span(15)

    assert sum(1 for _ in some_schedules(scenario, count)) == count


def test_a_worker_is_refused_as_a_dispatcher_edits_another_column_and_the_event_is_deleted() -> None:
    """In every order, the booking is canceled in the end, and nobody is asked."""

    def scenario(schedule: Schedule) -> None:
        world = moved_away()
        assert_ended_well(schedule.run([world.worker(UPDATED), world.deletes(), world.edits()]))
        assert_nobody_is_asked(world, DELETED)
        assert world.booking.is_canceled

    assert sum(1 for _ in all_schedules(scenario)) > 50


@OF_ALL_ORDERS
def test_two_deliveries_of_a_deletion_cancel_once(count: int | None) -> None:
    def scenario(schedule: Schedule) -> None:
        world = World()
        world.calendars.delete("E1")
        assert not any(schedule.run([world.worker(DELETED), world.worker(UPDATED)]))
        assert world.booking.is_canceled
        assert len(world.bookings.written) == 1

    assert orders_of(scenario, count) > 50


def test_an_undone_deletion_does_not_leave_the_booking_out_of_step() -> None:
    """The event is deleted and restored while a late notification about it is being processed."""

    def scenario(schedule: Schedule) -> None:
        world = World()

        async def changes_their_mind() -> None:
            await world.deletes()
            await world.steps.pause()
            world.calendars.restore("E1")

        assert not any(schedule.run([world.worker(UPDATED), changes_their_mind()]))
        world.settle()
        assert world.booking.event_id == "E1"

    assert sum(1 for _ in all_schedules(scenario)) > 10


def test_a_copy_and_its_original_moved_at_once() -> None:
    """The booking stays with the event it is linked to."""

    def scenario(schedule: Schedule) -> None:
        world = World()
        world.calendars.put(ANNA, replace(world.calendars.events["E1"], id="E2", span=span(20)))
        world.move_to(span(12))
        copy = Change(ANNA, "E2")
        assert not any(schedule.run([world.worker(UPDATED), world.worker(copy)]))
        assert (world.booking.span, world.booking.event_id) == (span(12), "E1")

    assert sum(1 for _ in all_schedules(scenario)) > 20


POLICIES = pytest.mark.parametrize("policy", list(ConflictPolicy))
SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]

MOVES = pytest.mark.parametrize(
    "spans",
    [
        pytest.param([span(20)], id="elsewhere"),
        pytest.param([span(15)], id="to where the event is"),
        pytest.param([span(9)], id="back to what was agreed on"),
        pytest.param([span(20), span(9)], id="elsewhere and back to what was agreed on"),
    ],
)
"""Of a dispatcher's, made before or after the app has moved the booking: then, the times agreed on are others."""


def assert_it_ends_in_step_or_is_shown(world: World, change: Change) -> None:
    """Where it waits for Outlook, that follows, and nothing waits any more."""
    world.settle(change)
    entry = world.ledger.entries[ANNA, "E1"]
    if entry.held is not None and entry.held.is_waiting and not change.is_deletion:
        world.move_to(world.booking.span)
        world.settle()
        entry = world.ledger.entries[ANNA, "E1"]
        assert entry.held is None
    if entry.held is None:
        is_done = world.booking.is_canceled and world.booking.event_id is None
        assert is_done if change.is_deletion else world.booking.span == world.spans[-1]


@POLICIES
@MOVES
@pytest.mark.parametrize("change", [UPDATED, DELETED], ids=["a moved event", "a deleted event"])
def test_a_worker_against_a_dispatcher_who_moves_the_booking(
    policy: ConflictPolicy, spans: list[Span], change: Change
) -> None:
    """All orders, those of the steps with the ledger and of the other direction included."""

    def began() -> World:
        world = World(policy=policy, is_known=True)
        if change.is_deletion:
            world.calendars.delete("E1")
        else:
            world.move_to(span(15))
        return world

    orders = run_all(
        began,
        lambda world: [world.worker(change), world.dispatcher_moves_to(*spans)],
        lambda world: assert_it_ends_in_step_or_is_shown(world, change),
    )
    assert orders > 100


@POLICIES
@MOVES
@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=SLOW)])
@pytest.mark.parametrize("second", [UPDATED, DELETED], ids=["told twice", "told of its deletion, too"])
def test_two_workers_against_a_dispatcher_who_moves_the_booking_in_orders_drawn_by_lot(
    policy: ConflictPolicy, spans: list[Span], count: int, second: Change
) -> None:
    def scenario(schedule: Schedule) -> None:
        world = World(policy=policy, is_known=True)
        world.move_to(span(15))
        actors = [world.worker(UPDATED), world.worker(second), world.dispatcher_moves_to(*spans)]
        if second.is_deletion:
            actors.append(world.deletes())
        assert_ended_well(schedule.run(actors))
        assert_it_ends_in_step_or_is_shown(world, second)

    assert sum(1 for _ in some_schedules(scenario, count)) == count


@POLICIES
def test_a_note_that_a_dispatcher_edits_keeps_the_booking_from_nothing(policy: ConflictPolicy) -> None:
    """It makes a new version of the booking; its times are what was agreed on."""

    def moved() -> World:
        world = World(policy=policy, is_known=True)
        world.move_to(span(15))
        return world

    orders = run_all(
        moved, lambda world: [world.worker(UPDATED), world.edits(), world.edits()], assert_it_ends_where_the_event_is
    )
    assert orders > 20


def test_processing_in_step_writes_nothing() -> None:
    world = World()
    actors = [world.worker(UPDATED), world.worker(DELETED), world.worker(UPDATED)]
    assert not any(Schedule([]).run(actors))
    assert world.bookings.written == []
