"""Puts the content of one POST on the queues as one message, and answers. No POST is parsed here, no event looked up.

Graph times the answer, so between its POST and the app's 202 stands one call to storage and no more. The ledger is
asked what it knows of the events when the message comes back from the queue: see spreading.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from sync.errors import Transient
from sync.messages.changes import Received
from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, build_batch_messages, build_lifecycle_message
from sync.messages.parking import Queues
from sync.telemetry import counters
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

ACK_WITHIN = 2.0
"""Seconds to store what a POST holds; Graph waits three for its answer."""


@dataclass(frozen=True)
class Reply:
    """The status of the HTTP answer; what was counted on the way, and of which mailboxes it was."""

    status: int
    counts: Mapping[str, int] = field(default_factory=dict)
    notified: Set[str] = frozenset()


async def acknowledge(received: Received, queues: Queues) -> Reply:
    """Put what one POST held on the queues: 202 when all of it is stored, 503 if the sender is to come again.

    Dropped items do not change the answer: an error would only make the sender repeat them, and tell a forger.
    """
    for reason, count in sorted(received.dropped.items()):
        log.warning("notifications dropped count=%d reason=%r", count, reason)
    origin = telemetry.origin()
    lifecycle = [build_lifecycle_message(replace(item, origin=origin)) for item in received.lifecycle]
    try:
        await asyncio.gather(
            queues.send(OUTLOOK_CHANGES, build_batch_messages(received.changes, origin), within=ACK_WITHIN),
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
