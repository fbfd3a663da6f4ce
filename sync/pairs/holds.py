"""A person's answer to what is held: release it, so that the event's request is done, or discard it.

An answer is written to the ledger, for the version of the event that is held and for no other. A released pair goes
the way of any change: it is looked at again, decided and written there. No rule about pairs lives here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sync.errors import Stale
from sync.messages.changes import Change
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message
from sync.messages.parking import Queues
from sync.pairs.entry import Entry, Held
from sync.pairs.holding import discard, release

SHORTEST = 6
"""Characters that may stand for the whole of an id."""

AT_ONCE = 32

TRIES = 5
"""How often an entry is read again because somebody else wrote it meanwhile."""

Word = Callable[[Entry, Held, datetime], Entry]


class Ledger(Protocol):
    """The memory of pairs, as far as answers go."""

    def held(self, now: datetime) -> AsyncIterator[Entry]:
        """All entries that are held or waiting. Raises: Transient."""

    async def read(self, mailbox: str, event_id: str) -> Entry:
        """Raises: Transient."""

    async def write(self, entry: Entry) -> Entry:
        """Raises: Stale if somebody else wrote it since it was read, Transient."""


@dataclass(frozen=True)
class Listed:
    """An entry that is held, and why; ``id`` is the booking's, or the event's where that would not name one only."""

    id: str
    entry: Entry
    held: Held

    @property
    def is_released(self) -> bool:
        """Whether a person has said so, and it is about to be done."""
        return self.entry.released == self.held.version


@dataclass
class Chosen:
    """The holds that a person's ids name, and the ids that name none or several."""

    found: list[Listed] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)


@dataclass
class Answered:
    """The holds to which an answer was written, and those to which it was not."""

    done: list[Listed] = field(default_factory=list)
    refused: list[tuple[Listed, str]] = field(default_factory=list)
    """With the reason."""


def listed(entries: Iterable[Entry]) -> list[Listed]:
    """The holds: those for a person first, then those that wait for Outlook; the oldest first."""
    held = [(entry, entry.held) for entry in entries if entry.held is not None]
    held.sort(key=lambda pair: (pair[1].is_waiting, pair[1].since, pair[0].event_id))
    count = Counter(entry.booking_id for entry, _ in held)
    return [
        Listed(booking if booking and count[booking] == 1 else entry.event_id, entry, why)
        for entry, why in held
        for booking in [entry.booking_id]
    ]


def choose(all_: Sequence[Listed], ids: Sequence[str]) -> Chosen:
    """The holds that *ids* name: ids of bookings or events, or characters at an end of one that fit no other."""
    chosen = Chosen()
    for text in dict.fromkeys(ids):
        named = [each for each in all_ if _is_named(each, text)] or [each for each in all_ if _is_meant(each, text)]
        if len(named) > 1:
            chosen.ambiguous.append(text)
        elif not named:
            chosen.missing.append(text)
        elif named[0] not in chosen.found:
            chosen.found += named
    return chosen


def _is_named(each: Listed, text: str) -> bool:
    return text == each.entry.event_id or text.lower() == each.entry.booking_id


def _is_meant(each: Listed, text: str) -> bool:
    booking, event = each.entry.booking_id or "", each.entry.event_id
    fits = booking.startswith(text.lower()) or event.startswith(text) or event.endswith(text)
    return fits and len(text) >= SHORTEST


@dataclass
class Holds:
    """Lists what is held, and takes a person's word on it. All methods raise Transient if storage cannot be reached."""

    ledger: Ledger
    queues: Queues
    now: Callable[[], datetime]
    progress: Callable[[int, int], None] = lambda done, of: None

    async def list(self) -> list[Listed]:
        """All holds, in the order in which they are shown."""
        return listed([entry async for entry in self.ledger.held(self.now())])

    async def release(self, chosen: Sequence[Listed]) -> Answered:
        """Have done what the events ask; refused where nothing can be done."""
        useful = [each for each in chosen if each.held.outcome]
        answered = Answered(refused=[(each, "nothing can be done") for each in chosen if not each.held.outcome])
        async for said in self._said(useful, release, answered):
            # After the word is in the ledger: of a release whose message is lost, the sweep makes another one.
            changes = [Change(each.entry.mailbox, each.entry.event_id) for each in said]
            await self.queues.send(OUTLOOK_CHANGES, [build_change_message(change) for change in changes])
        return answered

    async def discard(self, chosen: Sequence[Listed]) -> Answered:
        """Let the bookings be as they are."""
        answered = Answered()
        async for _ in self._said(chosen, discard, answered):
            pass
        return answered

    async def _said(self, chosen: Sequence[Listed], word: Word, answered: Answered) -> AsyncIterator[Sequence[Listed]]:
        """Page by page, those on which the *word* is in the ledger; what comes of all is added to *answered*."""
        for place in range(0, len(chosen), AT_ONCE):
            page = chosen[place : place + AT_ONCE]
            is_said = await asyncio.gather(*(self._is_said(each, word) for each in page))
            said = [each for each, is_so in zip(page, is_said, strict=True) if is_so]
            yield said
            answered.done += said
            answered.refused += [(each, "it changed meanwhile") for each in page if each not in said]
            self.progress(place + len(page), len(chosen))

    async def _is_said(self, each: Listed, word: Word) -> bool:
        """Write it, unless what is held is not what was listed any more."""
        entry = each.entry
        for _ in range(TRIES):
            if entry.held != each.held:
                return False
            try:
                await self.ledger.write(word(entry, each.held, self.now()))
            except Stale:
                entry = await self.ledger.read(entry.mailbox, entry.event_id)
            else:
                return True
        return False
