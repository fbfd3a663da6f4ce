"""One mailbox as a sweep knows it: its events, its bookings, and the ledger's entries. Pure: no IO, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sync.ids import is_event_id
from sync.model import Booking, Event
from sync.pairs.actions import Action
from sync.pairs.agreement import agreement_in
from sync.pairs.decision import decide
from sync.pairs.entry import Entry
from sync.pairs.overrides import override
from sync.pairs.pair import Pair


@dataclass(frozen=True)
class Known:
    """One mailbox, as its lists show it and as the ledger remembers it."""

    mailbox: str
    events: Sequence[Event]
    """The events with our extension that the mailbox's lists show."""
    bookings: Sequence[Booking]
    """The active ones of its user, and those that *events* claim."""
    entries: Mapping[str, Entry]
    """By the event's id."""
    at: datetime
    """When they were listed."""
    after_gap: bool = False
    """Whether notifications of the mailbox may have been lost."""

    def entry(self, event_id: str) -> Entry:
        """The entry of the event, a new one if nothing is remembered of it."""
        return self.entries.get(event_id) or Entry(self.mailbox, event_id)


def ruled(pair: Pair, now: datetime) -> Action:
    """What would be done about *pair*, as far as the lists and the ledger tell."""
    return override(decide(pair, now, agreement_in(pair.entry, pair.booking)), pair, now)


def linked_of(mailbox: str, bookings: Sequence[Booking]) -> dict[str, list[Booking]]:
    """The bookings of the mailbox's user by the id of the event that they are linked to."""
    found: dict[str, list[Booking]] = {}
    for booking in bookings:
        if booking.mailbox == mailbox and booking.event_id is not None and is_event_id(booking.event_id):
            found.setdefault(booking.event_id, []).append(booking)
    return found
