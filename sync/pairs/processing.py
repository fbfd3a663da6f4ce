"""One pair brought in step: look, decide, note, write, note. The order of effects stands here, and no rule.

The rules are in ``decision.py`` and ``overrides.py``, what is noted in ``remembering.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from sync.errors import NoAnswer, NotOurs, NotWritten, Stale, SyncError, Transient
from sync.messages.changes import Change
from sync.model import Booking, ConflictPolicy, SyncMode
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, LookAgain, Write
from sync.pairs.agreement import LOST, Agreement, agreement_in
from sync.pairs.decision import decide
from sync.pairs.entry import Entry
from sync.pairs.looking import Bookings, Events, Looker
from sync.pairs.observing import left_out
from sync.pairs.overrides import is_released, is_stale, is_unsettled, override, weighed
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind
from sync.pairs.remembering import conclude, inherit, intend, withdraw

LOOKS = 5
"""Looks at one change whose row keeps changing, before its message goes back to the queue.

Too few, and a busy row costs waits; too many, and one row holds up the others.
"""


class Ledger(Protocol):
    """The memory of pairs; each entry is guarded by its etag."""

    async def read(self, mailbox: str, event_id: str) -> Entry:
        """The entry, a new one if nothing is known of the event. Raises: Transient."""

    async def write(self, entry: Entry) -> Entry:
        """Store *entry*. Raises: Stale if somebody else wrote it since it was read, Transient."""


class Breaker(Protocol):
    """Counts cancellations."""

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
    mode: SyncMode = SyncMode.SYNC
    looks: int = LOOKS

    def __post_init__(self) -> None:
        self._looker = Looker(self.events, self.bookings)

    async def process(self, change: Change) -> Action:
        """Look at both sides, decide, write what is needed; return what was done.

        Raises: MailboxUnavailable, Transient (Stale if the row kept changing), Refused.
        """
        refused: list[Sent] = []
        try:
            return await self._until_settled(change, refused)
        finally:  # also after an end without an error, and if the worker's patience ran out
            await self._withdraw(change, refused)

    async def _until_settled(self, change: Change, refused: list[Sent]) -> Action:
        """Look and decide anew as long as the row changes under the app's hands; *refused* collects writes."""
        trouble = ""
        for _ in range(self.looks):
            try:
                return await self._process(change, refused)
            except NotWritten as error:
                if not isinstance(error.reason, Stale):
                    raise error.reason from error
                trouble = str(error)
            except Stale as error:
                trouble = str(error)
            except NotOurs as error:
                return Ignore(str(error))
        raise Stale(f"looked at {self.looks} times: {trouble}")

    async def _process(self, change: Change, refused: list[Sent]) -> Action:
        """One look, one decision, at most one write.

        The write is noted before it is sent, and its end afterwards, each only if nobody else has noted anything since
        the ledger was read. So of two workers on one event one always learns of the other, and the ledger tells what a
        worker that died may have written.
        Raises: Stale if the look is outdated.
        """
        entry = without(await self.ledger.read(change.mailbox, change.event_id), refused)
        pair, action = await self._decide(await self._looker.look(change, entry))
        action = await self._succeeded(pair, action)
        action = left_out(await self._allowed(action, pair), self.mode)
        written = ""
        if isinstance(action, Write):
            entry = await self.ledger.write(intend(entry, action, pair, self.now()))
            try:
                written = await self.bookings.write(action)
            except NotWritten:
                refused.append(Sent(action, pair.booking))
                raise
            except Transient as error:
                if await self._is_undone(action, error):
                    refused.append(Sent(action, pair.booking))
                raise
        concluded = conclude(entry, action, pair, self.now(), written)
        if concluded is not None:
            # An idle decision adds nothing to what somebody else has noted meanwhile.
            with suppress(*[Stale] if isinstance(action, Ignore) and pair.event is not None else []):
                await self.ledger.write(concluded)
        return action

    async def _decide(self, pair: Pair) -> tuple[Pair, Action]:
        """Decide; where the decision rests on something that was not read yet, read that and decide anew."""
        action = self._ruled(pair)
        if is_stale(pair):
            raise Transient("graph: an older state of the event than is known")
        if is_unsettled(pair):
            raise Transient("a write of the app's is in doubt: it may be refused yet")
        for ask in (self._looker.who_wrote, self._looker.event_again, self._looker.whether_it_stands):
            pair = await ask(pair, action)
            action = self._ruled(pair)
        return pair, action

    def _ruled(self, pair: Pair) -> Action:
        now = self.now()
        return override(decide(pair, now, agreement_of(pair), self.policy), pair, now)

    async def _succeeded(self, pair: Pair, action: Action) -> Action:
        """*action*; if it ends the booking, and another event claims that, what is left to do about the ended event.

        The other event takes over first, as if the booking had been linked to it: both agree on the times that the
        booking and the ended event had agreed on. A person's word to cancel the booking stands above that.
        Raises: as ``process`` does.
        """
        write = action.write if isinstance(action, Hold) else action
        if not isinstance(write, CancelBooking) or is_released(pair):
            return action
        event = await self._looker.successor(pair)
        if event is not None:
            successor = await self.ledger.read(pair.change.mailbox, event.id)
            inherited = inherit(successor, pair, self.now())
            if inherited is not None:
                await self.ledger.write(inherited)
            await self.process(Change(pair.change.mailbox, event.id, origin=pair.change.origin))
            return Ignore("another event of the mailbox claims the booking")
        return action

    async def _allowed(self, action: Action, pair: Pair) -> Action:
        """*action*; in place of a cancellation on weak evidence or of one too many a hold, or a second look."""
        action = weighed(action, pair)
        if not isinstance(action, CancelBooking) or is_released(pair):
            return action
        if await self._looker.is_replacement_likely(pair):
            return LookAgain("the booking was edited since its event was seen: another may follow", action.booking_id)
        refusal = await self.breaker.refuses(pair.change.mailbox, pair.change.event_id, self.now())
        return action if refusal is None else Hold(HoldKind.TOO_MANY, action.booking_id, action, refusal)

    async def _is_undone(self, action: Write, error: Transient) -> bool:
        """Whether a look at the booking tells that *action* was not done, though the service's answer did not.

        A service that did not answer at all may still be at work, so a look now would tell nothing.
        """
        if isinstance(error, NoAnswer | Stale):
            return False
        try:
            booking = await self.bookings.read(action.booking_id)
        except SyncError:
            return False
        return booking is not None and booking.etag == action.etag

    async def _withdraw(self, change: Change, refused: list[Sent]) -> None:
        """Take the *refused* writes out of the ledger, before their change is put back or parked.

        Raises: Transient if the ledger cannot be written, so that the change comes back.
        """
        if not refused:
            return
        for _ in range(self.looks):
            entry = await self.ledger.read(change.mailbox, change.event_id)
            withdrawn = without(entry, refused)
            if withdrawn == entry:
                return
            with suppress(Stale):
                await self.ledger.write(withdrawn)
                return
        raise Stale(f"the ledger: a refused write could not be taken out in {self.looks} tries")


class Sent(NamedTuple):
    """A write that was sent and certainly not done, and the booking that it was decided on."""

    write: Write
    booking: Booking | None


def without(entry: Entry, refused: Iterable[Sent]) -> Entry:
    """*entry* without the *refused* writes."""
    for write, booking in refused:
        entry = withdraw(entry, write, booking)
    return entry


def agreement_of(pair: Pair) -> Agreement:
    """The agreement of *pair*: as remembered, or *lost* if only a write of the app's own would tell it."""
    remembered = agreement_in(pair.entry, pair.booking)
    return LOST if not remembered.spans and not pair.is_own else remembered
