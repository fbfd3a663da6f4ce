"""Builds what talks to the outside: settings, the storage account, Graph and Dataverse. No rule stands here.

The file is imported before anything is known, so it imports nothing heavy at the top: the validation handshake needs
nothing, an acknowledgement the queue client, and only calls of Graph its SDK.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

    from sync.calls.pauses import Door
    from sync.dataverse.bookings import DataverseBookings
    from sync.dataverse.transport import Transport
    from sync.graph.events import GraphEvents
    from sync.graph.transport import Transport as GraphTransport
    from sync.pairs.holds import Holds
    from sync.settings.parts import AcknowledgeSettings, EnvironmentSettings, Settings
    from sync.status.counting import Counting
    from sync.storage.account import Account
    from sync.storage.breaker import Breaker
    from sync.storage.counters import CounterTable
    from sync.storage.ledger import LedgerTable
    from sync.storage.owner import Ownership
    from sync.storage.queues import StorageQueues
    from sync.storage.roster import RosterTable
    from sync.storage.tables import StorageTable

log = logging.getLogger(__name__)

# These write a line for each request, with its URL.
for _noisy in ("azure", "httpx", "httpcore", "urllib3"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)


def utc_now() -> datetime:
    """The moment, aware, in UTC."""
    return datetime.now(UTC)


class Clients:
    """Settings, storage and both services, each built when it is asked for first, from *environment* and a clock.

    Connections belong to the event loop on which it is used first. A part raises Misconfigured when it is asked
    for, if a setting that it needs is missing or unreadable. A test hands in a part by setting the attribute.
    """

    def __init__(self, environment: Mapping[str, str], now: Callable[[], datetime] = utc_now) -> None:
        self.environment = environment
        self.now = now
        self._closing = AsyncExitStack()

    async def close(self) -> None:
        """Close all clients that were built. The app is of no use afterwards."""
        await self._closing.aclose()

    # --- settings ---

    @cached_property
    def settings(self) -> Settings:
        """All of them."""
        from sync.settings.parts import Settings, parse_settings, retired

        for line in retired(self.environment):
            log.warning(line)
        return parse_settings(Settings, self.environment)

    @cached_property
    def environment_settings(self) -> EnvironmentSettings:
        """The Dataverse environment and the column."""
        from sync.settings.parts import EnvironmentSettings, parse_settings

        return parse_settings(EnvironmentSettings, self.environment)

    @cached_property
    def acknowledge_settings(self) -> AcknowledgeSettings:
        """The settings of an acknowledgement."""
        from sync.settings.parts import AcknowledgeSettings, parse_settings

        return parse_settings(AcknowledgeSettings, self.environment)

    # --- storage ---

    @cached_property
    def account(self) -> Account:
        """The storage account."""
        from sync.settings.parts import StorageSettings, parse_settings
        from sync.storage.account import Account

        settings = parse_settings(StorageSettings, self.environment)
        return Account(
            lambda: self.identity(settings.storage_client_id),
            settings.storage,
            settings.storage_account,
            settings.storage_queue_url,
            settings.storage_table_url,
        )

    @cached_property
    def queues(self) -> StorageQueues:
        """The storage account's queues."""
        from sync.storage.owner import id_of

        queues = self.account.queues()
        queues.owner = id_of(self.name)
        self._closing.push_async_callback(queues.close)
        return queues

    @property
    def name(self) -> str:
        """The deployment's: the environment and the notification URL; empty as long as either is not set.

        What asks storage alone works without those settings.
        """
        from sync.settings.values import cleaned, is_vault_reference

        values = [cleaned(self.environment.get(each, "")) for each in ("DATAVERSE_URL", "NOTIFICATION_URL")]
        if not all(values) or any(map(is_vault_reference, values)):
            return ""
        return f"{values[0].rstrip('/')} by way of {values[1].partition('?')[0]}".lower()

    @cached_property
    def ownership(self) -> Ownership:
        """Sees to it that no other deployment works with the storage account."""
        from sync.storage.owner import Ownership

        return Ownership(self.table("roster"), self.name, self.now)

    @property
    def refusal(self) -> str:
        """Why this deployment must not work with the storage account, as far as it is known; nothing is asked."""
        return self.ownership.refusal if "ownership" in self.__dict__ else ""

    def table(self, name: str) -> StorageTable:
        """A table of the storage account."""
        table = self.account.table(name)
        self._closing.push_async_callback(table.close)
        return table

    @cached_property
    def _ledger_rows(self) -> StorageTable:
        return self.table("ledger")

    @cached_property
    def ledger(self) -> LedgerTable:
        """The memory of pairs."""
        from sync.settings.parts import ExtensionSettings, parse_settings
        from sync.storage.ledger import LedgerTable

        named = parse_settings(ExtensionSettings, self.environment)
        extension = f"{named.extension_name}/{named.extension_property}".casefold()
        return LedgerTable(self._ledger_rows, extension=extension)

    @cached_property
    def roster(self) -> RosterTable:
        """The memory of runs: mailboxes in trouble, the last run, the last round."""
        from sync.storage.roster import TABLE, RosterTable

        return RosterTable(self.table(TABLE))

    @cached_property
    def counters(self) -> CounterTable:
        """The counts of all processes."""
        from sync.storage.counters import TABLE, CounterTable

        return CounterTable(self.table(TABLE))

    @cached_property
    def counting(self) -> Counting:
        """The counts of this process, until they are stored."""
        from sync.status.counting import Counting

        counting = Counting(lambda: self.counters, self.now)
        self._closing.callback(counting.close)
        return counting

    def breaker(self, per_mailbox: int = 0, in_all: int = 0) -> Breaker:
        """Counts cancellations. Without ceilings it is to be looked at and reset, and lets none pass."""
        from sync.storage.breaker import Breaker

        return Breaker(self._ledger_rows, per_mailbox, in_all)

    @cached_property
    def holds(self) -> Holds:
        """The pairs that are held, and a person's answers."""
        from sync.pairs.holds import Holds

        return Holds(self.ledger, self.queues, self.now)

    # --- the two services ---

    def identity(self, client_id: str | None = None) -> AsyncTokenCredential:
        """The app's identity in Azure; on a person's machine, the one that is signed in. The caller closes it."""
        from sync.calls.credentials import app_credential

        return app_credential(False, client_id)

    def _identity_for(self, url: str) -> AsyncTokenCredential:
        from sync.calls.credentials import app_credential
        from sync.settings.values import is_loopback

        return app_credential(True) if is_loopback(url) else self.identity()

    @cached_property
    def to_graph(self) -> GraphTransport:
        """The one client of Microsoft Graph."""
        from sync.graph.transport import Transport
        from sync.telemetry.counters import GRAPH

        url = self.settings.graph_url
        transport = Transport(url, self._identity_for(url), self.now, partial(self.counting.spent, GRAPH))
        self._closing.push_async_callback(transport.close)
        return transport

    @cached_property
    def to_dataverse(self) -> Transport:
        """The app's own client of Dataverse; it cannot write while the app only observes."""
        from sync.model import SyncMode

        return self._to_dataverse(may_write=self.settings.sync_mode is not SyncMode.OBSERVE)

    @cached_property
    def customizing(self) -> Transport:
        """The client through which a person customizes the environment; it writes also while the app only observes."""
        return self._to_dataverse(may_write=True)

    def _to_dataverse(self, may_write: bool) -> Transport:
        from sync.dataverse.transport import Transport
        from sync.telemetry.counters import DATAVERSE

        url = self.environment_settings.dataverse_url
        spent = partial(self.counting.spent, DATAVERSE)
        transport = Transport(url, self._identity_for(url), self.now, spent, may_write)
        self._closing.callback(transport.close)
        return transport

    @cached_property
    def events(self) -> GraphEvents:
        """Outlook's events with our extension."""
        from sync.graph.events import GraphEvents

        return GraphEvents(self.to_graph, self.settings.extension_name, self.settings.extension_property)

    @cached_property
    def bookings(self) -> DataverseBookings:
        """Dynamics' bookings and bookable resources."""
        from sync.dataverse.bookings import DataverseBookings

        return DataverseBookings(self.to_dataverse, self.settings.event_id_column, self.settings.canceled_status_id)

    @cached_property
    def door(self) -> Door:
        """Lets a change in when its mailbox and Dataverse take calls."""
        from sync.calls.pauses import Door

        return Door(self.to_graph.pauses, self.to_dataverse.pauses)

    @cached_property
    def telemetry(self) -> ModuleType:
        """Where the app's work is told, which leads nowhere unless there is a connection string."""
        from sync.telemetry import spans

        connection = self.environment.get("APPLICATIONINSIGHTS_CONNECTION_STRING", "").strip()
        if connection:
            from sync.telemetry import export

            self._closing.push_async_callback(asyncio.to_thread, export.start(connection))
        return spans
