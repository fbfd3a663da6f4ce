"""The checks of the storage account: there, writable, and of no other deployment.

A check asks the app's own clients, and changes nothing but probes of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from sync.doctor.findings import Finding, Instruments, failed, ok
from sync.errors import Transient
from sync.messages.codec import OUTLOOK_CHANGES
from sync.storage.owner import LATELY


async def storage_account(on: Instruments) -> Finding:
    """Look whether the storage account is there: if neither its queues nor its tables answer, it is not."""

    async def trouble(asked: Awaitable[object]) -> str | None:
        try:
            await asked
        except Transient as error:
            return str(error)
        return None

    of_queues, of_table = await asyncio.gather(
        trouble(on.queues.backlog(OUTLOOK_CHANGES)), trouble(on.memory.last_run())
    )
    return failed(f"{of_queues}; {of_table}") if of_queues and of_table else ok("there, and it knows the caller")


async def queues(on: Instruments) -> Finding:
    """Write a message to a queue of its own, read it and delete it. Raises: SyncError if that fails."""
    await on.queues.probe()
    return ok("a message was written, read and deleted")


async def table(on: Instruments) -> Finding:
    """Write a row, read it and delete it. Raises: SyncError if that fails."""
    await on.memory.probe()
    return ok("a row was written, read and deleted")


async def owner(on: Instruments) -> Finding:
    """Look whether the storage account is this deployment's alone. Raises: SyncError if that cannot be read."""
    holder, refused = await on.ownership.known()
    name = on.ownership.name
    if holder is not None and holder.name != name:
        return failed(f"it belongs to {holder.name}, and this deployment is {name}")
    if refused is not None and on.now() - refused.seen < LATELY:
        return failed(f"{refused.name} tries to use it as well, beside {name}")
    return ok("nobody's yet" if holder is None else "this deployment's")
