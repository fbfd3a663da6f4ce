"""Bookable resources: whose calendars the app keeps, and which of them have bookings soon.

This file reads resources and the users behind them. Bookings with their times and status are read in ``bookings.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sync.dataverse.parsing import rows_of
from sync.dataverse.transport import PAGE_SIZE, Transport
from sync.ids import guid_of, parse_guid
from sync.model import Span
from sync.times import build_moment

log = logging.getLogger(__name__)

ORDER_PAGES = 10
"""Pages of 5,000 bookings each, read to find out which mailboxes come first. If this is too small, many mailboxes are
swept in no order. If it is too large, a sweep of all mailboxes begins late."""

_USER_RESOURCE = 3
"""The ``resourcetype`` of a resource that is a user. Source: Dataverse, "BookableResource table"."""


class Resources:
    """The bookable resources of one environment that are users. *order_pages* is a number of pages."""

    def __init__(self, transport: Transport, order_pages: int = ORDER_PAGES) -> None:
        self._transport = transport
        self._order_pages = order_pages

    async def mailboxes(self) -> Sequence[str]:
        """Return the Entra object ids of all enabled users who are active bookable resources, in lower case, sorted.

        Raises: Transient, Refused, Malformed.
        """
        path = (
            "bookableresources?$select=bookableresourceid"
            f"&$filter=resourcetype%20eq%20{_USER_RESOURCE}%20and%20statecode%20eq%200"
            "&$expand=UserId($select=azureactivedirectoryobjectid,isdisabled)"
        )
        found = set()
        for row in await self._transport.get_rows(path, PAGE_SIZE):
            user = row.get("UserId") or {}
            if not user.get("azureactivedirectoryobjectid") or user.get("isdisabled"):
                continue
            if mailbox := parse_guid(user["azureactivedirectoryobjectid"]):
                found.add(mailbox)
            else:
                log.warning("a user whose Entra object id is no GUID is left out")
        return sorted(found)

    async def ids_of(self, mailbox: str) -> Sequence[str]:
        """Return the ids of the resources that are the mailbox's user: most often one, none if there is no resource.

        Raises: ValueError if *mailbox* is no GUID; Transient, Refused, Malformed.
        """
        page = await self._transport.get(
            "bookableresources?$select=bookableresourceid"
            f"&$filter=resourcetype%20eq%20{_USER_RESOURCE}"
            f"%20and%20UserId/azureactivedirectoryobjectid%20eq%20{UUID(mailbox)}"
        )
        return [guid_of(row["bookableresourceid"]) for row in rows_of(page)]

    async def by_start(self, wanted: Sequence[str], window: Span) -> Sequence[str]:
        """Return those *wanted* mailboxes that have bookings within *window*, in the order of their first booking.

        Pages are read until all mailboxes are found, and ``order_pages`` pages at most. A mailbox that is left out has
        no booking on these pages. Raises: Transient, Refused, Malformed.
        """
        path: str | None = (
            "bookableresourcebookings?$select=starttime"
            "&$expand=Resource($select=resourcetype;$expand=UserId($select=azureactivedirectoryobjectid))"
            f"&$filter=statecode%20eq%200%20and%20Resource/resourcetype%20eq%20{_USER_RESOURCE}"
            f"%20and%20endtime%20ge%20{build_moment(window.start)}%20and%20starttime%20le%20{build_moment(window.end)}"
            "&$orderby=starttime"
        )
        left = set(wanted)
        found: list[str] = []
        for _ in range(self._order_pages):
            if not path or not left:
                break
            page = await self._transport.get(path, page_size=PAGE_SIZE)
            for mailbox in map(_mailbox_of, rows_of(page)):
                if mailbox in left:
                    left.remove(mailbox)
                    found.append(mailbox)
            path = page.get("@odata.nextLink")
        return found


def _mailbox_of(row: Any) -> str:
    user = (row.get("Resource") or {}).get("UserId") or {}
    return str(user.get("azureactivedirectoryobjectid")).lower()
