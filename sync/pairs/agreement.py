"""The times that an event and its booking last agreed on, and which of them has moved since. Pure: no IO, no clock.

How such an agreement is remembered stands in ``entry.py`` and ``remembering.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sync.model import Booking, Span
from sync.pairs.actions import MoveBooking, Write
from sync.pairs.entry import Entry, Intent


class Moved(NamedTuple):
    """The sides that have other times than both last agreed on."""

    event: bool
    booking: bool


@dataclass(frozen=True)
class Agreement:
    """The times that both sides last had in common. There are four cases:

    - *never*: they had nothing in common yet. The event is right. Example: a new booking is at 9:00, the technician
      has dragged its event to 12:00 before the app saw either: the booking moves to 12:00.
    - *known*: one span. Example: both agreed on 9:00. The event is at 12:00, the booking at 9:00: the event moved.
    - *in doubt*: several spans, while a write of the app's may or may not have been done. Example: both agreed on 9:00,
      the app sent 12:00, and no answer came. The booking is at 9:00 under a new version: either the write was not done,
      or it was done and a dispatcher moved the booking back.
    - *lost*: they had something in common, the app has forgotten what, and the booking was last written by somebody
      else than the app. Any difference counts as a move of both.
    """

    spans: frozenset[Span] = frozenset()
    is_lost: bool = False

    @classmethod
    def on(cls, spans: Iterable[Span]) -> Agreement:
        """*known* for one span, *in doubt* for several, *never* for none."""
        return cls(frozenset(spans))

    def moved(self, event: Span, booking: Span) -> Moved:
        """Tell which sides have moved; *event* and *booking* are the times that they have now."""
        if event == booking:
            return Moved(event=False, booking=False)
        if self.is_lost:
            return Moved(event=True, booking=True)
        if not self.spans:
            return Moved(event=True, booking=False)
        if booking not in self.spans and event in self.spans:
            return Moved(event=False, booking=True)
        return Moved(event=True, booking=self.booking_moved(booking))

    def booking_moved(self, booking: Span) -> bool:
        """Whether the booking has moved, as far as that is told without an event: one that is gone has no times."""
        return self.is_lost or (bool(self.spans) and self.spans != {booking})


NEVER = Agreement()
LOST = Agreement(is_lost=True)


def agreement_in(entry: Entry, booking: Booking | None) -> Agreement:
    """The agreement of an event and *booking*, as *entry* remembers it.

    As long as the booking has the version on which a write was intended, nothing was written. Under another version
    the booking's times tell whether it was: those of the write mean that it was done.
    """
    if booking is not None and entry.booking_id not in (None, booking.id):
        return NEVER  # the event got another booking
    intent = entry.intent
    if intent is None or booking is None or booking.etag == intent.version:
        return Agreement.on(entry.agreed)
    return Agreement.on(_possible(frozenset(entry.agreed), frozenset(intent.spans), booking, entry.event_id))


def _possible(agreed: frozenset[Span], intended: frozenset[Span], booking: Booking, event_id: str) -> Iterable[Span]:
    """The spans that both may have agreed on, now that *booking* has another version than the *intended* writes."""
    # A booking that is back where it was may have been moved by one of several writes, and moved back since.
    if booking.span in intended and (booking.span not in agreed or len(intended) == 1):
        return [booking.span]
    # A write that links a booking writes its times and its event's id at once, so the id tells of both.
    return agreed | intended if agreed or booking.event_id == event_id else agreed


def ordered(agreement: Agreement) -> tuple[Span, ...]:
    """Its spans in the order in which they are stored."""
    return tuple(sorted(agreement.spans, key=lambda span: (span.start, span.end)))


def intended_span(write: Write, booking: Booking | None) -> Span | None:
    """The times that *booking* has once *write* is done; None if there is no booking to tell."""
    if isinstance(write, MoveBooking):
        return write.span
    return booking.span if booking is not None else None


def intent_with(before: Intent | None, write: Write, booking: Booking | None) -> Intent:
    """The intent *before* with *write* added: two workers may intend a write on the same version of the booking.

    The same times stand twice where two workers intend them: if one of the two writes is refused, the other may have
    been done.
    """
    span = intended_span(write, booking)
    spans: tuple[Span, ...] = () if span is None else (span,)
    if before is not None and before.version == write.etag:
        spans = (*before.spans, *(span for span in spans if before.spans.count(span) < 2))
    return Intent(spans, write.etag)


def intent_without(before: Intent | None, write: Write, booking: Booking | None) -> Intent | None:
    """The intent *before* without *write*, which was certainly not done; None if nothing else was intended."""
    span = intended_span(write, booking)
    if before is None or before.version != write.etag or span not in before.spans:
        return before
    left = [*before.spans]
    left.remove(span)
    return Intent(tuple(left), before.version) if left else None


def under_way(entry: Entry, booking: Booking | None) -> Intent | None:
    """The intent of a write that may still come: its worker may be slow rather than dead."""
    intent = entry.intent
    return intent if intent is not None and booking is not None and booking.etag == intent.version else None
