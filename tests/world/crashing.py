"""A process that can be stopped before and after each of its external effects, and the host that starts it again.

What the app is made of is the real thing: handlers, ledger, breaker, sweep. Only the services are in memory (storage
may be Azurite), and time is the world's own. What is right is not judged here.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sync.graph.client_state import build_client_state
from sync.intake.spreading import spread
from sync.messages.changes import Batch, Change, SweepRequest
from sync.messages.codec import OUTLOOK_CHANGES
from sync.model import ConflictPolicy
from sync.pairs.actions import Action
from sync.pairs.processing import Processor
from sync.storage.breaker import Breaker
from sync.storage.ledger import LedgerTable
from sync.sweep.rounds import Rounds
from sync.sweep.sweeper import Sweeper
from sync.sweep.taking import SweepTaker
from tests.world.fakes import NOW, Calendars, MemoryInMemory, RowsInMemory, Table
from tests.world.taking import posted, take

KEY = "k" * 40

LOCK = timedelta(minutes=10)
"""For so long a message stays hidden whose process has died. Source: Azure Functions, "Queue storage trigger"."""


class Crashed(BaseException):
    """The process ends here: nothing of ours may catch it, nothing comes after it."""


@dataclass
class Tape:
    """Takes down each external effect, and ends the process at one point: ``2n`` is before the n-th, ``2n + 1`` after.

    What ran beside it ends at its own next effect, as all of a process dies at once.
    """

    ends_at: int | None = None
    effects: list[str] = field(default_factory=list)
    is_dead: bool = False

    async def effect(self, kind: str, have: Callable[[], Awaitable[Any]]) -> Any:
        place = 2 * len(self.effects)
        self.effects.append(kind)
        self._end_at(place)
        try:
            return await have()
        finally:
            self._end_at(place + 1)

    def _end_at(self, point: int) -> None:
        self.is_dead = self.is_dead or self.ends_at == point
        if self.is_dead:
            raise Crashed


class Watched:
    """Stands for *target*, each call of which is an effect of the kind that *kinds* tells by the method's name.

    A kind may be told by the arguments as well. Methods that are not named do not exist, so that no effect is missed.
    """

    def __init__(self, tape: Tape, target: Any, kinds: Mapping[str, str | Callable[..., str]]) -> None:
        self._tape, self._target, self._kinds = tape, target, kinds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kind, method = self._kinds[name], getattr(self._target, name)

        def told(args: tuple[Any, ...]) -> str:
            return kind if isinstance(kind, str) else kind(*args)

        async def call(*args: Any, **options: Any) -> Any:
            return await self._tape.effect(told(args), lambda: method(*args, **options))

        async def iterate(*args: Any, **options: Any) -> Any:
            async def all_rows() -> list[Any]:
                return [row async for row in method(*args, **options)]

            for row in await self._tape.effect(told(args), all_rows):
                yield row

        return iterate if inspect.isasyncgenfunction(method) else call


def _kind_of_row(partition: str, key: str) -> str:
    if partition == "held":
        return "held index"
    if partition in ("breaker", "cancellation"):
        return "breaker"
    return "queued note" if key.endswith(".due") else "ledger"


def _kind_of_written(row: Mapping[str, Any], *_: object) -> str:
    return _kind_of_row(row["PartitionKey"], row["RowKey"])


def _kind_of_query(where: str, values: Mapping[str, Any], *_: object) -> str:
    return "queued note" if "m" in values else _kind_of_row(values.get("p", ""), "")


ROWS = {
    "get": _kind_of_row,
    "insert": _kind_of_written,
    "replace": _kind_of_written,
    "put": _kind_of_written,
    "delete": _kind_of_row,
    "query": _kind_of_query,
}
EVENTS = dict.fromkeys(["read", "stands", "with_extension", "in_other_calendars"], "Graph")
READ, WRITE = "Dataverse read", "Dataverse write"
BOOKINGS = {
    **dict.fromkeys(["read", "linked_to", "is_own", "of_mailbox", "with_ids", "by_start"], READ),
    "write": WRITE,
}
ROUNDS = dict.fromkeys(["last_round", "remember_round"], "round")
SEND, DELETION = "send", "deletion"

KINDS = ("ledger", "queued note", "held index", "breaker", "round", "Graph", READ, WRITE, SEND, DELETION)


@dataclass(eq=False)
class Message:
    queue: str
    text: str
    due: datetime


@dataclass
class Queues:
    """The account's queues. Each message is stored by a call of its own, so each is an effect."""

    tape: Tape
    messages: list[Message]
    now: Callable[[], datetime]

    async def send(self, queue: str, messages: list[str], hidden: float = 0, within: float = 20.0) -> list[datetime]:
        return [await self.tape.effect(SEND, lambda text=text: self._store(queue, text, hidden)) for text in messages]

    async def _store(self, queue: str, text: str, hidden: float) -> datetime:
        message = Message(queue, text, self.now() + timedelta(seconds=round(hidden)))
        self.messages.append(message)
        return message.due


