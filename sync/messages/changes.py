"""What the queues carry, as values: a change, a batch of changes, a lifecycle notification."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sync.telemetry.spans import Origin


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


@dataclass
class Received:
    """What one POST held: the good items, repeated ones collapsed, and how many were dropped for which reason."""

    changes: list[Change] = field(default_factory=list)
    lifecycle: list[LifecycleNotification] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
