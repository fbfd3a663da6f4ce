"""The whole app against the simulated services, in one process and without a host: a test runs its timers and queues.

HTTP, clients and webhook are real; the queues are in memory, so that messages are hidden by the simulated clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from sandbox.clock import Clock
from sandbox.dataverse.tables import Row
from sandbox.graph.mailboxes import Event
from sandbox.graph.subscriptions import Subscription
from sandbox.server import Sandbox
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY, Technician
from sync.calls.credentials import LoopbackCredential
from sync.calls.pace import Pace
from sync.calls.pauses import Door
from sync.dataverse import bookings as dataverse_bookings
from sync.dataverse import transport as dataverse_transport
from sync.errors import Transient
from sync.graph import events as graph_events
from sync.graph import subscriptions as graph_subscriptions
from sync.graph import transport as graph_transport
from sync.intake.spreading import spread
from sync.messages.changes import Batch
from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, SWEEPS
from sync.model import SyncMode
from sync.pairs.processing import Processor
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.keeper import Keeper
from sync.subscriptions.lifecycle import LifecycleTaker
from sync.sweep.rounds import Rounds
from sync.sweep.sweeper import Sweeper
from sync.sweep.taking import SweepTaker
from tests.world.fakes import BreakerInMemory, LedgerInMemory, MemoryInMemory
from tests.world.taking import posted, take

START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
KEY, NEW_KEY = "k" * 40, "n" * 40
COLUMN = "contoso_outlookeventid"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def whole_second(moment: datetime) -> datetime:
    """As storage tells its own time."""
    return moment.replace(microsecond=0)


@dataclass
class Message:
    queue: str
    text: str
    visible_at: datetime


class Inbox:
    """The queues. Parked messages stay in theirs."""

    def __init__(self, clock: Clock) -> None:
        self.messages: list[Message] = []
        self.sent = 0
        self.refuses = False
        self._refuses_at: int | None = None
        self._clock = clock

    def refuses_after(self, messages: int) -> None:
        """Refuse once, when so many *messages* were stored from now on."""
        self._refuses_at = self.sent + messages

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        if self.sent == self._refuses_at:
            self._refuses_at = None
            raise Transient("the queue refuses")
        if self.refuses:
            raise Transient("the queue refuses")
        visible_at = self._clock.now() + timedelta(seconds=hidden)
        self.messages += [Message(queue, text, visible_at) for text in messages]
        self.sent += len(messages)
        return [whole_second(visible_at)] * len(messages)

    def of(self, queue: str) -> list[str]:
        return [message.text for message in self.messages if message.queue == queue]

    @property
    def parked(self) -> list[str]:
        return [text for queue in (OUTLOOK_CHANGES, LIFECYCLE, SWEEPS) for text in self.of(f"{queue}-poison")]

    def take(self) -> list[Message]:
        """What is to be seen now, taken out."""
        now = self._clock.now()
        due = [each for each in self.messages if each.visible_at <= now and not each.queue.endswith("-poison")]
        self.messages = [each for each in self.messages if each not in due]
        return due


class App:
    """Deployed by ``install``; what it keeps in memory is gone when that is done again."""

    def __init__(self, sandbox: Sandbox, webhook: str) -> None:
        self.sandbox = sandbox
        self.webhook = webhook
        self.settle = 0
        """Seconds for which a change waits for more of the same; tests have no time, unless they are about that."""
        self.is_up = True
        """Down, it answers nothing with success."""
        self.mode = SyncMode.SYNC
        """Of the next ``install``."""
        self.inbox = Inbox(sandbox.clock)
        self.memory = MemoryInMemory()
        self.ledger = LedgerInMemory(now=lambda: whole_second(sandbox.clock.now()))
        self.refused = 0
        """Notifications whose clientState was not ours."""
        self.to_graph = graph_transport.Transport(sandbox.graph_url, LoopbackCredential(), sandbox.clock.now)
        self.to_dataverse = dataverse_transport.Transport(
            sandbox.dataverse_url, LoopbackCredential(), sandbox.clock.now
        )
        self.install(KEY)

    def install(self, *keys: str, code: str = "functionkey") -> None:
        """As after a restart with these settings; *keys* are the valid clientState keys, the current one first."""
        self.keys, now = keys, self.sandbox.clock.now
        self.deployment = Deployment.of(
            f"{self.webhook}?code={code}", keys[0], self.sandbox.dataverse_url, COLUMN, previous_keys=keys[1:]
        )
        events = graph_events.GraphEvents(self.to_graph, EXTENSION_NAME, EXTENSION_PROPERTY)
        bookings = dataverse_bookings.DataverseBookings(self.to_dataverse, COLUMN)
        self.door = Door(self.to_graph.pauses, self.to_dataverse.pauses)
        subscriptions = graph_subscriptions.GraphSubscriptions(self.to_graph, self.deployment.url, keys[0])
        self.processor = Processor(events, bookings, self.ledger, BreakerInMemory(), now, mode=self.mode)
        self.sweeper = Sweeper(events, bookings, self.inbox, self.ledger, now)
        self.rounds = Rounds(
            bookings.resources.mailboxes, bookings.resources, self.inbox, self.ledger, self.memory, now
        )
        self.keeper = Keeper(
            bookings.resources.mailboxes,
            subscriptions,
            self.deployment,
            self.memory,
            self.rounds,
            now,
            make_pace=lambda: Pace(patience=lambda failures: 0.0),
        )
        self.sweeps = SweepTaker(self.sweeper.sweep_in_turn, self.keeper.roster.looks_after, self.inbox)

    def second_process(self) -> Keeper:
        """The same app in another instance."""
        first = self.keeper
        self.install(*self.keys)
        second, self.keeper = self.keeper, first
        return second

    async def answer(self, request: web.Request) -> web.Response:
        if not self.is_up:
            return web.Response(status=503)
        if "validationToken" in request.query:
            return web.Response(text=request.query["validationToken"])
        reply = await posted(await request.read(), self.keys, self.inbox)
        return web.Response(status=reply.status)

    async def spread(self, batch: Batch) -> None:
        await spread(batch, self.inbox, self.ledger, self.settle)

    async def work(self, delivered: bool = True) -> None:
        """Deliver all notifications and process all messages that are to be seen, and what follows from them."""
        while True:
            if delivered:
                await self.sandbox.delivery.settle()
            due = self.inbox.take()
            if not due:
                return
            for message in due:
                if message.queue == OUTLOOK_CHANGES:
                    await take(message.text, self.processor.process, self.spread, self.inbox)
                elif message.queue == SWEEPS:
                    await self.sweeps.take(message.text)
                else:
                    await LifecycleTaker(self.keeper.lifecycle.follow, self.inbox).take(message.text)

    # What a test looks at.

    def held(self, technician: Technician) -> list[Subscription]:
        """The technician's living subscriptions that are ours, and as they would be made now."""
        found = self.sandbox.subscriptions.of(technician.mailbox)
        return [each for each in found if self.is_right(each)]

    def is_right(self, subscription: Subscription) -> bool:
        return (
            subscription.notification_url == subscription.lifecycle_notification_url == self.deployment.url
            and subscription.change_types == {"created", "updated", "deleted"}
            and subscription.immutable_ids
        )

    def writes(self) -> list[str]:
        """To subscriptions, since the calls were last cleared, as ``POST 201``."""
        return [
            f"{call.method} {call.status}"
            for call in self.sandbox.calls
            if call.service == "graph" and call.is_write and "/subscriptions" in call.path
        ]


