"""What a POST of notifications says: its items as documented, and the forms they were seen in as well.

When and where to it is sent stands in ``delivery.py``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from urllib.parse import quote

from sandbox.graph.mailboxes import ChangeType, Notice
from sandbox.graph.subscriptions import Subscription

LifecycleEvent = Literal["reauthorizationRequired", "subscriptionRemoved", "missed"]
Item = dict[str, Any]


@dataclass
class Hostility:
    """How unpleasant deliveries are; the defaults are a perfect world. Chances are from 0 to 1.

    Everything on, but nothing lost, is ``Hostility.all()``.
    """

    # When and how often.
    delay: tuple[float, float] = (0.0, 0.0)
    """Simulated seconds, from and to, that each notification is late."""
    gather: float = 0.0
    """Simulated seconds to wait for more notifications before a POST."""
    batch: int = 1
    """Up to so many items in one POST, of any subscriptions with the same URL."""
    reorder: bool = False
    copies: int = 1
    """Each notification comes up to so many times."""
    extra_updates: int = 0
    """Up to so many further `updated` follow each created or updated (microsoft-graph-docs issue 7598)."""
    drop: float = 0.0
    """Lost without a trace, not even `missed`."""

    # What else is in a POST.
    lifecycle: float = 0.0
    """reauthorizationRequired of one of its subscriptions."""
    forged: float = 0.0
    """The same item again with a wrong clientState."""
    unknown_items: float = 0.0
    """An item of an unknown subscription, or of no known kind."""

    # How an item looks.
    path_forms: bool = False
    date_forms: bool = False
    omit_fields: bool = False
    """``id``, ``tenantId``, the etag."""
    unknown_fields: bool = False

    @classmethod
    def all(cls) -> Hostility:
        return cls(
            delay=(0.0, 30.0),
            gather=1.0,
            batch=5,
            reorder=True,
            copies=4,
            extra_updates=3,
            lifecycle=0.2,
            forged=0.2,
            unknown_items=0.2,
            path_forms=True,
            date_forms=True,
            omit_fields=True,
            unknown_fields=True,
        )


def write_change(
    subscription: Subscription, notice: Notice, change_type: ChangeType, tenant_id: str, rng: random.Random
) -> Item:
    """One changeNotification. Source: Graph, "changeNotification resource type"."""
    event_id = notice.immutable_id if subscription.immutable_ids else notice.plain_id
    path = f"Users/{notice.mailbox.id}/Events/{event_id}"
    return {
        "subscriptionId": subscription.id,
        "subscriptionExpirationDateTime": subscription.expiration.isoformat(),
        "changeType": change_type,
        "resource": path,
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.Event",
            "@odata.id": path,
            "@odata.etag": notice.etag,
            "id": event_id,
        },
        "clientState": subscription.client_state,
        "tenantId": tenant_id,
        "id": quote(rng.randbytes(9).hex()),
    }


def write_lifecycle(subscription: Subscription, event: LifecycleEvent, tenant_id: str) -> Item:
    """No resource, no changeType. Source: Graph, "Reduce missing change notifications and removed subscriptions"."""
    return {
        "subscriptionId": subscription.id,
        "subscriptionExpirationDateTime": f"{subscription.expiration:%Y-%m-%dT%H:%M:%S.%f}0Z",
        "tenantId": tenant_id,
        "clientState": subscription.client_state,
        "lifecycleEvent": event,
    }


def disguise(item: Item, subscription: Subscription, hostility: Hostility, rng: random.Random) -> Item:
    """The same item in another of the forms seen in the wild; what it says stays what it was."""
    item = {**item, "resourceData": dict(item["resourceData"])} if "resourceData" in item else dict(item)
    if hostility.date_forms:
        item["subscriptionExpirationDateTime"] = rng.choice(_DATE_FORMS)(subscription.expiration)
    if hostility.path_forms and "resourceData" in item:
        mailbox, event_id = subscription.mailbox, item["resourceData"]["id"]
        user = rng.choice([mailbox.id, f"{mailbox.id}@{item['tenantId']}", quote(mailbox.address, safe="")])
        path = rng.choice(_PATH_FORMS).format(user=user, event=event_id)
        item["resource"] = item["resourceData"]["@odata.id"] = path
    if hostility.omit_fields:
        for name in ("id", "tenantId"):
            if rng.random() < 0.5:
                item.pop(name, None)
        if "resourceData" in item and rng.random() < 0.5:
            del item["resourceData"]["@odata.etag"]
    if hostility.unknown_fields:
        item |= {"sequenceNumber": rng.randrange(1000), "organizationId": None, "experimental": {"nested": [1, "two"]}}
    return item


def forge(item: Item, rng: random.Random) -> Item:
    """Someone else's idea of this item: everything right but the secret."""
    wrong = rng.choice([None, "", "guessed", (item["clientState"] or "") + "x"])
    return {**item, "clientState": wrong}


def make_unknown(item: Item, tenant_id: str, rng: random.Random) -> Item:
    """An item that nobody subscribed to, or of a kind that does not exist yet."""
    nobody = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return rng.choice(
        [
            {**item, "subscriptionId": nobody},
            {**item, "subscriptionId": nobody, "clientState": None},
            {
                "subscriptionId": item["subscriptionId"],
                "subscriptionExpirationDateTime": item["subscriptionExpirationDateTime"],
                "tenantId": tenant_id,
                "clientState": item["clientState"],
                "lifecycleEvent": "somethingNew",
            },
            {},
        ]
    )


_PATH_FORMS = (
    "Users/{user}/Events/{event}",
    "users/{user}/events/{event}",
    "/Users/{user}/Events/{event}",
    "Users('{user}')/events('{event}')",
)
_DATE_FORMS: tuple[Callable[[datetime], str], ...] = (
    lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z",
    lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}.5082+00:00",
    lambda moment: moment.isoformat(),
    lambda moment: moment.astimezone(timezone(timedelta(hours=2))).isoformat(timespec="seconds"),
)
