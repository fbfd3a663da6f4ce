"""Entry → entry: before a write, after it, and after a sweep that found a pair in step. Pure: no IO, no clock.

The values stand in ``entry.py``, the questions that they answer in ``agreement.py`` and ``overrides.py``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, Span
from sync.pairs.actions import (
    Action,
    CancelBooking,
    Hold,
    LookAgain,
    MoveBooking,
    Observed,
    Stage,
    Write,
    outcome_of,
)
from sync.pairs.agreement import agreement_in, intent_with, intent_without, ordered, under_way
from sync.pairs.entry import DECISIONS, Decision, Entry, Held, Kind, newest
from sync.pairs.observing import links, remembered
from sync.pairs.overrides import lacks_evidence
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind

YOUNG = timedelta(minutes=10)
"""Age up to which an event may still get our extension, as that is a second call after the creation.

Too short, and a new booking's event is taken for a meeting of the technician's own for NOT_OURS_FOR; too long, and
each notification of a new meeting costs a read.
"""

NOT_OURS_FOR = timedelta(hours=24)
"""How long it is believed at most that an event is none of ours; see ``_believed_for``.

Too short, and each change of an ordinary meeting costs a read; too long, and an event that gets our extension late is
followed late.
"""

KEPT = timedelta(days=90)
"""How long an entry is kept after it was written. Too short, and a pair that rests is forgotten: a read more."""

KEPT_AFTER_END = timedelta(days=30)
"""How long an entry is kept after the end of its event. Too short, and late edits of done work cost a read more."""

GONE_KEPT = timedelta(days=30)
"""How long it is remembered that an event is gone, after the end of its booking. Too short, and a late notification
of its deletion costs a look."""

LONGEST = timedelta(days=3_650)
"""An end further ahead counts as this far ahead: bookings in the year 9999 exist."""


def intend(entry: Entry, write: Write, pair: Pair, now: datetime) -> Entry:
    """*entry* as it is stored before *write* is sent, so that a crash in between is known of."""
    # An event that is gone stays so: whoever comes after a crash would otherwise not be sure of it.
    is_gone_still = entry.kind is Kind.GONE and pair.event is None
    return replace(
        entry,
        kind=Kind.GONE if is_gone_still else Kind.PAIR,
        booking_id=write.booking_id,
        agreed=ordered(agreement_in(entry, pair.booking)),
        intent=intent_with(entry.intent, write, pair.booking),
        modified=pair.event.modified or entry.modified if pair.event is not None else entry.modified,
        history=with_decision(entry.history, _decision(write, pair, now, Stage.INTENDED)),
        expires=now + KEPT,
    )


def withdraw(entry: Entry, write: Write, booking: Booking | None) -> Entry:
    """*entry* without *write*, which was certainly not done; *booking* is the one that it was decided on.

    Example: both agreed on 9:00, the app sent 12:00, Dataverse refused it, and a dispatcher edits the booking's name.
    The booking is still where it was agreed on, and nothing of the app's can have moved it: the event's move counts.
    """
    return replace(entry, intent=intent_without(entry.intent, write, booking))


def conclude(entry: Entry, action: Action, pair: Pair, now: datetime, written: str = "") -> Entry | None:
    """*entry* as it is stored after *action* was carried out; None if there is nothing to remember.

    *written* is the version that the booking got by a write, as far as that is known.
    """
    if isinstance(action, LookAgain):
        return None
    if pair.event is None:
        known = _of_gone(entry, action, pair, now)
    elif pair.booking is None and not pair.event.has_extension:
        return _of_nobodys(entry, pair, pair.event, now)
    else:
        known = _of_pair(entry, action, pair, pair.event, now, written)
    if known is None:
        return None
    known = replace(
        known,
        intent=None if isinstance(action, Write) else under_way(entry, pair.booking),
        released=None,
        discarded=None if entry.discarded != pair.version or _is_asked(action) else entry.discarded,
        ended=_ended(entry, action, pair),
        held=_held(entry, action, pair, now),
        history=with_decision(entry.history, _decision(action, pair, now)),
    )
    return remembered(known, entry, action, pair) if isinstance(action, Observed) else known


def _of_gone(entry: Entry, action: Action, pair: Pair, now: datetime) -> Entry | None:
    """The event is gone, with some evidence for it."""
    if not pair.is_hinted:
        return None
    # A person's answer, or what waits for one, is of use as long as the booking.
    until = now if pair.booking is None else max(now, _end_of(pair.booking.span, now))
    is_doubted = isinstance(action, Hold) and lacks_evidence(pair)  # nothing tells that it was deleted
    return replace(
        entry,
        kind=entry.kind if is_doubted else Kind.GONE,
        agreed=ordered(agreement_in(entry, pair.booking)),
        versions=entry.versions if is_doubted else (),
        expires=until + GONE_KEPT,
    )


def _of_nobodys(entry: Entry, pair: Pair, event: Event, now: datetime) -> Entry | None:
    """The event is there, without our extension, and no booking is known to be linked to it."""
    is_missed = pair.change.evidence in (Evidence.MISSED, Evidence.MISSED_IN_GAP) or entry.kind is Kind.GONE
    # An event that came back after its deletion may be young still.
    may_be_young = not is_missed or entry.kind is Kind.GONE
    if may_be_young and _is_young(event):
        return None
    if entry.booking_id is not None and not is_missed:
        return None  # it had our extension, and one look without it does not tell that it lost it
    return replace(
        Entry(entry.mailbox, entry.event_id, entry.etag), kind=Kind.NOT_OURS, expires=now + _believed_for(event)
    )


def _believed_for(event: Event) -> timedelta:
    """How long it is believed that *event* is none of ours: as long as it has existed by now, within bounds.

    A flow may add our extension an hour after it made the event. Example: the event was made at 9:00, edited at 9:15,
    and gets our extension at 10:00. At 9:15 it was a quarter of an hour old, so until 9:30 it is nobody's, and at 10:00
    it is looked at. An ordinary meeting that is edited all day costs eight reads in its first day, and one a day later.
    """
    if event.created is None or event.modified is None:
        return NOT_OURS_FOR
    return min(NOT_OURS_FOR, max(YOUNG, event.modified - event.created))


def _of_pair(entry: Entry, action: Action, pair: Pair, event: Event, now: datetime, written: str) -> Entry:
    """The event is there, with our extension or with a booking that is linked to it."""
    booking, versions = pair.booking, entry.versions if entry.kind is Kind.PAIR else ()
    if booking is not None:
        versions = newest(versions, pair.change.version, event.etag)
    common = agreed_after(action, event, booking)
    return replace(
        entry,
        kind=Kind.PAIR,
        booking_id=booking.id if booking is not None else entry.booking_id,
        agreed=(common,) if common is not None else ordered(agreement_in(entry, booking)),
        versions=versions,
        modified=event.modified or entry.modified,
        booking_version=written if isinstance(action, Write) else booking.etag if booking is not None else "",
        expires=max(now + KEPT, _end_of(event.span, now) + KEPT_AFTER_END),
    )


def agreed_after(action: Action, event: Event, booking: Booking | None) -> Span | None:
    """The times that both sides have in common once *action* is done; None if they have none."""
    if isinstance(action, MoveBooking):
        return action.span
    if booking is None or event.span != booking.span or isinstance(action, CancelBooking):
        return None
    return event.span if booking.event_id == event.id or links(action) else None


def agree(entry: Entry, event: Event, booking: Booking, now: datetime) -> Entry | None:
    """*entry* with a pair that a sweep has found in step; None if there is nothing new to remember."""
    if event.booking_id != booking.id or booking.event_id != event.id or event.span != booking.span:
        return None
    if event.modified is not None and entry.modified is not None and event.modified < entry.modified:
        return None  # the list lags behind
    intent = under_way(entry, booking)
    held = entry.held if entry.held is not None and entry.held.kind is HoldKind.SHARED else None
    known = (entry.kind, entry.booking_id, entry.booking_version, entry.agreed, entry.intent, entry.held)
    if known == (Kind.PAIR, booking.id, booking.etag, (event.span,), intent, held):
        return None
    return replace(
        entry,
        kind=Kind.PAIR,
        booking_id=booking.id,
        agreed=(event.span,),
        intent=intent,
        versions=newest(entry.versions, event.etag),
        booking_version=booking.etag,
        held=held,
        expires=max(now + KEPT, _end_of(event.span, now) + KEPT_AFTER_END),
    )


def inherit(entry: Entry, ended: Pair, now: datetime) -> Entry | None:
    """*entry* of the event that takes over the booking of *ended*; None if it has agreed with that booking before.

    Example: the booking and its event agreed on 9:00. The event was copied, the copy dragged to 12:00, and the original
    deleted. The copy is at 12:00, and the booking still where both had agreed: it follows the copy.
    """
    booking = ended.booking
    if booking is None or (entry.booking_id == booking.id and entry.agreed):
        return None
    agreed = ordered(agreement_in(ended.entry, booking))
    return replace(entry, kind=Kind.PAIR, booking_id=booking.id, agreed=agreed, intent=None, expires=now + KEPT)


def _end_of(span: Span, now: datetime) -> datetime:
    return min(span.end, now + LONGEST)


def _is_young(event: Event) -> bool:
    """Told by Exchange's clock alone: every notification follows a modification."""
    return event.created is None or event.modified is None or event.modified - event.created <= YOUNG


