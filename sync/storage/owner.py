"""Which deployment of the app a storage account belongs to. Two on one account would take each other's messages.

The queues' names are fixed, and the host hands a message to whoever asks first. So a deployment notes itself in the
account, each message says whose it is, and a second deployment refuses to work. Slots, test systems and a developer's
`func start` are deployments, too. Source: azure-functions-host issue 4666.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync.errors import Misconfigured, Stale, Transient
from sync.storage.tables import Row, StorageTable, etag_of
from sync.times import as_plain

LATELY = timedelta(hours=2)
"""How long a deployment that was refused is shown. Too short, and nobody sees it; too long, and it is shown in vain."""

NOTED = timedelta(minutes=10)
"""How often an owner notes that it is there. Too often costs writes; too rarely, and people take it for gone."""

CHECKED = timedelta(minutes=1)
"""How long a look at the account is believed. Too short costs reads; too long, and two work side by side."""

TRIES = 5
"""Looks at a row that others write at the same moment."""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Owner:
    """A deployment, as it is noted."""

    name: str
    """The environment and the notification URL, without its query."""
    seen: datetime
    former: frozenset[str] = frozenset()
    """Ids of deployments whose place it took: what they queued is its own."""

    @property
    def id(self) -> str:
        """Eight hexadecimal digits."""
        return id_of(self.name)


def id_of(name: str) -> str:
    """Eight hexadecimal digits for a deployment's name; empty for none."""
    return hashlib.sha256(name.encode()).hexdigest()[:8] if name else ""


def tagged(message: str, owner: str) -> str:
    """*message*, a JSON object, with the id of its *owner* in front; as it is if it has one, or if there is none."""
    return message if not owner or message.startswith('{"for": ') else f'{{"for": "{owner}", {message[1:]}'


def tag_of(message: str) -> str:
    """The id of the deployment that queued *message*; empty if it does not say so."""
    try:
        tag = json.loads(message)["for"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return tag if isinstance(tag, str) else ""


@dataclass
class Ownership:
    """Sees to it that one deployment works with the account: the one of *name*; any if the name is empty."""

    table: StorageTable
    name: str
    now: Callable[[], datetime]
    refusal: str = field(default="", init=False)
    """Why this deployment must not work with the account, as far as is known."""
    former: frozenset[str] = field(default=frozenset(), init=False)
    _checked: datetime | None = field(default=None, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def check(self) -> None:
        """Return if the account is this deployment's; note so in it.

        Raises: Misconfigured if another deployment works with it, Transient.
        """
        async with self._turn:
            now = self.now()
            if self.name and (self._checked is None or not self._checked <= now < self._checked + CHECKED):
                self.refusal = await self._look_again(now)
                self._checked = now
        if self.refusal:
            raise Misconfigured(self.refusal)

    def is_own(self, message: str) -> bool:
        """Whether this deployment queued *message*, or one whose place it took, or nobody says who."""
        tag = tag_of(message)
        return not tag or tag == id_of(self.name) or tag in self.former

    async def _look_again(self, now: datetime) -> str:
        """``_look``, anew as long as another process writes the row meanwhile."""
        for _ in range(TRIES):
            with suppress(Stale):
                return await self._look(now)
        raise Transient("the owner of the storage account is being noted by others")

    async def _look(self, now: datetime) -> str:
        row = await self.table.get("owner", "this")
        owner = _parsed(row)
        if owner is not None and owner.name != self.name:
            await self.table.put({"PartitionKey": "owner", "RowKey": "refused", "name": self.name, "seen": now})
            return (
                f"this storage account belongs to another deployment: {owner.name}, seen at {owner.seen:%Y-%m-%d %H:%M}"
                f" UTC; this one is {self.name}. Give each deployment, slot and test system an account of its own. If"
                " this is the same app under a new URL: python -m sync take-over"
            )
        if owner is None or now - owner.seen > NOTED:
            await self._note(row, owner, now)
        self.former = owner.former if owner is not None else frozenset()
        return ""

    async def take_over(self) -> Owner | None:
        """Note this deployment as the owner, whoever it was before, and return that one. Raises: Stale, Transient."""
        row = await self.table.get("owner", "this")
        before = _parsed(row)
        await self._note(row, before, self.now())
        await self.table.delete("owner", "refused")
        self._checked, self.refusal, self.former = None, "", _with_former(before)
        return before

    async def known(self) -> tuple[Owner | None, Owner | None]:
        """The owner, and the deployment that was refused last; None for what is not known. Raises: Transient."""
        return _parsed(await self.table.get("owner", "this")), _parsed(await self.table.get("owner", "refused"))

    async def _note(self, row: Row | None, before: Owner | None, now: datetime) -> None:
        former = before.former if before is not None and before.name == self.name else _with_former(before)
        new = {
            "PartitionKey": "owner",
            "RowKey": "this",
            "name": self.name,
            "seen": now,
            "former": ",".join(sorted(former - {id_of(self.name)})),
        }
        await (self.table.insert(new) if row is None else self.table.replace(new, etag_of(row)))


def _with_former(owner: Owner | None) -> frozenset[str]:
    return frozenset() if owner is None else owner.former | {owner.id}


def _parsed(row: Row | None) -> Owner | None:
    """None also for a row that somebody damaged: whoever looks next writes it anew."""
    try:
        former = frozenset(filter(None, str(row.get("former", "")).split(","))) if row is not None else frozenset()
        if row is None or not isinstance(row["name"], str):
            return None
        return Owner(row["name"], as_plain(row["seen"]), former)
    except _UNREADABLE:
        return None
