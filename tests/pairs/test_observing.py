"""While the app only observes, Dataverse is not written whatever happens; switched on afterwards, it catches up."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta

import pytest

from sync.calls.credentials import LoopbackCredential
from sync.dataverse import bookings as dataverse_bookings
from sync.dataverse import transport as dataverse_transport
from sync.errors import NotWritten, Refused
from sync.intake.coalescing import Notified, is_known
from sync.messages.changes import Change, Evidence
from sync.model import SyncMode
from sync.pairs.actions import CancelBooking, Hold, LinkBooking, Observed, in_words
from sync.pairs.holding import release
from sync.pairs.observing import is_left_out
from sync.pairs.processing import Processor
from sync.storage.tables import StorageTable
from tests.world.app import COLUMN
from tests.world.fakes import NOW, BreakerInMemory, evidence_of
from tests.world.running import HOUR, TOMORROW, act, running, turn_hostile
from tests.world.services import World


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_a_hostile_world_is_observed(storage: str, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The whole app, host, queues and tables; the flows of today link bookings to their events."""
    rng = random.Random(seed)
    monkeypatch.setattr("sync.pairs.actions.GRACE", 1.0)
    async with running(storage, monkeypatch, seed, SYNC_MODE="observe") as app:
        people, tables = app.sandbox.people, app.sandbox.tables
        technicians = [people.hire(name) for name in ("Ana", "Ben", "Cleo")]
        await app.subscribe()
        turn_hostile(app.sandbox, seed)
        pairs = [people.dispatcher.book(rng.choice(technicians), TOMORROW, TOMORROW + HOUR) for _ in range(5)]
        for booking, event in pairs[:4]:
            tables.update(booking, {COLUMN: event.immutable_id})
        gone: set[int] = set()
        for _ in range(12):
            number = rng.randrange(len(pairs))
            if number not in gone:
                act(rng, people.owner(pairs[number][1]), pairs[number][1], gone, number)
            await asyncio.sleep(0.01)
        await app.sandbox.delivery.settle()
        app.sandbox.faults.clear()
        for _ in range(2):
            booking, event = people.dispatcher.book(technicians[0], TOMORROW, TOMORROW + HOUR)
            await app.quiet()
            tables.update(booking, {COLUMN: event.immutable_id})
            technicians[0].move(event, HOUR)
            await app.quiet()
        technicians[0].delete(event)
        await app.quiet()
        assert app.sandbox.calls.writes("dataverse") == 0
        assert await app.parked() == []
        ledger = StorageTable.of_connection_string(storage, "ledger")
        entries = [json.loads(str(row["entry"])) async for row in ledger.query("kind ne @n", {"n": "x"})]
        await ledger.close()
    history = [decision for entry in entries for decision in entry.get("history", ())]
    assert {"linked", "moved", "canceled"} <= {each["outcome"] for each in history if each.get("stage") == "observed"}
    assert not [each for each in history if each.get("stage") == "intended"]


# One change at a time.


@pytest.fixture
def observer(world: World) -> Processor:
    """With a client that could write."""
    breaker = BreakerInMemory(ceiling=1)
    now = world.sandbox.clock.now
    return Processor(world.events, world.bookings, world.ledger, breaker, now, mode=SyncMode.OBSERVE)


def change(world: World, deleted: bool = False, version: str | None = None) -> Change:
    return Change(world.mailbox, world.event.immutable_id, evidence_of(deleted), version=version)


async def test_what_would_be_written_is_in_the_ledger_with_both_sides_as_they_were(
    world: World, observer: Processor
) -> None:
    await world.link()
    world.technician.move(world.event, HOUR)
    before = world.booking.etag
    done = await observer.process(change(world))
    entry = world.ledger.entries[world.mailbox, world.event.immutable_id]
    decision = entry.history[-1]
    assert isinstance(done, Observed)
    assert in_words(decision.outcome, decision.stage) == "would be moved"
    assert decision.event_span is not None
    assert decision.booking_span is not None
    assert decision.event_span.start - decision.booking_span.start == HOUR
    assert (decision.booking_version, decision.event_version) == (before, entry.versions[-1])
    assert world.booking.etag == before
    assert is_left_out(entry)


