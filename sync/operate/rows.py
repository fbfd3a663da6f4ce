"""The rows that the operators' commands show: subscriptions, differences, parked messages, holds. No IO, no secrets.

A row's fields are the columns of a table and the names in a JSON document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import unquote, urlsplit, urlunsplit

from sync.messages.changes import Batch, Change, LifecycleNotification, SweepRequest
from sync.model import Subscription
from sync.pairs.holds import Listed
from sync.storage.poison import Parked
from sync.subscriptions.deployment import CHANGE_TYPES, Deployment, mailbox_of
from sync.subscriptions.planning import Plan
from sync.sweep.differences import Difference


class State(StrEnum):
    """The next run's step for a mailbox or one of its subscriptions."""

    CREATE = "to be created"
    WAIT = "waiting"
    REPLACE = "to be replaced"
    RENEW = "due for renewal"
    DELETE = "to be deleted"
    HELD_BACK = "held back"
    """Would be deleted or replaced, if a person agreed to the leavers."""
    ELSEWHERE = "elsewhere"
    KEEP = "kept"


PLANNED = frozenset({State.CREATE, State.REPLACE, State.RENEW, State.DELETE, State.HELD_BACK})


@dataclass(frozen=True)
class SubscriptionRow:
    """One subscription, or a mailbox that has none, and the next run's step for it."""

    mailbox: str
    state: State
    expires: datetime | None = None
    expires_in: timedelta | None = None
    reason: str | None = None
    next_try: datetime | None = None
    subscription: str | None = None
    notification_url: str | None = None
    """With its secrets masked."""


@dataclass(frozen=True)
class DifferenceRow:
    """One difference that a sweep finds."""

    mailbox: str
    start: datetime
    reason: str
    event: str


@dataclass(frozen=True)
class ParkedRow:
    """One message of a poison queue."""

    id: str
    queue: str
    at: datetime | None
    reason: str
    mailbox: str | None
    event: str | None
    """The event's id, or the lifecycle event; None like the mailbox if the message is malformed."""
    can_be_replayed: bool


@dataclass(frozen=True)
class HeldRow:
    """One pair that is held or waits."""

    id: str
    """The booking's, or the event's where that would not name one only."""
    state: str
    since: datetime
    if_released: str | None
    """The booking's fate if a person releases it; None if nothing can be done."""
    mailbox: str
    reason: str
    booking: str | None
    event: str


def subscription_rows(plan: Plan, deployment: Deployment, now: datetime) -> list[SubscriptionRow]:
    """The rows of *plan*: work first, what is well last. A mailbox has several rows for several subscriptions."""
    shown = _Shown(plan, deployment, now)
    return [*shown.missing(), *shown.replaced(), *shown.renewed(), *shown.removed(), *shown.elsewhere(), *shown.kept()]


@dataclass(frozen=True)
class _Shown:
    """Shows each part of a plan."""

    plan: Plan
    deployment: Deployment
    now: datetime

    def missing(self) -> Iterator[SubscriptionRow]:
        for mailbox in self.plan.create:
            yield SubscriptionRow(mailbox, State.CREATE, reason=self._known(mailbox) or "no subscription")
        for waiting in self.plan.wait:
            yield SubscriptionRow(waiting.mailbox, State.WAIT, reason=waiting.reason, next_try=waiting.next_try)

    def replaced(self) -> Iterator[SubscriptionRow]:
        for mailbox, held in self.plan.replace:
            reasons = filter(None, (_why_wrong(held, self.deployment), self._known(mailbox)))
            yield self._row(mailbox, self._agreed(State.REPLACE, held), held, "; ".join(reasons))

    def renewed(self) -> Iterator[SubscriptionRow]:
        for mailbox, held in self.plan.renew:
            yield self._row(mailbox, State.RENEW, held, self._known(mailbox) or self._mislisted(held))

    def removed(self) -> Iterator[SubscriptionRow]:
        for mailbox, held in self.plan.remove:
            reason = "the mailbox is not wanted any more"
            yield self._row(mailbox, self._agreed(State.DELETE, held), held, reason)
        for held in self.plan.spare:
            state = self._agreed(State.DELETE, held)
            yield self._row(mailbox_of(held) or held.resource, state, held, "beside a better one")

    def elsewhere(self) -> Iterator[SubscriptionRow]:
        for mailbox in sorted(self.plan.elsewhere):
            yield SubscriptionRow(mailbox, State.ELSEWHERE, reason="another app or deployment is subscribed, too")

    def kept(self) -> Iterator[SubscriptionRow]:
        for mailbox, held in self.plan.keep:
            yield self._row(mailbox, State.KEEP, held, self._mislisted(held))

    def _row(self, mailbox: str, state: State, held: Subscription, reason: str | None) -> SubscriptionRow:
        url, left = masked(held.notification_url), held.expires - self.now
        return SubscriptionRow(mailbox, state, held.expires, left, reason, None, held.id, url)

    def _mislisted(self, held: Subscription) -> str | None:
        if held.id not in self.plan.mislisted:
            return None
        return f"listed otherwise than it was made: {_why_wrong(held, self.deployment)}"

    def _agreed(self, state: State, held: Subscription) -> State:
        """The state, unless it has to wait for a person."""
        if self.plan.refusal is None:
            return state
        is_prolonged = any(each.id == held.id for _, each in self.plan.prolong)
        return State.RENEW if is_prolonged else State.HELD_BACK

    def _known(self, mailbox: str) -> str | None:
        return self.plan.troubles[mailbox].reason if mailbox in self.plan.troubles else None


