"""Graph's POST bodies → changes and lifecycle notifications, each item judged by itself. Pure.

This file knows the shapes of Graph's notifications. It looks at no event, and it stores nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from sync.errors import Forged, Malformed
from sync.graph.client_state import ClientStates
from sync.ids import is_etag, is_event_id, is_guid
from sync.messages.changes import Change, Evidence, LifecycleNotification, Received
from sync.messages.codec import is_word, require

MAX_BODY = 4 * 1024 * 1024
"""Bytes; a notification takes about one thousand, and a POST holds a handful to some hundred."""
MOST_OBJECTS, MOST_COMMAS = 20_000, 100_000
"""Braces and commas of one body. A notification has two objects and some ten commas, so 4 MiB hold 8,000 and 40,000.

They are counted before anything is parsed: 4 MB of ``{}`` take seconds to judge, in which nobody else is answered.
"""

LARGE = 64 * 1024
"""Bytes of a body from which on it is parsed in a thread. Smaller ones take less time than the thread."""

_CHANGE_TYPES = frozenset({"created", "updated", "deleted"})

# `Users/{user}/Events/{event}` in basic notifications, `Users('{user}')/events('{event}')` in rich ones, either with
# a leading slash and in any case; the user may be followed by `@{tenant}` or be a percent-encoded address.
_RESOURCE = re.compile(
    r"/?users(?:/([^/()']+)/|\('([^/()']+)'\)/)events(?:/(.+)|\('(.+)'\))", re.IGNORECASE | re.DOTALL
)

# No number means anything here, and Python refuses to make an integer of 5,000 digits.
_DECODER = json.JSONDecoder(parse_int=float)


def parse_notifications(body: bytes, keys: Sequence[str]) -> Received:
    """Read a changeNotificationCollection; *keys* are the valid clientState keys, the current one first.

    Change items of one event collapse to one change, which keeps the hint of a deletion among them.
    Raises: Malformed if the body as a whole is no such collection.
    """
    if len(body) > MAX_BODY:
        raise Malformed(f"a body of {len(body)} bytes")
    if body.count(b"{") > MOST_OBJECTS or body.count(b",") + body.count(b"[") > MOST_COMMAS:
        raise Malformed("a body of more items than Graph sends")
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("not a changeNotificationCollection") from None
    if not isinstance(value, list):
        raise Malformed("the collection's value is no list")
    received, client_states = Received(), ClientStates(keys)
    changes: dict[tuple[str, str], Change] = {}
    lifecycle: dict[LifecycleNotification, None] = {}
    for item in value:
        try:
            notification = _parse_item(item, client_states)
        except (Forged, Malformed) as error:
            received.dropped[str(error)] += 1
            continue
        if isinstance(notification, LifecycleNotification):
            lifecycle[notification] = None
        else:
            where = (notification.mailbox, notification.event_id)
            if where in changes:
                received.repeated += 1
                notification = _join(changes[where], notification)
            changes[where] = notification
    received.changes.extend(changes.values())
    received.lifecycle.extend(lifecycle)
    return received


def _join(one: Change, other: Change) -> Change:
    """Two notifications of one event as one. Two versions become none, as neither may stand for the other."""
    version = one.version if (one.version, one.evidence) == (other.version, other.evidence) else None
    evidence = max(one.evidence, other.evidence)
    if (version, evidence) == (one.version, one.evidence):
        return one  # nearly always; making another one takes as long as all the rest
    return Change(one.mailbox, one.event_id, evidence, version)


def _parse_item(item: Any, client_states: ClientStates) -> Change | LifecycleNotification:
    if not isinstance(item, dict):
        raise Malformed("an item that is no object")
    mailbox = client_states.mailbox_of(item.get("clientState"))
    if item.get("lifecycleEvent") is not None:
        return LifecycleNotification(
            mailbox,
            require(is_guid, item.get("subscriptionId"), "subscriptionId").lower(),
            require(is_word, item["lifecycleEvent"], "lifecycleEvent"),
        )
    evidence = _evidence_of(item.get("changeType"))
    data = item.get("resourceData")
    event_id, version = (data.get("id"), data.get("@odata.etag")) if isinstance(data, dict) else (None, None)
    resource = item.get("resource")
    # Graph writes nearly all resources in this form, which needs no taking apart.
    if not isinstance(event_id, str) or resource != f"Users/{mailbox}/Events/{event_id}":
        user, named = _parse_resource(resource)
        if user.lower() != mailbox and is_guid(user):
            raise Forged("clientState of another mailbox")
        event_id = named if event_id is None else event_id
    event_id = require(is_event_id, event_id, "event id")
    return Change(mailbox, event_id, evidence, version if is_etag(version) else None)


def _evidence_of(change_type: Any) -> Evidence:
    """The evidence that the event is gone, as the type of the change tells it."""
    if not isinstance(change_type, str) or (change_type := change_type.lower()) not in _CHANGE_TYPES:
        raise Malformed("changeType")
    return Evidence.TOLD if change_type == "deleted" else Evidence.NONE


def _parse_resource(resource: Any) -> tuple[str, str]:
    """The user (without a tenant) and the event id that a notification's path names, percent-decoded."""
    path = _RESOURCE.fullmatch(resource) if isinstance(resource, str) else None
    if path is None:
        raise Malformed("resource")
    user, event_id = filter(None, path.groups())
    if "%" in resource:
        user, event_id = unquote(user), unquote(event_id)
    return user.partition("@")[0], event_id
