"""The checks of both services' set-up: tokens, rights, the event-id column, statuses, secrets.

A check asks the app's own clients one thing and judges the answer. Checks of mailboxes, subscriptions and storage stay
out: they are in ``checks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from sync.dataverse.definitions import User, why_unfit
from sync.doctor.findings import Finding, Instruments, failed, ok, skipped, warning
from sync.errors import NotFound, Refused
from sync.graph.registration import read_secrets_ends

TO_READ = ("prvReadUser", "prvReadBookableResource", "prvReadBookingStatus", "prvReadBookableResourceBooking")
TO_WRITE = ("prvWriteBookableResourceBooking", "prvAppendBookableResourceBooking", "prvAppendToBookingStatus")
"""Privileges. Two to append, because a lookup is written: a booking's status."""

NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id that no user has. Graph answers about it only after it has taken the token."""

SECRETS_SOON = timedelta(days=30)
"""A secret that ends within this time is a warning. With a shorter time, a secret may end between two looks; with a
longer one, the warning is there for so long that nobody reads it."""

AS_CUSTOMIZER = "`python -m sync doctor` as somebody who may customize tables"
"""The cure where the caller may not see what a customizer sees."""

SECURED = "Power Platform admin center, Column security profiles: one for the app, with Read and Update of this column"
"""The cure where the column is secured and closed to the app."""


# --- tokens ---


async def graph_token(on: Instruments) -> Finding:
    """Look whether Graph takes the app's token. Raises: SyncError if there is no token, or Graph does not take it."""
    with suppress(Refused):  # a refusal comes after the token was taken
        await on.events.check_access(NOBODY)
    return ok("Graph takes it")


async def dataverse_token(on: Instruments) -> Finding:
    """Look whether Dataverse takes the app's token. Raises: SyncError if there is none, or it is not taken."""
    with suppress(Refused):
        await on.definitions.who_am_i()
    return ok("Dataverse takes it")


# --- Dataverse ---


async def dataverse_user(on: Instruments) -> Finding:
    """Look whether the caller is an enabled application user of the environment. Raises: SyncError if it is no user."""
    user_id = await on.definitions.who_am_i()
    try:
        user = await on.definitions.user(user_id)
    except Refused as error:
        return ok(f"{user_id}; its row cannot be read ({error})")  # for want of a privilege, which is the next check's
    if not user.is_enabled:
        return failed(f"{user_id} is disabled", "Power Platform admin center, Application users: activate it")
    if user.application_id is None:
        return warning(
            f"{user_id} is a person; what follows is what this person may do", "sign in as the app: docs/commands.md"
        )
    return ok(f"application user {user_id}")


async def user(on: Instruments) -> User:
    """Return the row of the caller's own user. Raises: SyncError if it cannot be read."""
    return await on.definitions.user(await on.definitions.who_am_i())


async def may_read(on: Instruments) -> Finding:
    """Look whether the caller has the privileges ``TO_READ``."""
    return await _may(on, TO_READ)


async def may_write(on: Instruments) -> Finding:
    """Look whether the caller has the privileges ``TO_WRITE``."""
    return await _may(on, TO_WRITE)


async def _may(on: Instruments, wanted: Sequence[str]) -> Finding:
    try:
        held = await on.definitions.privileges(await on.definitions.who_am_i())
    except Refused as error:  # whether it takes a privilege to see one's own is not documented
        return warning(f"cannot be seen ({error})")
    return judge_privileges(held, wanted)


def judge_privileges(held: Mapping[str, str], wanted: Sequence[str]) -> Finding:
    """Judge the privileges *held*, with their depth, by those that are *wanted*.

    A caller without any has no role. Only the check "may read" says so, as it is one cause.
    """
    if held.keys().isdisjoint((*TO_READ, *TO_WRITE)):
        return failed("none of what the app needs: no role?") if wanted is TO_READ else skipped("needs may read")
    missing = [name for name in wanted if name not in held]
    if missing:
        return failed(f"missing {', '.join(missing)}")
    limited = [f"{name} ({held[name]})" for name in wanted if held[name] != "Global"]
    if limited:
        return warning(f"not for the whole organization: {', '.join(limited)}", "give them at organization level")
    return ok(f"all {len(wanted)}, for the whole organization")


