"""(service, status, headers, body) → the error that the answer means. Pure.

No other file of the app knows a status number or an error code of Graph or Dataverse. This file sends nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from sync.errors import (
    AccessDenied,
    Duplicate,
    Full,
    InvalidId,
    LifetimeRefused,
    MailboxUnavailable,
    Mendable,
    NoAnswer,
    NotFound,
    NotPermitted,
    Refused,
    ShutOut,
    Stale,
    SyncError,
    Throttled,
    Transient,
    UnknownColumn,
    Unvalidated,
    Withdrawn,
)

Service = Literal["graph", "subscriptions", "dataverse"]
"""Graph is two services here: a 404 has one meaning for an event and another one for a subscription."""


# (status, code) first, then (status, None), then the hundreds below. A 404 means "this item is gone" with one code
# only, every other 404 of Outlook is about the mailbox. Source: Graph error codes as observed for Outlook items.
_GRAPH: Mapping[tuple[int, str | None], type[SyncError]] = {
    (404, "ErrorItemNotFound"): NotFound,
    (404, "ErrorInvalidMailboxItemId"): NotFound,  # an item of another mailbox, which is not in this one
    (404, "MailboxNotEnabledForRESTAPI"): MailboxUnavailable,
    (404, "ResourceNotFound"): MailboxUnavailable,
    (404, "ErrorInvalidUser"): MailboxUnavailable,
    (404, "ErrorNonExistentMailbox"): MailboxUnavailable,
    (400, "ErrorInvalidIdMalformed"): InvalidId,
    (400, "RequestBrokerParseUri"): InvalidId,  # written "RequestBroker--ParseUri"
    (403, "ErrorAccessDenied"): AccessDenied,
    (403, "ErrorCannotDeleteObject"): Withdrawn,
    (429, None): Throttled,
}

# Graph asks Exchange on our behalf and wraps the answer in an ExtensionError.
_SUBSCRIPTIONS: Mapping[tuple[int, str | None], type[SyncError]] = {
    (400, "ValidationError"): Unvalidated,
    (403, "ExtensionError"): MailboxUnavailable,
    (404, "ExtensionError"): MailboxUnavailable,
    (404, None): NotFound,
    (409, None): Duplicate,
    (429, None): Throttled,
}

# Dataverse gives 412 four meanings; only "the version differs" may be tried again. The code may be empty, which is not
# the same as an answer without any (None): a gateway in front of an environment that is down knows nothing of its rows.
# Source: Dataverse Web API, "Perform conditional operations" and "Compose HTTP requests and handle errors".
_DATAVERSE: Mapping[tuple[int, str | None], type[SyncError]] = {
    (404, "0x80040217"): NotFound,
    (404, ""): NotFound,
    (412, "0x80060882"): Stale,
    (412, ""): Stale,
    (400, "0x80060888"): UnknownColumn,
    # The environment is closed to the app's address, or to the application. Source: microsoft, "IP firewall in Power
    # Platform environments"; PowerPlatform-DataverseServiceClient issue 528.
    (403, "0x80095ffe"): ShutOut,
    (403, "0x80095ffc"): ShutOut,
    (403, "0x80072560"): ShutOut,
    (404, "0x8006088a"): ShutOut,
    # A privilege is missing: perhaps for all rows, perhaps for those of one business unit, so others go on meanwhile.
    (403, "0x80040220"): NotPermitted,
    (429, None): Throttled,
}

SHUT_OUT_FOR = 15.0
"""Seconds until a service is asked again that refused the app as a whole; each refusal in a row doubles them.

Too short, and a day's refusals are many calls; too long, and changes wait after the service was opened again.
"""

_PROXY = "something before the service answers: is the environment in administration mode, or a proxy in the way?"
_REDIRECTION = "the service's URL leads elsewhere: is it the service's own, and the environment not disabled?"
_VERSION = re.compile(rb"invalid version", re.IGNORECASE)

_TIMED_OUT = frozenset({408, 502, 504})
"""Somebody on the way stopped waiting for Dataverse, which may still carry out what it was asked."""

_OF_PROXIES = frozenset({403, 407})
"""Without a code of the service's own, somebody on the way refuses."""

# 401 is tried again because the token may just have ended, 408 and 509 are time-outs and bandwidth limits.
_TRANSIENT = frozenset({401, 408, 509})

_TABLES = {"graph": _GRAPH, "subscriptions": _SUBSCRIPTIONS, "dataverse": _DATAVERSE}

# "Subscription expiration can only be 10070 minutes in the future."
_LIFETIME = re.compile(rb"expiration[^\"\d]{1,60}(\d{2,6}) minutes", re.IGNORECASE)
# "Subscription validation request timed out.", with a code that other refusals have as well.
_VALIDATION = re.compile(rb"subscription validation request", re.IGNORECASE)
# "Subscription Id 2b6c1f0e-… already exists for the requested combination"
_EXISTING = re.compile(rb"subscription id ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", re.IGNORECASE)

# That a mailbox is full is documented as a 403 with some message. Reported are this one (microsoft-graph-docs issue
# 21403) and a 429 (Stack Overflow question 65494288). Source: Graph, "subscription resource type".
_FULL: Mapping[int, re.Pattern[bytes]] = {
    403: re.compile(rb"number of subscriptions|SubscriptionCountReached", re.IGNORECASE),
    429: re.compile(rb"SubscriptionCountReached", re.IGNORECASE),
}
_MAKE_ROOM = "it has as many subscriptions as a mailbox may, of all apps together: do others need theirs?"

