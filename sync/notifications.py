"""Graph's POST bodies → values, each item judged by itself; the clientState; the queue messages both ways.

Nothing here sends or looks anything up. Source for all shapes: Graph, "Receive change notifications through webhooks"
and "Reduce missing subscriptions and change notifications".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from hmac import compare_digest
from typing import Any
from urllib.parse import unquote

from sync.errors import Forged, Malformed
from sync.model import Batch, Change, LifecycleNotification, Origin, is_event_id

CHANGES = "booking-changes"
LIFECYCLE = "subscription-lifecycle"
"""The queues; what cannot be processed ends in the one with ``-poison`` behind its name."""

MAX_BODY = 4 * 1024 * 1024
"""Bytes; a notification takes about one thousand, and a POST holds a handful to some hundred."""

_LARGEST = 45_000
"""Characters of a batch: 48 KiB make 64 KiB in base64, as much as a message may have. Source: Azure Storage, "Put
Message"."""

_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_CHANGE_TYPES = frozenset({"created", "updated", "deleted"})

# `Users/{user}/Events/{event}` in basic notifications, `Users('{user}')/events('{event}')` in rich ones, either with
# a leading slash and in any case; the user may be followed by `@{tenant}` or be a percent-encoded address.
_RESOURCE = re.compile(
    r"/?users(?:/([^/()']+)/|\('([^/()']+)'\)/)events(?:/(.+)|\('(.+)'\))", re.IGNORECASE | re.DOTALL
)

_VERSION = re.compile(r'W/"[\x21\x23-\x7e]{1,200}"')

# Source: W3C, "Trace Context", traceparent header.
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_LATEST = 2.0**40
"""Seconds; what is more is no time, and neither is NaN."""

_WORD = re.compile(r"[A-Za-z]{1,64}")

_MAILBOX, _CLIENT_STATE = 36, 101
"""Characters of a GUID, with which a clientState begins, and of all of it."""

# No number means anything here, and Python refuses to make an integer of 5,000 digits.
_DECODER = json.JSONDecoder(parse_int=float)


@dataclass
class Received:
    """What one POST held: the good items, repeated ones collapsed, and how many were dropped for which reason."""

    changes: list[Change] = field(default_factory=list)
    lifecycle: list[LifecycleNotification] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    repeated: int = 0


def parse_notifications(body: bytes, keys: Sequence[str]) -> Received:
    """Read a changeNotificationCollection; *keys* are the valid clientState keys, the current one first.

    Change items of one event collapse to one change, which keeps the hint of a deletion among them.
    Raises: Malformed if the body as a whole is no such collection.
    """
    if len(body) > MAX_BODY:
        raise Malformed(f"a body of {len(body)} bytes")
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Malformed("not a changeNotificationCollection") from None
    if not isinstance(value, list):
        raise Malformed("the collection's value is no list")
    received, client_states = Received(), _ClientStates(keys)
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
    """Two notifications of one event as one; of several versions none may stand for the others."""
    version = one.version if (one.version, one.deleted) == (other.version, other.deleted) else None
    deleted = one.deleted or other.deleted
    if (version, deleted) == (one.version, one.deleted):
        return one  # nearly always; making another one takes as long as all the rest
    return Change(one.mailbox, one.event_id, deleted, one.missing, version)


