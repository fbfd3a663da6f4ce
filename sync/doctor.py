"""The checks of ``python -m sync doctor``: what has to be so before the app can work, each with its cure.

``CHECKS`` is the list. A check looks at one thing with the app's own clients and changes nothing, but for probes of its
own in storage. What depends on a check that failed is skipped, so that one thing that is wrong is named once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from sync.dataverse import DataverseBookings
from sync.definitions import Definitions, User, why_unfit
from sync.errors import AccessDenied, MailboxUnavailable, Misconfigured, NotFound, Refused, SyncError
from sync.graph import GraphEvents, GraphSubscriptions, Transport, read_secrets_ends
from sync.memory import RosterTable
from sync.outside import Answer, clock_offset, shake_hands
from sync.roster import Deployment
from sync.settings import Settings
from sync.storage import StorageQueues

TO_READ = ("prvReadUser", "prvReadBookableResource", "prvReadBookingStatus", "prvReadBookableResourceBooking")
TO_WRITE = ("prvWriteBookableResourceBooking", "prvAppendBookableResourceBooking", "prvAppendToBookingStatus")
"""Privileges. Two to append, because a lookup is written: a booking's status."""

TRIED = 3
"""Mailboxes that are read; one may have a trouble of its own, which `subscriptions` shows of all."""

NOBODY = "00000000-0000-0000-0000-000000000000"
"""No user's id: whatever Graph says of it, it has taken the token."""

OFF = timedelta(minutes=2)
"""Further than this the clocks must not be apart; tokens are valid from and until a time."""

SLOW = 3.0
"""Seconds. A handshake has ten, but the notifications that come the same way have three. Source: Graph, "Receive
change notifications through webhooks"."""

SOON = timedelta(days=1)
"""Subscriptions are renewed with half of a week ahead; with less than this, nobody does."""

SECRETS_SOON = timedelta(days=30)


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """What a check has seen; ``cure`` is for what failed and for warnings."""

    check: str
    state: State
    seen: str
    cure: str | None = None


@dataclass(frozen=True)
class Finding:
    state: State
    seen: str
    cure: str | None = None
    """None is the check's own."""


@dataclass(frozen=True)
class Instruments:
    """What there is to look with: the app's own clients."""

    settings: Settings
    deployment: Deployment
    to_graph: Transport
    events: GraphEvents
    subscriptions: GraphSubscriptions
    bookings: DataverseBookings
    definitions: Definitions
    queues: StorageQueues
    memory: RosterTable
    now: Callable[[], datetime]
    outside: str | None = None
    """A mailbox that the app must not be able to read."""


@dataclass(frozen=True)
class Check:
    """``look`` may raise a SyncError, which then is what was seen."""

    name: str
    needs: tuple[str, ...]
    look: Callable[[Instruments], Awaitable[Finding]]
    cure: str
    as_app: bool = False
    """A person who is signed in has other permissions for Graph, which say nothing; needs "dataverse user"."""


async def examine(
    prepare: Callable[[], Awaitable[Instruments]],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Result]:
    """The results of all checks, in the order of ``CHECKS``; what does not wait for one another runs at the same time.

    *prepare* raises Misconfigured if settings are missing, which is the first thing that can be wrong.
    """
    try:
        on, settings = await prepare(), Result(SETTINGS, State.OK, "all there and readable")
    except Misconfigured as error:
        on, settings = None, Result(SETTINGS, State.FAILED, str(error), "README, Settings")
    running: dict[str, asyncio.Task[Result]] = {}
    done = 0

    async def run(check: Check) -> Result:
        nonlocal done
        before = [settings, *[await running[name] for name in check.needs]]
        unmet = [result.check for result in before if result.state in (State.FAILED, State.SKIPPED)]
        if on is None or unmet:
            result = Result(check.name, State.SKIPPED, f"needs {', '.join(unmet)}")
        else:
            result = await _look(check, on)
        done += 1
        progress(done, len(CHECKS))
        return result

    for check in CHECKS:
        running[check.name] = asyncio.create_task(run(check))
    return [settings, *await asyncio.gather(*running.values())]


