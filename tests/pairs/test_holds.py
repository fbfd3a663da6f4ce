"""What a person may say of what is held, and what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sync.messages.changes import Change, Evidence
from sync.messages.codec import OUTLOOK_CHANGES, parse_change_message
from sync.model import Booking, Event
from sync.pairs.actions import CancelBooking, Hold, Ignore, MoveBooking, Outcome
from sync.pairs.entry import GONE, Entry, Held
from sync.pairs.holds import Answered, Holds, Listed, choose, listed
from sync.pairs.processing import Processor
from sync.pairs.reasons import HoldKind
from tests.world.fakes import (
    ANNA,
    BEN,
    NOW,
    BreakerInMemory,
    Calendars,
    LedgerInMemory,
    QueuesInMemory,
    Table,
    span,
    waits,
)

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
OTHER = "c5d7e9fa-ffff-4f11-9f89-000d3adc2b02"
HELD = Held(HoldKind.ALL_DAY, NOW, "v1", Outcome.MOVED)
WAITING = replace(HELD, kind=HoldKind.WAITS_FOR_OUTLOOK)
ENTRY = Entry(ANNA, "AAMkEvent1=", booking_id=GUID, held=HELD)
ALL_DAY = Event("E1", "", span(12), is_all_day=True, has_extension=True, booking_id=GUID)
BOOKING = Booking(GUID, "", span(9), "E1", ANNA)


class TestWhatIsListed:
    def test_what_a_person_is_asked_first_and_the_oldest_first(self) -> None:
        ages = [(HELD, 0), (WAITING, 5), (WAITING, 1), (HELD, 3)]
        entries = [
            replace(ENTRY, event_id=f"E{hours}", held=replace(held, since=NOW - timedelta(hours=hours)))
            for held, hours in ages
        ]
        assert [each.entry.event_id for each in listed(entries)] == ["E3", "E0", "E5", "E1"]

    def test_it_is_named_by_its_booking(self) -> None:
        assert [each.id for each in listed([ENTRY])] == [GUID]

    def test_it_is_named_by_its_event_if_the_booking_is_not_known_or_has_several(self) -> None:
        entries = [ENTRY, replace(ENTRY, event_id="copy"), replace(ENTRY, event_id="lone", booking_id=None)]
        assert {each.id for each in listed(entries)} == {"AAMkEvent1=", "copy", "lone"}

    def test_what_is_not_held_is_not_listed(self) -> None:
        assert listed([replace(ENTRY, held=None)]) == []


class TestHowItIsNamed:
    ALL = listed([ENTRY, replace(ENTRY, event_id="AAMkEvent22=", booking_id=OTHER)])

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param(GUID, [GUID], id="the booking's id"),
            pytest.param(OTHER.upper(), [OTHER], id="in capitals"),
            pytest.param("AAMkEvent1=", [GUID], id="the event's id"),
            pytest.param("c5d7e9fa-6", [GUID], id="the first characters of a booking's id"),
            pytest.param("AAMkEvent2", [OTHER], id="the first characters of an event's id"),
            pytest.param("Event22=", [OTHER], id="the last characters of an event's id"),
            pytest.param("vent1=", [GUID], id="six characters"),
        ],
    )
    def test_by(self, text: str, expected: list[str]) -> None:
        assert [each.id for each in choose(self.ALL, [text]).found] == expected

    @pytest.mark.parametrize("text", ["c5d7e9fa-6b1d", "aamkevent1=", "ent1=", "5d7e9fa-6b1c", ""])
    def test_not_by(self, text: str) -> None:
        chosen = choose(self.ALL, [text])
        assert (chosen.found, chosen.missing) == ([], [text])

    def test_what_fits_two_names_neither(self) -> None:
        chosen = choose(self.ALL, ["c5d7e9fa", GUID])
        assert (len(chosen.found), chosen.ambiguous) == (1, ["c5d7e9fa"])

    def test_twice_is_once(self) -> None:
        assert len(choose(self.ALL, [GUID, GUID, "AAMkEvent1="]).found) == 1


class Ledger(LedgerInMemory):
    async def held(self, now: datetime) -> AsyncIterator[Entry]:
        for entry in self.entries.values():
            if entry.held is not None:
                yield entry


class World:
    """Anna's event E1 lasts all day, and its booking does not: held."""

    def __init__(self) -> None:
        self.calendars, self.bookings, self.ledger, self.queues = Calendars(), Table(), Ledger(), QueuesInMemory()
        self.calendars.put(ANNA, ALL_DAY)
        self.bookings.put(BOOKING)
        self.breaker = BreakerInMemory()
        self.processor = Processor(self.calendars, self.bookings, self.ledger, self.breaker, lambda: NOW)
        self.holds = Holds(self.ledger, self.queues, lambda: NOW)

    async def process(self, change: Change) -> object:
        return await self.processor.process(change)

    async def drain(self) -> list[object]:
        changes = [parse_change_message(text) for text in self.queues.of(OUTLOOK_CHANGES)]
        self.queues.sent.clear()
        return [await self.process(change) for change in changes]

    async def held(self) -> list[Listed]:
        return await self.holds.list()


