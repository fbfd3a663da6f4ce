"""Entry → entry: before a write, after a decision, after a sweep, after a person's answer. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, Span
from sync.pairs.actions import Action, CancelBooking, Hold, Leave, Observed, Postpone, Write
from sync.pairs.agreement import Refusal, _intent, _ordered, _under_way, agreed_after, agreed_spans
from sync.pairs.entry import _OUTCOMES, DECISIONS, GONE, VERSIONS, Decision, Entry, Held, Kind, outcome_of
from sync.pairs.overrides import doubt
from sync.pairs.pair import Look

YOUNG = timedelta(minutes=10)
"""An event without our extension may still get it: the extension is a second call after the event's creation."""

KEPT, KEPT_AFTER_END, GONE_KEPT, MISSED_KEPT = (timedelta(days=days) for days in (90, 30, 30, 7))
"""How long an entry is of use after it was written, or after the end of what was agreed on."""

LONGEST = timedelta(days=3_650)
"""No end further ahead than this counts for that."""


def release(entry: Entry, held: Held, now: datetime) -> Entry:
    """*entry* with a person's word to do what the event asks; it is held until that is done."""
    history = _with(entry.history, _word("released", held, now))
    return replace(entry, released=held.version, discarded=None, history=history)


def discard(entry: Entry, held: Held, now: datetime) -> Entry:
    """*entry* with a person's word to let the booking be as it is."""
    history = _with(entry.history, _word("discarded", held, now))
    return replace(entry, released=None, discarded=held.version, held=None, history=history)


def _word(outcome: str, held: Held, now: datetime) -> Decision:
    return Decision(now, "said by a person", outcome, held.reason, held.version)


def intend(entry: Entry, write: Write, look: Look, change: Change, now: datetime, refusal: Refusal | None) -> Entry:
    """*entry* as it is stored before *write* is sent, so that a crash in between is known of."""
    is_gone_still = entry.kind is Kind.GONE and look.event is None  # or nobody would be sure of it any more
    return replace(
        entry,
        kind=Kind.GONE if is_gone_still else Kind.PAIR,
        booking_id=write.booking_id,
        agreed=_ordered(agreed_spans(entry, look.booking, refusal)),
        intent=_intent(entry, write, look.booking),
        modified=look.event.modified or entry.modified if look.event is not None else entry.modified,
        history=_with(entry.history, _decision(write, look, change, now, about_to=True)),
        expires=now + KEPT,
    )


def _end_of(span: Span, now: datetime) -> datetime:
    """The end, as far as it tells how long to remember something: there are bookings in the year 9999."""
    return min(span.end, now + LONGEST)


def conclude(
    entry: Entry,
    action: Action,
    look: Look,
    change: Change,
    now: datetime,
    not_ours_for: timedelta,
    refusal: Refusal | None = None,
    written: str = "",
) -> Entry | None:
    """*entry* as it is stored after *action* was carried out; None if there is nothing to remember.

    *written* is the version that the booking got by it, as far as that is known.
    """
    event, booking = look.event, look.booking
    is_missed = doubt(look, change, entry) is not None
    if isinstance(action, Postpone):
        return None
    if event is None:
        if change.evidence is Evidence.NONE:
            return None  # nobody is sure of it
        agreed = _ordered(agreed_spans(entry, booking, refusal))
        # What a sweep is to find as long as nobody has done it is not forgotten.
        versions = tuple(dict.fromkeys((*entry.versions, GONE)))[-VERSIONS:] if isinstance(action, Observed) else ()
        # A person's word, or what waits for one, is of use as long as the booking.
        until = now if booking is None else max(now, _end_of(booking.span, now))
        known = replace(entry, kind=Kind.GONE, agreed=agreed, versions=versions, expires=until + GONE_KEPT)
        if isinstance(action, Hold | Leave) and is_missed:
            known = replace(known, kind=entry.kind, versions=entry.versions)  # nothing tells that it was deleted
    elif not event.has_extension:
        # A sweep comes back to a linked event that its lists do not show: it lost our extension, and not for a day.
        is_missed_here = change.evidence is Evidence.MISSED or entry.kind is Kind.GONE
        until = now + (max(not_ours_for, MISSED_KEPT) if is_missed_here else not_ours_for)
        # One that came back after it was deleted may be young still.
        if until == now or (_is_young(event) and (not is_missed_here or entry.kind is Kind.GONE)):
            return None
        if entry.booking_id is not None and not is_missed_here:
            return None  # it had our extension, and one look without it does not tell that it lost it
        return replace(Entry(entry.mailbox, entry.event_id, entry.etag), kind=Kind.NOT_OURS, expires=until)
    else:
        versions = entry.versions if entry.kind is Kind.PAIR else ()
        if booking is not None:
            seen = [version for version in (change.version, event.etag) if version]
            versions = tuple(dict.fromkeys([*(v for v in versions if v not in seen), *seen]))[-VERSIONS:]
        common = agreed_after(action, event, booking)
        known = replace(
            entry,
            kind=Kind.PAIR,
            booking_id=booking.id if booking is not None else entry.booking_id,
            agreed=(common,) if common is not None else _ordered(agreed_spans(entry, booking, refusal)),
            versions=versions,
            modified=event.modified or entry.modified,
            booking_version=written if isinstance(action, Write) else booking.etag if booking is not None else "",
            expires=max(now + KEPT, _end_of(event.span, now) + KEPT_AFTER_END),
        )
    intent = None if isinstance(action, Write) else _under_way(entry, booking)
    released, held = None, _held(entry, action, look, is_missed, now)
    if isinstance(action, Observed):
        # Somebody else may do it now: it is in doubt like a write of our own. A person's word holds until it is done.
        intent = _intent(entry, action.write, booking)
        known = replace(known, booking_id=action.booking_id)
        released = entry.released
        held = entry.held if entry.released == look.version else held
    return replace(
        known,
        intent=intent,
        released=released,
        discarded=entry.discarded if entry.discarded == look.version else None,
        held=held,
        history=_with(entry.history, _decision(action, look, change, now)),
    )


