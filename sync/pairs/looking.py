"""Reads both sides of a pair, in the order that keeps old states from being written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sync.model import Booking, Event
from sync.pairs.actions import Write


class Events(Protocol):
    async def read(self, mailbox: str, event_id: str) -> Event | None:
        """Raises: MailboxUnavailable, Withdrawn, InvalidId, Transient, Refused."""

    async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
        """Say whether *event* (None if it cannot be read) stands in one of the mailbox's calendars.

        Raises: Stale if it changed while it was looked for.
        """


class Bookings(Protocol):
    async def read(self, booking_id: str) -> Booking | None: ...

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        """The bookings that hold exactly *event_id*."""

    async def is_own(self, booking: Booking) -> bool:
        """Whether it was this app that wrote it last. Raises: Transient, Refused."""

    async def write(self, action: Write) -> str:
        """The row's new etag, empty if nobody can tell.

        Raises: Stale if the row changed since it was read, Transient, Refused.
        """
