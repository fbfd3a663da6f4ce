"""What a change costs, counted at the simulated services: these numbers are promises."""

from __future__ import annotations

import pytest

from tests.world.services import HOUR, NINE, TEN, World


async def test_an_ordinary_meeting_costs_one_graph_read(world: World) -> None:
    meeting = world.technician.meet(NINE, TEN)
    assert await world.counted(meeting) == (1, 0, 0)


async def test_a_deleted_ordinary_meeting_costs_one_read_each(world: World) -> None:
    meeting = world.technician.meet(NINE, TEN)
    world.technician.delete(meeting)
    assert await world.counted(meeting, deleted=True) == (1, 1, 0)


async def test_a_new_booking_costs_one_read_each_and_one_write(world: World) -> None:
    assert await world.counted(world.event) == (1, 1, 1)
    assert world.booking["contoso_outlookeventid"] == world.event.immutable_id


async def test_a_new_booking_that_is_canceled_already_costs_a_look_at_the_calendar_once(world: World) -> None:
    """The event has to stand there: one that can be read may be in Deleted Items."""
    tables = world.sandbox.tables
    tables.update(world.booking, {"_bookingstatus_value": tables.status("Canceled").id})
    assert await world.counted(world.event) == (2, 1, 0)
    assert await world.counted(world.event) == (1, 1, 0)


async def test_a_new_booking_whose_work_has_begun_costs_one_read_each(world: World) -> None:
    world.sandbox.people.dispatcher.start(world.booking)
    assert await world.counted(world.event) == (1, 1, 0)


async def test_a_linked_event_in_step_costs_one_read_each_and_no_write(world: World) -> None:
    await world.link()
    world.technician.edit(world.event)
    assert await world.counted(world.event) == (1, 1, 0)


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_moved_event_costs_one_read_each_and_one_write(world: World, is_known: bool) -> None:
    """The booking first, which is known by the ledger; without, by the event, which is then read once more.

    Without it, who wrote the booking last has to tell that only the event was moved: plus who we are, once per process.
    """
    await world.link()
    if not is_known:
        world.ledger.wipe()
    world.technician.move(world.event, HOUR)
    assert await world.counted(world.event) == ((1, 1, 1) if is_known else (2, 2, 1))
    assert (world.booking["starttime"], world.booking["endtime"]) == (NINE + HOUR, TEN + HOUR)


@pytest.mark.parametrize("canceled_is_known", [True, False])
async def test_a_deleted_event_costs_a_read_each_a_list_and_one_write(world: World, canceled_is_known: bool) -> None:
    """The list says whether another event claims the booking. Plus the list of booking statuses, once per process."""
    if canceled_is_known:
        await world.bookings.statuses.canceled_id()
    await world.link()
    world.technician.delete(world.event)
    reads = 1 if canceled_is_known else 2
    assert await world.counted(world.event, deleted=True) == (2, reads, 1)
    assert world.booking["_bookingstatus_value"] == world.sandbox.tables.status("Canceled").id
    assert world.booking["contoso_outlookeventid"] is None


async def test_a_deleted_event_that_stays_readable_costs_two_more_reads(world: World) -> None:
    """The default calendar and the event's own are asked whether it stands there."""
    await world.bookings.statuses.canceled_id()
    await world.link()
    world.sandbox.graph_switches.deleted_stay_readable = True
    world.technician.delete(world.event)
    assert await world.counted(world.event, deleted=True) == (4, 1, 1)


async def test_an_event_dragged_to_another_calendar_is_not_gone(world: World) -> None:
    await world.link()
    world.technician.file(world.event)
    assert await world.counted(world.event, deleted=True) == (4, 1, 0)


async def test_nothing_is_written_twice(world: World) -> None:
    await world.link()
    world.technician.move(world.event, HOUR)
    await world.process(world.event)
    for _ in range(3):
        assert await world.counted(world.event) == (1, 1, 0)
    world.technician.delete(world.event)
    await world.process(world.event, deleted=True)
    for _ in range(3):
        graph_reads, _, writes = await world.counted(world.event, deleted=True)
        assert (graph_reads, writes) == (1, 0)


async def test_users_resources_and_statuses_are_never_looked_up_one_by_one(world: World) -> None:
    await world.link()
    world.technician.move(world.event, HOUR)
    await world.process(world.event)
    world.technician.delete(world.event)
    await world.process(world.event, deleted=True)
    tables = {call.path.partition("(")[0] for call in world.sandbox.calls if call.service == "dataverse"}
    assert tables == {"/bookableresourcebookings", "/bookingstatuses"}


async def test_a_row_that_changed_meanwhile_costs_two_more_reads(world: World) -> None:
    """A 412: booking and event are read once more, in this order."""
    await world.link()
    world.technician.move(world.event, HOUR)
    write = world.bookings.write

    async def after_a_dispatchers_edit(action: object) -> None:
        world.bookings.write = write  # type: ignore[method-assign]
        world.sandbox.people.dispatcher.rename(world.booking)
        await write(action)  # type: ignore[arg-type]

    world.bookings.write = after_a_dispatchers_edit  # type: ignore[method-assign]
    assert await world.counted(world.event) == (2, 2, 2)
    assert world.booking["starttime"] == NINE + HOUR
    assert world.booking["name"] == "Repair, urgent"
