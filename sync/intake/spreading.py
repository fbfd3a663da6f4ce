"""A batch of notified changes → one message for each event that needs a run."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sync.intake.coalescing import Notified, is_known, is_queued, settle_seconds, streak
from sync.messages.changes import Batch, Change
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message
from sync.messages.parking import Queues
from sync.pairs.entry import Kind
from sync.telemetry import counters
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

LOOK_WITHIN = 5.0
"""Seconds to ask what is known of the events. Fewer cost runs that were not needed; more hold up the batch."""

NOTE_WITHIN = 5.0
"""Seconds to write the queued notes. Fewer cost runs that were not needed; more hold up the batch."""


class Notes(Protocol):
    """The ledger, as far as notifications are compared with it. A method that fails tells nothing: it costs a run."""

    async def look(self, changes: Sequence[Change], within: float) -> Sequence[Notified]:
        """The knowledge of each one's event."""

    async def queued(self, change: Change, due: datetime, settle: int, streak: int) -> None:
        """Note that a message about the event is on the queue, hidden until *due*."""


async def spread(batch: Batch, queues: Queues, notes: Notes, settle: int) -> Mapping[str, int]:
    """Give each change of *batch* a message, hidden for *settle* seconds so that one run sees all of a burst.

    A change that is known, or that a message waits for already, needs none. Returns what was counted on the way.
    Raises: Transient if the queue cannot be reached; once more for the same batch costs runs, and nothing else.
    """
    known = await notes.look(batch.changes, LOOK_WITHIN)
    counts: Counter[str] = Counter()
    origin = telemetry.origin(batch.origin)
    new = []
    for change, about in zip(batch.changes, known, strict=True):
        if is_known(change, about):
            counts.update({counters.KNOWN: 1, **counters.avoided(about.kind is not Kind.NOT_OURS)})
            telemetry.event("redundant", mailbox=change.mailbox, event=change.event_id, reason="known")
        elif settle and is_queued(change, about):
            counts.update({counters.WAITED_FOR: 1, **counters.avoided(about.kind is Kind.PAIR)})
            telemetry.event("redundant", mailbox=change.mailbox, event=change.event_id, reason="waited for")
        else:
            new.append(_Queued(replace(change, origin=origin), settle_seconds(change, about, settle), streak(about)))
    waits = {each.hidden for each in new}
    queueing = (_queue(queues, notes, [each for each in new if each.hidden == hidden], hidden) for hidden in waits)
    await asyncio.gather(*queueing)
    log.info("changes queued count=%d redundant=%d", len(new), len(batch.changes) - len(new))
    counts[counters.QUEUED] = len(new)
    return counts


@dataclass(frozen=True)
class _Queued:
    change: Change
    hidden: int
    streak: int


async def _queue(queues: Queues, notes: Notes, new: Sequence[_Queued], hidden: int) -> None:
    """The messages first: a note without a message would keep later changes from the queue."""
    dues = await queues.send(OUTLOOK_CHANGES, [build_change_message(each.change) for each in new], hidden)
    if hidden:
        noted = zip(new, dues, strict=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTE_WITHIN):
                await asyncio.gather(*(notes.queued(each.change, due, hidden, each.streak) for each, due in noted))
