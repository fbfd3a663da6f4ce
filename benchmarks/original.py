"""The calls that the Power Automate original of this job makes, as plain HTTP: a run of the parent flow each time.

A port of its calls, not of its bugs: the flow itself leaves out the notifications `created` and `deleted`, and so
misses deletions; here each notification is acted on, so that both sides do the same work. No etags, no retries.
Source: A. Pajunen, "Two-way sync of bookings between Dynamics 365 and Outlook", part III.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp

from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY

COLUMN = "contoso_outlookeventid"
CANCELED = 690970005
"""Of ``msdyn_fieldservicestatus``."""


class Flows:
    """Over one session, as a connector reuses its connections."""

    def __init__(self, session: aiohttp.ClientSession, graph_url: str, dataverse_url: str) -> None:
        self._session = session
        self._graph = graph_url
        self._dataverse = f"{dataverse_url}/api/data/v9.2"

    async def run(self, mailbox: str, event_id: str) -> None:
        """The parent flow, for one notification."""
        expand = quote(f"extensions($filter=id eq '{EXTENSION_NAME}')")
        status, event = await self._call(
            "GET",
            f"{self._graph}/users/{mailbox}/events/{event_id}?$expand={expand}",
            Prefer='IdType="ImmutableId", outlook.timezone="UTC"',
        )
        if status == 404:
            await self._cancel(mailbox, event_id)
            return
        assert status == 200, status
        if event.get("extensions"):
            start, end = (event[name]["dateTime"][:19] + "Z" for name in ("start", "end"))
            await self._update(event["extensions"][0][EXTENSION_PROPERTY], event_id, start, end)

    async def _update(self, booking_id: str, event_id: str, start: str, end: str) -> None:
        """Two calls, the second of which always writes."""
        booking = await self._get(f"bookableresourcebookings({booking_id})")
        columns = {COLUMN: event_id}
        if (booking["starttime"], booking["endtime"]) != (start, end):
            columns |= {"starttime": start, "endtime": end}
        await self._patch(booking_id, columns)

    async def _cancel(self, mailbox: str, event_id: str) -> None:
        """Three calls if there is no booking, seven if it is canceled already, ten if not.

        The user is looked up by object id instead of by address: that is the same call.
        """
        user = await self._first("systemusers", f"azureactivedirectoryobjectid eq {mailbox}")
        await self._first("bookableresources", f"_userid_value eq {user['systemuserid']}")
        found = await self._first("bookableresourcebookings", f"{COLUMN} eq '{event_id}'")
        if found is None:
            return
        booking_id = found["bookableresourcebookingid"]
        booking = await self._get(
            f"bookableresourcebookings({booking_id})?$expand=BookingStatus($select=msdyn_fieldservicestatus)"
        )
        resource = await self._get(f"bookableresources({booking['_resource_value']})")
        assigned = await self._get(f"systemusers({resource['_userid_value']})")
        if assigned["systemuserid"] != user["systemuserid"]:
            return
        await self._patch(booking_id, {COLUMN: None})
        if booking["BookingStatus"]["msdyn_fieldservicestatus"] == CANCELED:
            return
        # Dataverse refuses this one, a booking needs its status; the flow goes on.
        await self._call("DELETE", f"{self._dataverse}/bookableresourcebookings({booking_id})/BookingStatus/$ref")
        canceled = await self._first("bookingstatuses", f"msdyn_fieldservicestatus eq {CANCELED}")
        await self._patch(booking_id, {"BookingStatus@odata.bind": f"/bookingstatuses({canceled['bookingstatusid']})"})

    async def _get(self, path: str) -> Any:
        status, body = await self._call("GET", f"{self._dataverse}/{path}")
        assert status == 200, (path, status)
        return body

    async def _first(self, table: str, condition: str) -> Any:
        rows = (await self._get(f"{table}?$filter={quote(condition)}"))["value"]
        return rows[0] if rows else None

    async def _patch(self, booking_id: str, columns: dict[str, Any]) -> None:
        url = f"{self._dataverse}/bookableresourcebookings({booking_id})"
        status, _ = await self._call("PATCH", url, columns)
        assert status == 204, status

    async def _call(self, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        async with self._session.request(
            method, url, json=body, headers={"Authorization": "Bearer loopback", **headers}
        ) as answer:
            return answer.status, await answer.json() if answer.content_type == "application/json" else None
