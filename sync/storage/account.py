"""Opens the app's storage account: its queues and tables, by a connection string or by an identity.

The other files of this folder say what is kept in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from azure.core.credentials_async import AsyncTokenCredential

from sync.errors import Misconfigured
from sync.storage.queues import StorageQueues
from sync.storage.tables import StorageTable


@dataclass(frozen=True)
class Account:
    """Where the account is. A connection string wins over the rest.

    Source: Azure Functions, "Common properties for identity-based connections".
    """

    identity: Callable[[], AsyncTokenCredential]
    connection_string: str | None = None
    name: str | None = None
    queue_url: str | None = None
    table_url: str | None = None

    def queues(self) -> StorageQueues:
        """Its queues. Raises: Misconfigured if the account cannot be told."""
        try:
            if self.connection_string:
                return StorageQueues.of_connection_string(self.connection_string)
            url = self.queue_url or f"https://{self.name}.queue.core.windows.net"
            return StorageQueues.of_identity(url, self.identity())
        except ValueError:  # the storage client's way to refuse what it is made of
            raise Misconfigured("AzureWebJobsStorage is no connection string, or names no account") from None

    def table(self, name: str) -> StorageTable:
        """One of its tables. Raises: Misconfigured if the account cannot be told."""
        if self.connection_string:
            return StorageTable.of_connection_string(self.connection_string, name)
        url = self.table_url or f"https://{self.name}.table.core.windows.net"
        if self.queue_url and not (self.table_url or self.name):
            url = self.queue_url.replace(".queue.", ".table.")
        return StorageTable.of_identity(url, self.identity(), name)
