"""A write is refused or its service is out of order, and a dispatcher edits another column: the pair gets in step.

No person has to say anything, and further drags are followed. Before, one refusal and one edit of the booking's name
ended in "booking and event were moved apart".
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sync.errors import NoAnswer, NotWritten, Refused, Stale, Throttled, Transient
from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event
from sync.pairs.actions import CancelBooking, MoveBooking
from sync.pairs.entry import Entry
from sync.pairs.processing import Processor
from tests.world.fakes import ANNA, NOW, Answer, BreakerInMemory, Calendars, LedgerInMemory, Table, span
from tests.world.promises import B1, E1, World
from tests.world.scenarios import Scenario

IN_STEP = Scenario("a pair in step", lambda world: None)

REFUSALS = {
    "412": lambda: NotWritten(Stale("412")),
    "429": lambda: NotWritten(Throttled("429", 30)),
    "403": lambda: NotWritten(Refused("403")),
    "400": lambda: NotWritten(Refused("400 0x80040265")),
}
"""The service answered each try with a refusal, so certainly nothing was written."""


def edit_note(world: World) -> Callable[[], object]:
    """Give the row a new version, as a dispatcher who edits the booking's name does."""
    return lambda: world.bookings.edit(B1)


async def dragged(world: World, hour: float) -> None:
    """The technician drags the event, and all that is queued runs to its end."""
    world.changes(E1, span=span(hour))
    await world.run()


async def in_step(world: World, hour: float) -> bool:
    """Whether both sides have these times, and nothing is held."""
    return world.bookings.rows[B1].span == span(hour) == world.calendars.events[E1].span and not await world.listed()


@pytest.mark.parametrize("times", [1, 6])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refused_write_and_an_edit_of_another_column_take_no_person(refusal: str, times: int) -> None:
    """The edit comes between the refusal and the app's next look. What was parked is replayed by the next drag."""
    world = await IN_STEP.world()
    world.bookings.answers = [Answer(REFUSALS[refusal](), meanwhile=edit_note(world)) for _ in range(times)]
    hours = [12.0 + hour for hour in range(times)] if refusal in ("400", "403") else [12.0]  # one drag, one refusal
    for hour in hours:
        await dragged(world, hour)
    assert not world.bookings.answers
    for hour in (20, 21):
        await dragged(world, hour)
        assert await in_step(world, hour)


@pytest.mark.parametrize("times", [1, 6])
async def test_an_outage_before_the_effect_and_an_edit_of_another_column_take_no_person(times: int) -> None:
    """503, so many times. The edits come after the change was put back, and before it comes again."""
    world = await IN_STEP.world()
    world.bookings.answers = [Answer(Transient("503")) for _ in range(times)]
    world.changes(E1, span=span(12))
    for left in reversed(range(times)):
        while len(world.bookings.answers) > left:
            assert await world.step()
        world.bookings.edit(B1)
    await world.run()
    assert await in_step(world, 12)
    for hour in (20, 21):
        await dragged(world, hour)
        assert await in_step(world, hour)


@pytest.mark.parametrize("times", [1, 6])
async def test_an_outage_after_the_effect_and_an_edit_of_another_column_take_no_person(times: int) -> None:
    """503, though the write was done; so with each of so many drags."""
    world = await IN_STEP.world()
    hours = [12.0 + hour for hour in range(times)]
    for hour in hours:
        world.bookings.answers = [Answer(Transient("503"), is_done=True, meanwhile=edit_note(world))]
        await dragged(world, hour)
        assert await in_step(world, hour)


def no_answer(world: World) -> None:
    """The row has another version by the next look: the write was done and undone, or it was not done."""
    world.bookings.answers = [Answer(NoAnswer("no answer"), meanwhile=edit_note(world))]


def edited_before_the_look(world: World) -> None:
    world.bookings.answers = [Answer(Transient("503"), meanwhile=edit_note(world))]