def _why_wrong(held: Subscription, deployment: Deployment) -> str:
    """In which of the things that cannot be changed it differs from one made today."""
    (url, query, key), (right_url, right_query, right_key) = _parts(held.notification_url), _parts(deployment.url)
    differences = {
        "another URL": url != right_url,
        "another function key": url == right_url and query != right_query,
        "another clientState key": key != right_key,
        "no lifecycle URL": held.lifecycle_url is None,
        "another lifecycle URL": held.lifecycle_url is not None
        and _parts(held.lifecycle_url) != _parts(held.notification_url),
        "other change types": held.change_types != CHANGE_TYPES,
    }
    return ", ".join(text for text, is_so in differences.items() if is_so)


def _parts(notification_url: str | None) -> tuple[str, list[str], str | None]:
    """The URL, its query, and what stands for the clientState key in our mark in it; however they are spelt."""
    parts = urlsplit(notification_url or "")
    items = unquote(parts.query).split("&")
    key = next((item.rpartition(".")[2] for item in items if _is_mark(item)), None)
    url = f"{parts.scheme}://{parts.netloc.lower()}{unquote(parts.path)}"
    return url, [item for item in items if not _is_mark(item)], key


def masked(url: str) -> str:
    """*url* without what may be a secret in it: credentials, and the values of its query but for our mark."""
    parts = urlsplit(url)
    query = "&".join(_masked(item) for item in parts.query.split("&") if item)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _masked(item: str) -> str:
    if _is_mark(item):
        return item
    name, equals, _ = item.partition("=")
    return f"{name}=***" if equals else "***"


def _is_mark(item: str) -> bool:
    return item.startswith("booking-sync=")


def difference_rows(differences: Iterable[Difference]) -> list[DifferenceRow]:
    """The rows of *differences*."""
    return [
        DifferenceRow(
            each.change.mailbox,
            each.start,
            f"held: {each.reason}" if each.is_held else each.reason,
            each.change.event_id,
        )
        for each in differences
    ]


def parked_rows(parked: Iterable[Parked]) -> list[ParkedRow]:
    """The rows of parked messages."""
    return [_parked_row(each) for each in parked]


def _parked_row(parked: Parked) -> ParkedRow:
    if parked.content is None:
        return ParkedRow(parked.id, parked.queue, parked.at, parked.reason, None, None, False)
    content = parked.content
    if isinstance(content, Batch):
        of = f"{len(content.changes)} changes"
        return ParkedRow(parked.id, parked.queue, parked.at, parked.reason, None, of, True)
    return ParkedRow(parked.id, parked.queue, parked.at, parked.reason, content.mailbox, _subject_of(content), True)


def _subject_of(content: Change | LifecycleNotification | SweepRequest) -> str | None:
    match content:
        case Change(event_id=event_id):
            return event_id
        case LifecycleNotification(event=word):
            return word
        case _:
            return None


def held_rows(listed: Iterable[Listed]) -> list[HeldRow]:
    """The rows of holds."""
    return [_held_row(each) for each in listed]


def _held_row(each: Listed) -> HeldRow:
    entry, held = each.entry, each.held
    state = "released" if each.is_released else "waiting" if held.is_waiting else "held"
    return HeldRow(
        *(each.id, state, held.since, held.outcome or None, entry.mailbox, held.reason),
        *(entry.booking_id, entry.event_id),
    )