async def optimistic_concurrency(on: Instruments) -> Finding:
    """Look whether bookings have etags that a write can be guarded by."""
    try:
        is_enabled = await on.definitions.has_optimistic_concurrency()
    except Refused as error:
        return warning(f"cannot be seen ({error})", AS_CUSTOMIZER)
    return ok("bookings have it") if is_enabled else failed("bookings do not have it, so no write could be guarded")


async def event_id_column(on: Instruments) -> Finding:
    """Look whether bookings have the column EVENT_ID_COLUMN, whether it fits, and whether the caller may use it."""
    name = on.settings.event_id_column
    try:
        column = await on.definitions.column(name)
    except Refused as error:
        return warning(f"cannot be seen ({error})", AS_CUSTOMIZER)
    if column is None:
        return failed(f"bookings have no column {name}")
    trouble = why_unfit(column)
    if trouble is not None:
        return failed(f"{name} {trouble}", "power apps, table Bookable Resource Booking: a text column of length 1024")
    seen = f"{name}, {column.type} of {column.max_length} characters"
    return ok(seen) if column.secured_as is None else await _secured(on, seen, column.secured_as)


async def _secured(on: Instruments, seen: str, column_id: str) -> Finding:
    """Look whether the caller may read and update the secured column.

    Without the right to read, each booking seems to hold no event id. Without the right to update, none is linked.
    """
    name = on.settings.event_id_column
    try:
        rights = await on.definitions.rights(await on.definitions.who_am_i(), column_id)
    except Refused as error:
        trouble = f"whether the caller may read and update it cannot be seen ({error})"
        return warning(f"{name} is secured, and {trouble}", AS_CUSTOMIZER)
    missing = [right for right in ("read", "update") if right not in rights]
    if not missing:
        return ok(f"{seen}, secured, and open to the caller")
    trouble = f"is secured, and column security profiles do not let the caller {' and '.join(missing)} it"
    return failed(f"{name} {trouble}", SECURED)


async def published(on: Instruments) -> Finding:
    """Look whether queries know the event-id column, which they do once it is published."""
    if await on.bookings.knows_event_id_column():
        return ok("queries know it")
    return failed(f"queries do not know {on.settings.event_id_column}")


async def names(on: Instruments) -> Finding:
    """Look whether columns and navigation properties of bookings are called as the app expects."""
    if await on.bookings.knows_names():
        return ok("columns and navigation properties are called as expected")
    return failed("a column or navigation property of bookings is called otherwise here")


async def canceled(on: Instruments) -> Finding:
    """Look which booking status means Canceled. Raises: Misconfigured if none does, or more than one."""
    return ok(await on.bookings.statuses.canceled_status())


async def secrets(on: Instruments) -> Finding:
    """Look when the secrets of the app registration end, where the caller may see it."""
    try:
        ends = await read_secrets_ends(on.to_graph, str((await user(on)).application_id))
    except NotFound:
        return ok("no app registration")
    except Refused:
        return skipped("cannot be seen: Entra, App registrations, Certificates & secrets (a managed identity has none)")
    if not ends:
        return ok("the app registration has none")
    # After a rotation the former one may end in peace.
    if ends[-1] <= on.now():
        return failed(f"the last of {len(ends)} ended {ends[-1]:%Y-%m-%d} (UTC)", "make a new one")
    seen = f"the last of {len(ends)} ends {ends[-1]:%Y-%m-%d} (UTC)"
    return ok(seen) if ends[-1] - on.now() > SECRETS_SOON else warning(seen)