_CURES: Mapping[str, str] = {
    "0x80095ffe": "the environment's IP firewall refuses the app's address: allow it there",
    "0x80095ffc": "the environment lets chosen applications in only: allow the app's client id there",
    "0x8006088a": "is DATAVERSE_URL the environment's own URL, without a path?",
    "0x80072560": "add the app as an application user of the environment",
    "0x80040220": "give the application user's role the missing privilege",
    "0x80060888": "is EVENT_ID_COLUMN the column's logical name, and is it published?",
    "0x8006088d": "the table needs optimistic concurrency",
    "ErrorAccessDenied": "is the mailbox in the app's access policy, with Calendars.Read?",
    "InvalidAuthenticationToken": "is the identity allowed, and the clock right?",
    "ValidationError": "can Graph reach NOTIFICATION_URL, and does the app answer there within ten seconds?",
}

# One code for all that Exchange says when Graph asks it, so a phrase of the message has to tell. The first one counts.
_EXTENSION_CURES: Sequence[tuple[int, re.Pattern[bytes], str]] = [
    (403, re.compile(rb"Access to OData is disabled", re.IGNORECASE), _CURES["ErrorAccessDenied"]),
    *((status, phrase, _MAKE_ROOM) for status, phrase in _FULL.items()),
    (404, re.compile(rb"REST API is not yet supported", re.IGNORECASE), "is it on-premises, disabled, or unlicensed?"),
    (403, re.compile(rb""), "is the mailbox in the app's access policy, with Calendars.Read, or is it full?"),
    (404, re.compile(rb""), "has this user a mailbox in Exchange Online?"),
]


def named(service: Service, status: int, code: str | None) -> type[SyncError]:
    """The error that an answer of *service* with *status* (no success) and error *code* stands for."""
    table = _TABLES[service]
    found = table.get((status, code)) or table.get((status, None))
    if found is not None:
        return found
    if 300 <= status < 400 or (code is None and status in _OF_PROXIES):
        return ShutOut
    if service == "dataverse" and status in _TIMED_OUT:
        return NoAnswer
    if status == 404 and code is None:
        return Transient  # a gateway in front of a service that is down; it knows nothing of items
    return Transient if status in _TRANSIENT or status >= 500 else Refused


def check(service: Service, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Return if the answer is a success. A redirection is none: nobody follows it, so nothing was read or written.

    Raises: the error that ``named`` gives, with status, code and request id in its text. The service's message stays
    out of it, it may quote content.
    """
    if 200 <= status < 300:
        return
    code = _parse_code(body)
    request_id = headers.get("request-id") or headers.get("x-ms-service-request-id") or ""
    text = " ".join(filter(None, [service, str(status), code, re.sub(r"[^0-9A-Za-z-]", "", request_id)[:36]]))
    if cure := _cure(service, status, code, body):
        text += f" ({cure})"
    error = _told_of_subscription(status, body, text) if service == "subscriptions" else None
    if error is None:
        kind = named(service, status, code)
        if service == "graph" and status == 400 and _VERSION.search(body):
            kind = ShutOut
        error = _build_error(kind, text, parse_retry_after(headers.get("Retry-After"), now))
        error.is_undone = 300 <= status < 500 and status not in _TIMED_OUT
    raise error


def _build_error(kind: type[SyncError], text: str, retry_after: float | None) -> SyncError:
    if issubclass(kind, Mendable):
        return kind(text, SHUT_OUT_FOR if retry_after is None else retry_after)
    return kind(text, retry_after) if issubclass(kind, Transient) else kind(text)


def _cure(service: Service, status: int, code: str | None, body: bytes) -> str | None:
    """Return what an operator can do about this answer, None if nothing is known."""
    if service == "subscriptions" and (code == "ExtensionError" or status == 429):
        return next((cure for of, phrase, cure in _EXTENSION_CURES if of == status and phrase.search(body)), None)
    if 300 <= status < 400:
        return _REDIRECTION
    if service == "graph" and status == 400 and _VERSION.search(body):
        return "is GRAPH_URL Graph's own URL, with the version v1.0?"
    if code is None and status in _OF_PROXIES:
        return _PROXY
    return _CURES.get(code or "")


def _told_of_subscription(status: int, body: bytes, text: str) -> SyncError | None:
    """Return LifetimeRefused, Unvalidated, Full or Duplicate if the service's message says so, else None.

    No other message is read. Graph has no codes for these four.
    """
    if status in _FULL and _FULL[status].search(body):
        return Full(text)
    if status == 400 and (allowed := _LIFETIME.search(body)):
        return LifetimeRefused(text, int(allowed[1]))
    if status == 400 and _VALIDATION.search(body):
        cure = _CURES["ValidationError"]
        return Unvalidated(text if cure in text else f"{text} ({cure})")
    if status == 409:
        existing = _EXISTING.search(body)
        return Duplicate(text, existing[1].decode().lower() if existing else None)
    return None


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from whole or fractional seconds or an HTTP date; None if absent or unreadable.

    Source: RFC 9110, Retry-After; Graph documents fractions of seconds, too.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _parse_code(body: bytes) -> str | None:
    """The error code of either service's body; None where no service speaks (HTML from a gateway, an empty body)."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(code, str):
        return None
    code = re.sub(r"\W", "", code)[:64]
    return code.lower() if code.startswith("0x") else code  # the documentation writes either
