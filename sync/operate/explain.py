"""Tells all that the ledger knows of a booking or an event: what was decided when, why, and on which values.

Finding it asks as little as needed; telling it is without IO. All times are UTC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sync.errors import SyncError
from sync.ids import parse_guid
from sync.model import Booking, Span
from sync.pairs.actions import in_words
from sync.pairs.entry import GONE, Decision, Entry, Held, Kind
from sync.pairs.observing import is_left_out

SHORT = 10
"""The last characters of a version, which are those that change; the document has all."""


class Ledger(Protocol):
    """The memory of pairs, as far as it is searched."""

    async def read(self, mailbox: str, event_id: str) -> Entry:
        """A new one if nothing is known of the event. Raises: Transient."""

    async def find(self, booking_or_event: str, mailbox: str | None = None) -> Sequence[Entry]:
        """The entries of a booking or event: of the mailbox, else of all, which takes its time. Raises: Transient."""


class Bookings(Protocol):
    """Dynamics' side, as far as it is asked."""

    async def read(self, booking_id: str) -> Booking | None:
        """The booking, None if it does not exist. Raises: Transient, Refused."""


@dataclass
class Found:
    """All that was found of one booking or event."""

    entries: Sequence[Entry] = ()
    booking: Booking | None = None
    """As it stands now."""
    notes: list[str] = field(default_factory=list)


@dataclass
class Finder:
    """Asks Dataverse where a booking's event is, and the ledger's whole table only where nothing else helps."""

    ledger: Ledger
    bookings: Callable[[], Awaitable[Bookings]]

    async def find(self, text: str, mailbox: str | None) -> Found:
        """Raises: Transient if the ledger cannot be reached; that Dataverse cannot is a note."""
        found = Found()
        if booking_id := parse_guid(text):
            try:
                found.booking = await (await self.bookings()).read(booking_id)
            except SyncError as error:
                found.notes.append(f"the booking could not be read: {error}")
            else:
                if found.booking is None:
                    found.notes.append("Dataverse has no such booking")
        found.entries = await self._entries(booking_id or text, mailbox, found.booking)
        return found

    async def _entries(self, text: str, mailbox: str | None, booking: Booking | None) -> Sequence[Entry]:
        if mailbox is not None:
            return await self.ledger.find(text, mailbox)
        if booking is not None and booking.mailbox is not None:
            if booking.event_id is not None:
                entry = await self.ledger.read(booking.mailbox, booking.event_id)
                if not entry.is_new:
                    return [entry]
            # A canceled booking does not hold its event's id any more.
            if entries := await self.ledger.find(text, booking.mailbox):
                return entries
        return await self.ledger.find(text)


def build_document(text: str, found: Found) -> dict[str, Any]:
    """For programs: all there is, versions in full."""
    now = found.booking
    return {
        "asked": text,
        "booking_now": now and {"span": now.span, "mailbox": now.mailbox, "event": now.event_id, "version": now.etag},
        "notes": found.notes,
        "entries": [_document(entry) for entry in found.entries],
    }


def _document(entry: Entry) -> dict[str, Any]:
    return {
        "mailbox": entry.mailbox,
        "event": entry.event_id,
        "booking": entry.booking_id,
        "kind": entry.kind,
        "agreed": entry.agreed,
        "in_doubt": entry.intent,
        "held": entry.held and {**asdict(entry.held), "reason": entry.held.reason},
        "released": entry.released,
        "discarded": entry.discarded,
        "versions": entry.versions,
        "expires": entry.expires,
        "decisions": entry.history,
    }


def build_lines(text: str, found: Found) -> list[str]:
    """For people."""
    lines = list(found.notes)
    if found.booking is not None:
        event = f", linked to {found.booking.event_id}" if found.booking.event_id else ", linked to no event"
        lines.append(f"booking now  {_span(found.booking.span)}{event}")
    for entry in found.entries:
        lines += ["", *_lines(entry)]
    if not found.entries:
        lines.append(f"nothing is known of {text}: no change of it was processed, or what was known has expired")
    return lines


def _lines(entry: Entry) -> Iterator[str]:
    yield f"event        {entry.event_id}"
    yield f"mailbox      {entry.mailbox}"
    if entry.booking_id is not None:
        yield f"booking      {entry.booking_id}"
    if entry.kind in _KINDS:
        yield f"what it is   {_KINDS[entry.kind]}"
    yield from _agreed(entry)
    if entry.held is not None:
        yield from _held(entry.held)
    yield from _answered(entry)
    if entry.expires is not None:
        yield f"forgotten    after {entry.expires:%Y-%m-%d %H:%M}, if nothing happens until then"
    for decision in entry.history:
        yield ""
        yield from _told(decision)


_KINDS = {Kind.NOT_OURS: "none of ours: it does not carry our extension", Kind.GONE: "gone"}


def _agreed(entry: Entry) -> Iterator[str]:
    if entry.agreed:
        yield f"agreed on    {' or '.join(map(_span, entry.agreed))}"
    if entry.intent is not None:
        spans = " or ".join(dict.fromkeys(map(_span, entry.intent.spans)))
        what = "left out" if is_left_out(entry) else "in doubt"
        yield f"{what:<11}  a write to the booking at {_version(entry.intent.version)}, of {spans}"


def _held(held: Held) -> Iterator[str]:
    what = "waiting" if held.is_waiting else "held"
    yield f"{what:<11}  since {held.since:%Y-%m-%d %H:%M}: {held.reason}"
    if held.outcome:
        yield f"             if released, the booking is {held.outcome}"


def _answered(entry: Entry) -> Iterator[str]:
    if entry.released is not None:
        yield f"released     {_of_event(entry.released)}, and about to be done"
    if entry.discarded is not None:
        yield f"discarded    {_of_event(entry.discarded)}, so the booking is let be"


def _told(decision: Decision) -> Iterator[str]:
    times = f" ({decision.times} times)" if decision.times > 1 else ""
    reason = f": {decision.reason}" if decision.reason else ""
    yield f"{decision.at:%Y-%m-%d %H:%M:%S}  {in_words(decision.outcome, decision.stage)}{reason}"
    yield f"             {decision.cause}{times}"
    if decision.event_version == GONE:
        yield "             event    gone"
    elif decision.event_version:
        yield f"             event    {_seen(decision.event_span, decision.event_version)}"
    if decision.booking_version:
        yield f"             booking  {_seen(decision.booking_span, decision.booking_version)}"


def _seen(span: Span | None, version: str) -> str:
    return f"{_span(span)}, at {_version(version)}" if span is not None else f"at {_version(version)}"


def _of_event(version: str) -> str:
    return "for the event's deletion" if version == GONE else f"for the event at {_version(version)}"


def _version(version: str) -> str:
    text = version.removeprefix("W/").strip('"')
    return f"version {'…' if len(text) > SHORT else ''}{text[-SHORT:]}"


def _span(span: Span) -> str:
    start, end = _moment(span.start), _moment(span.end)
    return f"{start} - {end.removeprefix(start[:11])}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00")
