"""The app registration's subscriptions at Graph: list, create, renew, delete.

This file sends one request for each call. ``sync/subscriptions/`` decides which subscriptions there are to be.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from msgraph.generated.models.subscription import Subscription as SubscriptionBody

from sync.calls.shapes import list_of
from sync.errors import Incomplete, Malformed, NotFound
from sync.graph.client_state import build_client_state
from sync.graph.parsing import parse_subscription
from sync.graph.transport import IMMUTABLE, Transport, configured
from sync.model import Subscription
from sync.subscriptions.deployment import CHANGE_TYPES, resource_of

log = logging.getLogger(__name__)


class GraphSubscriptions:
    """The app registration's subscriptions to the events of mailboxes; *url* is where they are to notify.

    A write is sent once. All writes share one limit, so ``calls/pace.py`` waits and tries again.
    """

    def __init__(self, transport: Transport, url: str, client_state_key: str) -> None:
        self._transport = transport
        self._url = url
        self._key = client_state_key

    async def list(self) -> Sequence[Subscription]:
        """Return all subscriptions, those of other deployments included. A page may be empty and still name a next one.

        A subscription that cannot be read is left out, so that the others are still renewed. Raises: Transient,
        Refused.
        """
        builder = self._transport.client.subscriptions
        found: list[Subscription] = []
        request = builder.to_get_request_information()
        for _ in range(self._transport.pages):
            page = await self._transport.send("subscriptions", request)
            for item in list_of("graph", page):
                try:
                    found.append(parse_subscription(item))
                except (Malformed, Incomplete) as error:
                    log.warning("subscription left out reason=%r", str(error))
            link = page.get("@odata.nextLink")
            if not link:
                return found
            request = builder.with_url(self._transport.followed(link)).to_get_request_information()
        raise Malformed("graph: a list without an end")

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        """Subscribe to all changes of the default calendar, with immutable ids and lifecycle notifications.

        Graph validates both URLs first. Return the new id, None if the answer does not tell it. Source: Graph, "Create
        subscription", "Obtain immutable identifiers for Outlook resources".
        """
        body = SubscriptionBody(
            change_type=",".join(sorted(CHANGE_TYPES)),
            notification_url=self._url,
            lifecycle_notification_url=self._url,
            resource=resource_of(mailbox, beside),
            expiration_date_time=expires,
            client_state=build_client_state(self._key, mailbox),
        )
        builder = self._transport.client.subscriptions
        made = await self._transport.send_once(
            "subscriptions", builder.to_post_request_information(body, configured(None, IMMUTABLE))
        )
        return str(made["id"]) if isinstance(made, dict) and "id" in made else None

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Let the subscription live until *expires*; this also renews its authorization.

        Source: Graph, "Update subscription". Raises: NotFound, Transient, Refused.
        """
        builder = self._transport.client.subscriptions.by_subscription_id(subscription_id)
        body = SubscriptionBody(expiration_date_time=expires)
        await self._transport.send_once("subscriptions", builder.to_patch_request_information(body))

    async def delete(self, subscription_id: str) -> None:
        """Delete the subscription; one that is gone already is fine. Source: Graph, "Delete subscription"."""
        builder = self._transport.client.subscriptions.by_subscription_id(subscription_id)
        with suppress(NotFound):
            await self._transport.send_once("subscriptions", builder.to_delete_request_information())
