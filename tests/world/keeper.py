"""Graph's subscriptions in memory, and a keeper with all that it needs. Nothing here waits, and nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sync.calls.pace import LONGEST_PAUSE, Pace
from sync.errors import Duplicate, LifetimeRefused, NotFound, SyncError, Transient
from sync.messages.changes import LifecycleNotification
from sync.model import Subscription
from sync.subscriptions.deployment import CHANGE_TYPES, LIFETIME, Deployment, mailbox_of, resource_of
from sync.subscriptions.keeper import BUDGET, Keeper
from sync.subscriptions.run import Limits
from sync.telemetry.origin import Origin
from tests.world.app import HOUR, KEY
from tests.world.fakes import ANNA, BEN, NOW, MemoryInMemory

HELD = "88888888-8888-4888-8888-888888888888"
MISSED = LifecycleNotification(ANNA, HELD, "missed")
REAUTHORIZE = LifecycleNotification(ANNA, HELD, "reauthorizationRequired")
REMOVED = LifecycleNotification(ANNA, HELD, "subscriptionRemoved")
US = Deployment.of("https://sync.example/api/notifications?code=functionkey", KEY, "https://d.example", "a_b")
CLEO, DAN, EVE, OTTO = (f"{letter * 8}-0000-4000-8000-000000000000" for letter in "cdef")


def people(number: int) -> list[str]:
    """So many mailboxes."""
    return [f"{place:08}-0000-4000-8000-000000000000" for place in range(number)]


@dataclass
class SweepsInMemory:
    """The sweeps that were asked for."""

    asked: list[tuple[str, float]] = field(default_factory=list)
    """Mailbox, and seconds until the sweep."""
    rounds: int = 0
    """How often all mailboxes were to be swept."""
    refuses: bool = False

    async def ask(self, mailbox: str, after: float = 0.0, origin: Origin | None = None) -> None:
        if self.refuses:
            raise Transient("the queue refuses")
        self.asked.append((mailbox, after))

    async def ask_all(self, within: float, after_gap: bool) -> int:
        assert after_gap, "the roster asks for sweeps of what it may have missed"
        if self.refuses:
            raise Transient("the queue refuses")
        self.rounds += 1
        return 7

    @property
    def mailboxes(self) -> list[str]:
        """Those of ``asked``."""
        return [mailbox for mailbox, _ in self.asked]

    @property
    def seconds(self) -> list[float]:
        """Those of ``asked``."""
        return [after for _, after in self.asked]


@dataclass
class GraphInMemory:
    """What Graph holds; ``step`` is awaited before and after the effect of each call."""

    held: dict[str, Subscription] = field(default_factory=dict)
    trouble: dict[str, list[SyncError]] = field(default_factory=dict)
    """By mailbox, subscription id, or "" for the list: raised by the next calls, first to last."""
    by_spelling: bool = False
    is_listed: bool = True
    """Whether the list shows them already."""
    longest: timedelta = timedelta(minutes=10_070)
    calls: list[tuple[str, str]] = field(default_factory=list)
    step: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
    made: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def put(self, mailbox: str, ahead: timedelta = LIFETIME, **fields: object) -> Subscription:
        self.made += 1
        made = Subscription(
            f"{HELD[:-3]}{self.made:03}", resource_of(mailbox), CHANGE_TYPES, US.url, US.url, NOW + ahead
        )
        made = replace(made, **fields)  # type: ignore[arg-type]
        self.held[made.id] = made
        return made

    async def list(self) -> Sequence[Subscription]:
        await self._call("list", "")
        return list(self.held.values()) if self.is_listed else []

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        await self._call("create", mailbox)
        resource = resource_of(mailbox, beside)
        if expires > NOW + self.longest:
            raise LifetimeRefused("400", self.longest // timedelta(minutes=1))
        for other in self.held.values():
            alike = other.resource == resource if self.by_spelling else mailbox_of(other) == mailbox
            if alike and other.change_types == CHANGE_TYPES:
                raise Duplicate("409", other.id)
        made = self.put(mailbox, expires - NOW, resource=resource)
        await self.step()
        return made.id

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        await self._call("renew", subscription_id)
        if subscription_id not in self.held or self.held[subscription_id].expires <= NOW:
            raise NotFound("404")
        if expires > NOW + self.longest:
            raise LifetimeRefused("400", self.longest // timedelta(minutes=1))
        self.held[subscription_id] = replace(self.held[subscription_id], expires=expires)
        await self.step()

    async def delete(self, subscription_id: str) -> None:
        await self._call("delete", subscription_id)
        self.held.pop(subscription_id, None)
        await self.step()

    async def _call(self, verb: str, subject: str) -> None:
        self.calls.append((verb, subject))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.step()
            if troubles := self.trouble.get(subject):
                raise troubles.pop(0)
        finally:
            self.at_once -= 1

    def of(self, mailbox: str) -> Sequence[Subscription]:
        return [held for held in self.held.values() if mailbox_of(held) == mailbox]

    def mailboxes(self) -> Sequence[str]:
        return sorted(mailbox_of(held) or "" for held in self.held.values())

    @property
    def writes(self) -> Sequence[tuple[str, str]]:
        return [call for call in self.calls if call[0] != "list"]


@dataclass
class KeeperWorld:
    """A keeper, and all that it needs, in memory."""

    graph: GraphInMemory = field(default_factory=GraphInMemory)
    memory: MemoryInMemory = field(default_factory=MemoryInMemory)
    sweeps: SweepsInMemory = field(default_factory=SweepsInMemory)
    wanted: list[str] = field(default_factory=list)
    now: datetime = NOW
    asked: int = 0
    slept: list[float] = field(default_factory=list)
    sleep: Callable[[float], Awaitable[None]] | None = None
    """Of the pace; None for one that takes no time and is noted in ``slept``."""
    patience: Callable[[int], float] | None = None
    longest_pause: float = LONGEST_PAUSE
    budget: float = BUDGET
    limits: Limits = field(default_factory=Limits)

    def keeper(self, *wanted: str) -> Keeper:
        """In a new process."""
        self.wanted = list(wanted)

        async def mailboxes() -> Sequence[str]:
            self.asked += 1
            await asyncio.sleep(0)
            return list(self.wanted)

        return Keeper(
            mailboxes,
            self.graph,
            US,
            self.memory,
            self.sweeps,
            lambda: self.now,
            budget=self.budget,
            limits=self.limits,
            make_pace=lambda: Pace(self.sleep or self._note_sleep, 10_000, self.patience, self.longest_pause),
        )

    async def _note_sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert len(self.slept) < 10_000, "whoever waits for the clock of the event loop has to sleep by it"
        await asyncio.sleep(0)


def a_mess(keeping: KeeperWorld) -> list[str]:
    """One mailbox for each thing that a plan may ask for; returns who is wanted."""
    graph = keeping.graph
    graph.put(BEN, HOUR)  # to be renewed
    graph.put(CLEO, notification_url=US.url.replace("functionkey", "old"))  # to be replaced
    graph.put(CLEO, HOUR, change_types=frozenset({"created"}), lifecycle_url=None)
    graph.put(DAN)
    graph.put(DAN, HOUR, change_types=frozenset({"created"}))  # beside a better one
    graph.put(EVE)  # not wanted any more
    graph.put(OTTO)
    graph.put(OTTO, notification_url="https://other.example/hook")  # not ours
    return [ANNA, BEN, CLEO, DAN, OTTO]


def assert_kept(keeping: KeeperWorld) -> None:
    """One right subscription for each wanted mailbox, none for others, and others' untouched."""
    ours = [held for held in keeping.graph.held.values() if US.owns(held)]
    assert sorted(mailbox_of(held) or "" for held in ours) == sorted(keeping.wanted)
    assert all(US.is_right(held) for held in ours)
    assert sum(held.notification_url == "https://other.example/hook" for held in keeping.graph.held.values()) == 1
