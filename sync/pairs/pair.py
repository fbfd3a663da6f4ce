"""A pair as it was looked at for one decision: an event, and the booking that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

from sync.model import Booking, Event
from sync.pairs.entry import GONE


@dataclass(frozen=True)
class Look:
    """Both sides as they were seen for one decision."""

    event: Event | None
    booking: Booking | None

    @property
    def version(self) -> str:
        return self.event.etag if self.event is not None else GONE
