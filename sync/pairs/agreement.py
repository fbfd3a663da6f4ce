"""What the event and the booking last agreed on, and what each of them may have become since. Pure."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from sync.model import Booking, Event, Span
from sync.pairs.actions import Action, CancelBooking, LinkBooking, MoveBooking, Observed, Write
from sync.pairs.entry import Entry, Intent


@dataclass(frozen=True)
class Refusal:
    """A write of ours that was certainly not done, because the booking was at another *version* by then."""

    span: Span | None
    version: str


def agreed_spans(entry: Entry, booking: Booking | None, refusal: Refusal | None = None) -> Set[Span]:
    """What both sides last agreed on: no span if that is unknown, several while a write of ours is in doubt."""
    if booking is not None and entry.booking_id not in (None, booking.id):
        return frozenset()  # the event got another one
    agreed, intent = frozenset(entry.agreed), entry.intent
    if intent is None or booking is None or booking.etag == intent.version:
        return agreed  # nothing was written
    spans = list(intent.spans)
    if refusal is not None and refusal.version == intent.version and refusal.span in spans:
        spans.remove(refusal.span)  # one worker's: another one's write of the same times may have been done
    possible = frozenset(spans)
    # Back where it was, it may have been moved by one of the writes, and by a dispatcher then.
    if booking.span in possible and (booking.span not in agreed or len(possible) == 1):
        return frozenset([booking.span])
    # What links a booking writes its times and its event's id at once, so the id tells of both.
    if agreed or booking.event_id == entry.event_id:
        return agreed | possible
    return agreed


def intended_span(write: Write, booking: Booking | None) -> Span | None:
    """The times that *booking* has once *write* is done."""
    if isinstance(write, MoveBooking):
        return write.span
    return booking.span if booking is not None else None


def _intent(entry: Entry, write: Write, booking: Booking | None) -> Intent:
    span = intended_span(write, booking)
    spans: tuple[Span, ...] = () if span is None else (span,)
    before = entry.intent
    if before is not None and before.version == write.etag:
        spans = (*before.spans, *(span for span in spans if before.spans.count(span) < 2))
    return Intent(spans, write.etag)


def _ordered(spans: Set[Span]) -> tuple[Span, ...]:
    return tuple(sorted(spans, key=lambda span: (span.start, span.end)))


def _under_way(entry: Entry, booking: Booking | None) -> Intent | None:
    """The intent of a write that may still come: its worker need not have died, it may only be slow."""
    intent = entry.intent
    return intent if intent is not None and booking is not None and booking.etag == intent.version else None


def agreed_after(action: Action, event: Event, booking: Booking | None) -> Span | None:
    """What both sides have in common once *action* is done, None if they have not.

    Who only observes goes on as if a link had been written, or nobody would know who moves afterwards.
    """
    if isinstance(action, MoveBooking):
        return action.span
    if booking is not None and event.span == booking.span and not isinstance(action, CancelBooking):
        write = action.write if isinstance(action, Observed) else action
        linked = booking.event_id == event.id or isinstance(write, LinkBooking)
        return event.span if linked else None
    return None
