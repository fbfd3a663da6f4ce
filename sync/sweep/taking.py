"""Takes one message of the queue ``sweeps`` to its end: swept, put back for later, or given up.

How a mailbox is swept stands in sweeper.py, not here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sync.errors import MailboxUnavailable, Malformed, Mendable, Misconfigured, Refused, SyncError, Transient
from sync.messages.changes import SweepRequest
from sync.messages.codec import SWEEPS, build_sweep_message, parse_sweep_message
from sync.messages.parking import PARKS, Queues, park, put_back

log = logging.getLogger(__name__)

TAKE_WITHIN = 240.0
"""Seconds for one request; after that its message is put back. The host ends a function after ten minutes (host.json).

Too short, and a mailbox with very many events is never swept; too long, and the host ends the whole process first.
"""


@dataclass
class SweepTaker:
    """Takes sweep requests: each is swept, put back or given up. Only a message that is not ours is parked."""

    sweep: Callable[[SweepRequest], Awaitable[object]]
    """Sweeps the mailbox of a request. Raises: MailboxUnavailable, Transient, Refused."""
    looks_after: Callable[[str], Awaitable[bool]]
    """Tells whether the app keeps a mailbox in step: it is wanted, or still subscribed."""
    queues: Queues
    within: float = TAKE_WITHIN

    async def take(self, text: str) -> None:
        """Take one message to its end.

        A request that fails again and again is given up: the next night brings another one.
        Raises: Transient if the queue cannot be reached, so that the host brings the message back.
        """
        try:
            request = parse_sweep_message(text)
        except Malformed as error:
            await park(self.queues, SWEEPS, text, error)
            return
        try:
            async with asyncio.timeout(self.within):
                if await self.looks_after(request.mailbox):
                    await self.sweep(request)
        except TimeoutError:
            await self._put_back(request, Transient("it took too long"))
        except MailboxUnavailable as error:
            log.warning("mailbox unavailable mailbox=%s reason=%r", request.mailbox, str(error))
            if request.after_gap:  # something happened there, and nobody has looked at it yet
                await self._put_back(request, error)
        except (Transient, Misconfigured, Mendable) as error:
            await self._put_back(request, error)
        except (Refused, Malformed) as error:
            _give_up(request, error)

    async def _put_back(self, request: SweepRequest, error: SyncError) -> None:
        again = replace(request, attempt=request.attempt + 1)
        if again.attempt > PARKS:
            _give_up(request, error)
        else:
            await put_back(self.queues, SWEEPS, build_sweep_message(again), again.attempt, error)


def _give_up(request: SweepRequest, error: SyncError) -> None:
    log.warning("sweep given up mailbox=%s reason=%r", request.mailbox, str(error))