async def _look(check: Check, on: Instruments) -> Result:
    try:
        is_idle = check.as_app and (await _user(on)).application_id is None
        finding = _skipped("a person is signed in, not the app") if is_idle else await check.look(on)
    except SyncError as error:
        finding = _failed(str(error))
    is_well = finding.state in (State.OK, State.SKIPPED)
    return Result(check.name, finding.state, finding.seen, None if is_well else finding.cure or check.cure)


def _ok(seen: str) -> Finding:
    return Finding(State.OK, seen)


def _warning(seen: str, cure: str | None = None) -> Finding:
    return Finding(State.WARNING, seen, cure)


def _failed(seen: str, cure: str | None = None) -> Finding:
    return Finding(State.FAILED, seen, cure)


def _skipped(seen: str) -> Finding:
    return Finding(State.SKIPPED, seen)


# --- tokens ---


async def _graph_token(on: Instruments) -> Finding:
    with suppress(Refused):  # whoever is refused has been recognized
        await on.events.check_access(NOBODY)
    return _ok("Graph takes it")


async def _dataverse_token(on: Instruments) -> Finding:
    with suppress(Refused):
        await on.definitions.who_am_i()
    return _ok("Dataverse takes it")


# --- Dataverse ---


async def _dataverse_user(on: Instruments) -> Finding:
    user_id = await on.definitions.who_am_i()
    try:
        user = await on.definitions.user(user_id)
    except Refused as error:
        return _ok(f"{user_id}; its row cannot be read ({error})")  # for want of a privilege, which is the next check's
    if not user.is_enabled:
        return _failed(f"{user_id} is disabled", "Power Platform admin center, Application users: activate it")
    if user.application_id is None:
        return _warning(
            f"{user_id} is a person; what follows is what this person may do", "sign in as the app: docs/commands.md"
        )
    return _ok(f"application user {user_id}")


async def _user(on: Instruments) -> User:
    return await on.definitions.user(await on.definitions.who_am_i())


async def _may_read(on: Instruments) -> Finding:
    return await _may(on, TO_READ)


async def _may_write(on: Instruments) -> Finding:
    return await _may(on, TO_WRITE)


async def _may(on: Instruments, wanted: Sequence[str]) -> Finding:
    try:
        held = await on.definitions.privileges(await on.definitions.who_am_i())
    except Refused as error:  # whether it takes a privilege to see one's own is not documented
        return _warning(f"cannot be seen ({error})")
    return judge_privileges(held, wanted)


def judge_privileges(held: Mapping[str, str], wanted: Sequence[str]) -> Finding:
    missing = [name for name in wanted if name not in held]
    if missing:
        return _failed(f"missing {', '.join(missing)}")
    limited = [f"{name} ({held[name]})" for name in wanted if held[name] != "Global"]
    if limited:
        return _warning(f"not for the whole organization: {', '.join(limited)}", "give them at organization level")
    return _ok(f"all {len(wanted)}, for the whole organization")


async def _optimistic_concurrency(on: Instruments) -> Finding:
    try:
        is_enabled = await on.definitions.has_optimistic_concurrency()
    except Refused as error:
        return _warning(f"cannot be seen ({error})", _AS_CUSTOMIZER)
    return _ok("bookings have it") if is_enabled else _failed("bookings do not have it, so no write could be guarded")


async def _event_id_column(on: Instruments) -> Finding:
    name = on.settings.event_id_column
    try:
        column = await on.definitions.column(name)
    except Refused as error:
        return _warning(f"cannot be seen ({error})", _AS_CUSTOMIZER)
    if column is None:
        return _failed(f"bookings have no column {name}")
    trouble = why_unfit(column)
    if trouble is not None:
        return _failed(f"{name} {trouble}", "power apps, table Bookable Resource Booking: a text column of length 1024")
    return _ok(f"{name}, {column.type} of {column.max_length} characters")