def not_readable_either(world: World) -> None:
    """The read after the 503 is answered with 503, too; then the booking's name is edited."""

    def fails() -> None:
        world.bookings.read_answers = [Answer(Transient("503"), meanwhile=edit_note(world))]

    world.bookings.answers = [Answer(Transient("503"), meanwhile=fails)]


def refused_at_the_second_try(world: World) -> None:
    """The transport tried twice, 503 and then 412, and cannot tell what became of the first try."""
    world.bookings.answers = [Answer(Stale("503, then 412"), meanwhile=edit_note(world))]


@pytest.mark.parametrize(
    "fails",
    [no_answer, edited_before_the_look, not_readable_either, refused_at_the_second_try],
    ids=lambda f: f.__name__,
)
async def test_where_no_look_can_tell_the_pair_is_listed_and_outlook_may_follow(
    fails: Callable[[World], None],
) -> None:
    world = await IN_STEP.world()
    fails(world)
    await dragged(world, 12)
    assert E1 in await world.listed()
    await dragged(world, 9)
    assert await in_step(world, 9)


async def test_a_refusal_that_cannot_be_remembered_brings_the_change_back_rather_than_parking_it() -> None:
    """The ledger does not answer after the refusal. Parked, the change would leave a write in doubt behind."""
    calendars, bookings, ledger = Calendars(), Table(), LedgerInMemory()
    calendars.put(ANNA, Event(E1, "", span(9), has_extension=True, booking_id=B1))
    bookings.put(Booking(B1, "", span(9), E1, ANNA))
    processor = Processor(calendars, bookings, ledger, BreakerInMemory(), lambda: NOW)
    await processor.process(Change(ANNA, E1))
    calendars.change(E1, span=span(12))

    def fail() -> None:
        ledger.is_down = True

    bookings.answers = [Answer(NotWritten(Refused("403")), meanwhile=fail)]
    with pytest.raises(Transient):
        await processor.process(Change(ANNA, E1))
    ledger.is_down = False
    assert isinstance(await processor.process(Change(ANNA, E1)), MoveBooking)


async def test_a_refused_move_is_forgotten_also_when_its_event_vanished_meanwhile() -> None:
    """9:00 agreed, dragged to 12:00, the write refused and the event deleted: the booking is canceled."""
    calendars, table = Calendars(), Table()
    calendars.put(ANNA, Event(E1, "", span(9), has_extension=True, booking_id=B1))
    table.put(Booking(B1, "", span(9), E1, ANNA))
    ledger = LedgerInMemory()
    processor = Processor(calendars, table, ledger, BreakerInMemory(), lambda: NOW)
    await processor.process(Change(ANNA, E1))
    calendars.change(E1, span=span(12))
    table.answers = [Answer(NotWritten(Stale("412")), meanwhile=lambda: (table.edit(B1), calendars.delete(E1)))]

    await processor.process(Change(ANNA, E1))
    action = await processor.process(Change(ANNA, E1, evidence=Evidence.TOLD, is_second_look=True))

    assert isinstance(action, CancelBooking)


async def test_a_refusal_brings_the_change_back_while_others_keep_writing_the_ledger() -> None:
    """The row of the ledger changes before each try to forget the refused write: the change is not parked."""
    calendars, table, ledger = Calendars(), Table(), LedgerInMemory()
    calendars.put(ANNA, Event(E1, "", span(9), has_extension=True, booking_id=B1))
    table.put(Booking(B1, "", span(9), E1, ANNA))
    processor = Processor(calendars, table, ledger, BreakerInMemory(), lambda: NOW)
    await processor.process(Change(ANNA, E1))
    calendars.change(E1, span=span(12))

    class Busy:
        read = ledger.read

        async def write(self, entry: Entry) -> Entry:
            raise Stale("somebody else wrote it")

    def contend() -> None:
        processor.ledger = Busy()

    table.answers = [Answer(NotWritten(Refused("403")), meanwhile=contend)]
    with pytest.raises(Stale):
        await processor.process(Change(ANNA, E1))
