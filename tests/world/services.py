"""The app's real clients against the simulated services, over HTTP, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sandbox.clock import Clock
from sandbox.dataverse.tables import Row
from sandbox.graph.mailboxes import Event
from sandbox.server import Sandbox
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY, Technician
from sync.calls.credentials import LoopbackCredential
from sync.dataverse import bookings as dataverse_bookings
from sync.dataverse import transport as dataverse_transport
from sync.graph import events as graph_events
from sync.graph import subscriptions as graph_subscriptions
from sync.graph import transport as graph_transport
from sync.messages.changes import Change
from sync.pairs.actions import Action
from sync.pairs.processing import Processor
from tests.world.fakes import BreakerInMemory, LedgerInMemory, evidence_of

MORNING = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
NINE, TEN = MORNING.replace(hour=9), MORNING.replace(hour=10)
HOUR = timedelta(hours=1)
KEY = "k" * 40
NOTIFICATION_URL = "http://127.0.0.1:9/api/notifications"
"""Nobody answers there; tests of subscriptions that are notified have a host of their own."""


@dataclass
class World:
    """A technician with one booking and its event, and the app between them."""

    sandbox: Sandbox
    events: graph_events.GraphEvents
    bookings: dataverse_bookings.DataverseBookings
    subscriptions: graph_subscriptions.GraphSubscriptions
    technician: Technician
    booking: Row
    event: Event
    ledger: LedgerInMemory = field(default_factory=LedgerInMemory)

    @property
    def mailbox(self) -> str:
        return self.technician.mailbox.id

    async def process(self, event: Event, deleted: bool = False) -> Action:
        processor = Processor(self.events, self.bookings, self.ledger, BreakerInMemory(), self.sandbox.clock.now)
        return await processor.process(Change(self.mailbox, event.immutable_id, evidence_of(deleted)))

    async def counted(self, event: Event, deleted: bool = False) -> tuple[int, int, int]:
        """Graph's calls, Dataverse's reads and Dataverse's writes that processing *event* takes."""
        calls = self.sandbox.calls
        calls.clear()
        await self.process(event, deleted)
        assert calls.writes("graph") == 0
        return calls.reads("graph"), calls.reads("dataverse"), calls.writes("dataverse")

    async def link(self) -> None:
        await self.process(self.event)


@asynccontextmanager
async def a_world(
    notification_url: str = "http://127.0.0.1:9/api/notifications", **options: bool
) -> AsyncIterator[World]:
    async with Sandbox(seed=7, clock=Clock(stopped_at=MORNING), **options) as sandbox:  # type: ignore[arg-type]
        to_graph = graph_transport.Transport(sandbox.graph_url, LoopbackCredential(), sandbox.clock.now)
        to_dataverse = dataverse_transport.Transport(sandbox.dataverse_url, LoopbackCredential(), sandbox.clock.now)
        technician = sandbox.people.hire("Ana")
        booking, event = sandbox.people.dispatcher.book(technician, NINE, TEN)
        yield World(
            sandbox,
            graph_events.GraphEvents(to_graph, EXTENSION_NAME, EXTENSION_PROPERTY),
            dataverse_bookings.DataverseBookings(to_dataverse, "contoso_outlookeventid"),
            graph_subscriptions.GraphSubscriptions(to_graph, NOTIFICATION_URL, KEY),
            technician,
            booking,
            event,
        )
        await to_graph.close()
        to_dataverse.close()
