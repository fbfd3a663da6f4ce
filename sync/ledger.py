"""What is remembered of each event: what it and its booking last agreed on, what was decided last, when and why.

Values and rules without IO; ledger_table.py stores them. The ledger is a cache: what it does not know is read anew. It
holds ids, times and reasons, nothing of what events are about.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sync.model import (
    Action,
    Booking,
    CancelBooking,
    Change,
    Event,
    Hold,
    Ignore,
    Leave,
    LinkBooking,
    MoveBooking,
    Observed,
    Postpone,
    Span,
    UnlinkBooking,
    Write,
)

GONE = "gone"
"""Stands for the version of an event that is no more."""

VERSIONS = 8
"""So many versions of an event are remembered, the newest last: a change is notified up to four times."""

DECISIONS = 20
"""The last ones are kept for ``explain``."""

WOULD_BE = "would be "
"""Begins the outcome of a decision while the app only observes."""

YOUNG = timedelta(minutes=10)
"""An event without our extension may still get it: the extension is a second call after the event's creation."""

KEPT, KEPT_AFTER_END, GONE_KEPT, MISSED_KEPT = (timedelta(days=days) for days in (90, 30, 30, 7))
"""How long an entry is of use after it was written, or after the end of what was agreed on."""

LONGEST = timedelta(days=3_650)
"""No end further ahead than this counts for that."""

LONGEST_SETTLE = 60
"""Seconds; an event that never rests is looked at once in so many."""

STREAK = 2
"""So many runs in a row are usual: somebody tries where an event fits."""


class Kind(StrEnum):
    PAIR = "pair"
    """It carries our extension."""
    GONE = "gone"
    NOT_OURS = "not ours"


@dataclass(frozen=True)
class Intent:
    """Writes that were about to be sent, and the times that the booking has afterwards.

    All were guarded by one *version* of the booking, so that one of them at most took effect.
    """

    spans: tuple[Span, ...]
    """One twice where two were about to write it: that one of them was refused says nothing of the other."""
    version: str


@dataclass(frozen=True)
class Decision:
    """One line of an event's history. The spans are those that were looked at, not those that were written."""

    at: datetime
    cause: str
    outcome: str
    reason: str = ""
    event_version: str = ""
    booking_version: str = ""
    event_span: Span | None = None
    booking_span: Span | None = None
    times: int = 1
    """How often in a row the same was decided of the same versions; *at* is the last time."""

    @property
    def is_observed(self) -> bool:
        """Whether it would have been done, had the app not only observed."""
        return self.outcome.startswith(WOULD_BE)


@dataclass(frozen=True)
class Held:
    """Why a pair is out of step, and since when; ``is_waiting`` for Outlook to follow rather than for a person."""

    reason: str
    since: datetime
    version: str
    """Of the event; a person's word holds for this one only."""
    is_waiting: bool = False
    outcome: str = ""
    """What the booking will have been if a person releases it; empty where nothing can be done."""
    is_missed: bool = False
    """Whether the event was only missed, which is no evidence that it was deleted."""
    booking_span: Span | None = None
    """Where the booking was; a person's word to write over it holds as long as it is there."""
    is_conflict: bool = False
    """Whether both sides were changed. That holds for this version of the event, wherever the booking goes."""


@dataclass(frozen=True)
class Entry:
    """What is known of one event; ``etag`` is that of the stored row, empty if there is none yet."""

    mailbox: str
    event_id: str
    etag: str = ""
    kind: Kind = Kind.PAIR
    booking_id: str | None = None
    agreed: tuple[Span, ...] = ()
    """What both sides last had in common; several where a write of ours is in doubt."""
    intent: Intent | None = None
    versions: tuple[str, ...] = ()
    """Those that need no second look, the newest last."""
    modified: datetime | None = None
    """When the event was modified at the newest of them, by Exchange's clock."""
    booking_version: str = ""
    """The booking's when the event was last seen; as long as it has that one, it was in nobody else's hands since."""
    held: Held | None = None
    released: str | None = None
    """The version of the event for which a person said: do it."""
    discarded: str | None = None
    """The version of the event for which a person said: let it be."""
    history: tuple[Decision, ...] = ()
    expires: datetime | None = None

    @property
    def is_new(self) -> bool:
        return not self.etag

    @property
    def observed(self) -> Decision | None:
        """The last of its decisions that were not carried out because the app only observed."""
        return next((decision for decision in reversed(self.history) if decision.is_observed), None)

    @property
    def is_left_out(self) -> bool:
        """Whether the last write that was decided on was not sent, because the app only observed."""
        decided = (each for each in reversed(self.history) if each.is_observed or each.outcome in _WRITTEN)
        return next((decision.is_observed for decision in decided), False)

    @property
    def was_read(self) -> bool:
        """Whether the event was seen in this mailbox, with a booking that it claims, and not seen to be gone.

        Nothing follows from its being gone while the app only observes, so that it is missed still.
        """
        return GONE in self.versions or (self.kind is Kind.PAIR and bool(self.versions or self.agreed))


