"""Our words as values: change, event, booking, span, subscription, and the actions a decision can ask for.

The names of these things on the wire stay in ``graph/`` and ``dataverse/``.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        """Whether it ends after it starts."""
        return self.end > self.start

    @property
    def minutes(self) -> int:
        """The duration column's unit."""
        return round((self.end - self.start) / timedelta(minutes=1))


def _whole_seconds(moment: datetime) -> datetime:
    return (moment + timedelta(microseconds=500_000)).replace(microsecond=0)


class EventType(Enum):
    """Graph's types of events."""

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


class SyncMode(StrEnum):
    """The fate of a write that was decided on."""

    SYNC = "sync"
    OBSERVE = "observe"
    """It is noted in the ledger, and not sent."""


class ConflictPolicy(StrEnum):
    """The side that wins if booking and event were moved apart."""

    DATAVERSE = "dataverse"
    OUTLOOK = "outlook"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One of the app registration's Graph subscriptions; there are as many of them in memory as there are mailboxes."""

    id: str
    resource: str
    change_types: frozenset[str]
    notification_url: str
    lifecycle_url: str | None
    expires: datetime


@dataclass(frozen=True)
class Tripped:
    """Nothing is canceled in *scope*, a mailbox or ``all``, until a person says so."""

    scope: str
    at: datetime
    count: int
