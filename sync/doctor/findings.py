"""Values of the doctor: a finding, its state, and the instruments that checks look with. No check lives here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sync.dataverse.bookings import DataverseBookings
from sync.dataverse.definitions import Definitions
from sync.graph.events import GraphEvents
from sync.graph.transport import Transport
from sync.settings.parts import Settings
from sync.storage.owner import Ownership
from sync.storage.queues import StorageQueues
from sync.storage.roster import RosterTable
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.planning import Plan


class State(StrEnum):
    """How a check ended. A warning changes no exit status."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result of a look: its state, the observation in words, and a cure if it is not the check's own."""

    state: State
    seen: str
    cure: str | None = None
    """Shown in the place of the check's own cure, which stands for None."""


@dataclass(frozen=True)
class Instruments:
    """The app's own clients, which the checks look with."""

    settings: Settings
    deployment: Deployment
    to_graph: Transport
    events: GraphEvents
    plan: Callable[[], Awaitable[Plan]]
    """Returns what the app would do to its subscriptions now."""
    bookings: DataverseBookings
    definitions: Definitions
    queues: StorageQueues
    memory: RosterTable
    ownership: Ownership
    now: Callable[[], datetime]
    outside: str | None = None
    """A mailbox that the app must not be able to read."""


def ok(seen: str) -> Finding:
    """Say that all is well."""
    return Finding(State.OK, seen)


def warning(seen: str, cure: str | None = None) -> Finding:
    """Say that a person is to look, though the app works."""
    return Finding(State.WARNING, seen, cure)


def failed(seen: str, cure: str | None = None) -> Finding:
    """Say that the app cannot work like this."""
    return Finding(State.FAILED, seen, cure)


def skipped(seen: str) -> Finding:
    """Say that nothing was looked at, and why."""
    return Finding(State.SKIPPED, seen)
