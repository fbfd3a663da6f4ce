"""What Graph posts: change notifications as documented, for whoever is measured to take.

Source: Graph, "changeNotification resource type".
"""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

from sandbox.graph import outlook_ids
from sync.graph.client_state import build_client_state

TENANT = "7e220000-abcd-4ccc-8ccc-0123456789ab"

Item = dict[str, Any]


def build_item(key: str, mailbox: str, event_id: str, change_type: str, etag: str) -> Item:
    """One change notification, whose clientState is made with *key*."""
    path = f"Users/{mailbox}/Events/{event_id}"
    return {
        "id": "77777777-7777-4777-8777-777777777777",
        "subscriptionId": mailbox,
        "subscriptionExpirationDateTime": "2026-03-09T06:00:00.0000000+00:00",
        "changeType": change_type,
        "resource": path,
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.Event",
            "@odata.id": path,
            "@odata.etag": etag,
            "id": event_id,
        },
        "clientState": build_client_state(key, mailbox),
        "tenantId": TENANT,
    }


def build_post(rng: random.Random, key: str, items: int, mailboxes: int, times: int = 1) -> bytes:
    """A POST of so many changes in so many mailboxes, of each event so many *times*, each with another etag."""
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(mailboxes)]
    value = []
    for number in range(items):
        if number % times == 0:
            mailbox, event_id = ids[number // times % mailboxes], outlook_ids.immutable_id(rng)
        value.append(build_item(key, mailbox, event_id, "updated", f'W/"{outlook_ids.change_key(rng)}"'))
    return json.dumps({"value": value}).encode()