def _parse_item(item: Any, client_states: _ClientStates) -> Change | LifecycleNotification:
    if not isinstance(item, dict):
        raise Malformed("an item that is no object")
    mailbox = client_states.mailbox_of(item.get("clientState"))
    if item.get("lifecycleEvent") is not None:
        return LifecycleNotification(
            mailbox,
            _match(_GUID, item.get("subscriptionId"), "subscriptionId").lower(),
            _match(_WORD, item["lifecycleEvent"], "lifecycleEvent"),
        )
    change_type = item.get("changeType")
    if not isinstance(change_type, str) or (change_type := change_type.lower()) not in _CHANGE_TYPES:
        raise Malformed("changeType")
    data = item.get("resourceData")
    event_id, version = (data.get("id"), data.get("@odata.etag")) if isinstance(data, dict) else (None, None)
    resource = item.get("resource")
    # As Graph writes it nearly always, and then there is nothing to take apart.
    if not isinstance(event_id, str) or resource != f"Users/{mailbox}/Events/{event_id}":
        user, named = _parse_resource(resource)
        if user.lower() != mailbox and _GUID.fullmatch(user):
            raise Forged("clientState of another mailbox")
        event_id = named if event_id is None else event_id
    missing = False
    return Change(
        mailbox, _event_id(event_id), change_type == "deleted", missing, version if _is_version(version) else None
    )


def _parse_resource(resource: Any) -> tuple[str, str]:
    """The user (without a tenant) and the event id that a notification's path names, percent-decoded."""
    path = _RESOURCE.fullmatch(resource) if isinstance(resource, str) else None
    if path is None:
        raise Malformed("resource")
    user, event_id = filter(None, path.groups())
    if "%" in resource:
        user, event_id = unquote(user), unquote(event_id)
    return user.partition("@")[0], event_id


