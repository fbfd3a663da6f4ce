"""Measures how much is held, waiting and parked, for operators who look at Application Insights; decides nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from sync.errors import SyncError
from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, SWEEPS
from sync.pairs.entry import Entry
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)


class Backlogs(Protocol):
    """The queues, as far as their lengths go."""

    async def backlog(self, queue: str) -> tuple[int, datetime | None]:
        """How many messages *queue* holds, and since when the oldest can be seen. Raises: Transient."""


class Held(Protocol):
    """The ledger, as far as holds go."""

    def held(self, now: datetime) -> AsyncIterator[Entry]:
        """All entries that are held or waiting. Raises: Transient."""


async def tell_left(queues: Backlogs, ledger: Held, now: datetime) -> None:
    """Measure what is left for people, if it is told to anybody; trouble with storage is logged and no more."""
    if not telemetry.is_on():
        return
    try:
        for queue in (OUTLOOK_CHANGES, LIFECYCLE, SWEEPS):
            parked, _ = await queues.backlog(f"{queue}-poison")
            telemetry.measure(telemetry.POISON, parked, queue=queue)
        counts = {"held": 0, "waiting": 0}
        async for entry in ledger.held(now):
            counts["waiting" if entry.held is not None and entry.held.is_waiting else "held"] += 1
        telemetry.measure_each(telemetry.HELD, "state", counts)
    except SyncError as error:
        log.warning("what is left for people is not counted reason=%r", str(error))