@dataclass
class Hosted:
    """The services, what is on its way to the app, and the host that hands it over, one thing at a time."""

    calendars: Calendars = field(default_factory=Calendars)
    bookings: Table = field(default_factory=Table)
    rows: Any = None
    """A ``StorageTable``, or one in memory."""
    settle: int = 0
    policy: ConflictPolicy = ConflictPolicy.DATAVERSE
    ceiling: int = 1_000
    """Of cancellations in an hour, per mailbox."""
    now: datetime = NOW
    tape: Tape = field(default_factory=Tape)
    posts: list[Change] = field(default_factory=list)
    """Notified, and not acknowledged; Graph comes again until they are."""
    messages: list[Message] = field(default_factory=list)
    later: list[Callable[[Hosted], Awaitable[None]]] = field(default_factory=list)
    """Timers and people, each when all before is done; once more if the process dies meanwhile."""
    rounds: MemoryInMemory = field(default_factory=MemoryInMemory)
    runs: int = 0
    """How often a change was taken up. One that comes late is looked at twice, and counted once (ledger.is_stale)."""

    def __post_init__(self) -> None:
        self.rows = RowsInMemory(lambda: self.now) if self.rows is None else self.rows

    # --- the app, as a process that just started has it ---

    def queues(self) -> Queues:
        return Queues(self.tape, self.messages, lambda: self.now)

    def table(self) -> Any:
        return Watched(self.tape, self.rows, ROWS)

    def ledger(self) -> LedgerTable:
        return LedgerTable(self.table())

    def processor(self) -> Processor:
        return Processor(
            Watched(self.tape, self.calendars, EVENTS),  # type: ignore[arg-type]
            Watched(self.tape, self.bookings, BOOKINGS),  # type: ignore[arg-type]
            self.ledger(),
            Breaker(self.table(), self.ceiling, 1_000),
            lambda: self.now,
            self.policy,
        )

    def sweeper(self) -> Sweeper:
        return Sweeper(
            Watched(self.tape, self.calendars, EVENTS),  # type: ignore[arg-type]
            Watched(self.tape, self.bookings, BOOKINGS),  # type: ignore[arg-type]
            self.queues(),
            self.ledger(),
            lambda: self.now,
        )

    def nightly(self) -> Rounds:
        async def wanted() -> list[str]:
            async def mailboxes() -> list[str]:
                return sorted({row.mailbox for row in self.bookings.rows.values() if row.mailbox is not None})

            found: list[str] = await self.tape.effect(READ, mailboxes)
            return found

        return Rounds(
            wanted,
            Watched(self.tape, self.bookings, BOOKINGS),  # type: ignore[arg-type]
            self.queues(),
            self.ledger(),
            Watched(self.tape, self.rounds, ROUNDS),  # type: ignore[arg-type]
            lambda: self.now,
        )

    # --- the host ---

    async def run(self, until: datetime | None = None) -> None:
        """Hand over what there is until all is done, or until nothing is left to do before *until*."""
        while await self.step(until):
            pass

    async def step(self, until: datetime | None = None) -> bool:
        """Hand over one thing, or let time pass to the next one before *until*; False if there is none."""
        visible = next((message for message in self._waiting() if message.due <= self.now), None)
        if self.posts:
            await self._post(self.posts[0])
        elif visible is not None:
            await self._take(visible)
        elif self._waiting():
            due = min(message.due for message in self._waiting())
            if until is not None and due > until:
                return False
            self.now = due
        elif self.later and until is None:
            await self.later[0](self)
            self.later.pop(0)
        else:
            return False
        return True

    async def run_to_crash(self, point: int | None) -> Tape:
        """Run, and die at *point* if it comes so far. What is left runs in a new process."""
        others = asyncio.all_tasks()
        tape = self.tape = Tape(point)
        with suppress(Crashed):
            await self.run()
        left = asyncio.all_tasks() - others
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.tape = Tape()
        return tape

    def _waiting(self) -> list[Message]:
        return [message for message in self.messages if not message.queue.endswith("-poison")]

    async def _post(self, change: Change) -> None:
        reply = await posted(_notification(change), [KEY], self.queues())
        assert reply.status == 202
        self.posts.pop(0)
        await self.acknowledged(change)

    async def acknowledged(self, change: Change) -> None:
        """For who knows what that has to mean."""

    async def _sweep(self, request: SweepRequest) -> None:
        await self.sweeper().sweep(request.mailbox, request.after_gap)

    async def _take(self, message: Message) -> None:
        message.due = self.now + LOCK
        if message.queue == OUTLOOK_CHANGES:
            await take(message.text, self._process, self._spread, self.queues())
        else:
            await SweepTaker(self._sweep, _is_wanted, self.queues()).take(message.text)

        async def delete() -> None:
            self.messages.remove(message)

        await self.tape.effect(DELETION, delete)

    async def _process(self, change: Change) -> Action:
        self.runs += change.attempt == 0
        return await self.processor().process(change)

    async def _spread(self, batch: Batch) -> None:
        await spread(batch, self.queues(), self.ledger(), self.settle)


async def _is_wanted(mailbox: str) -> bool:
    return True


def _notification(change: Change) -> bytes:
    item = {
        "subscriptionId": "c6126aa3-0ed8-412f-a988-71e6cee627c4",
        "changeType": "deleted" if change.is_deletion else "updated",
        "resource": f"Users/{change.mailbox}/Events/{change.event_id}",
        "resourceData": {"id": change.event_id, "@odata.etag": change.version},
        "clientState": build_client_state(KEY, change.mailbox),
    }
    return json.dumps({"value": [item]}).encode()
