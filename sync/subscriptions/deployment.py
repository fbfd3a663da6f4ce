"""Which of Graph's subscriptions are ours, and which of ours are as they would be made today. Pure."""

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
"""Asked for at each renewal. Graph documents 10,080 minutes for events and is reported to refuse more than 10,070."""

CHANGE_TYPES = frozenset({"created", "updated", "deleted"})

_RESOURCE = re.compile(r"/?users/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/events", re.IGNORECASE)
_MARK = re.compile(r"[?&]booking-sync=([0-9a-f]{8})\.([0-9a-f]{8})(?:&|$)")


@dataclass(frozen=True)
class Deployment:
    """Who we are to Graph: the URL that our subscriptions are to have, and what it tells."""

    url: str
    """With the mark."""
    id: str
    """The same for all deployments that sync one table column: they are one and the same, moved or updated."""
    previous: frozenset[str] = frozenset()
    """The marks of the former clientState keys that are valid still."""

    @classmethod
    def of(
        cls,
        notification_url: str,
        client_state_key: str,
        dataverse_url: str,
        event_id_column: str,
        previous_keys: Iterable[str] = (),
    ) -> Deployment:
        deployment = hashlib.sha256(f"{dataverse_url.lower()} {event_id_column}".encode()).hexdigest()[:8]
        separator = "&" if "?" in notification_url else "?"
        url = f"{notification_url}{separator}booking-sync={deployment}.{_key_mark(client_state_key)}"
        return cls(url, deployment, frozenset(map(_key_mark, previous_keys)))

    @property
    def mark(self) -> str:
        """Tells whether anything changed that subscriptions are replaced for."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]

    @property
    def key_mark(self) -> str | None:
        """Tells one clientState key from another."""
        mark = _MARK.search(self.url)
        return mark[2] if mark else None

    def owns(self, subscription: Subscription) -> bool:
        """Whether we made *subscription*; without a mark, its URL tells, whatever function key it holds."""
        mark = _MARK.search(subscription.notification_url)
        if mark is not None:
            return mark[1] == self.id
        return subscription.notification_url.partition("?")[0] == self.url.partition("?")[0]

    def is_right(self, subscription: Subscription) -> bool:
        """Whether it is as it would be made today. Only its expiration can be changed later.

        Source: Graph, "Update subscription".
        """
        return (
            _is_same_url(subscription.notification_url, self.url)
            and _is_same_url(subscription.lifecycle_url, self.url)
            and subscription.change_types == CHANGE_TYPES
        )

    def hears(self, subscription: Subscription) -> bool:
        """Whether its notifications come here and are believed, right or not, as far as its URL tells."""
        mark = _MARK.search(subscription.notification_url)
        is_believed = mark is None or mark[2] == self.key_mark or mark[2] in self.previous
        return is_believed and _base(subscription.notification_url) == _base(self.url)


def _key_mark(key: str) -> str:
    """Of a key and of how clientStates are made with it: whoever changes that, changes the number here as well."""
    return hmac.new(key.encode(), b"booking-sync key mark 2", hashlib.sha256).hexdigest()[:8]


def _is_same_url(one: str | None, other: str) -> bool:
    """Whether both lead to the same place, however they are encoded; Graph does not say that it keeps the spelling."""
    return one is not None and _read_url(one) == _read_url(other)


def _read_url(url: str) -> tuple[str, str, str, str]:
    scheme, netloc, path, query, _ = urlsplit(url)
    return scheme, netloc.lower(), unquote(path), unquote(query)


def _base(url: str) -> tuple[str, str, str]:
    return _read_url(url)[:3]


def mailbox_of(subscription: Subscription) -> str | None:
    """The object id in ``users/{id}/events``, in lower case; None for any other resource."""
    found = _RESOURCE.fullmatch(subscription.resource)
    return found[1].lower() if found else None


def resource_of(mailbox: str, beside: Subscription | None = None) -> str:
    """The resource to subscribe to; spelt otherwise than that of *beside*, which it is to replace.

    Graph refuses a second subscription of the same change types to the same resource. Whether a leading slash makes it
    another one is not documented, but both spellings are.
    """
    resource = f"users/{mailbox}/events"
    return resource if beside is None or beside.resource.startswith("/") else f"/{resource}"
