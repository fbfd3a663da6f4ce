"""Sweeps and the ledger together: what is learned, what is held, and that neither cancels too much or too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox.dataverse.tables import Row
from sandbox.graph.mailboxes import Event
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY, Technician
from sync.messages.changes import Change, Evidence
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message
from sync.model import ConflictPolicy, SyncMode
from sync.pairs.actions import in_words
from sync.pairs.entry import GONE, Entry, Kind
from sync.pairs.reasons import HoldKind
from tests.world.app import COLUMN, DAY, HOUR, START, App, is_canceled, is_in_step
from tests.world.sweeping import be_deaf, hire, pairs_of, sweep_all


async def settle(app: App) -> None:
    """Second looks come after a minute."""
    for _ in range(3):
        app.sandbox.clock.move(timedelta(minutes=2))
        await app.work()


async def nights(app: App, count: int = 1) -> list[int]:
    """So many sweeps; the messages beside the sweep's own that each took."""
    messages = []
    for _ in range(count):
        app.sandbox.clock.move(5 * HOUR)
        app.inbox.sent = 0
        await sweep_all(app)
        messages.append(app.inbox.sent - 1)
    return messages


def held(app: App) -> list[Entry]:
    return [entry for entry in app.ledger.entries.values() if entry.held is not None]


async def release(app: App, entry: Entry) -> None:
    """As an operator does by command."""
    assert entry.held is not None
    await app.ledger.write(replace(entry, released=entry.held.version))
    message = build_change_message(
        Change(entry.mailbox, entry.event_id, evidence=Evidence.MISSED if entry.held.version == GONE else Evidence.NONE)
    )
    await app.inbox.send(OUTLOOK_CHANGES, [message])
    await settle(app)


def shift(app: App, booking: Row, by: timedelta) -> None:
    """A dispatcher moves the booking, and nobody brings its event along."""
    times = {name: booking[name] + by for name in ("starttime", "endtime")}
    app.sandbox.tables.update(booking, times)


async def test_a_booking_that_was_handed_over_and_back_is_not_canceled_for_its_first_event(app: App) -> None:
    """That event was deleted while the booking was somebody else's, and its deletion judged then."""
    ana, ben = hire(app, "Ana", "Ben")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.people.dispatcher.hand_over(booking, ben)
    app.sandbox.mailboxes.delete(event)
    await settle(app)
    app.sandbox.people.dispatcher.hand_over(booking, ana)
    await settle(app)
    await nights(app)
    await settle(app)
    assert not is_canceled(app.sandbox, booking)
    [entry] = held(app)
    assert entry.booking_id == booking.id, "it is shown to a person"


async def away_and_back(app: App, booking: Row, ana: Technician, ben: Technician) -> None:
    """The event goes to Ben's calendar with the booking, and nobody hears of it; it has not come back yet."""
    app.sandbox.people.dispatcher.reassign(booking, ben)
    app.sandbox.clock.move(HOUR)
    app.sandbox.people.dispatcher.hand_over(booking, ana)


@pytest.mark.parametrize("others", [0, 9])
@pytest.mark.parametrize("readable", [False, True])
async def test_bookings_that_went_and_came_back_unheard_are_not_canceled_before_outlook_has_followed(
    app: App, readable: bool, others: int
) -> None:
    """Alone, or too few beside others to look like a restored mailbox."""
    app.sandbox.graph_switches.deleted_stay_readable = readable
    ana, ben = hire(app, "Ana", "Ben")
    away = (await pairs_of(app, ana, 3 + others))[:3]
    be_deaf(app)
    for booking, _ in away:
        await away_and_back(app, booking, ana, ben)
    await nights(app)
    await settle(app)
    assert not any(is_canceled(app.sandbox, booking) for booking, _ in away)
    assert sorted(entry.booking_id or "" for entry in held(app)) == sorted(booking.id for booking, _ in away)
    followed = [(booking, app.sandbox.people.dispatcher.bring_event(booking, ana)) for booking, _ in away]
    await nights(app, 2)
    await settle(app)
    assert all(is_in_step(app.sandbox, *pair) for pair in followed)
    assert held(app) == [], "in step, nobody has to say anything"


