"""The writes that were left out while the app only observed, beside what happened in Dynamics since. Pure.

A row's fields are the columns of a table and the names in a JSON document.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sync.model import Booking, Span
from sync.pairs.actions import Outcome
from sync.pairs.entry import Decision, Entry
from sync.pairs.observing import is_left_out, last_left_out


class Fate(StrEnum):
    """A booking's fate without the write that was not sent."""

    SAME = "the same"
    ELSE = "something else"
    NOTHING = "nothing yet"
    OVERTAKEN = "overtaken"
    """The event changed again, and that took no write."""
    HELD = "held"
    """A person is to say what becomes of it now."""
    WRITTEN = "written"
    """By the app, once it did not only observe any more."""


@dataclass(frozen=True)
class ObservedRow:
    """One write that was not sent, and the state of its booking now."""

    at: datetime
    mailbox: str
    event: str
    booking: str
    would_be: str
    """With the times that the booking had, and where it would have been moved, those that it would have got."""
    now: str
    outcome: Fate
    event_version: str
    booking_version: str
    """The one that the write would have been guarded by."""


def observed_rows(entries: Iterable[Entry], bookings: Iterable[Booking], since: datetime) -> list[ObservedRow]:
    """One row for each event, the newest last: its last such write, as that one stands for those before it."""
    by_id = {booking.id: booking for booking in bookings}
    rows = []
    for entry in entries:
        decision = last_left_out(entry)
        if decision is None or decision.at < since or entry.booking_id is None:
            continue
        booking = by_id.get(entry.booking_id)
        rows.append(
            ObservedRow(
                decision.at,
                entry.mailbox,
                entry.event_id,
                entry.booking_id,
                _would_be(decision) if entry.held is None else f"{entry.held.outcome or 'nothing'}, if released",
                _state(booking, entry.event_id),
                fate_of(entry, decision, booking),
                decision.event_version,
                decision.booking_version,
            )
        )
    return sorted(rows, key=lambda row: row.at)


def claimed(entries: Iterable[Entry]) -> Sequence[str]:
    """The ids of the bookings that *entries* are about."""
    return sorted({entry.booking_id for entry in entries if entry.booking_id is not None})


def fate_of(entry: Entry, decision: Decision, booking: Booking | None) -> Fate:
    """Compare *booking*, as it is now, with what the write of *decision* would have made of it."""
    if not is_left_out(entry):
        return Fate.WRITTEN
    if entry.held is not None:
        return Fate.HELD
    if booking is not None and _is_done(entry, decision, booking):
        return Fate.SAME
    if entry.history[-1] != decision:
        return Fate.OVERTAKEN
    return Fate.NOTHING if booking is not None and _is_as_before(decision, booking) else Fate.ELSE


def _is_done(entry: Entry, decision: Decision, booking: Booking) -> bool:
    match decision.outcome:
        case Outcome.MOVED:
            return booking.span == decision.event_span and not booking.is_canceled
        case Outcome.LINKED:
            return booking.event_id == entry.event_id
        case Outcome.CANCELED:
            return booking.is_canceled
        case _:
            return booking.event_id != entry.event_id


def _is_as_before(decision: Decision, booking: Booking) -> bool:
    """Whether nobody has touched it, or nothing of it that counts here."""
    if booking.etag == decision.booking_version:
        return True
    is_open = booking.is_active and (not booking.is_canceled or decision.outcome is Outcome.UNLINKED)
    return is_open and booking.span == decision.booking_span


def _would_be(decision: Decision) -> str:
    what, before = decision.outcome, _times(decision.booking_span)
    if what is Outcome.MOVED:
        return f"{what} from {before} to {_times(decision.event_span)}"
    return f"{what}, at {before}"


def _state(booking: Booking | None, event_id: str) -> str:
    if booking is None:
        return "deleted"
    states = {
        "canceled": booking.is_canceled,
        "begun": booking.has_begun,
        "inactive": not booking.is_active,
        "linked": booking.event_id == event_id,
        "linked to another event": booking.event_id not in (None, event_id),
    }
    return ", ".join([f"at {_times(booking.span)}", *(state for state, is_so in states.items() if is_so)])


def _times(span: Span | None) -> str:
    if span is None:
        return "?"
    start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
    return f"{start:%Y-%m-%d %H:%M}-{end:{'%H:%M' if start.date() == end.date() else '%Y-%m-%d %H:%M'}}"
