"""The checks of ``python -m sync doctor``: what has to be so before the app can work, each with its cure.

``CHECKS`` is the list. A check looks at one thing with the app's own clients. It changes nothing but probes of its own
in storage. If a check fails, the checks that need it are skipped, so that one cause is named once. How a check looks
and judges stays out: that is in ``checks.py`` and ``service_checks.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sync.doctor import checks, findings, service_checks, storage_checks
from sync.doctor.findings import Finding, Instruments, State
from sync.errors import Misconfigured, Refused, SyncError, Throttled

SETTINGS = "settings"
_ROLE = "docs/real-tenant.md, 3: the role of the application user"
_STORAGE = (
    "is AzureWebJobsStorage right, may this machine reach it, and has the identity the roles of docs/real-tenant.md?"
)


@dataclass(frozen=True)
class Result:
    """The outcome of one check. ``seen`` tells it in words; failures and warnings have a ``cure``."""

    check: str
    state: State
    seen: str
    cure: str | None = None


@dataclass(frozen=True)
class Check:
    """One check, and the names of those that it ``needs``. If ``look`` raises a SyncError, that is what was seen."""

    name: str
    needs: tuple[str, ...]
    look: Callable[[Instruments], Awaitable[Finding]]
    cure: str
    as_app: bool = False
    """Skip it for a person who is signed in: that person's permissions for Graph tell nothing of the app's.
    Such a check needs "dataverse user", directly or not."""


async def examine(
    prepare: Callable[[], Awaitable[Instruments]],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Result]:
    """Return the results of all checks, in the order of ``CHECKS``. Checks that need no other run at the same time.

    *prepare* builds the instruments. If it raises Misconfigured, the settings have failed and all checks are skipped.
    *progress* is told how many checks are done, of how many.
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
        is_idle = check.as_app and (await service_checks.user(on)).application_id is None
        finding = findings.skipped("a person is signed in, not the app") if is_idle else await check.look(on)
    except SyncError as error:
        finding = findings.failed(str(error), _cure(check, error))
    is_well = finding.state in (State.OK, State.SKIPPED)
    return Result(check.name, finding.state, finding.seen, None if is_well else finding.cure or check.cure)


def _cure(check: Check, error: SyncError) -> str | None:
    """Return the cure that fits *error* in each check; None if the check's own cure is to be shown."""
    if isinstance(error, Throttled):
        return "the service has had too many calls, of whomever: wait a few minutes"
    if isinstance(error, Refused) and "may read" in check.needs:
        return _ROLE  # which "may read" could not see, or that more than its privileges is missing
    return None


CHECKS: Sequence[Check] = (
    Check(
        "graph token",
        (),
        service_checks.graph_token,
        "is the identity set up (or `az login`), can GRAPH_URL be reached, and is Graph well (Service health)?",
    ),
    Check(
        "dataverse token",
        (),
        service_checks.dataverse_token,
        "is the identity set up (or `az login`), is DATAVERSE_URL the environment's, is that well (Service health)?",
    ),
    Check(
        "dataverse user",
        ("dataverse token",),
        service_checks.dataverse_user,
        "docs/real-tenant.md, 3: add the application user",
    ),
    Check("may read", ("dataverse user",), service_checks.may_read, _ROLE),
    Check("may write", ("dataverse user",), service_checks.may_write, _ROLE),
    Check(
        "optimistic concurrency",
        ("dataverse user",),
        service_checks.optimistic_concurrency,
        "Power Apps, table Bookable Resource Booking: let it be taken offline, as tables that may be have it",
    ),
    Check("event-id column", ("dataverse user",), service_checks.event_id_column, "python -m sync setup"),
    Check(
        "column published",
        ("may read", "event-id column"),
        service_checks.published,
        "publish it: python -m sync setup",
    ),
    Check(
        "names",
        ("may read",),
        service_checks.names,
        "this version of the app does not fit the environment: report it",
    ),
    Check("canceled status", ("may read",), service_checks.canceled, "CANCELED_STATUS_ID picks one"),
    Check(
        "mailboxes",
        ("may read",),
        checks.mailboxes,
        "an active bookable resource of type User for each, whose user is enabled and from Entra ID; see MAILBOXES",
    ),
    Check(
        "calendars",
        ("graph token", "mailboxes"),
        checks.calendars,
        "docs/real-tenant.md, 2: Calendars.Read, and its scope",
        as_app=True,
    ),
    Check(
        "scope",
        ("calendars",),
        checks.scope,
        "infra/scripts/scope-mailboxes.ps1; an access policy takes an hour or more to have effect",
    ),
    Check("storage account", (), storage_checks.storage_account, _STORAGE),
    Check("queues", ("storage account",), storage_checks.queues, _STORAGE),
    Check("table", ("storage account",), storage_checks.table, _STORAGE),
    Check(
        "storage owner",
        ("table",),
        storage_checks.owner,
        "give each deployment an account of its own: docs/deploy.md, Slots and test systems",
    ),
    Check(
        "notification URL",
        (),
        checks.notification_url,
        "is the app deployed and running, and NOTIFICATION_URL its own?",
    ),
    Check(
        "subscriptions",
        ("calendars", "column published", "table", "notification URL"),
        checks.subscriptions,
        "does the timer renew_subscriptions run? `python -m sync subscriptions apply` does it now",
    ),
    Check(
        "extension",
        ("calendars", "names", "column published"),
        checks.extension,
        "EXTENSION_NAME and EXTENSION_PROPERTY are to be those that whatever makes the events writes",
    ),
    Check("clock", (), checks.clock, "set this machine's clock"),
    Check(
        "secrets",
        ("graph token", "may read"),
        service_checks.secrets,
        "make a new one, and delete the old one later",
        as_app=True,
    ),
)
"""Each needs only what stands above it."""
