"""The values that the queues carry: a change, a batch of changes, a lifecycle notification, a sweep request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

from sync.telemetry.origin import Origin


class Evidence(IntEnum):
    """How sure it is that the event of a change is gone. It decides nothing while the event is there."""

    NONE = 0
    """Graph notified of a creation or an update."""
    MISSED = 1
    """The event was looked for some time ago, and it was not there, or it is not in a sweep's list."""
    MISSED_IN_GAP = 2
    """It is not in a sweep's list, and a notification of its deletion may have been lost."""
    TOLD = 3
    """Graph notified of the deletion."""


@dataclass(frozen=True)
class Change:
    """One event to look at. The state of the event and of its booking is read, not told."""

    mailbox: str
    """The Entra object id of the mailbox's user, in lower case."""
    event_id: str
    """Immutable and case-sensitive."""
    evidence: Evidence = Evidence.NONE
    version: str | None = field(default=None, compare=False)
    """The event's etag when it was notified; a later one may have followed."""
    attempt: int = 0
    """How often the change was put back because a service could not be asked."""
    origin: Origin | None = field(default=None, compare=False)
    is_second_look: bool = False
    """Whether it was looked at some time ago, and nothing was decided then."""

    @property
    def is_deletion(self) -> bool:
        """Whether Graph notified of the event's deletion."""
        return self.evidence is Evidence.TOLD


@dataclass(frozen=True)
class Batch:
    """The changes of one POST of Graph's, as they were acknowledged."""

    changes: tuple[Change, ...]
    origin: Origin | None = field(default=None, compare=False)
    unreadable: tuple[str, ...] = ()
    """Changes that are none, as another version of this app may have written them; JSON."""


@dataclass(frozen=True)
class LifecycleNotification:
    """A lifecycle notification about one of our subscriptions; ``event`` is Graph's word for what happened."""

    mailbox: str
    """The Entra object id of the mailbox's user, in lower case."""
    subscription_id: str
    event: str
    attempt: int = 0
    """How often it was put back because a service could not be asked."""
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SweepRequest:
    """Asks that the events and the bookings of one mailbox be compared."""

    mailbox: str
    """The Entra object id of the mailbox's user, in lower case."""
    attempt: int = 0
    """How often it was put back because a service could not be asked."""
    origin: Origin | None = field(default=None, compare=False)
    after_gap: bool = False
    """Whether notifications of the mailbox may have been lost."""


@dataclass
class Received:
    """The content of one POST: the good items, repeated ones collapsed, and how many were dropped for which reason."""

    changes: list[Change] = field(default_factory=list)
    lifecycle: list[LifecycleNotification] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
