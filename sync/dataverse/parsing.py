"""Dataverse's JSON → our values. Pure: this file sends nothing, and it builds no query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync.calls.shapes import fields_of, list_of
from sync.errors import Malformed, Misconfigured
from sync.ids import comparable_id, guid_of
from sync.model import Booking, Span
from sync.times import parse_moment

# Source: bookingstatus table, and Field Service's choice msdyn_bookingsystemstatus. On Break stands before In Progress.
_STATUS_CANCELED = 3
_TRAVELING, _ON_BREAK, _IN_PROGRESS, _COMPLETED, _CANCELED = (690970000 + n for n in range(1, 6))
_HAS_BEGUN = frozenset({_TRAVELING, _ON_BREAK, _IN_PROGRESS, _COMPLETED})

FIELD_SERVICE_STATUS = "msdyn_fieldservicestatus"
MODIFIED_BY = "_modifiedby_value"


def choose_canceled(rows: Sequence[Any]) -> str:
    """The id of the one active booking status that means Canceled: by Field Service's value, else by ``status``.

    Statuses are rows that can be renamed and multiplied at will, so a name tells nothing.
    Raises: Misconfigured if there is none or several.
    """
    found = [row for row in rows if row.get(FIELD_SERVICE_STATUS) == _CANCELED]
    found = found or [row for row in rows if row.get("status") == _STATUS_CANCELED]
    if len(found) == 1:
        return guid_of(found[0]["bookingstatusid"])
    names = ", ".join(f"{row.get('name')} ({row.get('bookingstatusid')})" for row in found) or "none"
    raise Misconfigured(f"CANCELED_STATUS_ID must say which booking status means Canceled; found: {names}")


def parse_booking(row: Any, event_id_column: str) -> Booking:
    """Raises: Incomplete if *row* does not have what was asked for; Malformed if that cannot be read."""
    fields_of("dataverse", row, ("bookableresourcebookingid", "@odata.etag", "starttime", "endtime", "statecode"))
    try:
        status = row["BookingStatus"] or {}
        user = (row["Resource"] or {}).get("UserId") or {}
        object_id = user.get("azureactivedirectoryobjectid")
        field_service = status.get(FIELD_SERVICE_STATUS)
        return Booking(
            id=guid_of(row["bookableresourcebookingid"]),
            etag=str(row["@odata.etag"]),
            span=Span.of(parse_moment(row["starttime"]), parse_moment(row["endtime"])),
            event_id=event_id_of(row, event_id_column),
            mailbox=guid_of(object_id) if object_id else None,
            is_active=row["statecode"] == 0,
            is_canceled=is_canceled(status),
            has_begun=field_service in _HAS_BEGUN,
            modified_by=guid_of(row[MODIFIED_BY]) if row.get(MODIFIED_BY) else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Malformed(f"dataverse: a booking that cannot be read ({type(error).__name__})") from None


def event_id_of(row: Any, event_id_column: str) -> str | None:
    """The event's id that *row* holds, as ids are compared; None if the column is empty."""
    value = row.get(event_id_column)
    return comparable_id(value) if isinstance(value, str) and value else None


def parse_own_id(answer: Any) -> str:
    """Return the caller's own systemuserid of WhoAmI's *answer*. Raises: Malformed if there is none."""
    try:
        return guid_of(answer["UserId"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Malformed("dataverse: WhoAmI without a UserId") from None


def is_canceled(status: Any) -> bool:
    """Say whether a row of statuses means Canceled: by Field Service's value, by ``status`` where that is empty."""
    field_service = status.get(FIELD_SERVICE_STATUS)
    return bool(field_service == _CANCELED if field_service is not None else status.get("status") == _STATUS_CANCELED)


def rows_of(page: Any) -> list[Any]:
    """Return the rows of one page of a list. Raises: Incomplete if *page* has none."""
    return list_of("dataverse", page)
