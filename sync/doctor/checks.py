"""What each check of the doctor looks at, and how it judges what it sees; each asks the app's own clients one thing.

Which checks there are, what they wait for and how they are cured is in doctor.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from sync.doctor.findings import Finding, Instruments, failed, ok, skipped, warning
from sync.doctor.probes import Answer, clock_offset, shake_hands
from sync.errors import AccessDenied, MailboxUnavailable, Malformed, Refused, Transient
from sync.messages.codec import CHANGES
from sync.model import Span
from sync.settings import Settings
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.outages import LastRun
from sync.subscriptions.planning import Plan

TRIED, MOST_TRIED = 3, 20
"""Mailboxes that are read, and if none of them can be, until one can: some may have a trouble of their own, which
`subscriptions` shows of all."""

OFF = timedelta(minutes=2)
"""Further than this the clocks must not be apart; tokens are valid from and until a time."""

SLOW = 3.0
"""Seconds. A handshake has ten, but the notifications that come the same way have three. Source: Graph, "Receive
change notifications through webhooks"."""

SOON = timedelta(days=1)
"""Subscriptions are renewed with half of a week ahead; with less than this, nobody does."""

AROUND = timedelta(days=14)
"""Bookings whose events are looked at for the extension: so long ago, and to come."""


# --- whose calendars ---


async def _wanted(on: Instruments) -> list[str]:
    limit = on.settings.mailboxes
    return [mailbox for mailbox in await on.bookings.mailboxes() if not limit or mailbox in limit]


async def mailboxes(on: Instruments) -> Finding:
    wanted = await _wanted(on)
    strangers = sorted(on.settings.mailboxes.difference(wanted))
    if not wanted:
        return failed("nobody is to be synchronized")
    if strangers:
        return warning(f"MAILBOXES names users who are no bookable resources: {', '.join(strangers)}")
    return ok(f"{len(wanted)} wanted")


async def calendars(on: Instruments) -> Finding:
    tried = 0
    refused: list[str] = []
    for mailbox in (await _wanted(on))[:MOST_TRIED]:
        if tried >= TRIED and len(refused) < tried:
            break
        tried += 1
        try:
            await on.events.check_access(mailbox)
        except MailboxUnavailable as error:
            refused.append(f"{mailbox}: {error}")
    if len(refused) == tried:
        return failed(f"none of {tried} tried can be read; {refused[0]}")
    if refused:
        return warning(f"{tried - len(refused)} of {tried} tried can be read; {'; '.join(refused[:TRIED])}")
    return ok(f"{tried} tried can be read")


async def extension(on: Instruments) -> Finding:
    window = Span.of(on.now() - AROUND, on.now() + AROUND)
    looked_at = 0
    for mailbox in (await _wanted(on))[:TRIED]:
        linked = [each for each in await on.bookings.of_mailbox(mailbox, window) if each.event_id]
        for booking in linked[:TRIED]:
            try:
                event = await on.events.read(mailbox, str(booking.event_id))
            except (Refused, Malformed):  # an event may have a trouble of its own, as may a mailbox
                continue
            if event is not None and event.booking_id is not None:
                return ok("an event of a booking carries it")
            looked_at += event is not None
    name = f"{on.settings.extension_name}, {on.settings.extension_property}"
    if not looked_at:
        return skipped(f"no event of a booking within {AROUND.days} days to look at")
    return warning(f"none of {looked_at} events of bookings carries {name}")


async def scope(on: Instruments) -> Finding:
    if on.outside is None:
        return skipped("not asked for: --outside MAILBOX names one that the app must not read")
    try:
        await on.events.check_access(on.outside)
    except AccessDenied:
        return ok(f"{on.outside} is refused, as it should be")
    except MailboxUnavailable as error:
        return warning(f"{on.outside}: {error}, which proves nothing", "name somebody who has a mailbox")
    return failed(f"{on.outside} can be read")


async def subscriptions(on: Instruments) -> Finding:
    try:
        plan, last = await asyncio.gather(on.plan(), on.memory.last_run())
    except Refused as error:
        return failed(f"they may not be listed ({error})", "docs/real-tenant.md, 2: Calendars.Read")
    return judge_roster(plan, last, _former(on.settings), on.now())


def _former(settings: Settings) -> Sequence[Deployment]:
    """The same deployment with the keys that are valid for a little while yet."""
    url = settings.notification_url.get_secret_value()
    return [Deployment.of(url, key, settings.dataverse_url, settings.event_id_column) for key in settings.keys[1:]]


