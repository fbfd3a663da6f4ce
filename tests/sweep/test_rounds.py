"""Rounds: which mailboxes are asked for, in which order, and when; an interrupted round begins anew."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sandbox.faults import Fault
from sync.errors import Transient
from sync.messages.codec import SWEEPS, parse_sweep_message
from sync.pairs.entry import Entry
from sync.sweep.rounds import LASTS, MAILBOXES_AT_ONCE, MAILBOXES_PER_SECOND, SKEW, does_for_now, in_order
from tests.world.app import HOUR, START, App
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.sweeping import be_deaf, hire

CLEO = "00000000-0000-4000-8000-00000000000c"


def test_who_has_bookings_comes_first_and_nobody_is_left_out() -> None:
    assert in_order({ANNA, BEN, CLEO}, [BEN, ANNA]) == [BEN, ANNA, CLEO]


def test_who_is_not_wanted_is_not_asked_for() -> None:
    assert in_order({ANNA, BEN}, [CLEO, BEN]) == [BEN, ANNA]


@pytest.mark.parametrize(
    ("last", "is_done"),
    [
        pytest.param(None, False, id="no round is known"),
        pytest.param(NOW - LASTS, True, id="one that ended does for the night"),
        pytest.param(NOW - LASTS - timedelta(seconds=1), False, id="until it is old"),
        pytest.param(NOW + SKEW, True, id="a clock may be a little ahead"),
        pytest.param(NOW + timedelta(days=30), False, id="a wrong clock's round does not count"),
    ],
)
def test_a_round_that_ended_does_for_the_night(last, is_done) -> None:
    assert does_for_now(last, NOW) is is_done


async def test_the_sweep_of_all_is_spread_over_time(app):
    mailboxes = 4 * MAILBOXES_AT_ONCE + 1
    hire(app, *(f"Person {number}" for number in range(mailboxes)))
    assert await app.rounds.ask_all() == mailboxes
    seconds = [(message.visible_at - app.sandbox.clock.now()).total_seconds() for message in app.inbox.messages]
    step = MAILBOXES_AT_ONCE / MAILBOXES_PER_SECOND
    assert [seconds.count(place * step) for place in range(6)] == [*[MAILBOXES_AT_ONCE] * 4, 1, 0]
    assert {message.queue for message in app.inbox.messages} == {SWEEPS}


def swept(app: App) -> list[str]:
    """The mailboxes whose sweeps are queued, the first one first; and the queue is emptied."""
    found = [parse_sweep_message(text).mailbox for text in app.inbox.of(SWEEPS)]
    app.inbox.messages.clear()
    return found


async def test_the_mailboxes_with_the_most_imminent_bookings_are_swept_first(app):
    be_deaf(app)
    crew = hire(app, *(f"Person {number}" for number in range(12)))
    for days, technician in zip([9, 2, 30, 1, -1, 14], crew, strict=False):
        start = START + timedelta(days=days)
        app.sandbox.people.dispatcher.book(technician, start, start + HOUR)
    await app.rounds.ask_all()
    expected = [crew[place].mailbox.id for place in (3, 1, 0, 5, 2)]
    rest = sorted({technician.mailbox.id for technician in crew}.difference(expected))
    assert swept(app) == expected + rest


async def test_an_order_that_cannot_be_told_keeps_nobody_from_the_sweep(app):
    crew = hire(app, "Ana", "Ben")
    app.sandbox.faults.order(Fault("dataverse", path="^/bookableresourcebookings$", status=503, times=None))
    await app.rounds.ask_all()
    assert sorted(swept(app)) == sorted(technician.mailbox.id for technician in crew)


def interrupt(app: App, after: int) -> None:
    """So many mailboxes later; each is queued by itself."""
    app.rounds.mailboxes_at_once = 1
    app.inbox.refuses_after(after)


async def test_an_interrupted_round_is_queued_again_from_the_start(app):
    crew = {technician.mailbox.id for technician in hire(app, *"ABCDEFGHIJ")}
    interrupt(app, 4)
    with pytest.raises(Transient):
        await app.rounds.ask_nightly()
    assert len(swept(app)) == 4
    app.sandbox.clock.move(HOUR)
    assert await app.rounds.ask_nightly() == 10
    assert set(swept(app)) == crew
    app.sandbox.clock.move(HOUR)
    assert await app.rounds.ask_nightly() == 0, "done for this night"
    assert await app.rounds.ask_all() == 10, "but whoever asks for it gets it"
    app.sandbox.clock.move(timedelta(hours=22))
    assert await app.rounds.ask_nightly() == 10


async def test_at_night_the_ledger_forgets_what_has_expired(app):
    for event_id, expires in (("E1", START - HOUR), ("E2", START + HOUR)):
        await app.ledger.write(Entry(ANNA, event_id, expires=expires))
    await app.rounds.ask_nightly()
    assert [event_id for _, event_id in app.ledger.entries] == ["E2"]
    app.sandbox.clock.move(2 * HOUR)
    assert await app.rounds.ask_nightly() == 0, "done for this night"
    assert app.ledger.entries == {}


async def test_a_ledger_that_cannot_be_purged_keeps_no_mailbox_from_being_swept(app):
    [ana] = hire(app, "Ana")
    app.ledger.is_down = True
    assert await app.rounds.ask_nightly() == 1
    assert swept(app) == [ana.mailbox.id]


async def test_the_ledger_is_not_purged_for_longer_than_there_is_time(app):
    asked = []

    async def purge(now, until):
        asked.append(until())
        return 0

    app.ledger.purge = purge
    await app.rounds.ask_nightly()
    app.rounds.purge_for = -1.0
    await app.rounds.ask_nightly()
    assert asked == [False, True]


async def test_a_round_that_takes_too_long_to_queue_is_queued_the_next_time(app):
    hire(app, *"ABC")
    with pytest.raises(Transient):
        await app.rounds.ask_all(within=-1.0)
    assert await app.rounds.ask_nightly() == 3


async def test_after_an_outage_a_round_that_was_interrupted_is_queued_until_it_ends(app):
    hire(app, *"ABCDEFGHIJ")
    await app.keeper.keep()
    app.sandbox.clock.move(timedelta(hours=3, minutes=30))
    app.inbox.messages.clear()
    interrupt(app, 7)
    with pytest.raises(Transient):
        await app.keeper.keep()
    app.inbox.messages.clear()
    assert (await app.keeper.keep()).queued_sweeps == 10
    assert not (await app.keeper.keep()).was_away


async def test_who_cannot_be_asked_ends_the_sweep_of_all_and_the_timer_says_so(app):
    app.sandbox.faults.order(Fault("dataverse", status=503, times=None))
    hire(app, "Ana")
    with pytest.raises(Transient):
        await app.rounds.ask_all()
