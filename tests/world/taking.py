"""One POST acknowledged and one message taken, as the triggers do it; for tests that have parts in their hands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sync.graph.notifications import parse_notifications
from sync.intake.acknowledging import Reply, acknowledge
from sync.messages.changes import Batch, Change
from sync.messages.parking import Queues
from sync.messages.taking import PATIENCE, ChangeTaker
from sync.pairs.actions import Action, Done


async def posted(body: bytes, keys: Sequence[str], queues: Queues) -> Reply:
    """Acknowledge what Graph has posted."""
    return await acknowledge(parse_notifications(body, keys), queues)


async def let_everybody_in(mailbox: str) -> None:
    """Every mailbox takes calls."""


async def take(
    text: str,
    process: Callable[[Change], Awaitable[Action]],
    spread: Callable[[Batch], Awaitable[None]],
    queues: Queues,
    let_in: Callable[[str], Awaitable[None]] = let_everybody_in,
    patience: float = PATIENCE,
) -> str:
    """Take one message of Outlook's changes to its end; what became of it."""

    async def done(change: Change) -> Done:
        return Done.of(await process(change))

    return await ChangeTaker(done, spread, queues, let_in, patience).take(text)