@pytest.fixture
async def world() -> World:
    world = World()
    assert isinstance(await world.process(Change(ANNA, "E1")), Hold)
    return world


async def test_what_is_released_is_done_and_held_no_more(world: World) -> None:
    answered = await world.holds.release(await world.held())
    assert [each.id for each in answered.done] == [GUID]
    assert [each.is_released for each in await world.held()] == [True], "until it is done"
    assert world.bookings.rows[GUID].span == span(9), "nothing is written but by the usual way"
    [action] = await world.drain()
    assert isinstance(action, MoveBooking)
    assert world.bookings.rows[GUID].span == span(12)
    assert await world.held() == []


async def test_what_is_discarded_is_left_alone_until_it_changes(world: World) -> None:
    await world.holds.discard(await world.held())
    assert (await world.held(), world.queues.sent) == ([], [])
    assert isinstance(await world.process(Change(ANNA, "E1")), Ignore)
    assert world.bookings.rows[GUID].span == span(9)
    world.calendars.change("E1", span=span(15))
    assert isinstance(await world.process(Change(ANNA, "E1")), Hold)


@pytest.mark.parametrize("word", ["release", "discard"])
async def test_a_word_counts_for_the_version_that_was_held_and_no_other(world: World, word: str) -> None:
    await getattr(world.holds, word)(await world.held())
    world.calendars.change("E1", span=span(15))
    assert isinstance(await world.process(Change(ANNA, "E1")), Hold)
    assert world.bookings.rows[GUID].span == span(9)


async def test_a_cancellation_that_the_breaker_held_is_done_though_it_is_tripped(world: World) -> None:
    world.breaker.ceiling = 0
    world.calendars.delete("E1")
    assert isinstance(await world.process(Change(ANNA, "E1", evidence=Evidence.TOLD)), Hold)
    await world.holds.release(await world.held())
    assert [type(action) for action in await world.drain()] == [CancelBooking]
    assert world.bookings.rows[GUID].is_canceled


async def test_a_cancellation_that_was_discarded_is_never_done(world: World) -> None:
    world.breaker.ceiling = 0
    world.calendars.delete("E1")
    await world.process(Change(ANNA, "E1", evidence=Evidence.TOLD))
    await world.holds.discard(await world.held())
    world.breaker.ceiling = 100
    for evidence in (Evidence.TOLD, Evidence.MISSED):
        assert isinstance(await world.process(Change(ANNA, "E1", evidence)), Ignore)
    assert not world.bookings.rows[GUID].is_canceled


