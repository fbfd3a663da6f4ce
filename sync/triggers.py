"""One function for each trigger: an HTTP answer, one message, one timer. No rule stands here.

The process has one ``App``, built at the first trigger. Each trigger imports the
heavy libraries that it needs, as Graph waits for an acknowledgement and the host for a start.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypedDict, TypeVar

from sync.wiring.app import App

if TYPE_CHECKING:
    from sync.status.findings import Status

T = TypeVar("T")

log = logging.getLogger(__name__)


class Answer(TypedDict):
    """The arguments of an HTTP response. Text that echoes a caller is plain text, and never taken for HTML."""

    body: str | bytes
    status_code: int
    mimetype: str
    headers: dict[str, str]


_apps: list[App] = []
"""The process's app, once there is one."""


def app() -> App:
    """The process's app."""
    if not _apps:
        _apps.append(App(os.environ))
    return _apps[-1]


@contextmanager
def serving(other: App) -> Iterator[None]:
    """Have triggers use *other* meanwhile, as tests and benchmarks do."""
    _apps.append(other)
    try:
        yield
    finally:
        _apps.remove(other)


async def notifications(query: Mapping[str, str], body: bytes) -> Answer:
    """Answer a POST of Graph's: the validation handshake, told by its query parameter, or notifications.

    Source: Graph, "Receive change notifications through webhooks": the token comes back decoded, within ten seconds.
    """
    if "validationToken" in query:
        return _plain_text(200, query["validationToken"])

    from sync.errors import Malformed, Misconfigured
    from sync.graph.notifications import LARGE, parse_notifications
    from sync.intake.acknowledging import acknowledge

    try:
        settings, queues, counting = app().acknowledge_settings, app().queues, app().counting
        if app().refusal:
            raise Misconfigured(app().refusal)
    except Misconfigured as error:
        log.error("misconfigured: %s", error)
        return _plain_text(503, "")  # Graph comes again for four hours, time enough to set it
    with app().telemetry.span("receive", "server") as told:
        try:
            received = await _beside_others(len(body) >= LARGE, partial(parse_notifications, body, settings.keys))
        except Malformed as error:
            log.warning("notifications refused reason=%r", str(error))
            told.answered(400)
            return _plain_text(400, "not a collection of change notifications")
        reply = await acknowledge(received, queues)
        told.answered(reply.status)
    counting.count(reply.counts, reply.notified)
    return _plain_text(reply.status, "")


async def _beside_others(is_long: bool, work: Callable[[], T]) -> T:
    """Do *work*; if it *is long*, in a thread, so that others are answered meanwhile."""
    return await asyncio.to_thread(work) if is_long else work()


def _plain_text(status: int, body: str) -> Answer:
    return Answer(body=body, status_code=status, mimetype="text/plain", headers={"X-Content-Type-Options": "nosniff"})


async def process_outlook_change(message: bytes) -> None:
    """Take one message of ``outlook-changes`` to its end. Raises: Transient if the queue cannot be reached."""
    from sync.messages.codec import OUTLOOK_CHANGES, parse_origin
    from sync.messages.taking import SPREAD
    from sync.telemetry.counters import OUTCOME

    text, telemetry = _text(message), app().telemetry
    if await app().is_left(OUTLOOK_CHANGES, text):
        return
    origin = parse_origin(text)
    with telemetry.span(f"process {OUTLOOK_CHANGES}", "consumer", origin) as told:
        outcome = await app().changes.take(text)
        told.set(outcome=outcome)
    if outcome != SPREAD:
        telemetry.aged(outcome, origin)
        app().counting.count({OUTCOME + outcome: 1})


async def process_lifecycle(message: bytes) -> None:
    """Take one message of ``subscription-lifecycle`` to its end. Raises: Transient if the queue cannot be reached."""
    from sync.messages.codec import LIFECYCLE, parse_origin

    text = _text(message)
    if await app().is_left(LIFECYCLE, text):
        return
    with app().telemetry.span(f"process {LIFECYCLE}", "consumer", parse_origin(text)):
        await app().lifecycle.take(text)


async def sweep_mailbox(message: bytes) -> None:
    """Take one message of ``sweeps`` to its end. Raises: Transient if the queue cannot be reached."""
    from sync.messages.codec import SWEEPS, parse_origin

    text = _text(message)
    if await app().is_left(SWEEPS, text):
        return
    with app().telemetry.span(f"process {SWEEPS}", "consumer", parse_origin(text)):
        await app().sweeps.take(text)


async def renew_subscriptions() -> None:
    """Keep the subscriptions, and measure what is left for people. Raises: Transient, Refused, Misconfigured."""
    from sync.errors import SyncError

    with app().telemetry.span("renew_subscriptions"):
        await app().own_storage()  # else the owner's status would tell of this deployment's trouble
        try:
            await app().keeper.keep()
        except SyncError as error:
            await app().counting.roster_failed(str(error))
            raise
        finally:
            await app().tell_left()


async def sweep() -> None:
    """Ask for the nightly sweep of all mailboxes. Raises: Transient, Refused, Misconfigured."""
    with app().telemetry.span("sweep"):
        await app().own_storage()
        await app().counting.purge()
        await app().rounds.ask_nightly()


async def status() -> Answer:
    """The status as JSON."""
    from sync.status.page import PRIVATE, build_json

    return await _shown(
        lambda status: Answer(body=build_json(status), status_code=200, mimetype="application/json", headers=PRIVATE)
    )


async def status_page() -> Answer:
    """The status as a page."""
    from sync.status.page import build_page

    def answer(status: Status) -> Answer:
        body, headers = build_page(status)
        return Answer(body=body, status_code=200, mimetype="text/html", headers=headers)

    return await _shown(answer)


async def _shown(build: Callable[[Status], Answer]) -> Answer:
    """Build in a thread: thousands of mailboxes take long enough for an acknowledgement to notice."""
    from sync.errors import Misconfigured

    try:
        status = await app().status()
    except Misconfigured as error:
        log.error("misconfigured: %s", error)
        return _plain_text(503, "settings are missing or unreadable; the log names them")
    return await asyncio.to_thread(build, status)


def _text(message: bytes) -> str:
    return message.decode("utf-8", "replace")