def _match(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Malformed(name)
    return value


def _is_version(value: Any) -> bool:
    """An etag; one in another shape than Graph's tells nothing, and is left out."""
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _event_id(value: Any) -> str:
    if not isinstance(value, str) or not is_event_id(value):
        raise Malformed("event id")
    return value


def build_client_state(key: str, mailbox: str) -> str:
    """``{mailbox}.{keyed hash of it}``: tells whose calendar a notification is about, and that we subscribed to it.

    A lifecycle notification names no resource, so the mailbox has to be in what Graph sends back. 101 characters;
    Graph allows 128. Source: RFC 7693, keyed BLAKE2.
    """
    return _finish_client_state(_begin_client_state(key), mailbox)


def _begin_client_state(key: str) -> blake2b:
    """BLAKE2 takes a key of 64 bytes at most, and ours may be longer."""
    return blake2b(key=blake2b(key.encode()).digest(), digest_size=32, person=b"clientState")


def _finish_client_state(begun: blake2b, mailbox: str) -> str:
    keyed = begun.copy()
    keyed.update(mailbox.encode())
    return f"{mailbox}.{keyed.hexdigest()}"


def parse_client_state(value: Any, keys: Sequence[str]) -> str:
    """The mailbox for which *value* was built with one of *keys*. Raises: Forged if there is none."""
    return _ClientStates(keys).mailbox_of(value)


class _ClientStates:
    """What is valid for the mailboxes of one POST: a key is prepared once, a mailbox's hash taken once."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._begun = [_begin_client_state(key) for key in keys]
        self._valid: dict[str, list[str]] = {}

    def mailbox_of(self, value: Any) -> str:
        """The mailbox for which *value* was built, compared in constant time. Raises: Forged if there is none."""
        # What is not ASCII cannot be compared in constant time.
        if isinstance(value, str) and len(value) == _CLIENT_STATE and value.isascii():
            mailbox = value[:_MAILBOX]
            is_ours = False
            # All of them, so that the time taken does not tell which one fits.
            for valid in self._valid.get(mailbox) or self._add(mailbox):
                is_ours |= compare_digest(value, valid)
            if is_ours:
                return mailbox
        raise Forged("clientState missing or not ours")

    def _add(self, mailbox: str) -> list[str]:
        valid = self._valid[mailbox] = []
        for begun in self._begun:
            valid.append(_finish_client_state(begun, mailbox))
        return valid


# A top-level "id" or "dequeueCount" of a JSON message would overwrite the trigger's metadata in the host, so the
# names here are none of those. Source: Azure Functions, queue trigger, message metadata.
def build_change_message(change: Change) -> str:
    message: dict[str, Any] = {"mailbox": change.mailbox, "event": change.event_id, "deleted": change.deleted}
    optional = {"missing": change.missing, "version": change.version, "attempt": change.attempt}
    optional |= _origin_fields(change.origin)
    return json.dumps(message | {name: value for name, value in optional.items() if value})


def build_batch_messages(changes: Sequence[Change], origin: Origin | None = None) -> list[str]:
    """All *changes* in as few messages as will hold them."""
    batches: list[list[str]] = []
    size = _LARGEST
    for change in map(build_change_message, changes):
        size += len(change) + 2
        if size > _LARGEST:
            batches.append([])
            size = len(change)
        batches[-1].append(change)
    whence = "".join(f', "{name}": {json.dumps(value)}' for name, value in _origin_fields(origin).items())
    return [f'{{"changes": [{", ".join(batch)}]{whence}}}' for batch in batches]


def parse_change_message(text: str) -> Change:
    """Raises: Malformed if the message is not one of ours, or a batch."""
    return _parse_change(_parse_message(text))


def parse_changes(text: str) -> Change | Batch:
    """One message of the queue, whichever it is; an unreadable change of a batch does not stand in the others' way.

    Raises: Malformed if it is not one of ours.
    """
    message = _parse_message(text)
    if "changes" not in message:
        return _parse_change(message)
    changes = message["changes"]
    if not isinstance(changes, list):
        raise Malformed("changes")
    readable, unreadable = [], []
    for change in changes:
        try:
            readable.append(_parse_change(change))
        except Malformed:
            unreadable.append(json.dumps(change))
    return Batch(tuple(readable), parse_origin(message), tuple(unreadable))


def _parse_change(message: Any) -> Change:
    if not isinstance(message, dict):
        raise Malformed("a change that is no object")
    mailbox = _match(_GUID, message.get("mailbox"), "mailbox").lower()
    event_id = _event_id(message.get("event"))
    deleted, missing, version = message.get("deleted", False), message.get("missing", False), message.get("version")
    if not (isinstance(deleted, bool) and isinstance(missing, bool)):
        raise Malformed("deleted or missing")
    if not (version is None or _is_version(version)):
        raise Malformed("version")
    return Change(mailbox, event_id, deleted, missing, version, _attempt(message), parse_origin(message))


def build_lifecycle_message(notification: LifecycleNotification) -> str:
    message: dict[str, Any] = {"mailbox": notification.mailbox, "lifecycle": notification.event}
    if notification.subscription_id is not None:
        message["subscription"] = notification.subscription_id
    message |= _origin_fields(notification.origin)
    return json.dumps(message | ({"attempt": notification.attempt} if notification.attempt else {}))


def parse_lifecycle_message(text: str) -> LifecycleNotification:
    """Raises: Malformed if the message is not one of ours."""
    message = _parse_message(text)
    subscription_id = message.get("subscription")
    return LifecycleNotification(
        _match(_GUID, message.get("mailbox"), "mailbox").lower(),
        None if subscription_id is None else _match(_GUID, subscription_id, "subscription").lower(),
        _match(_WORD, message.get("lifecycle"), "lifecycle"),
        _attempt(message),
        parse_origin(message),
    )


def _origin_fields(origin: Origin | None) -> dict[str, Any]:
    return {} if origin is None else {"traceparent": origin.traceparent, "notified": origin.at}


def parse_origin(message: dict[str, Any] | str) -> Origin | None:
    """Where a message, or its text, comes from; None if it does not say so readably, which harms nothing."""
    try:
        found = json.loads(message) if isinstance(message, str) else message
        traceparent, at = found["traceparent"], found["notified"]
        if _TRACEPARENT.fullmatch(traceparent) and isinstance(at, int | float) and 0 <= at < _LATEST:
            return Origin(traceparent, float(at))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _parse_message(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None
    if not isinstance(message, dict):
        raise Malformed("not a JSON object")
    return message


def _attempt(message: dict[str, Any]) -> int:
    attempt = message.get("attempt", 0)
    if type(attempt) is not int or attempt < 0:
        raise Malformed("attempt")
    return attempt
