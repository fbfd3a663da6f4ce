"""What happens to pairs, and what people do before an app that died starts again: the rows and columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sync.errors import NotWritten, Refused, Stale, SyncError, Throttled, Transient
from sync.model import ConflictPolicy
from tests.world.crashing import Hosted, Tape
from tests.world.fakes import Answer, span
from tests.world.promises import B1, B2, BYSTANDERS, E1, E2, World

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


def moves_and_deletes_in_a_gap(world: World) -> None:
    world.changes(E1, told=False, span=span(12))
    world.deletes(E2, told=False)

    async def hourly_run(hosted: Hosted) -> None:
        await hosted.nightly().ask_all(after_gap=True)

    world.later.append(hourly_run)


def moves_and_the_write_fails(error: SyncError, is_done: bool = False) -> Callable[[World], None]:
    """And before the app hears of it, a dispatcher edits the booking's name; after a 503, once the app has looked."""

    def happens(world: World) -> None:
        moves(world)
        is_seen = isinstance(error, NotWritten) or is_done
        meanwhile = (lambda: world.bookings.edit(B1)) if is_seen else (lambda: None)
        world.bookings.answers = [Answer(error, is_done, meanwhile, B1)]
        if isinstance(error, NotWritten) and isinstance(error.reason, Refused):
            world.later.append(technician_touches_it)  # the change was parked

    return happens


async def technician_touches_it(hosted: Hosted) -> None:
    """Graph notifies of the event once more, when the refused change is parked."""
    assert isinstance(hosted, World)
    if hosted.calendars.has(E1):
        hosted.changes(E1)
    else:
        hosted.tells(E1, deleted=True)


FAILURES = {
    "412": (NotWritten(Stale("412")), False),
    "429": (NotWritten(Throttled("429", 30)), False),
    "403": (NotWritten(Refused("403")), False),
    "400": (NotWritten(Refused("400 0x80040265")), False),
    "503, not done": (Transient("503"), False),
    "503, though done": (Transient("503"), True),
}
"""What Dataverse answers to the write of a move, and whether the write is done all the same."""


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
    *(
        Scenario(f"the write is answered with {name}", moves_and_the_write_fails(*failure), ends_the_same=False)
        for name, failure in FAILURES.items()
    ),
    Scenario("a night's sweep finds what was moved and deleted unheard", moves_and_deletes_unheard),
    Scenario("so does a sweep after a gap in the notifications", moves_and_deletes_in_a_gap),
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


# --- a life ---


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