def _held(entry: Entry, action: Action, pair: Pair, now: datetime) -> Held | None:
    if not isinstance(action, Hold):
        return _shared(entry.held, pair)
    before = entry.held
    return Held(
        action.kind,
        before.since if before is not None and before.version == pair.version else now,
        pair.version,
        outcome_of(action.write)[0] if action.write is not None else None,
        lacks_evidence(pair),
        pair.booking.span if pair.booking is not None else None,
        action.detail,
    )


def _is_asked(action: Action) -> bool:
    """Whether a person is asked, so that an earlier answer of a person's stands no more."""
    return isinstance(action, Hold) and not action.is_waiting


def _shared(held: Held | None, pair: Pair) -> Held | None:
    """What a sweep has found of another booking that holds the event's id; a look at this pair does not end it."""
    if held is None or held.kind is not HoldKind.SHARED or pair.event is None:
        return None
    return replace(held, version=pair.version)


def _ended(entry: Entry, action: Action, pair: Pair) -> str | None:
    """The version for which the booking was canceled, or was found canceled."""
    if not pair.has_ended:
        return None
    is_canceled = isinstance(action, CancelBooking) or (pair.booking is not None and pair.booking.is_canceled)
    return pair.version if is_canceled or entry.ended == pair.version else None


def _decision(action: Action, pair: Pair, now: datetime, stage: Stage | None = None) -> Decision:
    outcome, came = outcome_of(action)
    return Decision(
        at=now,
        cause=_cause(pair.change),
        outcome=outcome,
        stage=stage or came,
        reason=getattr(action, "reason", ""),
        event_version=pair.version,
        booking_version=pair.booking.etag if pair.booking is not None else "",
        event_span=pair.event.span if pair.event is not None else None,
        booking_span=pair.booking.span if pair.booking is not None else None,
    )


_CAUSES = {
    Evidence.NONE: "told of a change",
    Evidence.MISSED: "not found before",
    Evidence.MISSED_IN_GAP: "not found after a gap in the notifications",
    Evidence.TOLD: "told of its deletion",
}


def _cause(change: Change) -> str:
    cause = _CAUSES[change.evidence]
    return f"{cause}, try {change.attempt + 1}" if change.attempt else cause


def with_decision(history: tuple[Decision, ...], decision: Decision) -> tuple[Decision, ...]:
    """*history* with *decision*: the same once more is counted, and an intention gives way to what became of it."""
    before = history[-1] if history else None
    is_its_end = before is not None and before.stage is Stage.INTENDED and decision.stage is Stage.DONE
    if before is not None and is_its_end and before.outcome is decision.outcome:
        history = history[:-1]
    elif before is not None and replace(before, at=decision.at, cause=decision.cause, times=1) == decision:
        return (*history[:-1], replace(decision, times=before.times + 1))
    return (*history, decision)[-DECISIONS:]