@pytest.mark.parametrize("is_moved_too", [False, True])
async def test_the_event_wins_over_the_dispatcher_if_a_person_says_so(world: World, is_moved_too: bool) -> None:
    world.calendars.change("E1", span=span(9), is_all_day=False)
    assert isinstance(await world.process(Change(ANNA, "E1")), Ignore)
    world.bookings.edit(GUID, span=span(16))
    if is_moved_too:
        world.calendars.change("E1", span=span(20))
    assert waits(await world.process(Change(ANNA, "E1")))
    [waiting] = await world.held()
    assert waiting.held.is_waiting
    await world.holds.release([waiting])
    await world.drain()
    assert world.bookings.rows[GUID].span == world.calendars.events["E1"].span
    assert await world.held() == []


async def test_a_word_on_a_deletion_against_a_move(world: World) -> None:
    world.calendars.change("E1", span=span(9), is_all_day=False)
    await world.process(Change(ANNA, "E1"))
    world.bookings.edit(GUID, span=span(16))
    world.calendars.delete("E1")
    await world.process(Change(ANNA, "E1", evidence=Evidence.TOLD))
    [waiting] = await world.held()
    assert waiting.held.version == GONE
    await world.holds.release([waiting])
    assert [type(action) for action in await world.drain()] == [CancelBooking]


async def test_where_nothing_can_be_done_a_release_is_refused_and_a_discard_is_not(world: World) -> None:
    world.calendars.change("E1", span=span(9, -1), is_all_day=False)
    await world.process(Change(ANNA, "E1"))
    refused = await world.holds.release(await world.held())
    assert ([why for _, why in refused.refused], world.queues.sent) == (["nothing can be done"], [])
    assert len((await world.holds.discard(await world.held())).done) == 1
    assert await world.held() == []


@pytest.mark.parametrize("word", ["release", "discard"])
async def test_what_changed_since_it_was_listed_is_refused(world: World, word: str) -> None:
    seen = await world.held()
    world.calendars.change("E1", span=span(15))
    await world.process(Change(ANNA, "E1"))
    answered: Answered = await getattr(world.holds, word)(seen)
    assert ([why for _, why in answered.refused], world.queues.sent) == (["it changed meanwhile"], [])
    assert world.bookings.rows[GUID].span == span(9)
    assert len(await world.held()) == 1


async def test_who_only_looked_again_meanwhile_does_not_matter(world: World) -> None:
    seen = await world.held()
    await world.process(Change(ANNA, "E1"))
    assert len((await world.holds.release(seen)).done) == 1


async def test_said_twice_is_done_once(world: World) -> None:
    for _ in range(2):
        await world.holds.release(await world.held())
    actions = await world.drain()
    assert [type(action) for action in actions] == [MoveBooking, Ignore]


async def test_what_was_released_and_done_is_not_held_again(world: World) -> None:
    await world.holds.release(await world.held())
    await world.drain()
    for change in (Change(ANNA, "E1"), Change(ANNA, "E1", evidence=Evidence.MISSED)):
        assert isinstance(await world.process(change), Ignore)
    assert await world.held() == []


async def test_many_are_answered_in_turns(world: World) -> None:
    entries = [replace(ENTRY, mailbox=BEN, event_id=f"E{number}") for number in range(70)]
    for entry in entries:
        await world.ledger.write(entry)
    told: list[tuple[int, int]] = []
    world.holds.progress = lambda done, of: told.append((done, of))
    answered = await world.holds.release([each for each in await world.held() if each.entry.mailbox == BEN])
    assert (len(answered.done), len(world.queues.of(OUTLOOK_CHANGES)), told[-1]) == (70, 70, (70, 70))


async def test_a_release_whose_message_is_lost_is_in_the_ledger(world: World) -> None:
    world.queues.refuses = True
    with pytest.raises(Exception, match="the queue refuses"):
        await world.holds.release(await world.held())
    assert [each.is_released for each in await world.held()] == [True]