def agree(entry: Entry, event: Event, booking: Booking, now: datetime) -> Entry | None:
    """*entry* with a pair that a sweep has found in step; None if that is known already, or none of its business."""
    if event.booking_id != booking.id or booking.event_id != event.id or event.span != booking.span:
        return None
    if event.modified is not None and entry.modified is not None and event.modified < entry.modified:
        return None  # the list lags behind
    intent = _under_way(entry, booking)
    known = (entry.kind, entry.booking_id, entry.booking_version, entry.agreed, entry.intent, entry.held)
    if known == (Kind.PAIR, booking.id, booking.etag, (event.span,), intent, None):
        return None
    return replace(
        entry,
        kind=Kind.PAIR,
        booking_id=booking.id,
        agreed=(event.span,),
        intent=intent,
        versions=(*(v for v in entry.versions if v != event.etag), event.etag)[-VERSIONS:],
        booking_version=booking.etag,
        held=None,
        expires=max(now + KEPT, _end_of(event.span, now) + KEPT_AFTER_END),
    )


def hold_missing(entry: Entry, booking: Booking | None, reason: str, now: datetime) -> Entry | None:
    """*entry* with an event that a sweep misses, but that is not to be taken for deleted without a person's word.

    None if it is held already.
    """
    span = booking.span if booking is not None else None
    before = entry.held
    if before is not None and (before.reason, before.version, before.booking_span) == (reason, GONE, span):
        return None
    held = Held(reason, now, GONE, outcome=_OUTCOMES[CancelBooking], is_missed=True, booking_span=span)
    expires = max(now + KEPT, entry.expires or now)
    return replace(entry, booking_id=booking.id if booking else entry.booking_id, held=held, expires=expires)


def _is_young(event: Event) -> bool:
    """Told by Exchange's clock alone: every notification follows a modification."""
    return event.created is None or event.modified is None or event.modified - event.created <= YOUNG


def _held(entry: Entry, action: Action, look: Look, is_missed: bool, now: datetime) -> Held | None:
    if not isinstance(action, Hold | Leave):
        return None
    before = entry.held
    since = before.since if before is not None and before.version == look.version else now
    outcome = _OUTCOMES[type(action.write)] if action.write is not None else ""
    span = look.booking.span if look.booking is not None else None
    is_waiting, is_conflict = isinstance(action, Leave), action.is_conflict
    return Held(action.reason, since, look.version, is_waiting, outcome, is_missed, span, is_conflict)


def _decision(action: Action, look: Look, change: Change, now: datetime, about_to: bool = False) -> Decision:
    outcome = outcome_of(action)
    return Decision(
        at=now,
        cause=_cause(change),
        outcome=f"about to be {outcome}" if about_to else outcome,
        reason=getattr(action, "reason", ""),
        event_version=look.version,
        booking_version=look.booking.etag if look.booking is not None else "",
        event_span=look.event.span if look.event is not None else None,
        booking_span=look.booking.span if look.booking is not None else None,
    )


_CAUSES = {
    Evidence.NONE: "told of a change",
    Evidence.MISSED: "not found before",
    Evidence.TOLD: "told of its deletion",
}


def _cause(change: Change) -> str:
    cause = _CAUSES[change.evidence]
    return f"{cause}, try {change.attempt + 1}" if change.attempt else cause


def _with(history: tuple[Decision, ...], decision: Decision) -> tuple[Decision, ...]:
    """The same once more is counted, not repeated; what was about to be done gives way to what was done."""
    before = history[-1] if history else None
    if before is not None and before.outcome.removeprefix("about to be ") == decision.outcome != before.outcome:
        history = history[:-1]
    elif before is not None and replace(before, at=decision.at, cause=decision.cause, times=1) == decision:
        return (*history[:-1], replace(decision, times=before.times + 1))
    return (*history, decision)[-DECISIONS:]
