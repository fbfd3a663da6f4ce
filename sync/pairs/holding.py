"""Entry → entry: what a sweep holds, and a person's answer to what is held. Pure: no IO, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from sync.model import Booking, Event
from sync.pairs.actions import Hold, Outcome
from sync.pairs.entry import GONE, Decision, Entry, Held
from sync.pairs.remembering import KEPT, with_decision


def hold_missing(entry: Entry, booking: Booking | None, hold: Hold, now: datetime) -> Entry | None:
    """*entry* with the *hold* of an event that a sweep misses; None if it is held already.

    Such an event is not taken for deleted without a person's answer.
    """
    span, before = booking.span if booking is not None else None, entry.held
    held = Held(hold.kind, now, GONE, Outcome.CANCELED, is_missed=True, booking_span=span, detail=hold.detail)
    new = (held.kind, held.detail, held.version, held.booking_span)
    if before is not None and (before.kind, before.detail, before.version, before.booking_span) == new:
        return None
    expires = max(now + KEPT, entry.expires or now)
    booking_id = booking.id if booking else entry.booking_id
    return replace(entry, booking_id=booking_id, held=held, discarded=None, expires=expires)


def hold_shared(entry: Entry, event: Event, hold: Hold, now: datetime) -> Entry | None:
    """*entry* with the *hold* of another booking that holds the event's id; None if it is held, or was discarded."""
    before = entry.held
    if before is not None and (before.kind is not hold.kind or before.detail == hold.detail):
        return None
    if entry.discarded == event.etag:
        return None
    held = Held(hold.kind, now, event.etag, detail=hold.detail)
    booking_id = entry.booking_id or event.booking_id
    return replace(entry, booking_id=booking_id, held=held, expires=max(now + KEPT, entry.expires or now))


Answer = Callable[[Entry, Held, datetime], Entry]
"""A person's answer to a hold: ``release`` or ``discard``."""


def release(entry: Entry, held: Held, now: datetime) -> Entry:
    """*entry* with a person's answer to do what the event asks; it is held until that is done."""
    history = with_decision(entry.history, _said(Outcome.RELEASED, held, now))
    return replace(entry, released=held.version, discarded=None, history=history)


def discard(entry: Entry, held: Held, now: datetime) -> Entry:
    """*entry* with a person's answer to let the booking be as it is."""
    history = with_decision(entry.history, _said(Outcome.DISCARDED, held, now))
    span = held.booking_span
    return replace(entry, released=None, discarded=held.version, discarded_span=span, held=None, history=history)


def _said(outcome: Outcome, held: Held, now: datetime) -> Decision:
    return Decision(now, "said by a person", outcome, reason=held.reason, event_version=held.version)
