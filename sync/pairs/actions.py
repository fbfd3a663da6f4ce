"""What a decision can ask for: a write to one side, a hold, a second look, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sync.model import Span


@dataclass(frozen=True)
class Ignore:
    """Nothing to do, and why."""

    reason: str


@dataclass(frozen=True)
class Leave:
    """Out of step, and Outlook is to follow: the booking is as Dynamics wants it."""

    reason: str
    booking_id: str
    is_conflict: bool = False
    """Whether the event was changed as well, which is given up."""
    write: Write | None = None
    """What is done if a person says that the event is right."""


@dataclass(frozen=True)
class Postpone:
    """Not to be believed before a second look, some time from now."""

    reason: str
    booking_id: str | None = None


@dataclass(frozen=True)
class Hold:
    """Out of step, but not for a program to settle; ``reason`` tells a person."""

    reason: str
    booking_id: str | None = None
    write: Write | None = None
    """What is done if a person says so; None where nothing can be."""
    is_conflict: bool = False
    """Whether both sides were changed; see ``Leave``."""


@dataclass(frozen=True)
class LinkBooking:
    booking_id: str
    etag: str
    event_id: str


@dataclass(frozen=True)
class UnlinkBooking:
    booking_id: str
    etag: str
    reason: str


@dataclass(frozen=True)
class CancelBooking:
    booking_id: str
    etag: str
    unlink: bool
    """Whether the row holds an event id to be cleared by the same write."""


@dataclass(frozen=True)
class MoveBooking:
    booking_id: str
    etag: str
    span: Span
    event_id: str | None = None
    """Set where the same write links the booking as well."""


Write = LinkBooking | UnlinkBooking | CancelBooking | MoveBooking


@dataclass(frozen=True)
class Observed:
    """A write that was decided on, and not sent, because the app only observes."""

    write: Write

    @property
    def booking_id(self) -> str:
        return self.write.booking_id

    @property
    def reason(self) -> str:
        return f"not written: {type(self.write).__name__}"


Action = Ignore | Leave | Postpone | Hold | Observed | Write
