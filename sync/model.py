"""Our words as values: change, event, booking, span, subscription, and the actions a decision can ask for.

What the services call these things on the wire stays in graph.py, dataverse.py and notifications.py.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum


@dataclass(frozen=True)
class Span:
    """Start and end, aware, in UTC, at whole seconds."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: datetime, end: datetime) -> Span:
        """Round both to the nearest second: Graph sends seven digits, Dataverse stores none.

        Source: Dataverse, "Behavior and format of the date and time column", whose samples hold whole seconds.
        """
        return cls(_whole_seconds(start), _whole_seconds(end))

    @property
    def is_positive(self) -> bool:
        return self.end > self.start

    @property
    def minutes(self) -> int:
        """The duration column's unit."""
        return round((self.end - self.start) / timedelta(minutes=1))


def _whole_seconds(moment: datetime) -> datetime:
    return (moment + timedelta(microseconds=500_000)).replace(microsecond=0)


@dataclass(frozen=True)
class Origin:
    """Which notification or sweep a message comes from, for those who look at the app's work; decides nothing."""

    traceparent: str
    """Source: W3C, "Trace Context"."""
    at: float
    """When that was, in seconds since 1970."""


@dataclass(frozen=True)
class Change:
    """What the queue carries: where to look. ``deleted`` is a hint that decides nothing by itself."""

    mailbox: str
    """The Entra object id of the mailbox's user, in lower case."""
    event_id: str
    """Immutable and case-sensitive."""
    deleted: bool = False
    missing: bool = False
    """The event was looked for and not found, some time ago, though nobody had told of its deletion. A hint as well."""
    version: str | None = field(default=None, compare=False)
    """The event's etag when it was notified; a later one may have followed."""
    attempt: int = 0
    """How often the change was put back because a service could not be asked."""
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Batch:
    """The changes of one POST of Graph's, as they were acknowledged."""

    changes: tuple[Change, ...]
    origin: Origin | None = field(default=None, compare=False)
    unreadable: tuple[str, ...] = ()
    """Changes that are none, as another version of this app may have written them; JSON."""


@dataclass(frozen=True)
class LifecycleNotification:
    """A lifecycle notification about one of our subscriptions; ``event`` is Graph's word for what happened.

    A ``missed`` without subscription is our own: the mailbox is to be swept.
    """

    mailbox: str
    subscription_id: str | None
    event: str
    attempt: int = 0
    origin: Origin | None = field(default=None, compare=False)


# Exchange ids are base64 of either alphabet. Anything else is refused rather than escaped.
_EVENT_ID = (string.ascii_letters + string.digits + "+/_=-").encode()


def is_event_id(text: str) -> bool:
    """Whether *text* can be the id of an event at all."""
    return 1 <= len(text) <= 1024 and text.isascii() and not text.encode().translate(None, _EVENT_ID)


class EventType(Enum):
    SINGLE = "singleInstance"
    OCCURRENCE = "occurrence"
    EXCEPTION = "exception"
    SERIES_MASTER = "seriesMaster"


@dataclass(frozen=True)
class Event:
    """An Outlook event as it stands in the mailbox now."""

    id: str
    etag: str
    """Changes with every save."""
    span: Span
    type: EventType = EventType.SINGLE
    is_all_day: bool = False
    is_cancelled: bool = False
    has_extension: bool = False
    booking_id: str | None = None
    """The GUID in our extension, in lower case; None where there is no readable one."""
    created: datetime | None = None
    modified: datetime | None = None
    """Both by Exchange's clock, and to be compared with nothing but each other."""


@dataclass(frozen=True)
class Unreadable:
    """An event that is there, of which nothing but its id can be read."""

    id: str


@dataclass(frozen=True)
class Booking:
    """A row of bookableresourcebooking, with what the decision needs of its status, resource and user."""

    id: str
    etag: str
    span: Span
    event_id: str | None
    mailbox: str | None
    """The Entra object id of the resource's user, in lower case; None for a resource that is no user."""
    is_active: bool = True
    is_canceled: bool = False
    has_begun: bool = False
    """Traveling, In Progress, On Break or Completed: work that calendars do not change any more."""
    modified_by: str | None = None
    """The systemuser who wrote the row last."""

    @property
    def is_open(self) -> bool:
        """Whether its times may still be changed."""
        return self.is_active and not self.is_canceled and not self.has_begun


@dataclass(frozen=True)
class Ignore:
    """Nothing to do, and why."""

    reason: str


class SyncMode(StrEnum):
    """What becomes of a write that was decided on."""

    SYNC = "sync"
    OBSERVE = "observe"
    """It is noted in the ledger, and not sent."""


class ConflictPolicy(StrEnum):
    """Who wins where booking and event were moved apart."""

    DATAVERSE = "dataverse"
    OUTLOOK = "outlook"
    HOLD = "hold"


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


@dataclass(frozen=True, slots=True)
class Subscription:
    """One of the app registration's Graph subscriptions; there are as many of them in memory as there are mailboxes."""

    id: str
    resource: str
    change_types: frozenset[str]
    notification_url: str
    lifecycle_url: str | None
    expires: datetime
