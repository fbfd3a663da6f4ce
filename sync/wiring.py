"""Builds the real thing once per process, lazily: settings, clients, the clock; one function for each trigger.

Imported by function_app.py before anything is known, so it imports nothing heavy itself: the validation handshake
needs nothing, an acknowledgement the queue client, and only what calls Graph imports its SDK.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

    from sync.calls.pauses import Door
    from sync.dataverse.bookings import DataverseBookings
    from sync.dataverse.transport import Transport
    from sync.graph.events import GraphEvents
    from sync.graph.transport import Transport as GraphTransport
    from sync.messages.changes import Batch, Change, LifecycleNotification
    from sync.pairs.actions import Action
    from sync.pairs.holds import Holds
    from sync.pairs.processing import Processor
    from sync.settings import AcknowledgeSettings, EnvironmentSettings, Settings, StorageSettings
    from sync.status.counting import Counting
    from sync.status.findings import Status
    from sync.storage.breaker import Breaker
    from sync.storage.counters import CounterTable
    from sync.storage.ledger import LedgerTable
    from sync.storage.queues import StorageQueues
    from sync.storage.roster import RosterTable
    from sync.storage.tables import StorageTable
    from sync.subscriptions.keeper import Keeper
    from sync.subscriptions.planning import Plan
    from sync.subscriptions.result import Result
    from sync.sweep.rounds import Rounds
    from sync.sweep.sweeper import Sweeper

log = logging.getLogger(__name__)

# Both write a line for each request, with its URL.
for _noisy in ("azure", "httpx", "httpcore", "urllib3"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)


class Answer(TypedDict):
    """The arguments of an HTTP response. What echoes a caller is plain text, and never taken for HTML."""

    body: str | bytes
    status_code: int
    mimetype: str
    headers: dict[str, str]


async def notifications(query: Mapping[str, str], body: bytes) -> Answer:
    """Answer a POST of Graph's: the validation handshake, told by its query parameter, or notifications.

    Source: Graph, "Receive change notifications through webhooks": the token comes back decoded, within ten seconds.
    """
    if "validationToken" in query:
        return _plain_text(200, query["validationToken"])

    from sync.errors import Misconfigured
    from sync.intake.acknowledging import receive

    try:
        settings, queues = _acknowledge_settings(), _queues()
    except Misconfigured as error:
        log.error("misconfigured: %s", error)
        return _plain_text(503, "")  # Graph comes again for four hours, time enough to set it
    with _telemetry().span("receive", "server") as told:
        reply = await receive(body, settings.keys, queues)
        told.answered(reply.status)
    _counting().count(reply.counts, reply.notified)
    return _plain_text(reply.status, reply.body)


def _plain_text(status: int, body: str) -> Answer:
    return Answer(body=body, status_code=status, mimetype="text/plain", headers={"X-Content-Type-Options": "nosniff"})


async def process_outlook_change(message: bytes) -> None:
    from sync.messages.codec import OUTLOOK_CHANGES, parse_origin
    from sync.messages.taking import SPREAD, process_outlook_change
    from sync.telemetry.counters import OUTCOME

    text, telemetry = _text(message), _telemetry()
    origin = parse_origin(text)
    with telemetry.span(f"process {OUTLOOK_CHANGES}", "consumer", origin) as told:
        outcome = await process_outlook_change(text, _process, _spread, _queues(), _let_in)
        told.set(outcome=outcome)
    if outcome != SPREAD:
        telemetry.aged(outcome, origin)
        _counting().count({OUTCOME + outcome: 1})


async def process_lifecycle(message: bytes) -> None:
    from sync.messages.codec import LIFECYCLE, parse_origin
    from sync.subscriptions.lifecycle import LifecycleTaker

    text = _text(message)
    with _telemetry().span(f"process {LIFECYCLE}", "consumer", parse_origin(text)):
        await LifecycleTaker(_follow, _queues()).take(text)


async def sweep_mailbox(message: bytes) -> None:
    from sync.messages.codec import SWEEPS, parse_origin
    from sync.sweep.taking import SweepTaker

    text = _text(message)
    with _telemetry().span(f"process {SWEEPS}", "consumer", parse_origin(text)):
        await SweepTaker(_sweep, _looks_after, _queues()).take(text)


async def renew_subscriptions() -> None:
    from sync.errors import SyncError

    with _telemetry().span("renew_subscriptions"):
        try:
            await (await _parts()).keeper.keep()
        except SyncError as error:
            await _counting().roster_failed(str(error))
            raise
        finally:
            await _tell_left()


async def sweep() -> None:
    with _telemetry().span("sweep"):
        await _counting().purge()
        await (await _parts()).rounds.ask_nightly()


async def status() -> Answer:
    """All that people are shown, as JSON."""
    from sync.status.page import PRIVATE, build_json

    return await _shown(
        lambda status: Answer(body=build_json(status), status_code=200, mimetype="application/json", headers=PRIVATE)
    )


async def status_page() -> Answer:
    from sync.status.page import build_page

    def answer(status: Status) -> Answer:
        body, headers = build_page(status)
        return Answer(body=body, status_code=200, mimetype="text/html", headers=headers)

    return await _shown(answer)


async def _shown(build: Callable[[Status], Answer]) -> Answer:
    """What is built in a thread, as thousands of mailboxes take long enough for an acknowledgement to notice."""
    from sync.errors import Misconfigured

    try:
        status = await read_status()
    except Misconfigured as error:
        log.error("misconfigured: %s", error)
        return _plain_text(503, "settings are missing or unreadable; the log names them")
    return await asyncio.to_thread(build, status)


async def read_status() -> Status:
    """From storage alone, with what this process has counted so far."""
    from sync.settings import ModeSettings, parse_settings
    from sync.status.reading import Overview
    from sync.storage.breaker import Breaker

    mode = parse_settings(ModeSettings, os.environ).sync_mode
    await _counting().flush()
    ceiling = 0  # nothing is asked to be canceled here
    breaker = Breaker(_table("ledger"), ceiling, ceiling)
    return await Overview(_counters(), _ledger(), breaker, _queues(), _now, mode).read()


async def parts() -> Parts:
    """What the operators' commands work with."""
    return await _parts()