async def test_a_booking_whose_user_was_away_is_not_canceled_as_the_user_and_the_booking_come_back(app: App) -> None:
    """Unsubscribed in between, so nobody told where the event went."""
    ana, ben = hire(app, "Ana", "Ben")
    ((booking, _),) = await pairs_of(app, ana, 1)
    app.sandbox.tables.update(ana.user, {"isdisabled": True})
    ben.mailbox.state = "denied"
    await app.keeper.keep()
    await away_and_back(app, booking, ana, ben)
    app.sandbox.tables.update(ana.user, {"isdisabled": False})
    await app.keeper.keep()
    await settle(app)
    assert not is_canceled(app.sandbox, booking)


async def test_a_lost_deletion_of_a_booking_that_was_edited_is_for_a_person(app: App) -> None:
    """Nobody can tell an edit of its note from its going and coming back."""
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    be_deaf(app)
    app.sandbox.people.dispatcher.rename(booking)
    ana.delete(event)
    await nights(app)
    assert not is_canceled(app.sandbox, booking)
    assert await nights(app, 2) == [0, 0], "it is held, so nobody asks again"
    [entry] = held(app)
    assert entry.held is not None
    assert "the booking was edited" in entry.held.reason
    await release(app, entry)
    assert is_in_step(app.sandbox, booking, event)
    assert held(app) == []


async def test_an_edit_that_a_sweep_has_seen_in_step_hides_no_deletion_and_costs_one_write_of_the_ledger(
    app: App,
) -> None:
    (ana,) = hire(app, "Ana")
    (booking, event), _ = await pairs_of(app, ana, 2)
    be_deaf(app)
    writes = []
    for edits in (0, 1, 0):
        for _ in range(edits):
            app.sandbox.people.dispatcher.rename(booking)
        before = app.ledger.version
        assert await nights(app) == [0]
        writes.append(app.ledger.version - before)
    assert writes == [0, 1, 0]
    ana.delete(event)
    await nights(app)
    await settle(app)
    assert is_in_step(app.sandbox, booking, event)


async def test_what_the_app_wrote_itself_does_not_hide_that_the_event_was_deleted_next(app: App) -> None:
    (ana,) = hire(app, "Ana")
    (booking, event), _ = await pairs_of(app, ana, 2)
    ana.move(event, HOUR)
    await settle(app)
    assert is_in_step(app.sandbox, booking, event)
    be_deaf(app)
    ana.delete(event)
    await nights(app)
    await settle(app)
    assert is_in_step(app.sandbox, booking, event)


async def test_an_event_that_was_somebodys_own_until_it_got_our_extension_is_learned_by_a_sweep(app: App) -> None:
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    start = START + 2 * DAY
    booking = app.sandbox.tables.add_booking(ana.resource, start, start + HOUR)
    event = app.sandbox.mailboxes.create(ana.mailbox, start, start + HOUR, subject="x")
    await app.work()
    app.sandbox.clock.move(timedelta(minutes=15))
    ana.edit(event)
    await app.work()
    assert [entry.kind for entry in app.ledger.entries.values()] == [Kind.NOT_OURS]
    app.sandbox.mailboxes.set_extension(event, EXTENSION_NAME, {EXTENSION_PROPERTY: booking.id})
    app.sandbox.tables.update(booking, {COLUMN: event.immutable_id})
    await nights(app)
    ana.delete(event)
    await settle(app)
    assert is_canceled(app.sandbox, booking)


async def test_what_was_decided_for_the_dispatcher_stays_so_when_the_booking_moves_back(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    shift(app, booking, HOUR)
    ana.delete(event)
    await settle(app)
    assert not is_canceled(app.sandbox, booking)
    assert [entry.held.is_waiting for entry in held(app) if entry.held] == [True]
    assert await nights(app, 2) == [0, 0], "nothing has changed, so it is only shown"
    shift(app, booking, -HOUR)
    await nights(app)
    await settle(app)
    assert not is_canceled(app.sandbox, booking)
    assert [entry.held.is_waiting for entry in held(app) if entry.held] == [True]


async def test_many_lost_deletions_are_held_until_a_person_releases_them(app: App) -> None:
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 4)
    be_deaf(app)
    for _, event in pairs[:3]:
        ana.delete(event)
    assert await nights(app, 3) == [0, 0, 0]
    assert sorted(entry.booking_id or "" for entry in held(app)) == sorted(booking.id for booking, _ in pairs[:3])
    for entry in held(app):
        await release(app, entry)
    assert [is_canceled(app.sandbox, booking) for booking, _ in pairs] == [True, True, True, False]


