"""The judge of the guided tour: whether a step came true, by the state of both services.

The app's own words prove nothing here. The order of the steps stays out, and so does the screen.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping

from azure.core.exceptions import AzureError
from azure.storage.queue.aio import QueueServiceClient

from sandbox.calls import Call
from sandbox.server import Sandbox
from sandbox.tour.story import Step

CHANGES = "outlook-changes"
"""The queue of the app's changes. A step waits until it is empty."""

LOOK_AGAIN = 0.03
"""Seconds between two looks. A longer time makes each step longer; a shorter one keeps the processor from the app."""


class NotTrue(Exception):
    """A step did not come true. The text says what was expected and what was seen."""


class Judge:
    """Says whether a step came true, by the state of both services and the calls that they got since ``begin``."""

    def __init__(self, world: Sandbox, queues: QueueServiceClient, patience: float) -> None:
        self._world = world
        self._queues = queues
        self._patience = patience

    def begin(self) -> None:
        """Begin a step: forget the calls so far. Call this before the act of the step."""
        self._world.calls.clear()
        self._began = self._world.clock.now()

    @property
    def calls(self) -> str:
        """The calls since ``begin``, counted by service and answer, in words."""
        counted = Counter(map(_kind, self._world.calls))
        texts = [f"{count} {what}{'s' * (count > 1)}{answer}" for (what, answer), count in counted.items()]
        return ", ".join(texts) or "no calls"

    @property
    def seconds(self) -> float:
        """Seconds from ``begin`` to the last call."""
        calls = self._world.calls.recorded
        return (calls[-1].at - self._began).total_seconds() if calls else 0.0

    async def wait_for(self, step: Step, on_look: Callable[[], None]) -> None:
        """Return once *step* is true and the app has nothing left to do: then it writes nothing more.

        *on_look* is called at each look in vain. Raises: NotTrue after so many seconds as the judge has patience.
        """
        deadline = time.monotonic() + self._patience
        while trouble := await self._trouble(step):
            if time.monotonic() >= deadline:
                raise NotTrue(self._report(step, trouble))
            on_look()
            await asyncio.sleep(LOOK_AGAIN)

    async def _trouble(self, step: Step) -> str:
        """Say why *step* is not true yet; empty if it came true."""
        if not self._world.delivery.is_idle:
            return "Graph has not been able to deliver its notification"
        waiting = await self._waiting()
        if waiting:
            return f"messages are left in the app's queues: {waiting}"
        calls = self._world.calls
        if not calls.reads("graph"):
            return "the app has not looked at Graph"
        writes = sum(call.is_write and call.status is not None and call.status < 300 for call in calls)
        if writes != step.writes:
            return f"writes: {writes}"
        return "" if step.is_true() else "something else"

    async def _waiting(self) -> str:
        """Count the changes that are queued, hidden ones as well, and the messages of any kind that are poison.

        The app's other queues hold plans for later, which no step waits for.
        """
        found = []
        try:
            async for queue in self._queues.list_queues():
                if queue.name != CHANGES and not queue.name.endswith("-poison"):
                    continue
                async with self._queues.get_queue_client(queue.name) as client:
                    count = (await client.get_queue_properties()).approximate_message_count
                if count:
                    found.append(f"{count} in {queue.name}")
        except AzureError as error:
            return f"unknown ({type(error).__name__})"
        return ", ".join(found)

    def _report(self, step: Step, trouble: str) -> str:
        return "\n".join(
            [
                f"this did not come true within {self._patience:g} s",
                f"expected: {step.then}; writes: {step.writes}",
                f"seen: {trouble}",
                *(f"  {line}" for line in self._world.overview.table().splitlines()),
                f"calls: {self.calls}",
                *(f"  {describe(self._world, call)}" for call in self._world.calls),
            ]
        )


_NAMES: Mapping[str, str] = {"graph": "Graph", "dataverse": "Dataverse"}


def _kind(call: Call) -> tuple[str, str]:
    """Return the kind that a call counts as, and its answer if that was no success."""
    what = f"{_NAMES[call.service]} {'write' if call.is_write else 'read'}"
    return what, "" if call.status is not None and call.status < 400 else f" ({call.status or 'cut'})"


def describe(world: Sandbox, call: Call) -> str:
    """Put *call* into words, with names in the place of ids."""
    return name_ids(world, f"{_NAMES[call.service]} {call.method} {call.path} {call.status}")


def name_ids(world: Sandbox, text: str) -> str:
    """Return *text* with handles and names in the place of ids."""
    names = {technician.mailbox.id: technician.name for technician in world.people}
    for line in world.overview.lines():
        names |= {line.booking_id or "": line.booking or "", line.event_id or "": line.event or ""}
    return re.sub(r"[\w+-]{30,}=*", lambda found: names.get(found[0], ".."), text)
