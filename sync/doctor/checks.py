"""The checks of mailboxes, subscriptions, storage, the notification URL and clocks.

A check asks the app's own clients one thing and judges the answer. A ``judge_…`` function does no IO. The list of
checks, their order and their cures stay out: they are in ``examining.py``. The checks of both services' set-up are in
``service_checks.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sync.doctor.findings import Finding, Instruments, failed, ok, skipped, warning
from sync.doctor.probes import Answer, clock_offset, shake_hands
from sync.errors import AccessDenied, MailboxUnavailable, Malformed, Refused
from sync.model import Event, Span, Subscription
from sync.settings.parts import Settings
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.outages import LastRun, Trouble
from sync.subscriptions.planning import Plan

TRIED = 3
"""Mailboxes of which the calendar is read. One mailbox may have a trouble of its own, so one alone proves too little.
Each costs a call to Graph."""

MOST_TRIED = 20
"""Mailboxes that are tried while none can be read. With too few, three mailboxes without a licence look like an app
without permissions. With too many, the doctor takes long where the app may read none."""

OFF = timedelta(minutes=2)
"""The clocks of this machine and of a service may be so far apart. Tokens are valid from and until a time: with a
larger value, refused tokens go unexplained. With a smaller one, a slow answer looks like a wrong clock."""

SLOW = 3.0
"""Seconds for the answer to a handshake. Graph allows ten, but only three for a notification, which comes the same way.
A smaller value warns of a cold start that is harmless. With a larger one, Graph drops notifications without a warning
here. Source: Graph, "Receive change notifications through webhooks"."""

SOON = timedelta(days=1)
"""The app renews a subscription three and a half days before its end. If less than this time is left, the app does not
renew. A larger value than those days warns always. A smaller one warns when it is almost too late."""

AROUND = timedelta(days=14)
"""Bookings that begin within this time, before and after now, are looked at for the extension. With a shorter time none
may be found. A longer one reads longer lists."""


# --- whose calendars ---


async def _wanted(on: Instruments) -> list[str]:
    limit = on.settings.mailboxes
    return [mailbox for mailbox in await on.bookings.resources.mailboxes() if not limit or mailbox in limit]


async def mailboxes(on: Instruments) -> Finding:
    """Look whether there is anybody to synchronize, and whether MAILBOXES names bookable resources only.

    Raises: SyncError if the bookable resources cannot be listed.
    """
    wanted = await _wanted(on)
    strangers = sorted(on.settings.mailboxes.difference(wanted))
    if not wanted:
        return failed("nobody is to be synchronized")
    if strangers:
        return warning(f"MAILBOXES names users who are no bookable resources: {', '.join(strangers)}")
    return ok(f"{len(wanted)} wanted")


async def calendars(on: Instruments) -> Finding:
    """Look whether the app may read calendars: of ``TRIED`` mailboxes, or of more while none can be read.

    Raises: SyncError if Graph cannot be asked.
    """
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
    """Look whether an event that a booking is linked to carries the extension with the booking's id.

    Raises: SyncError if bookings or events cannot be read.
    """
    window = Span.of(on.now() - AROUND, on.now() + AROUND)
    events: list[Event] = []
    for mailbox in (await _wanted(on))[:TRIED]:
        linked = [each for each in await on.bookings.of_mailbox(mailbox, window) if each.event_id]
        for booking in linked[:TRIED]:
            with suppress(Refused, Malformed):  # an event may have a trouble of its own, as may a mailbox
                event = await on.events.read(mailbox, str(booking.event_id))
                events += [] if event is None else [event]
    if any(event.booking_id for event in events):
        return ok("an event of a booking carries it")
    name = f"{on.settings.extension_name}, {on.settings.extension_property}"
    if not events:
        return skipped(f"no event of a booking within {AROUND.days} days to look at")
    lacks = "holds a booking's id in" if any(event.has_extension for event in events) else "carries"
    return warning(f"none of {len(events)} events of bookings {lacks} {name}")


async def scope(on: Instruments) -> Finding:
    """Look whether the app is kept from the mailbox ``outside``, as its access policy is to see to.

    Raises: SyncError if Graph cannot be asked.
    """
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
    """Look whether each wanted mailbox has a living subscription that is the app's.

    Raises: SyncError if mailboxes or storage cannot be read.
    """
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
    """Judge how the mailboxes are subscribed, from what the app would do now.

    *former* are the same deployment with the keys that are valid for a while yet. The first judge that has something to
    say is right: a key that is not the app's explains everything below it, and so on.
    """
    seen = _Seen.of(plan)
    return (
        _of_another_key(plan, former)
        or _of_missing(seen, last)
        or _of_unfinished(seen, plan)
        or _of_expiry(seen.text, min(each.expires for each in seen.alive), now)
    )


@dataclass(frozen=True)
class _Seen:
    """The subscriptions that are alive, and the mailboxes without one."""

    alive: Sequence[Subscription]
    missing: int
    troubles: Sequence[Trouble]
    """The app remembers these of the missing mailboxes."""
    text: str

    @classmethod
    def of(cls, plan: Plan) -> _Seen:
        alive = [subscription for _, subscription in (*plan.replace, *plan.renew, *plan.keep)]
        missing = [*plan.create, *(trouble.mailbox for trouble in plan.wait)]
        troubles = [plan.troubles[mailbox] for mailbox in missing if mailbox in plan.troubles]
        return cls(alive, len(missing), troubles, f"{len(alive)} of {plan.wanted} wanted are subscribed")

    @property
    def refusing(self) -> int:
        """How many of the missing mailboxes have refused their subscription."""
        return sum(trouble.tries > 0 for trouble in self.troubles)


def _of_another_key(plan: Plan, former: Sequence[Deployment]) -> Finding | None:
    """Tell of subscriptions with a key that this deployment has never had."""
    if plan.other_key is None or all(any(each.is_right(held) for each in former) for _, held in plan.replace):
        return None
    return failed(plan.other_key, "CLIENT_STATE_KEY is to be the app's: python -m sync subscriptions plan")


def _of_missing(seen: _Seen, last: LastRun | None) -> Finding | None:
    """Tell of mailboxes without a subscription, unless each of them has refused: that is the mailbox's own trouble."""
    if seen.alive and seen.missing <= seen.refusing:
        return None
    if last is None:
        return warning(
            f"{seen.text}; the app has not looked after them yet",
            "`python -m sync subscriptions apply` does it now, the timer renew_subscriptions each hour",
        )
    reason = f", {seen.troubles[0].mailbox}: {seen.troubles[0].reason}" if seen.troubles else ""
    return failed(f"{seen.text}; the app looked after them last at {last.at:%Y-%m-%d %H:%M} (UTC){reason}")