@dataclass(frozen=True)
class Look:
    """Both sides as they were seen for one decision."""

    event: Event | None
    booking: Booking | None

    @property
    def version(self) -> str:
        return self.event.etag if self.event is not None else GONE


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


def is_released(entry: Entry, look: Look) -> bool:
    """Whether a person has said "do it" of what is there now: who moves the booking afterwards has not been asked."""
    span = look.booking.span if look.booking is not None else None
    return entry.held is not None and entry.held.booking_span == span and entry.released == look.version


def override(action: Action, look: Look, entry: Entry) -> Action:
    """*action*, unless a person has said otherwise of just this version of the event."""
    if isinstance(action, Hold | Leave) and action.write is not None and is_released(entry, look):
        return action.write
    if isinstance(action, Hold | Leave | CancelBooking | MoveBooking) and entry.discarded == look.version:
        return Ignore("a person decided to let it be")
    return _still_in_conflict(action, look, entry) or action


def _still_in_conflict(action: Action, look: Look, entry: Entry) -> Leave | Hold | None:
    """What was decided of the event as it is stands, also if a dispatcher moves the booking back again."""
    held = entry.held
    if held is None or not held.is_conflict or held.version != look.version or is_released(entry, look):
        return None
    if not isinstance(action, CancelBooking | MoveBooking):
        return None
    if held.is_waiting:
        return Leave(held.reason, action.booking_id, is_conflict=True, write=action)
    return Hold(held.reason, action.booking_id, action, is_conflict=True)


def left_unlinked(entry: Entry, booking: Booking | None, now: datetime) -> Hold | None:
    """What becomes of *booking*, which the entry names, when its event is gone and no booking is linked to that.

    Linked, it would be canceled; but that it is not is only because a link was left out. A person is to say.
    """
    if booking is None or not entry.is_left_out or booking.mailbox != entry.mailbox:
        return None
    if booking.event_id is not None or not booking.is_open or booking.span.end <= now:
        return None
    cancel = CancelBooking(booking.id, booking.etag, unlink=False)
    return Hold("its event was deleted, and while the app only observed nothing linked them", booking.id, cancel)


def doubt(look: Look, change: Change, entry: Entry) -> str | None:
    """Why *look*'s booking is not to be canceled for its event's being gone without a person's word, None if it may.

    It may have been somebody else's for a while: its event went then, and Outlook has not followed it back yet. A
    booking that is as it was when the event was seen was in one hand; of any other, somebody has to have told.
    """
    if look.event is not None or look.booking is None or look.booking.etag == entry.booking_version:
        return None
    if change.deleted or (entry.kind is Kind.GONE and _is_told_of(entry)):
        return None
    return "its event is gone, which nobody told of, and the booking was edited since the event was seen"


def _is_told_of(entry: Entry) -> bool:
    """Whether the deletion that was judged was this booking's: held for it, or told before the booking was linked."""
    return not entry.held.is_missed if entry.held is not None else not entry.booking_version


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


def is_stale(change: Change, look: Look, entry: Entry) -> bool:
    """Whether the event may have been read from a copy that lags behind.

    It was known in a newer state, by Exchange's own clock; or a version was notified that is not known yet, and what
    was read is one that was. Once more is enough to tell that from a late notification.
    """
    event = look.event
    if event is None:
        return False
    if event.modified is not None and entry.modified is not None and event.modified < entry.modified:
        return change.attempt < 3  # the clocks of two Exchange servers need not agree for ever
    return (
        change.attempt == 0
        and change.version not in (None, event.etag, *entry.versions)
        and event.etag in entry.versions
    )


def intended_span(write: Write, booking: Booking | None) -> Span | None:
    """The times that *booking* has once *write* is done."""
    if isinstance(write, MoveBooking):
        return write.span
    return booking.span if booking is not None else None


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


