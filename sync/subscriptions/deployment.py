"""Tells which of Graph's subscriptions are ours, and which of ours are as they would be made today.

Only facts about one subscription live here. The file planning.py decides what is to be done with it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import unquote, urlsplit

from sync.model import Subscription

LIFETIME = timedelta(minutes=10_000)
"""Lifetime that each creation and renewal asks for. Graph documents 10,080 minutes for events.

Too long, and Graph refuses it, as it is reported to do above 10,070; too short, and renewals cost more calls.
"""

CHANGE_TYPES = frozenset({"created", "updated", "deleted"})

_RESOURCE = re.compile(r"/?users/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/events", re.IGNORECASE)
_TAG = re.compile(r"[?&]booking-sync=([0-9a-f]{8})\.([0-9a-f]{8})(?:&|$)")


@dataclass(frozen=True)
class Deployment:
    """Identifies this app to itself: the notification URL of its subscriptions, and what that URL tells."""

    url: str
    """With the tag ``booking-sync=DEPLOYMENT.KEY``."""
    id: str
    """The same for all deployments that sync one table column. Moved or updated, they stay one and the same."""
    previous: frozenset[str] = frozenset()
    """Fingerprints of the former clientState keys that are still valid."""

    @classmethod
    def of(
        cls,
        notification_url: str,
        client_state_key: str,
        dataverse_url: str,
        event_id_column: str,
        previous_keys: Iterable[str] = (),
    ) -> Deployment:
        """Build the deployment that has these settings."""
        deployment = hashlib.sha256(f"{dataverse_url.lower()} {event_id_column}".encode()).hexdigest()[:8]
        separator = "&" if "?" in notification_url else "?"
        url = f"{notification_url}{separator}booking-sync={deployment}.{_fingerprint(client_state_key)}"
        return cls(url, deployment, frozenset(map(_fingerprint, previous_keys)))

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change whenever subscriptions have to be replaced."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]

    @property
    def key_fingerprint(self) -> str | None:
        """Tells one clientState key from another."""
        return key_of(self.url)

    def owns(self, subscription: Subscription) -> bool:
        """Say whether this deployment made *subscription*.

        The tag of its URL tells. An URL without a tag is ours if it is the same up to its query: the function key may
        have changed.
        """
        tag = _TAG.search(subscription.notification_url)
        if tag is not None:
            return tag[1] == self.id
        return subscription.notification_url.partition("?")[0] == self.url.partition("?")[0]

    def is_right(self, subscription: Subscription) -> bool:
        """Say whether *subscription* is as it would be made today. Only its expiration can be changed later.

        Source: Graph, "Update subscription".
        """
        return (
            _is_same_url(subscription.notification_url, self.url)
            and _is_same_url(subscription.lifecycle_url, self.url)
            and subscription.change_types == CHANGE_TYPES
        )

    def hears(self, subscription: Subscription) -> bool:
        """Say whether its notifications come here and are believed, as far as its URL tells."""
        key = key_of(subscription.notification_url)
        is_believed = key is None or key == self.key_fingerprint or key in self.previous
        return is_believed and self.is_at(subscription)

    def is_at(self, subscription: Subscription) -> bool:
        """Say whether its notifications come to this deployment's endpoint."""
        return _base(subscription.notification_url) == _base(self.url)


def key_of(notification_url: str) -> str | None:
    """Return the fingerprint of the clientState key that the tag of *notification_url* names; None without a tag."""
    tag = _TAG.search(notification_url)
    return tag[2] if tag else None


def _fingerprint(key: str) -> str:
    """Build the fingerprint of *key*. The number here changes whenever clientStates are made in another way."""
    return hmac.new(key.encode(), b"booking-sync key mark 2", hashlib.sha256).hexdigest()[:8]


def _is_same_url(one: str | None, other: str) -> bool:
    """Say whether both lead to the same place. Graph does not promise to keep the spelling of an URL."""
    return one is not None and _read_url(one) == _read_url(other)


def _read_url(url: str) -> tuple[str, str, str, str]:
    scheme, netloc, path, query, _ = urlsplit(url)
    return scheme, netloc.lower(), unquote(path), unquote(query)


def _base(url: str) -> tuple[str, str, str]:
    return _read_url(url)[:3]


def mailbox_of(subscription: Subscription) -> str | None:
    """Return the object id in ``users/{id}/events``, in lower case; None for any other resource."""
    found = _RESOURCE.fullmatch(subscription.resource)
    return found[1].lower() if found else None


def resource_of(mailbox: str, beside: Subscription | None = None) -> str:
    """Return the resource to subscribe to, spelt otherwise than that of *beside*, which it is to replace.

    Graph refuses a second subscription of the same change types to the same resource. Its documentation has both
    ``users/…`` and ``/users/…``, and does not say whether they are the same resource.
    """
    resource = f"users/{mailbox}/events"
    return resource if beside is None or beside.resource.startswith("/") else f"/{resource}"