def queues() -> StorageQueues:
    """What the commands for parked messages work with: storage, and none of the services."""
    return _queues()


def ledger() -> LedgerTable:
    """What is known of events: storage, and none of the services, as for the next two."""
    return _ledger()


def holds() -> Holds:
    from sync.pairs.holds import Holds

    return Holds(_ledger(), _queues(), _now)


def breaker() -> Breaker:
    """To be looked at and reset; whoever asked this one for a cancellation would not get it."""
    from sync.storage.breaker import Breaker

    return Breaker(_table("ledger"), per_mailbox=0, in_all=0)


def identity() -> AsyncTokenCredential:
    """Who is signed in, to read what only a person's command has to ask for; whoever takes it, closes it."""
    return _credential(is_loopback=False)


async def dataverse() -> Transport:
    """What a person customizes through, also while the app only observes: the environment, and no other service."""
    return _dataverse_of(asyncio.get_running_loop())


def environment() -> EnvironmentSettings:
    return _environment_settings()


async def close() -> None:
    """Close all clients; the next call builds new ones. For tests and commands, a Functions process never ends."""
    if _parts_of.cache_info().currsize:
        await (await _parts()).close()
    if _dataverse_of.cache_info().currsize:
        (await dataverse()).close()
    if _queues.cache_info().currsize:
        await _queues().close()
    if _table.cache_info().currsize:
        for name in ("ledger", "roster"):
            await _table(name).close()
    if _counting.cache_info().currsize:
        _counting().close()
    if _counters.cache_info().currsize:
        await _counters().close()
    if _exporting.cache_info().currsize:
        await asyncio.to_thread(_exporting())
    of_settings = (_settings, _environment_settings, _acknowledge_settings, _storage_settings)
    for built in (
        _parts_of,
        _dataverse_of,
        _queues,
        _ledger,
        _counting,
        _counters,
        _table,
        _exporting,
        *of_settings,
        _turn_to_spread,
    ):
        built.cache_clear()


@dataclass(frozen=True)
class LookedAt:
    """What `doctor` needs beside the handlers: what they are made of."""

    settings: Settings
    to_graph: GraphTransport
    events: GraphEvents
    bookings: DataverseBookings
    memory: RosterTable


@dataclass
class Parts:
    door: Door
    processor: Processor
    keeper: Keeper
    sweeper: Sweeper
    rounds: Rounds
    queues: StorageQueues
    looked_at: LookedAt
    closing: Sequence[Any]

    async def close(self) -> None:
        for closable in self.closing:
            done = closable.close()
            if done is not None:
                await done


async def _let_in(mailbox: str) -> None:
    await (await _parts()).door.let_in(mailbox)