def _intent(entry: Entry, write: Write, booking: Booking | None) -> Intent:
    span = intended_span(write, booking)
    spans: tuple[Span, ...] = () if span is None else (span,)
    before = entry.intent
    if before is not None and before.version == write.etag:
        spans = (*before.spans, *(span for span in spans if before.spans.count(span) < 2))
    return Intent(spans, write.etag)


def _end_of(span: Span, now: datetime) -> datetime:
    """The end, as far as it tells how long to remember something: there are bookings in the year 9999."""
    return min(span.end, now + LONGEST)


def _ordered(spans: Set[Span]) -> tuple[Span, ...]:
    return tuple(sorted(spans, key=lambda span: (span.start, span.end)))


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
        if not (change.deleted or change.missing):
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
        until = now + (max(not_ours_for, MISSED_KEPT) if change.missing else not_ours_for)
        # One that came back after it was deleted may be young still.
        if until == now or (_is_young(event) and (not change.missing or entry.kind is Kind.GONE)):
            return None
        if entry.booking_id is not None and not change.missing:
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


_OUTCOMES: dict[type[Action], str] = {
    Ignore: "ignored",
    Leave: "left",
    Postpone: "postponed",
    Hold: "held",
    LinkBooking: "linked",
    UnlinkBooking: "unlinked",
    CancelBooking: "canceled",
    MoveBooking: "moved",
}


_WRITTEN = {_OUTCOMES[kind] for kind in (LinkBooking, UnlinkBooking, CancelBooking, MoveBooking)}


def outcome_of(action: Action) -> str:
    return WOULD_BE + _OUTCOMES[type(action.write)] if isinstance(action, Observed) else _OUTCOMES[type(action)]


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


def _cause(change: Change) -> str:
    cause = "told of its deletion" if change.deleted else "not found before" if change.missing else "told of a change"
    return f"{cause}, try {change.attempt + 1}" if change.attempt else cause


def _with(history: tuple[Decision, ...], decision: Decision) -> tuple[Decision, ...]:
    """The same once more is counted, not repeated; what was about to be done gives way to what was done."""
    before = history[-1] if history else None
    if before is not None and before.outcome.removeprefix("about to be ") == decision.outcome != before.outcome:
        history = history[:-1]
    elif before is not None and replace(before, at=decision.at, cause=decision.cause, times=1) == decision:
        return (*history[:-1], replace(decision, times=before.times + 1))
    return (*history, decision)[-DECISIONS:]


@dataclass(frozen=True)
class Notified:
    """What is known of an event when a notification of it comes in; all times are the storage account's own."""

    at: datetime
    kind: Kind | None = None
    versions: Set[str] = field(default_factory=frozenset)
    expires: datetime | None = None
    due: datetime | None = None
    """When the message that was queued last can be seen, and processed."""
    due_is_deletion: bool = False
    settle: int = 0
    """Seconds for which that one was hidden."""
    streak: int = 0
    """So many were queued in a row, each soon after the one before was processed."""


def is_known(change: Change, known: Notified) -> bool:
    """Whether the notification tells nothing new, so that neither service needs to be asked."""
    if known.kind is None or known.expires is None or known.expires <= known.at:
        return False
    match known.kind:
        case Kind.NOT_OURS:
            return True
        case Kind.GONE:
            # Without a version it may stand for several, of which one tells that the event is back.
            return change.deleted and change.version is not None
        case _:
            return not change.deleted and change.version in known.versions


_GRAIN = timedelta(seconds=1)
"""What storage tells of its time is whole seconds. One more is left between its queues' clock and its tables'."""


def is_queued(change: Change, known: Notified) -> bool:
    """Whether a message for the same event waits unseen: what is processed later sees this change as well."""
    if known.due is None or known.at + _GRAIN >= known.due:
        return False
    return known.due_is_deletion or not change.deleted


def settle_seconds(change: Change, known: Notified, settle: int) -> int:
    """How long to wait for more of the same: twice as long each time for an event that does not rest.

    After a deletion nothing follows that would be worth waiting for.
    """
    if change.deleted or not settle or streak(known) <= STREAK:
        return settle
    return max(settle, min(known.settle * 2, LONGEST_SETTLE))


def streak(known: Notified) -> int:
    """Which run in a row it is that a message now is queued for."""
    is_row = known.due is not None and known.at - known.due <= timedelta(seconds=LONGEST_SETTLE)
    return known.streak + 1 if is_row else 1
