"""What Graph does where its documentation says nothing: one switch for each doubt, to be set either way by a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal


@dataclass
class GraphSwitches:
    """Read at every request and every act, so that a switch may be thrown at any time."""

    # Events.
    deleted_stay_readable: bool = False
    """A GET by immutable id of an event in Deleted Items answers 200; otherwise 404 ErrorItemNotFound."""
    calendar_of_deleted: Literal["not_found", "folder", "default"] = "not_found"
    """What ``/events/{id}/calendar`` answers for such an event: 404, the folder's id, or the default calendar."""
    immutable_ids_need_header: bool = True
    """An immutable id is unknown to a request without ``Prefer: IdType="ImmutableId"``."""
    foreign_ids: Literal["invalid_mailbox_item", "not_found"] = "invalid_mailbox_item"
    """What a GET answers for the id of another mailbox's item: 404 ErrorInvalidMailboxItemId, as reported of plain ids,
    or 404 ErrorItemNotFound. For immutable ids neither is documented."""
    classic_ids: Literal["refused", "found"] = "refused"
    """An id with ``+`` or ``/`` is refused with 400 RequestBroker--ParseUri, as reported, or is as good as any."""
    other_calendars_notify: bool = False
    """``users/{id}/events`` notifies for every calendar, so that a move is deleted + created."""
    honour_if_match: bool = False
    """``If-Match`` with a stale etag on an event is refused with 412; otherwise the header is ignored."""
    repeated_transaction: Literal["existing", "conflict"] = "existing"
    """A second POST with the same transactionId answers 201 with the first event, or 409."""

    # Open extensions.
    extension_prefix: Literal["Microsoft.OutlookServices.OpenTypeExtension.", "microsoft.graph.openTypeExtension."] = (
        "Microsoft.OutlookServices.OpenTypeExtension."
    )
    """What stands before the name in an extension's id; both are documented, on different pages."""
    no_extension: Literal["absent", "empty"] = "absent"
    """An ``$expand`` that finds nothing leaves ``extensions`` out, or answers ``[]``."""
    extension_write_is_a_change: bool = False
    """Writing an extension gives the event a new etag and raises `updated`."""
    extension_patch_replaces: bool = False
    """Properties that an extension PATCH leaves out are removed."""
    copies_carry_extensions: bool = True
    """A copy that a person makes of an event has its extensions, too."""
    occurrences_show_master_extensions: bool = False
    """Occurrences of a series return the extensions of their master."""

    # Lists.
    events_list_spans_calendars: bool = False
    """``GET /users/{id}/events`` lists the events of all calendars; otherwise those of the default one."""
    empty_page: bool = False
    """Every list has a page without entries, but with a nextLink, before its last page."""
    subscriptions_page_size: int = 100

    # Subscriptions.
    list_shows_expired: bool = False
    """The list still shows expired subscriptions, which every other call answers with 404."""
    renewal_shows_client_state: bool = False
    """The answer to a PATCH contains clientState; otherwise it is null there as in lists."""
    longest_subscription: timedelta = timedelta(minutes=10_070)
    """What is asked for beyond is refused. The documentation says 10,080; the service is reported to refuse more than
    this."""
    subscriptions_per_mailbox: int = 1_000
    """Of all applications together; 403 above, with a message as reported in microsoft-graph-docs issue 21403."""
    refuse_reauthorize_near_renewal: bool = True
    """PATCH and reauthorize within ten minutes of each other are refused; documented is only "don't"."""
    duplicates_by_spelling: bool = False
    """409 only for resources spelt alike; otherwise case and a leading slash make no difference."""
    authorization_lasts: timedelta | None = None
    """Delivery pauses this long after the last create, PATCH or reauthorize (in Graph about an hour); None is never."""

    # Rights of the caller.
    calendars_read: bool = True
    """``Calendars.Read`` is granted; otherwise every mailbox is refused like one outside an access policy."""
    application_readable: bool = False
    """``Application.Read.All`` is granted, which this app is not to have."""
    secrets_end: list[datetime] = field(default_factory=list)
    """When the secrets of the app registration do."""

    # Limits.
    limit_subscription_writes: bool = False
    """429 above 1,000 writes to subscriptions in 20 seconds."""
    mailbox_concurrency: int | None = 4
    """429 for more requests than this at the same time for one mailbox; None is no limit."""
    latency: float = 0.0
    """Real seconds that each request about a mailbox takes, so that requests can overlap at all."""
