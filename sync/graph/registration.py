"""When the secrets and certificates of the app registration end. This file reads no secret, and it changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sync.calls.shapes import list_of
from sync.errors import Malformed
from sync.graph.parsing import UNREADABLE
from sync.graph.transport import Transport
from sync.times import parse_moment


async def read_secrets_ends(transport: Transport, app_id: str) -> Sequence[datetime]:
    """Return when the secrets and certificates of the app registration end, soonest first.

    It takes Application.Read.All, which the app is not to have. Source: Graph, "Get application".
    Raises: Refused, most likely; Transient, Malformed.
    """
    builder = transport.client.applications_with_app_id(app_id)
    answer = await transport.send("graph", builder.to_get_request_information())
    try:
        credentials = [*list_of("graph", answer, "passwordCredentials"), *list_of("graph", answer, "keyCredentials")]
        return sorted(parse_moment(each["endDateTime"]) for each in credentials)
    except UNREADABLE as error:
        raise Malformed(f"graph: an application that cannot be read ({type(error).__name__})") from None