def judge_roster(plan: Plan, last: LastRun | None, former: Sequence[Deployment], now: datetime) -> Finding:
    """A mailbox that refuses may have its own trouble; one that is missing without that was left to itself."""
    alive = [held for _, held in (*plan.replace, *plan.renew, *plan.keep)]
    missing = [*plan.create, *(trouble.mailbox for trouble in plan.wait)]
    troubles = [plan.troubles[mailbox] for mailbox in missing if mailbox in plan.troubles]
    refusing = sum(trouble.tries > 0 for trouble in troubles)
    seen = f"{len(alive)} of {plan.wanted} wanted are subscribed"
    if plan.other_key is not None and not all(any(each.is_right(held) for each in former) for _, held in plan.replace):
        return failed(plan.other_key, "CLIENT_STATE_KEY is to be the app's: python -m sync subscriptions plan")
    if len(missing) > refusing or not alive:
        if last is None:
            return warning(
                f"{seen}; the app has not looked after them yet",
                "`python -m sync subscriptions apply` does it now, the timer renew_subscriptions each hour",
            )
        reason = f", {troubles[0].mailbox}: {troubles[0].reason}" if troubles else ""
        return failed(f"{seen}; the app looked after them last at {last.at:%Y-%m-%d %H:%M} (UTC){reason}")
    if refusing:
        return warning(f"{seen}; refused: {refusing}", "python -m sync subscriptions: for what reason")
    if plan.refusal is not None:
        return warning(f"{seen}; {plan.refusal}", "if it is so: python -m sync subscriptions apply --leavers")
    if plan.replace:
        cure = "the app's next run does it; python -m sync subscriptions plan: for what reason"
        return warning(f"{seen}; to be replaced: {len(plan.replace)}", cure)
    first = min(held.expires for held in alive)
    seen += f", and the first expires {first:%Y-%m-%d %H:%M} (UTC)"
    return ok(seen) if first - now > SOON else warning(seen)


# --- storage ---


async def storage_account(on: Instruments) -> Finding:
    """Its queues and tables are two services; what neither of them gives is not the fault of either."""

    async def trouble(asked: Awaitable[object]) -> str | None:
        try:
            await asked
        except Transient as error:
            return str(error)
        return None

    of_queues, of_table = await asyncio.gather(trouble(on.queues.backlog(CHANGES)), trouble(on.memory.last_run()))
    return failed(f"{of_queues}; {of_table}") if of_queues and of_table else ok("there, and it knows the caller")


async def queues(on: Instruments) -> Finding:
    await on.queues.probe()
    return ok("a message was written, read and deleted")


async def table(on: Instruments) -> Finding:
    await on.memory.probe()
    return ok("a row was written, read and deleted")


# --- the way in, and time ---


async def notification_url(on: Instruments) -> Finding:
    token = f"doctor {uuid4()} 1+1=2 ÄÖ€"  # opaque, with what an endpoint might decode or escape wrongly
    return judge_handshake(await shake_hands(on.deployment.url, token), token)


def judge_handshake(answer: Answer, token: str) -> Finding:
    """What Graph would say to *answer*, and sooner or later to one as slow.

    Source: Graph, "Receive change notifications through webhooks", validation.
    """
    took = f"in {answer.seconds:.1f} s"
    if answer.status in (401, 403):
        return failed(f"{answer.status} {took}", "NOTIFICATION_URL: is its code the function's present key?")
    if answer.status == 404:
        return failed(f"404 {took}", "NOTIFICATION_URL: is its path that of `notifications`, and the app deployed?")
    if answer.status != 200:
        return failed(f"{answer.status} {took}, not 200", "the app's log tells why")
    if answer.media_type != "text/plain":
        return failed(f"answered as {answer.media_type or 'nothing'}, not text/plain")
    if answer.body != token.encode():
        return failed("did not echo the validation token as it is")
    if answer.seconds > SLOW:
        return warning(f"echoed {took}; notifications have three seconds", "docs/deploy.md: an always-ready instance")
    return ok(f"echoed {took}, asked from here")


async def clock(on: Instruments) -> Finding:
    urls = {"Graph": on.settings.graph_url, "Dataverse": f"{on.settings.dataverse_url}/api/data/v9.2/"}
    told = await asyncio.gather(*(clock_offset(url, on.now) for url in urls.values()))
    offsets = {name: offset for name, offset in zip(urls, told, strict=True) if offset is not None}
    if not offsets:
        return skipped("neither service tells its time")
    seen = ", ".join(f"{name} {round(offset.total_seconds()):+d} s" for name, offset in offsets.items())
    return ok(seen) if all(abs(offset) <= OFF for offset in offsets.values()) else warning(seen)