def is_in_step(sandbox: Sandbox, booking: Row, event: Event) -> bool:
    """Told from the world: the booking has its event's times and id, or is canceled without, as the event is gone."""
    if event.calendar is None:
        return is_canceled(sandbox, booking) and booking[COLUMN] is None
    times = (booking["starttime"], booking["endtime"]) == (event.start, event.end)
    return times and booking[COLUMN] == event.immutable_id and not is_canceled(sandbox, booking)


def is_canceled(sandbox: Sandbox, booking: Row) -> bool:
    return bool(booking["_bookingstatus_value"] == sandbox.tables.status("Canceled").id)


@asynccontextmanager
async def an_app(seed: int = 7, clock: Clock | None = None) -> AsyncIterator[App]:
    """The clock stands still unless one is given that does not; a notification waits for nothing."""
    async with Sandbox(seed, clock=clock or Clock(stopped_at=START), time_scale=0.0) as sandbox:
        server = web.Application()
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=1)
        holder: list[App] = []

        async def answer(request: web.Request) -> web.Response:
            return await holder[0].answer(request)

        server.router.add_post("/api/notifications", answer)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        app = App(sandbox, f"http://127.0.0.1:{runner.addresses[0][1]}/api/notifications")
        holder.append(app)
        try:
            yield app
        finally:
            await sandbox.delivery.settle()
            await app.to_graph.close()
            app.to_dataverse.close()
            await runner.cleanup()
