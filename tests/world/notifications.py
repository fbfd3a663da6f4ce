"""Notifications as Graph posts them, item by item: the shapes that tests bend. Tests stay out."""

from __future__ import annotations

from typing import Any

from sync.graph.client_state import build_client_state

KEY = "the current key, of more than 32 characters"
PREVIOUS = "the previous key, of more than 32 characters"
FORGERS = "a key that somebody else made up for himself"
# With letters, which may be written in either case.
ANNA = "a11a0000-abcd-4aaa-8aaa-0123456789ab"
BEN = "be220000-abcd-4bbb-8bbb-0123456789ab"
TENANT = "7e220000-abcd-4ccc-8ccc-0123456789ab"
SUBSCRIPTION = "5b000000-abcd-4ddd-8ddd-0123456789ab"

EVENT = "AAMkAGI1-Ab_cDEf0123456789AAA="
OTHER_EVENT = EVENT.replace("b", "B")  # Exchange ids differ by case alone

GONE = object()


def change(mailbox: str = ANNA, event: str = EVENT, **fields: Any) -> dict[str, Any]:
    """A change item in Graph's shape; *fields* replace its own, GONE takes one away."""
    item = {
        "id": "77777777-7777-4777-8777-777777777777",
        "subscriptionId": SUBSCRIPTION,
        "subscriptionExpirationDateTime": "2026-03-09T06:00:00.1234567+00:00",
        "changeType": "updated",
        "resource": f"Users/{mailbox}/Events/{event}",
        "clientState": build_client_state(KEY, mailbox),
        "tenantId": TENANT,
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.Event",
            "@odata.id": f"Users/{mailbox}/Events/{event}",
            "@odata.etag": 'W/"DwAAABYAAAA="',
            "id": event,
        },
    }
    return {name: value for name, value in (item | fields).items() if value is not GONE}


def lifecycle(mailbox: str = ANNA, word: str = "missed", **fields: Any) -> dict[str, Any]:
    item = {
        "subscriptionId": SUBSCRIPTION,
        "subscriptionExpirationDateTime": "2026-03-09T06:00:00Z",
        "tenantId": TENANT,
        "clientState": build_client_state(KEY, mailbox),
        "lifecycleEvent": word,
    }
    return {name: value for name, value in (item | fields).items() if value is not GONE}
