"""The subscriptions of the simulated Graph and the rules on them; the HTTP side is ``graph.py``.

Left out: rich notifications, Event Hubs and Event Grid, filters in the resource. They are refused, not ignored.
Source, where nothing else is said: Graph, "subscription resource type".
"""

from __future__ import annotations

import random
import re
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from yarl import URL

from sandbox.clock import Clock
from sandbox.graph.errors import GraphError, bad_request
from sandbox.graph.mailboxes import Mailbox, Mailboxes

SHORTEST = timedelta(minutes=45)
APART = timedelta(minutes=10)
"""Graph, "Reduce missing change notifications": never PATCH and reauthorize within this time of each other."""
WRITES, WRITES_WITHIN = 1_000, timedelta(seconds=20)

CHANGE_TYPES = frozenset({"created", "updated", "deleted"})
TLS_VERSIONS = frozenset({"v1_0", "v1_1", "v1_2", "v1_3"})
PROPERTIES = frozenset(
    {
        "changeType",
        "notificationUrl",
        "lifecycleNotificationUrl",
        "resource",
        "expirationDateTime",
        "clientState",
        "latestSupportedTlsVersion",
        "includeResourceData",
    }
)
_RESOURCE = re.compile(r"/?users/(?P<user>[^/?]+)/events", re.IGNORECASE)


@dataclass(eq=False)
class Subscription:
    id: str
    mailbox: Mailbox
    resource: str
    change_type: str
    notification_url: str
    lifecycle_notification_url: str | None
    expiration: datetime
    client_state: str | None
    tls_version: str
    immutable_ids: bool
    """Notifications carry immutable ids: it was created with ``Prefer: IdType="ImmutableId"``."""
    authorized_at: datetime | None
    """None: its authorization lapsed, delivery pauses."""
    renewed_at: datetime | None = None
    reauthorized_at: datetime | None = None

    @property
    def change_types(self) -> frozenset[str]:
        return _change_types(self.change_type)


