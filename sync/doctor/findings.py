"""What a check of the doctor says: the finding, its state, and what checks are given to look with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sync.dataverse.bookings import DataverseBookings
from sync.dataverse.definitions import Definitions
from sync.graph.events import GraphEvents
from sync.graph.transport import Transport
from sync.settings import Settings
from sync.storage.queues import StorageQueues
from sync.storage.roster import RosterTable
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.planning import Plan


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    state: State
    seen: str
    cure: str | None = None
    """None is the check's own."""


@dataclass(frozen=True)
class Instruments:
    """What there is to look with: the app's own clients."""

    settings: Settings
    deployment: Deployment
    to_graph: Transport
    events: GraphEvents
    plan: Callable[[], Awaitable[Plan]]
    """What the app would do now to its subscriptions."""
    bookings: DataverseBookings
    definitions: Definitions
    queues: StorageQueues
    memory: RosterTable
    now: Callable[[], datetime]
    outside: str | None = None
    """A mailbox that the app must not be able to read."""


def ok(seen: str) -> Finding:
    return Finding(State.OK, seen)


def warning(seen: str, cure: str | None = None) -> Finding:
    return Finding(State.WARNING, seen, cure)


def failed(seen: str, cure: str | None = None) -> Finding:
    return Finding(State.FAILED, seen, cure)


def skipped(seen: str) -> Finding:
    return Finding(State.SKIPPED, seen)