async def test_a_redelivery_costs_nothing(world: World, observer: Processor) -> None:
    await observer.process(change(world))
    entry = world.ledger.entries[world.mailbox, world.event.immutable_id]
    known = Notified(NOW, entry.kind, frozenset(entry.versions), entry.expires)
    assert is_known(change(world, version=entry.versions[-1]), known)


async def test_the_same_once_more_is_counted(world: World, observer: Processor) -> None:
    for _ in range(3):
        await observer.process(change(world))
    [decision] = world.ledger.entries[world.mailbox, world.event.immutable_id].history
    assert (in_words(decision.outcome, decision.stage), decision.times) == ("would be linked", 3)


async def test_cancellations_are_counted_and_too_many_are_held(world: World, observer: Processor) -> None:
    await world.link()
    other, event = world.sandbox.people.dispatcher.book(world.technician, world.booking["starttime"], TOMORROW)
    world.sandbox.tables.link(other, event.immutable_id)
    for each in (world.event, event):
        world.technician.delete(each)
    assert isinstance(await observer.process(change(world, deleted=True)), Observed)
    assert isinstance(await observer.process(Change(world.mailbox, event.immutable_id, evidence=Evidence.TOLD)), Hold)


async def test_switched_on_the_app_does_what_it_left_out_if_nobody_touched_the_booking(
    world: World, observer: Processor
) -> None:
    await world.link()
    world.technician.move(world.event, HOUR)
    await observer.process(change(world))
    await world.process(world.event)
    assert world.booking["starttime"] == world.event.start


@pytest.mark.parametrize("did_others", [True, False], ids=["which somebody else had done", "which nobody had done"])
async def test_switched_on_the_app_does_not_move_back_what_a_dispatcher_moved_since(
    world: World, observer: Processor, did_others: bool
) -> None:
    """The flows of today bring the booking after; then it goes elsewhere, and its event is to follow."""
    await world.link()
    await world.process(world.event)
    world.technician.move(world.event, HOUR)
    await observer.process(change(world))
    if did_others:
        world.sandbox.tables.update(world.booking, {"starttime": world.event.start, "endtime": world.event.end})
        await world.process(world.event)
    moved = {name: world.booking[name] + timedelta(hours=5) for name in ("starttime", "endtime")}
    world.sandbox.tables.update(world.booking, moved)
    await world.process(world.event)
    assert world.booking["starttime"] == moved["starttime"]
    assert world.ledger.entries[world.mailbox, world.event.immutable_id].held is not None


async def test_a_deletion_of_what_only_observing_left_unlinked_is_held_for_a_person(
    world: World, observer: Processor
) -> None:
    """As an app that writes would have linked the booking, and canceled it now."""
    assert isinstance(await observer.process(change(world)), Observed)
    world.technician.delete(world.event)
    held = await observer.process(change(world, deleted=True))
    assert isinstance(held, Hold)
    assert isinstance(held.write, CancelBooking)
    entry = world.ledger.entries[world.mailbox, world.event.immutable_id]
    assert entry.held is not None
    world.ledger.entries[world.mailbox, world.event.immutable_id] = release(entry, entry.held, NOW)
    await world.process(world.event, deleted=True)
    booking = await world.bookings.read(world.booking.id)
    assert booking is not None
    assert booking.is_canceled


async def test_a_client_of_an_observing_app_cannot_write_whoever_asks(world: World) -> None:
    transport = dataverse_transport.Transport(
        world.sandbox.dataverse_url, LoopbackCredential(), world.sandbox.clock.now, may_write=False
    )
    bookings = dataverse_bookings.DataverseBookings(transport, COLUMN)
    booking = await bookings.read(world.booking.id)
    assert booking is not None
    world.sandbox.calls.clear()
    with pytest.raises(NotWritten, match="SYNC_MODE"):
        await bookings.write(LinkBooking(booking.id, booking.etag, world.event.immutable_id))
    with pytest.raises(Refused, match="SYNC_MODE"):
        await transport.post("bookableresourcebookings", {})
    transport.close()
    assert len(world.sandbox.calls) == 0