class Subscriptions:
    """What the app subscribed to, over all mailboxes."""

    def __init__(
        self,
        mailboxes: Mailboxes,
        clock: Clock,
        rng: random.Random,
        handshake: Callable[[str], Awaitable[None]],
    ) -> None:
        self.authorized: list[Callable[[Subscription], None]] = []
        """Called with each subscription whose authorization was refreshed."""
        self._mailboxes = mailboxes
        self._switches = mailboxes.switches
        self._clock = clock
        self._rng = rng
        self._handshake = handshake
        self._kept: dict[str, Subscription] = {}
        self._by_mailbox: dict[str, dict[str, Subscription]] = {}
        self._writes: deque[datetime] = deque()

    def __iter__(self) -> Iterator[Subscription]:
        """Those that are alive: neither deleted nor expired."""
        now = self._clock.now()
        return iter([each for each in self._kept.values() if each.expiration > now])

    def __contains__(self, subscription: object) -> bool:
        return (
            isinstance(subscription, Subscription)
            and self._kept.get(subscription.id) is subscription
            and subscription.expiration > self._clock.now()
        )

    def of(self, mailbox: Mailbox) -> list[Subscription]:
        """Those of *mailbox* that are alive."""
        now = self._clock.now()
        return [each for each in self._by_mailbox.get(mailbox.id, {}).values() if each.expiration > now]

    def listed(self) -> list[Subscription]:
        return list(self._kept.values()) if self._switches.list_shows_expired else list(self)

    def get(self, subscription_id: str) -> Subscription:
        """Raises: GraphError 404; status and body for an unknown id are not documented."""
        found = self._kept.get(subscription_id.lower())
        if found is None or found.expiration <= self._clock.now():
            raise GraphError(404, "ResourceNotFound", "The object was not found.")
        return found

    async def create(self, body: Mapping[str, Any], *, immutable_ids: bool) -> Subscription:
        """Check everything, validate each URL, and only then keep the subscription."""
        self._count_write()
        _known(body, PROPERTIES)
        wanted = self._read(body, immutable_ids)
        self._check_room(wanted)
        await self._validate(wanted.notification_url, wanted.lifecycle_notification_url)
        self._check_room(wanted)  # another request may have been faster meanwhile
        self._kept[wanted.id] = wanted
        self._by_mailbox.setdefault(wanted.mailbox.id, {})[wanted.id] = wanted
        return wanted

    async def renew(self, subscription_id: str, body: Mapping[str, Any]) -> Subscription:
        """PATCH: another expiration and/or notificationUrl. Validates again, and refreshes the authorization."""
        self._count_write()
        subscription = self.get(subscription_id)
        _known(body, frozenset({"expirationDateTime", "notificationUrl"}))
        if not {"expirationDateTime", "notificationUrl"} & body.keys():
            raise bad_request(
                "Subscription must contain either the 'expirationDateTime' or 'notificationUrl' property and its value."
            )
        self._check_apart(subscription.reauthorized_at)
        expiration, url = subscription.expiration, subscription.notification_url
        if "expirationDateTime" in body:
            expiration = self._expiration(body["expirationDateTime"])
        if "notificationUrl" in body:
            url = _url("notificationUrl", body["notificationUrl"])
        await self._validate(url, subscription.lifecycle_notification_url)
        subscription.expiration, subscription.notification_url = expiration, url
        subscription.renewed_at = self._clock.now()
        self._authorize(subscription)
        return subscription

    async def reauthorize(self, subscription_id: str) -> None:
        """Refreshes the authorization, leaves the expiration as it is, and validates again."""
        self._count_write()
        subscription = self.get(subscription_id)
        self._check_apart(subscription.renewed_at)
        await self._validate(subscription.notification_url, subscription.lifecycle_notification_url)
        subscription.reauthorized_at = self._clock.now()
        self._authorize(subscription)

    def delete(self, subscription_id: str) -> None:
        self._count_write()
        self.remove(self.get(subscription_id))

    # What happens to subscriptions without the app asking.

    def remove(self, subscription: Subscription) -> None:
        """Graph drops it, of itself or because it was asked to."""
        self._kept.pop(subscription.id, None)
        self._by_mailbox.get(subscription.mailbox.id, {}).pop(subscription.id, None)

    def lapse(self, subscription: Subscription) -> None:
        """Its authorization ends: delivery pauses until it is renewed or reauthorized."""
        subscription.authorized_at = None

    def is_authorized(self, subscription: Subscription) -> bool:
        lasts = self._switches.authorization_lasts
        if subscription.authorized_at is None:
            return False
        return lasts is None or self._clock.now() < subscription.authorized_at + lasts

    # Rules.

    def _read(self, body: Mapping[str, Any], immutable_ids: bool) -> Subscription:
        for required in ("changeType", "notificationUrl", "resource", "expirationDateTime"):
            if not isinstance(body.get(required), str) or not body[required]:
                raise bad_request(f"Property '{required}' is required.")
        if not _change_types(body["changeType"]) <= CHANGE_TYPES:
            raise bad_request("Invalid 'changeType' attribute: 'created', 'updated' and 'deleted' are supported.")
        client_state = body.get("clientState")
        if client_state is not None and (not isinstance(client_state, str) or len(client_state) > 128):
            raise bad_request("The 'clientState' property must be a string of at most 128 characters.")
        if body.get("includeResourceData"):
            raise bad_request("Notifications with resource data are not simulated.")
        tls_version = body.get("latestSupportedTlsVersion") or "v1_2"
        if tls_version not in TLS_VERSIONS:
            raise bad_request(f"Invalid 'latestSupportedTlsVersion' attribute: '{tls_version}'.")
        lifecycle_url = body.get("lifecycleNotificationUrl")
        return Subscription(
            id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            mailbox=self._mailbox(body["resource"]),
            resource=body["resource"],
            change_type=body["changeType"],
            notification_url=_url("notificationUrl", body["notificationUrl"]),
            lifecycle_notification_url=lifecycle_url and _url("lifecycleNotificationUrl", lifecycle_url),
            expiration=self._expiration(body["expirationDateTime"]),
            client_state=client_state,
            tls_version=tls_version,
            immutable_ids=immutable_ids,
            authorized_at=self._clock.now(),
        )

    def _mailbox(self, resource: str) -> Mailbox:
        """Whose events *resource* means; the two documented forms, with or without a leading slash."""
        match = _RESOURCE.fullmatch(resource)
        if match is None:
            raise bad_request(f"The value '{resource}' of parameter 'Resource' is not supported.")
        mailbox = self._mailboxes.get(re.sub(r"^AAD-UPN:", "", match["user"], flags=re.IGNORECASE))
        if mailbox is None or mailbox.state in ("not_enabled", "not_discovered", "invalid_user", "on_premises"):
            raise _extension_error(404, "NotFound", "REST API is not yet supported for this mailbox.")
        if mailbox.state == "denied" or not self._switches.calendars_read:
            raise _extension_error(403, "Forbidden", "Access to OData is disabled.")
        return mailbox

    def _expiration(self, text: Any) -> datetime:
        """Raised to 45 minutes ahead; more than the maximum is refused."""
        now = self._clock.now()
        try:
            wanted = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            wanted = None
        if wanted is None or wanted.tzinfo is None:
            raise bad_request(f"Cannot convert the literal '{text}' to the expected type 'Edm.DateTimeOffset'.")
        longest = self._switches.longest_subscription
        if wanted > now + longest:
            message = f"Subscription expiration can only be {longest // timedelta(minutes=1)} minutes in the future."
            raise GraphError(400, "ExtensionError", message)
        return max(wanted.astimezone(UTC), now + SHORTEST)

    def _check_room(self, wanted: Subscription) -> None:
        others = self.of(wanted.mailbox)
        for other in others:
            spelt_alike = other.resource == wanted.resource or not self._switches.duplicates_by_spelling
            if other.change_types == wanted.change_types and spelt_alike:
                message = f"Subscription Id {other.id} already exists for the requested combination"
                raise GraphError(409, "ObjectIdentifierInUse", message)
        if len(others) >= self._switches.subscriptions_per_mailbox:
            raise _extension_error(403, "Forbidden", "Maximum number of subscriptions has been reached")

    def _check_apart(self, other_at: datetime | None) -> None:
        if not self._switches.refuse_reauthorize_near_renewal or other_at is None:
            return
        if self._clock.now() - other_at < APART:
            raise GraphError(409, "Conflict", "PATCH and reauthorize are less than 10 minutes apart.")

    def _count_write(self) -> None:
        """Source: Graph, "Microsoft Graph service-specific throttling limits"; refused requests count, too."""
        now = self._clock.now()
        self._writes.append(now)
        while self._writes[0] <= now - WRITES_WITHIN:
            self._writes.popleft()
        if self._switches.limit_subscription_writes and len(self._writes) > WRITES:
            raise GraphError(429, "TooManyRequests", "Please retry again later.", {"Retry-After": "20"})

    async def _validate(self, *urls: str | None) -> None:
        """One handshake for each property, also where both name the same URL."""
        for url in urls:
            if url is not None:
                await self._handshake(url)

    def _authorize(self, subscription: Subscription) -> None:
        subscription.authorized_at = self._clock.now()
        for listener in self.authorized:
            listener(subscription)


def _change_types(text: str) -> frozenset[str]:
    return frozenset(part.strip().lower() for part in text.split(","))


def _known(body: Mapping[str, Any], properties: frozenset[str]) -> None:
    unknown = sorted(name for name in body if name not in properties and not name.startswith("@odata."))
    if unknown:
        raise bad_request(f"Property '{unknown[0]}' cannot be set on type 'microsoft.graph.subscription' here.")


def _url(name: str, text: Any) -> str:
    """Graph wants https; plain http to this machine is the simulator's own relaxation."""
    try:
        url = URL(text, encoded=True)
    except (TypeError, ValueError):
        raise bad_request(f"The '{name}' property is not a URL.") from None
    is_local = url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")
    if not (url.host and url.scheme == "https") and not is_local:
        raise bad_request(f"The '{name}' property must be a URL that begins with https.")
    return str(text)


def _extension_error(status: int, name: str, reason: str) -> GraphError:
    message = f"Operation: Create; Exception: [Status Code: {name}; Reason: {reason}]"
    return GraphError(status, "ExtensionError", message)
