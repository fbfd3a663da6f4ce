"""What a POST of Graph's tells: acknowledged as one message, then spread into one for each event that needs a run.

Graph times the answer, so between its POST and our 202 stands one call to storage and no more. What is known of the
events, and what waits for them already, is asked when the message comes back from the queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from sync import counters, telemetry
from sync.errors import Malformed, Transient
from sync.ledger import Kind, Notified, is_known, is_queued, settle_seconds, streak
from sync.model import Batch, Change
from sync.notifications import (
    CHANGES,
    LIFECYCLE,
    build_batch_messages,
    build_change_message,
    build_lifecycle_message,
    parse_notifications,
)
from sync.parking import Queues

log = logging.getLogger(__name__)

ACK_WITHIN = 2.0
"""Seconds to store what a POST holds; Graph waits three for its answer."""

LOOK_WITHIN, MARK_WITHIN = 5.0, 5.0
"""Seconds to ask what is known of the events, and to remember what was queued. What is not known by then is queued, and
what is not remembered costs a run more."""


class Marks(Protocol):
    """What is asked before a change is queued and left behind after it; neither raises, as not to know costs a run."""

    async def look(self, changes: Sequence[Change], within: float) -> Sequence[Notified]:
        """What is known of each one's event."""

    async def queued(self, change: Change, due: datetime, settle: int, streak: int) -> None:
        """Remember that a message about the event is on the queue, which nobody sees before *due*."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer in plain text; what was counted on the way, and of which mailboxes it was."""

    status: int
    body: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    notified: Set[str] = frozenset()


async def receive(body: bytes, keys: Sequence[str], queues: Queues) -> Reply:
    """Put what a POST of Graph's says on the queues: 202 when all of it is stored, 503 if Graph is to come again.

    Dropped items do not change the answer: an error would only make Graph repeat them, and tell a forger something.
    """
    try:
        received = parse_notifications(body, keys)
    except Malformed as error:
        log.warning("notifications refused reason=%r", str(error))
        return Reply(400, "not a collection of change notifications")
    for reason, count in sorted(received.dropped.items()):
        log.warning("notifications dropped count=%d reason=%r", count, reason)
    origin = telemetry.origin()
    lifecycle = [build_lifecycle_message(replace(item, origin=origin)) for item in received.lifecycle]
    try:
        await asyncio.gather(
            queues.send(CHANGES, build_batch_messages(received.changes, origin), within=ACK_WITHIN),
            queues.send(LIFECYCLE, lifecycle, within=ACK_WITHIN),
        )
    except Transient as error:
        log.error("notifications not queued reason=%r", str(error))
        return Reply(503, counts={counters.TURNED_AWAY: 1})
    log.info("notifications acknowledged changes=%d lifecycle=%d", len(received.changes), len(received.lifecycle))
    counts = {
        counters.RECEIVED: len(received.changes) + received.repeated,
        counters.DROPPED: received.dropped.total(),
        counters.REPEATED: received.repeated,
        counters.LIFECYCLE: len(received.lifecycle),
    }
    return Reply(202, counts=counts, notified={change.mailbox for change in received.changes})


async def spread(batch: Batch, queues: Queues, marks: Marks, settle: int) -> Mapping[str, int]:
    """Give each change of *batch* a message, hidden for *settle* seconds so that one run sees all of a burst.

    A change that is known, or that a message waits for already, needs none. Returns what was counted on the way.
    Raises: Transient if the queue cannot be reached; once more for the same batch costs runs, and nothing else.
    """
    known = await marks.look(batch.changes, LOOK_WITHIN)
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
    queueing = (_queue(queues, marks, [each for each in new if each.hidden == hidden], hidden) for hidden in waits)
    await asyncio.gather(*queueing)
    log.info("changes queued count=%d redundant=%d", len(new), len(batch.changes) - len(new))
    counts[counters.QUEUED] = len(new)
    return counts


@dataclass(frozen=True)
class _Queued:
    change: Change
    hidden: int
    streak: int


async def _queue(queues: Queues, marks: Marks, new: Sequence[_Queued], hidden: int) -> None:
    """The messages first: a mark that nobody follows would keep later ones from the queue."""
    dues = await queues.send(CHANGES, [build_change_message(each.change) for each in new], hidden)
    if hidden:
        marked = zip(new, dues, strict=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(MARK_WITHIN):
                await asyncio.gather(*(marks.queued(each.change, due, hidden, each.streak) for each, due in marked))
