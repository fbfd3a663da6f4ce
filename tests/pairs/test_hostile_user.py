"""Hostile people and hostile services: everything that can happen does, in any order, and the promises hold.

What is right is told by sync_world.py, which knows the history of the world, not by the rules under test.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from sync.errors import MailboxUnavailable, NoAnswer, NotWritten, Refused, Stale, SyncError, Throttled, Transient
from sync.messages.changes import Change, Evidence
from sync.messages.codec import build_change_message
from sync.model import Booking, ConflictPolicy, Event, EventType, Span, SyncMode
from sync.pairs.holds import Listed, listed
from tests.world.fakes import ANNA, BEN, evidence_of, span
from tests.world.sync_world import MINUTE, Clocks, Died, Message, World

SKEWS = st.sampled_from([timedelta(0), 15 * MINUTE, -15 * MINUTE])


def throttled() -> SyncError:
    return Transient("429", 30)


def no_answer() -> SyncError:
    return NoAnswer("no answer")


def write_throttled() -> SyncError:
    return NotWritten(Throttled("429", 30))


def unavailable() -> SyncError:
    return MailboxUnavailable("404")


def write_refused() -> SyncError:
    return NotWritten(Refused("403"))


def refused_in_doubt() -> SyncError:
    """The first try was done and never answered, the second one was refused."""
    return Stale("412")


FAULTS = [
    *[(call, error) for call in ("event", "booking") for error in (throttled, no_answer)],
    *[("write", error) for error in (write_throttled, no_answer, write_refused)],
    ("event", unavailable),
    ("answer of the write", no_answer),
    ("answer of the write", refused_in_doubt),
    *[(call, no_answer) for call in ("ledger", "ledger's write", "answer of the ledger", "notes")],
    *[(call, no_answer) for call in ("queue", "answer of the queue")],
]


TROUBLES = ("ledger", "lag", "services")
"""Each alone in some runs, for one excuses what another one brings to light."""

SPECIAL = [
    {"type": EventType.SERIES_MASTER},
    {"is_all_day": True},
    {"type": EventType.SINGLE, "is_all_day": False},
]

EDITS = [{"is_canceled": True}, {"has_begun": True}, {"is_active": False}, {"mailbox": ANNA}, {"mailbox": BEN}, {}]

ACTS = ["move", "move", "move back", "delete", "restore", "move the booking", "edit the booking", "lose the ledger"]

RETIRED = {"is_active": False, "event_id": None, "mailbox": None}


class SyncMachine(RuleBasedStateMachine):
    """Changes happen at once; their notifications arrive in any order, several times, and are processed in steps."""

    events = Bundle("events")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.hour = 0.0
        self.to_follow: list[str] = []
        """The bookings that the other direction has still to bring their events after."""
        self.yesterday: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})

    @initialize(
        target=events,
        is_linked=st.booleans(),
        troubles=st.sampled_from([(), *((each,) for each in TROUBLES), TROUBLES]),
        stays_readable=st.booleans(),
        refuses_foreign_ids=st.booleans(),
        policy=st.sampled_from(ConflictPolicy),
        ceiling=st.sampled_from([1_000_000, 1, 0]),
        settle=st.sampled_from([0, 5]),
        skews=st.tuples(SKEWS, SKEWS, SKEWS, SKEWS),
    )
    def a_deployment(
        self,
        is_linked: bool,
        troubles: tuple[str, ...],
        stays_readable: bool,
        refuses_foreign_ids: bool,
        policy: ConflictPolicy,
        ceiling: int,
        settle: int,
        skews: tuple[timedelta, ...],
    ) -> Any:
        self.troubles = troubles
        self.world.calendars.stays_readable = stays_readable
        self.world.calendars.refuses_foreign_ids = refuses_foreign_ids
        self.world.policy, self.world.breaker.ceiling, self.world.settle = policy, ceiling, settle
        self.world.clocks = Clocks(exchange=skews[0], storage=skews[1], instances=skews[2:])
        event_id = self.a_dispatcher_books(1, ANNA, extension_later=False)
        if is_linked:
            self.world.run(self.world.process_all())
        return event_id

    # --- people in Outlook ---

    def new_span(self, day: int = 2) -> Span:
        """No two are the same; far enough away not to be over before the end, unless it is of another day."""
        self.hour += 0.25
        return span(self.hour, day=day)

    @precondition(lambda self: len(self.world.table.rows) < 2)  # few, so that much happens to each
    @rule(target=events, times=st.integers(1, 4), mailbox=st.sampled_from([ANNA, BEN]), extension_later=st.booleans())
    def a_dispatcher_books(self, times: int, mailbox: str, extension_later: bool) -> str:
        """The extension may be a second call, which comes within minutes or not."""
        world = self.world
        booking_id, at = f"{len(world.table.rows):08d}-0000-4000-8000-000000000000", self.new_span()
        event_id = f"E{len(world.states)}"
        world.table.put(Booking(booking_id, "", at, None, mailbox))
        complete = Event(event_id, "", at, has_extension=True, booking_id=booking_id)
        if extension_later:
            world.calendars.put(mailbox, replace(complete, has_extension=False, booking_id=None))
            self.unfinished = event_id, booking_id
        else:
            world.calendars.put(mailbox, complete)
        world.notify(event_id, "created", times)
        return event_id

    unfinished: tuple[str, str] | None = None
    """An event without its extension, and its booking."""

    @precondition(lambda self: self.unfinished)
    @rule()
    def the_extension_comes(self) -> None:
        assert self.unfinished is not None
        (event_id, booking_id), self.unfinished = self.unfinished, None
        if self.world.calendars.has(event_id):
            self.world.calendars.change(event_id, has_extension=True, booking_id=booking_id)
            event = self.world.event(event_id)
            assert event.created is not None
            assert event.modified is not None
            if event.modified - event.created > 10 * MINUTE:
                self.world.left_to_the_sweep.add(event_id)  # it may be remembered as not ours
            self.world.notify(event_id, "updated")

    @precondition(lambda self: len(self.world.states) < 3)
    @rule(target=events, mailbox=st.sampled_from([ANNA, BEN]))
    def a_technician_makes_an_ordinary_meeting(self, mailbox: str) -> str:
        event_id = f"E{len(self.world.states)}"
        self.world.calendars.put(mailbox, Event(event_id, "", self.new_span()))
        self.world.notify(event_id, "created")
        return event_id

    @rule(event_id=events, times=st.integers(1, 3), where=st.sampled_from(["on", "on", "back", "into the past"]))
    def a_technician_moves_an_event(self, event_id: str, times: int = 1, where: str = "on") -> None:
        if self.world.calendars.has(event_id):
            earlier = self.world.states[event_id][0].event.span
            at = earlier if where == "back" else self.new_span(day=-9 if where == "into the past" else 2)
            self.world.calendars.change(event_id, span=at)
            self.world.notify(event_id, "updated", times)

    @rule(
        event_id=events,
        act=st.sampled_from(["delete", "restore", "to another calendar", "cancel", {}, *SPECIAL]),
    )
    def a_technician_does_something_else_with_an_event(self, event_id: str, act: str | dict[str, Any]) -> None:
        """Moving it to another calendar raises `deleted` and `created`; a new subject, no more than `updated`."""
        world = self.world
        if act == "restore":
            if event_id in world.calendars.deleted:
                world.calendars.restore(event_id)
                world.notify(event_id, "created")
        elif not world.calendars.has(event_id):
            return
        elif act == "delete":
            world.calendars.delete(event_id)
            world.notify(event_id, "deleted")
        elif act == "to another calendar":
            world.notify(event_id, "deleted")
            world.notify(event_id, "created")
        else:
            changes = {"is_cancelled": True} if act == "cancel" else act
            assert isinstance(changes, dict)
            world.calendars.change(event_id, **changes)
            world.notify(event_id, "updated")

    @precondition(lambda self: len(self.world.states) < 3)
    @rule(target=events, event_id=events)
    def a_technician_copies_an_event(self, event_id: str) -> Any:
        if not self.world.calendars.has(event_id):
            return multiple()
        copy, original = f"E{len(self.world.states)}", self.world.event(event_id)
        owner = self.world.calendars.owner[event_id]
        self.world.calendars.put(owner, replace(original, id=copy, span=self.new_span(), created=None))
        self.world.notify(copy, "created")
        return copy

    # --- people in Dynamics ---

    def a_booking(self, pick: int) -> Booking | None:
        rows = list(self.world.table.rows.values())
        return rows[pick % len(rows)] if rows else None

    @rule(pick=st.integers(0, 9), follows=st.sampled_from(["at once", "later"]), back=st.booleans())
    def a_dispatcher_moves_a_booking(self, pick: int, follows: str, back: bool = False) -> None:
        """Their event is brought after by the other direction, at once, later, or never before the end."""
        booking = self.a_booking(pick)
        if booking is None:
            return
        earlier = [each.event.span for states in self.world.states.values() for each in states]
        at = earlier[pick % len(earlier)] if back else self.new_span()
        if at == booking.span:
            return
        self.world.edit(booking, span=at)
        self.world.left_to_the_sweep.update(self.events_of(booking.id))
        self.to_follow.append(booking.id)
        if follows == "at once":
            self.the_other_direction_follows(-1)

    @precondition(lambda self: self.to_follow)
    @rule(pick=st.integers(0, 9))
    def the_other_direction_follows(self, pick: int) -> None:
        booking = self.world.table.rows[self.to_follow.pop(pick % len(self.to_follow))]
        event_id = booking.event_id or ""
        if self.world.calendars.has(event_id):
            self.world.calendars.change(event_id, span=booking.span)
            self.world.notify(event_id, "updated")

    @rule(pick=st.integers(0, 9), edit=st.sampled_from([*EDITS, RETIRED]))
    def a_dispatcher_cancels_starts_deactivates_reassigns_or_retires(self, pick: int, edit: dict[str, Any]) -> None:
        if booking := self.a_booking(pick):
            self.world.edit(booking, **edit)
            # What the other direction does to the event. Without it nothing in Outlook tells that a booking came back
            # to its first mailbox; that is for the sweep to find.
            for event_id in self.events_of(booking.id) if edit is not RETIRED else []:
                if self.world.calendars.has(event_id):
                    self.world.calendars.change(event_id)
                    self.world.notify(event_id, "updated")
                else:
                    self.world.left_to_the_sweep.add(event_id)

    def events_of(self, booking_id: str) -> list[str]:
        return [event.id for event in self.world.calendars.events.values() if event.booking_id == booking_id]

    # --- operators ---

    @rule(
        pick=st.integers(0, 9),
        word=st.sampled_from(["release", "discard", "reset the breaker"]),
        is_done_at_once=st.booleans(),
    )
    def a_person_decides(self, pick: int, word: str, is_done_at_once: bool) -> None:
        """Of what is held, the version of the event that it is held at."""
        world = self.world
        if word == "reset the breaker":
            world.reset_the_breaker()
        elif held := [each for each in listed(world.ledger.entries.values()) if not each.held.is_waiting]:
            each = held[pick % len(held)]
            world.say(word, each)
            if is_done_at_once:
                self.see_it_done(each, word)

    def see_it_done(self, each: Listed, word: str) -> None:
        """Where nobody interferes, a person's word is kept at once."""
        world, event_id = self.world, each.entry.event_id
        if world.workers or world.faults.errors or world.faults.lag or not world.is_still(each):
            return
        world.run(world.process_all())
        held = world.ledger.entries[each.entry.mailbox, event_id].held
        if word == "discard":
            assert held is None or held.is_waiting, "a person let it be, and it is still held"
        elif held is None or not held.is_waiting:
            troubles = [world.trouble_with(booking) for booking in world.table.rows.values()]
            assert event_id not in [each[0] for each in troubles if each], "a person's word was not kept"

    # --- the services ---

    @precondition(lambda self: "services" in self.troubles)
    @rule(fault=st.sampled_from(FAULTS))
    def a_call_will_fail(self, fault: tuple[str, Callable[[], SyncError]]) -> None:
        call, error = fault
        self.world.faults.errors[call] = error

    @precondition(lambda self: "lag" in self.troubles)
    @rule(states=st.integers(1, 2))
    def a_read_will_lag_behind(self, states: int) -> None:
        self.world.faults.lag = states

    @rule(seconds=st.sampled_from([0.4, 3, 20, 61, 700]))
    def time_passes(self, seconds: float) -> None:
        self.world.clocks.true += timedelta(seconds=seconds)

    @precondition(lambda self: "ledger" in self.troubles)
    @rule(what=st.sampled_from(["is saved", "is lost", "is restored"]))
    def the_ledger(self, what: str) -> None:
        if what == "is saved":
            self.yesterday = dict(self.world.ledger.entries), dict(self.world.ledger.notes)
        else:
            self.world.lose_the_ledger(*(self.yesterday if what == "is restored" else ({}, {})))

    @precondition(lambda self: "ledger" in self.troubles)
    @rule(
        event_id=events,
        what=st.sampled_from(["is lost", "is restored"]),
        act=st.sampled_from([None, "move", "delete"]),
    )
    def the_ledger_goes_before_outlook_follows(self, event_id: str, what: str, act: str | None) -> None:
        """What the other rules do as well, but just when it hurts: nobody else knows that the dispatcher moved."""
        self.act("move the booking", event_id)
        self.the_ledger(what)
        if act is None:
            self.a_technician_does_something_else_with_an_event(event_id, {})
        else:
            self.act(act, event_id)
        self.world.run(self.world.process_all())

    # --- the app ---

    @precondition(lambda self: self.world.notifications)
    @rule(
        pick=st.integers(0, 99),
        count=st.integers(1, 3),
        again=st.booleans(),
        happens=st.sampled_from(["nothing", "nothing", "the instance dies", "another instance", "processing"]),
        before=st.sampled_from(["send", "queued note"]),
    )
    def notifications_arrive(self, pick: int, count: int, again: bool, happens: str, before: str) -> None:
        """Up to three in one POST; while they are stored and marked, others go on."""
        waiting = self.world.notifications
        items = [waiting[(pick + n) % len(waiting)] for n in range(min(count, len(waiting)))]
        self.world.meanwhile = self.meanwhile(happens, before, items)
        is_stored = self.world.run(self.world.post(items))
        self.world.meanwhile = self.world.nothing
        if is_stored and not again:
            for item in items:
                waiting.remove(item)

    def meanwhile(self, happens: str, before: str, items: list[dict[str, Any]]) -> Callable[[str], Awaitable[None]]:
        async def meanwhile(place: str) -> None:
            if place != before:
                return
            self.world.meanwhile = self.world.nothing
            if happens == "the instance dies":
                raise Died
            if happens == "another instance":
                await self.world.post(items)
            elif happens == "processing":
                self.world.clocks.true += timedelta(seconds=6)
                for message in self.world.visible():
                    worker = self.world.take(message)
                    while await self.world.step(worker):
                        pass

        return meanwhile

    @precondition(lambda self: self.world.visible())
    @rule(pick=st.integers(0, 99), instance=st.integers(0, 1), steps=st.integers(0, 20))
    def a_message_is_taken_up(self, pick: int, instance: int, steps: int) -> None:
        visible = self.world.visible()
        self.world.take(visible[pick % len(visible)], instance)
        self.a_worker_goes_on(-1, steps)

    @precondition(lambda self: self.world.workers)
    @rule(pick=st.integers(0, 99), steps=st.integers(1, 12))
    def a_worker_goes_on(self, pick: int, steps: int) -> None:
        worker = self.world.workers[pick % len(self.world.workers)]
        for _ in range(steps):
            if not self.world.run(self.world.step(worker)):
                return

    @precondition(lambda self: self.world.workers)
    @rule(pick=st.integers(0, 99), what=st.sampled_from(["dies", "is too slow"]))
    def a_workers_message_comes_back(self, pick: int, what: str) -> None:
        """One that is too slow goes on beside the next one."""
        worker = self.world.workers[pick % len(self.world.workers)]
        if what == "dies":
            self.world.die(worker)
        elif worker.message in self.world.queues.messages:
            worker.message.is_taken = False

    @rule(
        event_id=events,
        before=st.sampled_from([*ACTS, "nothing"]),
        acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=2),
        order=st.binary(min_size=6, max_size=24),
        is_told=st.booleans(),
        lags=st.booleans(),
    )
    def two_workers_race_with_people(
        self, event_id: str, before: str, acts: list[str], order: bytes, is_told: bool, lags: bool
    ) -> None:
        """What the other rules do as well, but all of it to one event, which is where it hurts.

        Each byte of *order* says who goes on: a worker that began before, one that began after people did something,
        the people, or one of the workers to its end, which may be a sudden one.
        """
        world, place = self.world, (self.world.calendars.owner[event_id], event_id)
        self.act(before, event_id)
        workers = [self.taken(Change(*place))]
        for turn in order:
            worker = workers[turn % 2] if len(workers) > 1 else workers[0]
            if turn >= 192 and acts:
                act = acts.pop()
                self.act(act, event_id)
                if len(workers) == 1:
                    workers.append(self.taken(Change(*place, evidence=evidence_of(is_told and act == "delete"))))
                if lags and "lag" in self.troubles:
                    world.faults.lag = 1
            elif worker in world.workers and turn >= 176:
                world.die(worker)
            elif worker in world.workers:
                while world.run(world.step(worker)) and turn >= 160:
                    pass

    def act(self, act: str, event_id: str) -> None:
        booking_id = self.world.event(event_id).booking_id
        if act in ("move", "move back"):
            self.a_technician_moves_an_event(event_id, 1, "back" if act == "move back" else "on")
        elif act in ("delete", "restore"):
            self.a_technician_does_something_else_with_an_event(event_id, act)
        elif act == "lose the ledger":
            if "ledger" in self.troubles:
                self.the_ledger("is lost")
        elif booking_id is not None:
            place = list(self.world.table.rows).index(booking_id)
            if act == "move the booking":
                self.a_dispatcher_moves_a_booking(place, "later")
            else:
                self.a_dispatcher_cancels_starts_deactivates_reassigns_or_retires(place, {})

    def taken(self, change: Change) -> Any:
        message = Message(build_change_message(change), self.world.clocks.true)
        self.world.queues.messages.append(message)
        return self.world.take(message)

    @rule(seconds=st.sampled_from([0, 30, 120]))
    def everything_is_processed(self, seconds: int) -> None:
        self.world.run(self.world.process_all())
        self.world.clocks.true += timedelta(seconds=seconds)

    @rule()
    def a_sweep_queues_what_differs(self) -> None:
        self.world.run(self.world.sweep())

    @invariant()
    def ordinary_meetings_touch_no_booking(self) -> None:
        linked = {booking.event_id for booking in self.world.table.rows.values()} - {None}
        assert all(self.world.event(event_id).has_extension for event_id in linked)  # type: ignore[arg-type]

    def teardown(self) -> None:
        """Faults end, everything is processed: P1, and P5 for what comes after."""
        world = self.world
        try:
            world.faults.clear()
            self.check_the_end()
        finally:
            for worker in list(world.workers):
                world.die(worker)
            world.loop.close()

    def check_the_end(self) -> None:
        world = self.world
        if self.unfinished:
            self.the_extension_comes()
        world.run(world.drain())
        world.check_convergence(world.left_to_the_sweep)
        listed = world.run(world.sweep())
        world.run(world.drain())
        world.check_convergence(set(), listed)
        written = len(world.table.written)
        for event_id, owner in world.calendars.owner.items():
            hints = (False, True) if world.calendars.has(event_id) else (True,)
            for deleted in hints if not world.would_be_news(event_id, listed) else ():
                again = build_change_message(Change(owner, event_id, evidence_of(deleted)))
                world.queues.messages.append(Message(again, world.clocks.true))
        world.run(world.drain())
        assert len(world.table.written) == written, "nothing has changed, and something was written"
        world.check_convergence(set(), listed)


SyncMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.timeout(600)  # what fails takes minutes to be made small
class TestTheHostileUser(SyncMachine.TestCase):  # type: ignore[misc, valid-type]
    """The quick form."""


class ThoroughMachine(SyncMachine):
    """The same with more of everything."""


ThoroughMachine.TestCase.settings = settings(max_examples=2_500, stateful_step_count=80, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
class TestTheHostileUserForLonger(ThoroughMachine.TestCase):  # type: ignore[misc, valid-type]
    """The exhaustive form."""


# The same while the app only observes.


class ObservingMachine(SyncMachine):
    """The hostile user, while the app only observes; then it is switched on, and everything is swept once.

    What the first booking is linked by, in some runs, is an app that still wrote.
    """

    written = 0

    @invariant()
    def nothing_is_written(self) -> None:
        if self.world.mode is SyncMode.SYNC:
            self.world.mode, self.written = SyncMode.OBSERVE, len(self.world.table.written)
        assert len(self.world.table.written) == self.written

    def see_it_done(self, each: Listed, word: str) -> None:
        """A person's word is kept once the app may write."""

    def check_the_end(self) -> None:
        world = self.world
        world.run(world.drain())
        assert len(world.table.written) == self.written
        world.mode = SyncMode.SYNC
        listed = world.run(world.sweep())
        world.run(world.drain())
        world.check_convergence(set(), listed)
        # Of a booking that is closed or over, a link may be missing still, which no sweep looks for.
        for event_id, owner in world.calendars.owner.items():
            again = Change(
                owner, event_id, evidence=Evidence.NONE if world.calendars.has(event_id) else Evidence.MISSED
            )
            world.queues.messages.append(Message(build_change_message(again), world.clocks.true))
        world.run(world.drain())
        super().check_the_end()


ObservingMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.timeout(600)
class TestTheHostileUserIsObserved(ObservingMachine.TestCase):  # type: ignore[misc]
    """The quick form."""


class ThoroughObservingMachine(ObservingMachine):
    """The same with more of everything."""


ThoroughObservingMachine.TestCase.settings = settings(max_examples=500, stateful_step_count=60, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
class TestTheHostileUserIsObservedForLonger(ThoroughObservingMachine.TestCase):  # type: ignore[misc]
    """The exhaustive form."""