async def _published(on: Instruments) -> Finding:
    if await on.bookings.knows_event_id_column():
        return _ok("queries know it")
    return _failed(f"queries do not know {on.settings.event_id_column}")


async def _names(on: Instruments) -> Finding:
    if await on.bookings.knows_names():
        return _ok("columns and navigation properties are called as expected")
    return _failed("a column or navigation property of bookings is called otherwise here")


async def _canceled(on: Instruments) -> Finding:
    return _ok(await on.bookings.canceled_status())


# --- whose calendars ---


async def _wanted(on: Instruments) -> list[str]:
    limit = on.settings.mailboxes
    return [mailbox for mailbox in await on.bookings.mailboxes() if not limit or mailbox in limit]


async def _mailboxes(on: Instruments) -> Finding:
    wanted = await _wanted(on)
    strangers = sorted(on.settings.mailboxes.difference(wanted))
    if not wanted:
        return _failed("nobody is to be synchronized")
    if strangers:
        return _warning(f"MAILBOXES names users who are no bookable resources: {', '.join(strangers)}")
    return _ok(f"{len(wanted)} wanted")


async def _calendars(on: Instruments) -> Finding:
    tried = (await _wanted(on))[:TRIED]
    refused = []
    for mailbox in tried:
        try:
            await on.events.check_access(mailbox)
        except MailboxUnavailable as error:
            refused.append(f"{mailbox}: {error}")
    if len(refused) == len(tried):
        return _failed(f"none of {len(tried)} tried can be read; {refused[0]}")
    if refused:
        return _warning(f"{len(tried) - len(refused)} of {len(tried)} tried can be read; {'; '.join(refused)}")
    return _ok(f"{len(tried)} tried can be read")


async def _scope(on: Instruments) -> Finding:
    if on.outside is None:
        return _skipped("not asked for: --outside MAILBOX names one that the app must not read")
    try:
        await on.events.check_access(on.outside)
    except AccessDenied:
        return _ok(f"{on.outside} is refused, as it should be")
    except MailboxUnavailable as error:
        return _warning(f"{on.outside}: {error}, which proves nothing", "name somebody who has a mailbox")
    return _failed(f"{on.outside} can be read")


async def _subscriptions(on: Instruments) -> Finding:
    ours = [each for each in await on.subscriptions.list() if on.deployment.owns(each)]
    if not ours:
        return _ok("can be listed; none is ours yet")
    first = min(each.expires for each in ours)
    seen = f"{len(ours)} are ours, and the first expires {first:%Y-%m-%d %H:%M} (UTC)"
    return _ok(seen) if first - on.now() > SOON else _warning(seen)


# --- storage ---


async def _queues(on: Instruments) -> Finding:
    await on.queues.probe()
    return _ok("a message was written, read and deleted")


async def _table(on: Instruments) -> Finding:
    await on.memory.probe()
    return _ok("a row was written, read and deleted")


# --- the way in, and time ---


async def _notification_url(on: Instruments) -> Finding:
    token = f"doctor {uuid4()} 1+1=2 ÄÖ€"  # opaque, with what an endpoint might decode or escape wrongly
    return judge_handshake(await shake_hands(on.deployment.url, token), token)


def judge_handshake(answer: Answer, token: str) -> Finding:
    """What Graph would say to *answer*, and sooner or later to one as slow.

    Source: Graph, "Receive change notifications through webhooks", validation.
    """
    took = f"in {answer.seconds:.1f} s"
    if answer.status in (401, 403):
        return _failed(f"{answer.status} {took}", "NOTIFICATION_URL: is its code the function's present key?")
    if answer.status == 404:
        return _failed(f"404 {took}", "NOTIFICATION_URL: is its path that of `notifications`, and the app deployed?")
    if answer.status != 200:
        return _failed(f"{answer.status} {took}, not 200", "the app's log tells why")
    if answer.media_type != "text/plain":
        return _failed(f"answered as {answer.media_type or 'nothing'}, not text/plain")
    if answer.body != token.encode():
        return _failed("did not echo the validation token as it is")
    if answer.seconds > SLOW:
        return _warning(f"echoed {took}; notifications have three seconds", "docs/deploy.md: an always-ready instance")
    return _ok(f"echoed {took}")