async def test_ids_that_were_never_seen_do_not_keep_a_true_deletion_from_being_found(app: App) -> None:
    ana, ben = hire(app, "Ana", "Ben")
    pairs = await pairs_of(app, ana, 5)
    be_deaf(app)
    for booking, event in pairs[:2]:
        others = app.sandbox.mailboxes.create(ben.mailbox, START + DAY, START + DAY + HOUR, subject="x")
        ana.delete(event)
        app.sandbox.tables.update(booking, {COLUMN: others.immutable_id})
    ana.delete(pairs[2][1])
    await nights(app)
    await settle(app)
    assert [is_canceled(app.sandbox, booking) for booking, _ in pairs] == [False, False, True, False, False]


async def test_a_pair_that_is_in_step_again_is_held_no_more(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    shift(app, booking, HOUR)
    ana.edit(event)
    await settle(app)
    assert len(held(app)) == 1
    shift(app, booking, -HOUR)
    await nights(app)
    assert is_in_step(app.sandbox, booking, event)
    assert held(app) == []


async def test_a_conflict_that_a_person_discarded_costs_nothing_any_more(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.processor.policy = ConflictPolicy.HOLD
    be_deaf(app)
    shift(app, booking, HOUR)
    ana.move(event, 3 * HOUR)
    assert await nights(app, 2) == [1, 0]
    [entry] = held(app)
    assert entry.held is not None
    await app.ledger.write(replace(entry, discarded=entry.held.version, held=None))
    assert await nights(app, 2) == [0, 0]


async def test_a_linked_event_that_lost_our_extension_is_still_the_bookings(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    be_deaf(app)
    app.sandbox.mailboxes.remove_extension(event, EXTENSION_NAME)
    ana.move(event, HOUR)
    assert await nights(app, 2) == [1, 1]
    assert (booking["starttime"], held(app)) == (event.start, [])


async def test_an_event_without_length_is_not_held_again_each_other_night_once_its_booking_is_done(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.mailboxes.change(event, end=event.start)
    await settle(app)
    assert len(held(app)) == 1
    app.sandbox.people.dispatcher.complete(booking)
    assert await nights(app, 3) == [0, 0, 0]
    assert [entry.held.kind for entry in held(app)] == [HoldKind.BACKWARDS]


async def test_what_only_observing_left_unlinked_is_still_shown_after_a_night(app: App) -> None:
    app.mode = SyncMode.OBSERVE
    app.install(*app.keys)
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    booking, event = app.sandbox.people.dispatcher.book(ana, START + 2 * DAY, START + 2 * DAY + HOUR)
    await settle(app)
    ana.delete(event)
    await settle(app)
    assert await nights(app, 2) == [0, 0]
    assert [entry.booking_id for entry in held(app)] == [booking.id]


async def test_an_app_that_only_observes_knows_who_moved_beside_flows_that_link_by_ids_of_the_older_form(
    app: App,
) -> None:
    """It would have replaced the id, and known from then on. Those flows wrote the booking last."""
    app.mode = SyncMode.OBSERVE
    app.install(*app.keys)
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    booking, event = app.sandbox.people.dispatcher.book(ana, START + 2 * DAY, START + 2 * DAY + HOUR)
    app.sandbox.tables.update(booking, {COLUMN: event.plain_id})
    await settle(app)
    ana.move(event, HOUR)
    await settle(app)
    [entry] = app.ledger.entries.values()
    assert [in_words(decision.outcome, decision.stage) for decision in entry.history] == [
        "would be linked",
        "would be moved",
    ]
    shift(app, booking, 5 * HOUR)
    ana.edit(event)
    await settle(app)
    assert len(held(app)) == 1, "moved elsewhere by a dispatcher"


async def test_comparing_writes_nothing_anywhere(app: App) -> None:
    (ana,) = hire(app, "Ana")
    pairs: Sequence[tuple[Row, Event]] = await pairs_of(app, ana, 2)
    app.ledger.wipe()
    be_deaf(app)
    ana.delete(pairs[0][1])
    app.sandbox.calls.clear()
    differences = await app.sweeper.compare(ana.mailbox.id)
    assert len(differences) == 1
    assert app.ledger.entries == {}
    assert app.sandbox.calls.writes("graph") + app.sandbox.calls.writes("dataverse") == 0