def _of_unfinished(seen: _Seen, plan: Plan) -> Finding | None:
    """Tell of mailboxes that refuse, of a run that waits for a person, and of subscriptions that are to be replaced."""
    if seen.refusing:
        return warning(f"{seen.text}; refused: {seen.refusing}", "python -m sync subscriptions: for what reason")
    if plan.refusal is not None:
        return warning(f"{seen.text}; {plan.refusal}", "if it is so: python -m sync subscriptions apply --leavers")
    if plan.replace:
        cure = "the app's next run does it; python -m sync subscriptions plan: for what reason"
        return warning(f"{seen.text}; to be replaced: {len(plan.replace)}", cure)
    return None


def _of_expiry(seen: str, first: datetime, now: datetime) -> Finding:
    """Warn if the *first* subscription to expire should have been renewed long ago."""
    seen += f", and the first expires {first:%Y-%m-%d %H:%M} (UTC)"
    return ok(seen) if first - now > SOON else warning(seen)


# --- the way in, and time ---


async def notification_url(on: Instruments) -> Finding:
    """Ask the app for a handshake at its NOTIFICATION_URL, as Graph does. Raises: Transient if it does not answer."""
    token = f"doctor {uuid4()} 1+1=2 ÄÖ€"  # opaque, with what an endpoint might decode or escape wrongly
    return judge_handshake(await shake_hands(on.deployment.url, token), token)


def judge_handshake(answer: Answer, token: str) -> Finding:
    """Judge *answer* as Graph does, and warn of one that is too slow for a notification.

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
    """Compare this machine's clock with those of Graph and Dataverse."""
    urls = {"Graph": on.settings.graph_url, "Dataverse": f"{on.settings.dataverse_url}/api/data/v9.2/"}
    told = await asyncio.gather(*(clock_offset(url, on.now) for url in urls.values()))
    offsets = {name: offset for name, offset in zip(urls, told, strict=True) if offset is not None}
    if not offsets:
        return skipped("neither service tells its time")
    seen = ", ".join(f"{name} {round(offset.total_seconds()):+d} s" for name, offset in offsets.items())
    return ok(seen) if all(abs(offset) <= OFF for offset in offsets.values()) else warning(seen)
