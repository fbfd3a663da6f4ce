"""Graph's POST bodies → values, each item judged by itself; the clientState; the queue messages both ways.

Nothing here sends or looks anything up. Source for all shapes: Graph, "Receive change notifications through webhooks"
and "Reduce missing subscriptions and change notifications".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from sync.errors import Malformed
from sync.ids import is_etag, is_event_id, is_guid
from sync.messages.changes import Batch, Change, Evidence, LifecycleNotification, SweepRequest
from sync.telemetry.origin import Origin

OUTLOOK_CHANGES = "outlook-changes"
LIFECYCLE = "subscription-lifecycle"
SWEEPS = "sweeps"
"""The queues; what cannot be processed ends in the one with ``-poison`` behind its name."""

_LARGEST = 45_000
"""Characters of a batch: 48 KiB make 64 KiB in base64, as much as a message may have. Source: Azure Storage, "Put
Message"."""

# Source: W3C, "Trace Context", traceparent header.
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_LATEST = 2.0**40
"""Seconds; what is more is no time, and neither is NaN."""

_EVIDENCES = {
    "": Evidence.NONE,
    "missed": Evidence.MISSED,
    "missed in a gap": Evidence.MISSED_IN_GAP,
    "told": Evidence.TOLD,
}
_EVIDENCE_NAMES = {evidence: name for name, evidence in _EVIDENCES.items()}

_WORD = re.compile(r"[A-Za-z]{1,64}")


def is_word(value: object) -> TypeGuard[str]:
    """Say whether *value* is a name like ``missed``: 1 to 64 letters."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def require(is_shaped: Callable[[object], TypeGuard[str]], value: object, name: str) -> str:
    """Return *value* if *is_shaped* says yes. Raises: Malformed with *name* if it says no."""
    if not is_shaped(value):
        raise Malformed(name)
    return value


# A top-level "id" or "dequeueCount" of a JSON message would overwrite the trigger's metadata in the host, so the
# names here are none of those. Source: Azure Functions, queue trigger, message metadata.
def build_change_message(change: Change) -> str:
    """The text of one change for the queue."""
    message: dict[str, Any] = {"mailbox": change.mailbox, "event": change.event_id}
    optional = {"evidence": _EVIDENCE_NAMES[change.evidence], "version": change.version, "attempt": change.attempt}
    optional |= {"second_look": change.is_second_look, **_origin_fields(change.origin)}
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
    mailbox = require(is_guid, message.get("mailbox"), "mailbox").lower()
    event_id = require(is_event_id, message.get("event"), "event id")
    name, version = message.get("evidence", ""), message.get("version")
    if not isinstance(name, str) or name not in _EVIDENCES:
        raise Malformed("evidence")
    if not (version is None or is_etag(version)):
        raise Malformed("version")
    attempt, origin, is_second_look = _attempt(message), parse_origin(message), _flag(message, "second_look")
    return Change(mailbox, event_id, _EVIDENCES[name], version, attempt, origin, is_second_look)


def build_lifecycle_message(notification: LifecycleNotification) -> str:
    """Build the message of *notification*."""
    message: dict[str, Any] = {"mailbox": notification.mailbox, "lifecycle": notification.event}
    message |= {"subscription": notification.subscription_id, **_origin_fields(notification.origin)}
    return json.dumps(message | ({"attempt": notification.attempt} if notification.attempt else {}))


def parse_lifecycle_message(text: str) -> LifecycleNotification:
    """Raises: Malformed if the message is not one of ours."""
    message = _parse_message(text)
    return LifecycleNotification(
        require(is_guid, message.get("mailbox"), "mailbox").lower(),
        require(is_guid, message.get("subscription"), "subscription").lower(),
        require(is_word, message.get("lifecycle"), "lifecycle"),
        _attempt(message),
        parse_origin(message),
    )


def build_sweep_message(request: SweepRequest) -> str:
    """Build the message of *request*."""
    message: dict[str, Any] = {"sweep": request.mailbox, **_origin_fields(request.origin)}
    optional = {"attempt": request.attempt, "after_gap": request.after_gap}
    return json.dumps(message | {name: value for name, value in optional.items() if value})


def parse_sweep_message(text: str) -> SweepRequest:
    """Raises: Malformed if the message is not one of ours."""
    message = _parse_message(text)
    mailbox = require(is_guid, message.get("sweep"), "mailbox").lower()
    return SweepRequest(mailbox, _attempt(message), parse_origin(message), _flag(message, "after_gap"))


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


def _flag(message: dict[str, Any], name: str) -> bool:
    flag = message.get(name, False)
    if not isinstance(flag, bool):
        raise Malformed(name)
    return flag


def _attempt(message: dict[str, Any]) -> int:
    attempt = message.get("attempt", 0)
    if type(attempt) is not int or attempt < 0:
        raise Malformed("attempt")
    return attempt
