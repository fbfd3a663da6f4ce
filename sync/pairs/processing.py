"""Process one message of the queue: gather → decide → apply.

What is said to the services stays in the edges, what is right in decide.py and ledger.py. Clients come in as
protocols, time as an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from sync.errors import InvalidId, NotOurs, Stale, Transient, Withdrawn
from sync.messages.changes import Change, Evidence
from sync.model import Booking, ConflictPolicy, Event, SyncMode
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, LinkBooking, MoveBooking, Observed, Postpone, Write
from sync.pairs.agreement import Refusal, agreed_spans, intended_span
from sync.pairs.decision import choose_linked, decide, rival_id
from sync.pairs.entry import Entry, Kind
from sync.pairs.looking import Bookings, Events
from sync.pairs.overrides import doubt, is_released, is_stale, left_unlinked, override
from sync.pairs.pair import Look
from sync.pairs.remembering import conclude, intend

LOOKS = 5
"""How often one change is looked at anew because its row changed meanwhile, before the queue brings it back."""


class Ledger(Protocol):
    async def read(self, mailbox: str, event_id: str) -> Entry:
        """A new one if nothing is known of the event. Raises: Transient."""

    async def write(self, entry: Entry) -> Entry:
        """Raises: Stale if somebody else wrote it since it was read, Transient."""


class Breaker(Protocol):
    async def refuses(self, mailbox: str, event_id: str, now: datetime) -> str | None:
        """Why no booking of the mailbox must be canceled now, None if it may. Raises: Transient."""


@dataclass
class Processor:
    """Brings the booking of one event in step with it, whatever happens to either in the meantime."""

    events: Events
    bookings: Bookings
    ledger: Ledger
    breaker: Breaker
    now: Callable[[], datetime]
    policy: ConflictPolicy = ConflictPolicy.DATAVERSE
    not_ours_for: timedelta = timedelta(hours=24)
    mode: SyncMode = SyncMode.SYNC

    async def process(self, change: Change) -> Action:
        """Look at both sides, decide, write what is needed; return what was done.

        Raises: MailboxUnavailable, Transient (Stale if the row kept changing), Refused.
        """
        refusal: Refusal | None = None
        trouble = ""
        for _ in range(LOOKS):
            try:
                return await self._process(change, refusal)
            except WriteRefused as error:
                refusal, trouble = error.refusal, str(error)
            except Stale as error:
                trouble = str(error)
            except NotOurs as error:
                return Ignore(str(error))
        raise Stale(f"looked at {LOOKS} times: {trouble}")

    async def _process(self, change: Change, refusal: Refusal | None) -> Action:
        """One look, one decision, at most one write.

        What is about to be written is noted in the ledger first, and what became of it afterwards, each only if nobody
        else has noted anything since the ledger was read. So of two workers on one event one always learns of the
        other, and of a worker that died it is known what it may have written.
        Raises: Stale if the look is outdated.
        """
        entry = await self.ledger.read(change.mailbox, change.event_id)
        if entry.kind is Kind.GONE:
            change = replace(change, evidence=max(change.evidence, Evidence.MISSED))  # somebody has told, and it was so
        look, action = await self._look(change, entry, refusal)
        if is_stale(change, look, entry):
            raise Transient("graph: an older state of the event than is known")
        action = await self._allowed(override(action, look, entry), look, change, entry)
        if isinstance(action, Write) and self.mode is SyncMode.OBSERVE:
            action = Observed(action)
        written = ""
        if isinstance(action, Write):
            entry = await self.ledger.write(intend(entry, action, look, change, self.now(), refusal))
            written = await self._write(action, look)
        concluded = conclude(entry, action, look, change, self.now(), self.not_ours_for, refusal, written)
        if concluded is not None:
            # Where there was nothing to do, whatever was agreed on, who came in between knows no less.
            with suppress(*[Stale] if isinstance(action, Ignore) and look.event is not None else []):
                await self.ledger.write(concluded)
        return action

    async def _write(self, action: Write, look: Look) -> str:
        try:
            return await self.bookings.write(action)
        except Stale as error:
            if error.is_certain:
                raise WriteRefused(Refusal(intended_span(action, look.booking), action.etag)) from error
            raise

    async def _allowed(self, action: Action, look: Look, change: Change, entry: Entry) -> Action:
        """*action*, held if it is a cancellation on doubt, or one too many, and no person has released it."""
        if not isinstance(action, CancelBooking) or is_released(entry, look):
            return action
        reason = doubt(look, change, entry)
        reason = reason or await self.breaker.refuses(change.mailbox, change.event_id, self.now())
        return action if reason is None else Hold(reason, action.booking_id, action)

    async def _look(self, change: Change, entry: Entry, refusal: Refusal | None) -> tuple[Look, Action]:
        """Gather what the decision needs, and decide.

        The event's state is read after the booking whose etag guards the write that follows from it; otherwise a slow
        worker could write an older state over a newer one. Where the booking is known by its event only, the event is
        read again if times are about to be written.
        Raises: Stale if the two reads do not fit together.
        """
        is_hinted = change.evidence is not Evidence.NONE
        known = None if entry.booking_id is None else await self.bookings.read(entry.booking_id)
        booking: Booking | Hold | None = known
        if is_hinted and not _is_linked(booking, change):
            booking = await self._linked(change)
        event = await self._event_now(change, is_hinted, matters=booking is not None)

        if event is None:
            if not is_hinted and not _is_linked(booking, change):
                booking = await self._linked(change)
            if isinstance(booking, Hold):
                return Look(None, None), booking if is_hinted else Postpone(booking.reason)
            if booking is None and is_hinted and (hold := left_unlinked(entry, known, self.now())) is not None:
                return Look(None, known), hold
            return Look(None, booking), await self._decide(change, entry, None, booking, None, refusal)
        if event.booking_id is None:
            return Look(event, None), await self._decide(change, entry, event, None, None, refusal)
        event_is_newer = isinstance(booking, Booking) and booking.id == event.booking_id
        if not isinstance(booking, Booking) or booking.id != event.booking_id:
            booking = await self.bookings.read(event.booking_id)
        rival = await self._rival(change, event, booking)
        action = await self._decide(change, entry, event, booking, rival, refusal)
        if isinstance(action, MoveBooking) and not event_is_newer:
            newer = await self._event_now(change, is_hinted)
            if newer is None or newer.booking_id != action.booking_id:
                raise Stale("the event went, or got another booking")
            event = newer
            action = await self._decide(change, entry, event, booking, rival, refusal)
        # An event that can still be read may be in Deleted Items. An open booking will then be canceled as its deletion
        # is processed, or a sweep misses it; a closed one would be written for nothing.
        is_closed = isinstance(action, LinkBooking) and booking is not None and not booking.is_open
        if is_closed and not (is_hinted or await self.events.stands(change.mailbox, event.id, event)):
            return Look(None, booking), Ignore("the event is in no calendar")
        return Look(event, booking), action

    async def _decide(
        self,
        change: Change,
        entry: Entry,
        event: Event | None,
        booking: Booking | None,
        rival: Event | None,
        refusal: Refusal | None,
    ) -> Action:
        """A linked booking had agreed on something with an event; if the ledger does not know on what, it may tell.

        What this app wrote last was in step then, and nobody has moved it since. Anybody else may have moved it. One
        that is not linked yet follows its event, but is not canceled unless it stands where that does.
        """
        agreed = agreed_spans(entry, booking, refusal)
        action = decide(change, event, booking, rival, self.now(), agreed, self.policy)
        if agreed or booking is None or not isinstance(action, CancelBooking | MoveBooking):
            return action
        is_first_contact = booking.event_id is None and isinstance(action, MoveBooking)
        if is_first_contact or await self.bookings.is_own(booking):
            return action
        return decide(change, event, booking, rival, self.now(), None, self.policy)

    async def _linked(self, change: Change) -> Booking | Hold | None:
        return choose_linked(change, await self.bookings.linked_to(change.event_id))

    async def _event_now(self, change: Change, is_hinted: bool, matters: bool = True) -> Event | None:
        """The event, None if it is gone.

        With immutable ids a deleted event may stay readable from Deleted Items. So after its deletion was notified, or
        it was missed, a readable event has to stand in a calendar, too; unless that does not *matter*, as no booking is
        in sight.
        """
        try:
            event = await self.events.read(change.mailbox, change.event_id)
        except Withdrawn:
            if is_hinted and not await self.events.stands(change.mailbox, change.event_id, None):
                return None
            raise
        if event is None or not is_hinted or not (matters or event.has_extension):
            return event
        return event if await self.events.stands(change.mailbox, change.event_id, event) else None

    async def _rival(self, change: Change, event: Event, booking: Booking | None) -> Event | None:
        """The other event that the booking is linked to, None if there is none (any more).

        It may have been deleted without anybody's having told of it, and still be readable.
        """
        other = rival_id(change, event, booking)
        if other is None:
            return None
        try:
            rival = await self.events.read(change.mailbox, other)
        except (InvalidId, Withdrawn, NotOurs):
            return None
        if rival is None or rival.id == event.id or await self.events.stands(change.mailbox, rival.id, rival):
            return rival
        return None  # in Deleted Items


def _is_linked(booking: Booking | Hold | None, change: Change) -> bool:
    return isinstance(booking, Booking) and booking.event_id == change.event_id


class WriteRefused(Stale):
    """The row changed since it was read, and was certainly not written."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__("the row changed meanwhile")
        self.refusal = refusal