async def _clock(on: Instruments) -> Finding:
    urls = {"Graph": on.settings.graph_url, "Dataverse": f"{on.settings.dataverse_url}/api/data/v9.2/"}
    told = await asyncio.gather(*(clock_offset(url, on.now) for url in urls.values()))
    offsets = {name: offset for name, offset in zip(urls, told, strict=True) if offset is not None}
    if not offsets:
        return _skipped("neither service tells its time")
    seen = ", ".join(f"{name} {round(offset.total_seconds()):+d} s" for name, offset in offsets.items())
    return _ok(seen) if all(abs(offset) <= OFF for offset in offsets.values()) else _warning(seen)


async def _secrets(on: Instruments) -> Finding:
    try:
        ends = await read_secrets_ends(on.to_graph, str((await _user(on)).application_id))
    except NotFound:
        return _ok("no app registration")
    except Refused:
        return _skipped(
            "cannot be seen: Entra, App registrations, Certificates & secrets (a managed identity has none)"
        )
    if not ends:
        return _ok("the app registration has none")
    # After a rotation the former one may end in peace.
    seen = f"the last of {len(ends)} ends {ends[-1]:%Y-%m-%d} (UTC)"
    return _ok(seen) if ends[-1] - on.now() > SECRETS_SOON else _warning(seen)


SETTINGS = "settings"
_ROLE = "docs/real-tenant.md, 3: the role of the application user"
_AS_CUSTOMIZER = "`python -m sync doctor` as somebody who may customize tables"
_STORAGE = (
    "is AzureWebJobsStorage right, may this machine reach it, and has the identity the roles of docs/real-tenant.md?"
)

CHECKS: Sequence[Check] = (
    Check("graph token", (), _graph_token, "is the identity set up (or `az login`), and can GRAPH_URL be reached?"),
    Check("dataverse token", (), _dataverse_token, "is the identity set up, and is DATAVERSE_URL the environment's?"),
    Check("dataverse user", ("dataverse token",), _dataverse_user, "docs/real-tenant.md, 3: add the application user"),
    Check("may read", ("dataverse user",), _may_read, _ROLE),
    Check("may write", ("dataverse user",), _may_write, _ROLE),
    Check(
        "optimistic concurrency",
        ("dataverse user",),
        _optimistic_concurrency,
        "the table has it where it is enabled for offline use; without it the app cannot write",
    ),
    Check("event-id column", ("dataverse user",), _event_id_column, "python -m sync setup"),
    Check("column published", ("may read", "event-id column"), _published, "publish it: python -m sync setup"),
    Check("names", ("may read",), _names, "this version of the app does not fit the environment: report it"),
    Check("canceled status", ("may read",), _canceled, "CANCELED_STATUS_ID picks one"),
    Check(
        "mailboxes",
        ("may read",),
        _mailboxes,
        "an active bookable resource of type User for each, whose user is enabled and from Entra ID; see MAILBOXES",
    ),
    Check(
        "calendars",
        ("graph token", "mailboxes"),
        _calendars,
        "docs/real-tenant.md, 2: Calendars.Read, and its scope",
        as_app=True,
    ),
    Check(
        "scope",
        ("calendars",),
        _scope,
        "infra/scripts/scope-mailboxes.ps1; an access policy takes an hour or more to have effect",
    ),
    Check(
        "subscriptions",
        ("graph token",),
        _subscriptions,
        "does the timer renew_subscriptions run? `python -m sync subscriptions apply` does it now",
    ),
    Check("queues", (), _queues, _STORAGE),
    Check("table", (), _table, _STORAGE),
    Check("notification URL", (), _notification_url, "is the app deployed and running, and NOTIFICATION_URL its own?"),
    Check("clock", (), _clock, "set this machine's clock"),
    Check(
        "secrets", ("graph token", "may read"), _secrets, "make a new one, and delete the old one later", as_app=True
    ),
)
"""Each needs only what stands above it."""
