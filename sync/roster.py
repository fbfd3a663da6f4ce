"""(wanted mailboxes, present subscriptions, now) → which subscriptions to create and renew. Without IO.

Subscriptions of other applications never show up in the listing, those of other deployments of this app are known by
their URL, and both are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.model import Subscription

LIFETIME = timedelta(minutes=10_000)
"""Asked for at each renewal. Graph documents 10,080 minutes for events and is reported to refuse more than 10,070."""

CHANGE_TYPES = frozenset({"created", "updated", "deleted"})

_RESOURCE = re.compile(r"/?users/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/events", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    create: tuple[str, ...]
    """Mailboxes."""
    renew: tuple[tuple[str, str], ...]
    """Mailboxes and the ids of their subscriptions."""


def plan_roster(wanted: Iterable[str], present: Iterable[Subscription], notification_url: str, now: datetime) -> Plan:
    """Say what gives each of the *wanted* mailboxes a subscription with at least half of its life ahead.

    An expired subscription may still be listed for a while, it counts as absent.
    """
    kept: dict[str, Subscription] = {}
    for subscription in present:
        mailbox = mailbox_of(subscription)
        if mailbox is None or subscription.notification_url != notification_url or subscription.expires <= now:
            continue
        if mailbox not in kept or subscription.expires > kept[mailbox].expires:
            kept[mailbox] = subscription
    mailboxes = sorted(set(wanted))
    return Plan(
        create=tuple(mailbox for mailbox in mailboxes if mailbox not in kept),
        renew=tuple(
            (mailbox, kept[mailbox].id)
            for mailbox in mailboxes
            if mailbox in kept and kept[mailbox].expires - now < LIFETIME / 2
        ),
    )


def mailbox_of(subscription: Subscription) -> str | None:
    """The object id in ``users/{id}/events``, in lower case; None for any other resource."""
    found = _RESOURCE.fullmatch(subscription.resource)
    return found[1].lower() if found else None


def resource_of(mailbox: str) -> str:
    return f"users/{mailbox}/events"