async def _process(change: Change) -> Action:
    telemetry = _telemetry()
    telemetry.annotate(mailbox=change.mailbox, event=change.event_id, attempt=change.attempt)
    action = await (await _parts()).processor.process(change)
    telemetry.annotate(booking=getattr(action, "booking_id", None))
    return action


async def _spread(batch: Batch) -> None:
    from sync.intake.spreading import spread

    # The host hands over several at once, and side by side none would see what the others queue of the same event.
    async with _turn_to_spread(asyncio.get_running_loop()):
        counts = await spread(batch, _queues(), _ledger(), _acknowledge_settings().settle_seconds)
    _counting().count(counts)


@cache
def _turn_to_spread(_loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
    return asyncio.Lock()


async def _follow(notification: LifecycleNotification) -> None:
    _telemetry().annotate(mailbox=notification.mailbox, lifecycle=notification.event, attempt=notification.attempt)
    await (await _parts()).keeper.lifecycle.follow(notification)


async def _looks_after(mailbox: str) -> bool:
    _telemetry().annotate(mailbox=mailbox)
    return await (await _parts()).keeper.roster.looks_after(mailbox)


async def _sweep(mailbox: str) -> None:
    differences = await (await _parts()).sweeper.sweep_in_turn(mailbox)
    if differences is not None:
        _counting().swept(mailbox, len(differences))


async def _tell_left() -> None:
    """How much is held, waiting and parked, for those who look at the app's work, if there is somebody."""
    from sync.errors import SyncError
    from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, SWEEPS

    telemetry = _telemetry()
    if not telemetry.is_on():
        return
    try:
        for queue in (OUTLOOK_CHANGES, LIFECYCLE, SWEEPS):
            parked, _ = await _queues().backlog(f"{queue}-poison")
            telemetry.measure(telemetry.POISON, parked, queue=queue)
        counts = {"held": 0, "waiting": 0}
        async for entry in _ledger().held(_now()):
            counts["waiting" if entry.held is not None and entry.held.is_waiting else "held"] += 1
        telemetry.measure_each(telemetry.HELD, "state", counts)
    except SyncError as error:
        log.warning("what is left for people is not counted reason=%r", str(error))


def _telemetry() -> ModuleType:
    """Where the app's work is told, which leads nowhere unless there is a connection string."""
    from sync.telemetry import spans as telemetry

    if os.environ.get("APPLICATIONINSIGHTS_CONNECTION_STRING", "").strip():
        _exporting()
    return telemetry


@cache
def _exporting() -> Callable[[], None]:
    from sync.telemetry import export as exporting

    return exporting.start(os.environ["APPLICATIONINSIGHTS_CONNECTION_STRING"])


async def _parts() -> Parts:
    return _parts_of(asyncio.get_running_loop())


@cache
def _parts_of(_loop: asyncio.AbstractEventLoop) -> Parts:
    """Everything that talks to Graph and Dataverse. Its connections belong to one event loop."""
    from sync.calls.pauses import Door
    from sync.dataverse.bookings import DataverseBookings
    from sync.graph import events as graph_events
    from sync.graph import subscriptions as graph_subscriptions
    from sync.graph import transport as graph_transport
    from sync.model import SyncMode
    from sync.pairs.processing import Processor
    from sync.settings import is_loopback
    from sync.storage.breaker import Breaker
    from sync.storage.roster import TABLE, RosterTable
    from sync.subscriptions.deployment import Deployment
    from sync.subscriptions.keeper import Keeper
    from sync.subscriptions.standing import counts_after, standings_after
    from sync.sweep.rounds import Rounds
    from sync.sweep.sweeper import Sweeper
    from sync.telemetry import spans as telemetry
    from sync.telemetry.counters import GRAPH

    settings, queues = _settings(), _queues()
    counting = _counting()
    identity, spent = _credential(is_loopback(settings.graph_url)), partial(counting.spent, GRAPH)
    to_graph = graph_transport.Transport(settings.graph_url, identity, _now, spent)
    events = graph_events.GraphEvents(to_graph, settings.extension_name, settings.extension_property)
    to_dataverse = _to_dataverse(may_write=settings.sync_mode is not SyncMode.OBSERVE)
    bookings = DataverseBookings(to_dataverse, settings.event_id_column, settings.canceled_status_id)
    door = Door(to_graph.pauses, to_dataverse.pauses)
    memory = RosterTable(_table(TABLE))

    async def wanted() -> Sequence[str]:
        await door.wait_for_dataverse()  # a backlog of changes may leave it open for moments only
        mailboxes = await bookings.resources.mailboxes()
        return [mailbox for mailbox in mailboxes if not settings.mailboxes or mailbox in settings.mailboxes]

    deployment = Deployment.of(
        settings.notification_url.get_secret_value(),
        settings.keys[0],
        settings.dataverse_url,
        settings.event_id_column,
        previous_keys=settings.keys[1:],
    )
    subscriptions = graph_subscriptions.GraphSubscriptions(to_graph, deployment.url, settings.keys[0])
    sweeper = Sweeper(events, bookings, queues, _ledger(), _now)
    rounds = Rounds(wanted, bookings.resources, queues, _ledger(), memory, _now)

    async def note(plan: Plan, result: Result, lives_until: datetime) -> None:
        telemetry.measure_each(telemetry.SUBSCRIPTIONS, "state", counts_after(plan, result))
        await counting.roster_kept([*standings_after(plan, result, lives_until)])

    keeper = Keeper(wanted, subscriptions, deployment, memory, rounds, _now, note=note)
    looked_at = LookedAt(settings, to_graph, events, bookings, memory)
    breaker = Breaker(_table("ledger"), settings.cancellations_per_mailbox, settings.cancellations_in_all)
    policy, mode = settings.conflict_policy, settings.sync_mode
    processor = Processor(events, bookings, _ledger(), breaker, _now, policy, mode)
    return Parts(door, processor, keeper, sweeper, rounds, queues, looked_at, (to_graph, to_dataverse))


@cache
def _dataverse_of(_loop: asyncio.AbstractEventLoop) -> Transport:
    return _to_dataverse(may_write=True)


def _to_dataverse(may_write: bool) -> Transport:
    from sync.dataverse.transport import Transport
    from sync.settings import is_loopback
    from sync.telemetry.counters import DATAVERSE

    url = _environment_settings().dataverse_url
    return Transport(url, _credential(is_loopback(url)), _now, partial(_counting().spent, DATAVERSE), may_write)


@cache
def _ledger() -> LedgerTable:
    from sync.storage.ledger import LedgerTable

    return LedgerTable(_table("ledger"))


@cache
def _counting() -> Counting:
    from sync.status.counting import Counting

    return Counting(_counters, _now)


@cache
def _counters() -> CounterTable:
    from sync.storage.counters import TABLE, CounterTable

    return CounterTable(_table(TABLE))


@cache
def _table(name: str) -> StorageTable:
    from sync.storage.tables import StorageTable

    settings = _storage_settings()
    if settings.storage:
        return StorageTable.of_connection_string(settings.storage, name)
    url = settings.storage_table_url or f"https://{settings.storage_account}.table.core.windows.net"
    if settings.storage_queue_url and not (settings.storage_table_url or settings.storage_account):
        url = settings.storage_queue_url.replace(".queue.", ".table.")
    return StorageTable.of_identity(url, _credential(False, settings.storage_client_id), name)


@cache
def _queues() -> StorageQueues:
    from sync.errors import Misconfigured
    from sync.storage.queues import StorageQueues

    settings = _storage_settings()
    url = settings.storage_queue_url or f"https://{settings.storage_account}.queue.core.windows.net"
    try:
        if settings.storage:
            return StorageQueues.of_connection_string(settings.storage)
        return StorageQueues.of_identity(url, _credential(False, settings.storage_client_id))
    except ValueError:  # the storage client's way to refuse what it is made of
        raise Misconfigured("AzureWebJobsStorage is no connection string, or names no account") from None


@cache
def _settings() -> Settings:
    from sync.settings import Settings, parse_settings

    return parse_settings(Settings, os.environ)


@cache
def _environment_settings() -> EnvironmentSettings:
    from sync.settings import EnvironmentSettings, parse_settings

    return parse_settings(EnvironmentSettings, os.environ)


@cache
def _acknowledge_settings() -> AcknowledgeSettings:
    from sync.settings import AcknowledgeSettings, parse_settings

    return parse_settings(AcknowledgeSettings, os.environ)


@cache
def _storage_settings() -> StorageSettings:
    from sync.settings import StorageSettings, parse_settings

    return parse_settings(StorageSettings, os.environ)


def _credential(is_loopback: bool, client_id: str | None = None) -> AsyncTokenCredential:
    from sync.calls.credentials import app_credential

    return app_credential(is_loopback, client_id)


def _text(message: bytes) -> str:
    return message.decode("utf-8", "replace")


def _now() -> datetime:
    return datetime.now(UTC)
