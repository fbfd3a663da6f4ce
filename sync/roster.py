"""(wanted mailboxes, present subscriptions, now) → which subscriptions to create, renew, replace, delete. Without IO.

Graph lists all subscriptions of the app registration. Ours are told by the mark in their notification URL: it names the
deployment and the clientState key they were made with, neither of which a listing shows otherwise. Subscriptions of
other deployments are left alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit

from sync.marks import mark_of
from sync.model import Subscription

LIFETIME = timedelta(minutes=10_000)
"""Asked for at each renewal. Graph documents 10,080 minutes for events and is reported to refuse more than 10,070."""

CHANGE_TYPES = frozenset({"created", "updated", "deleted"})

LEAVERS_SHARE = 0.2
"""Mailboxes that may be left in one run without a person's word, as a share of those that are subscribed."""

LONGEST_WAIT = timedelta(days=1)
"""For another try of a mailbox that refuses; more can only come from a clock that was wrong."""

OUTAGE = timedelta(hours=3)
"""A timer that runs each hour and has not for so long was away; so were the answers to Graph, which tries again for
four hours. Source: Graph, "Receive change notifications through webhooks"."""

SKEW = timedelta(minutes=5)
"""Between two machines' clocks. A last run later than that was noted by a clock that was wrong, so nobody knows when
it was, and the app counts as away."""

JITTER = 0.1
"""Renewals are spread over this share of a lifetime, so that those made together do not stay together for ever."""

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


@dataclass(frozen=True)
class Trouble:
    """Why a mailbox could not be subscribed, or its subscription not be renewed, and when to try again."""

    mailbox: str
    reason: str
    since: datetime
    tries: int
    next_try: datetime
    in_gap: bool = False
    """Its old subscription was deleted to make room for a new one, which is not made yet."""


@dataclass(frozen=True)
class LastRun:
    """When the roster was last kept, and the lifetime that the service allowed then."""

    at: datetime
    lifetime: timedelta
    leavers_stay: bool = False
    """Too many mailboxes were to be left then, so all stay subscribed until a person agrees."""
    unreached_since: datetime | None = None
    """The last run before Graph could not reach the app any more, None while it can."""


@dataclass(frozen=True)
class Made:
    """Subscriptions that we made, and that Graph's list has not shown since as they were made.

    If that list should never show them so, they would seem wrong for ever, and each replacement of one costs two
    handshakes and perhaps a gap. So these are not replaced again, as long as they would be made the same today.
    """

    deployment: str
    """The mark of the one that they were made for."""
    ids: frozenset[str] = frozenset()
    """As ``mark_of`` makes them."""


@dataclass(frozen=True)
class Plan:
    """Each mailbox is to be created, replaced, renewed, kept, or waits; all in the order of their urgency."""

    create: tuple[str, ...] = ()
    gaps: frozenset[str] = frozenset()
    """Those of ``create`` whose old subscription was deleted to make room for the new one."""
    replace: tuple[tuple[str, Subscription], ...] = ()
    """A new one first, then the old one goes."""
    fall_back: frozenset[str] = frozenset()
    """The ids of those of ``replace`` that are renewed if no new one can be made, or they would end before there is."""
    renew: tuple[tuple[str, Subscription], ...] = ()
    keep: tuple[tuple[str, Subscription], ...] = ()
    wait: tuple[Trouble, ...] = ()
    """Wanted, but they could not be subscribed, and it is too early to try again."""
    spare: tuple[Subscription, ...] = ()
    """Ours, beside a better one of the same mailbox."""
    leave: tuple[tuple[str, Subscription], ...] = ()
    """Of mailboxes that are not wanted any more."""
    refusal: str | None = None
    """Why nothing is deleted without a person's word: ``leave``, ``spare`` and ``replace`` have to wait for it."""
    prolong: tuple[tuple[str, Subscription], ...] = ()
    """Those of ``leave`` and ``replace`` that are renewed meanwhile, or they would end before there is that word."""
    other_key: str | None = None
    """That most of what is there was made with another clientState key than ours."""
    elsewhere: frozenset[str] = frozenset()
    """Wanted mailboxes that another deployment is subscribed to; Graph may not allow a second subscription."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """What went wrong the last time with wanted mailboxes, whatever is planned for them now."""
    mislisted: frozenset[str] = frozenset()
    """The ids of those of ``renew`` and ``keep`` that are listed otherwise than we made them."""

    @property
    def wanted(self) -> int:
        return sum(map(len, (self.create, self.replace, self.renew, self.keep, self.wait)))


def plan_roster(
    wanted: Iterable[str],
    present: Iterable[Subscription],
    deployment: Deployment,
    now: datetime,
    troubles: Mapping[str, Trouble] | None = None,
    lifetime: timedelta = LIFETIME,
    leavers_share: float = LEAVERS_SHARE,
    leavers_agreed: bool = False,
    made: Collection[str] = (),
    knock: bool = False,
) -> Plan:
    """Say what gives each of the *wanted* mailboxes one right subscription with about half of its life ahead.

    An expired subscription may still be listed for a while, it counts as absent. Those whose ids have a mark in *made*
    are right, whatever the list says. Too many leavers have to be *agreed* to by a person. To *knock* is to renew one
    early if none is due but where it failed before: Graph calls the app before it answers, and nothing else tells
    whether it can.
    """

    def is_due(held: Subscription) -> bool:
        return held.expires - now < _renewed_below(held, lifetime)

    mailboxes, known = sorted(set(wanted)), troubles or {}
    ours: dict[str, list[Subscription]] = {}
    elsewhere: set[str] = set()
    for subscription in present:
        mailbox = mailbox_of(subscription)
        if mailbox is None or subscription.expires <= now:
            continue
        if deployment.owns(subscription):
            ours.setdefault(mailbox, []).append(subscription)
        else:
            elsewhere.add(mailbox)

    create, wait, spare = [], [], []
    replace, renew, keep = [], [], []
    mislisted: set[str] = set()
    for mailbox in mailboxes:
        if mailbox not in ours:
            trouble = known.get(mailbox)
            if trouble is not None and now < trouble.next_try <= now + LONGEST_WAIT:
                wait.append(trouble)
            else:
                create.append(mailbox)
            continue
        best, *others = sorted(ours[mailbox], key=lambda held: _worth(held, deployment, made), reverse=True)
        spare += others
        if not deployment.is_right(best):
            if mark_of(best.id) not in made:
                replace.append((mailbox, best))
                continue
            mislisted.add(best.id)
        if is_due(best):
            renew.append((mailbox, best))
        else:
            keep.append((mailbox, best))
    if knock and keep and all(mailbox in known for mailbox, _ in renew):
        early = min(keep, key=lambda kept: (kept[0] in known, kept[1].expires))
        keep.remove(early)
        renew.append(early)
    leave = [(mailbox, held) for mailbox in sorted(ours.keys() - set(mailboxes)) for held in ours[mailbox]]
    leavers = len({mailbox for mailbox, _ in leave})
    refusal = None if leavers_agreed else _refusal(leavers, len(ours), leavers_share)
    gaps = frozenset(mailbox for mailbox in create if mailbox in known and known[mailbox].in_gap)
    return Plan(
        create=tuple(sorted(create, key=lambda mailbox: mailbox not in gaps)),
        gaps=gaps,
        replace=tuple(sorted(replace, key=lambda held: held[1].expires)),
        fall_back=frozenset(held.id for _, held in replace if is_due(held) and deployment.hears(held)),
        renew=tuple(sorted(renew, key=lambda held: held[1].expires)),
        keep=tuple(keep),
        wait=tuple(wait),
        spare=tuple(spare),
        leave=tuple(leave),
        refusal=refusal,
        prolong=tuple(each for each in (*replace, *leave) if is_due(each[1])) if refusal else (),
        other_key=_other_key([each for held in ours.values() for each in held], deployment),
        elsewhere=frozenset(elsewhere).intersection(mailboxes),
        troubles={mailbox: known[mailbox] for mailbox in mailboxes if mailbox in known},
        mislisted=frozenset(mislisted),
    )


def _worth(held: Subscription, deployment: Deployment, made: Collection[str]) -> tuple[bool, bool, bool, datetime, str]:
    """Which of several is kept; the id decides in the end, so that two runs do not delete each other's choice."""
    is_right, is_made = deployment.is_right(held), mark_of(held.id) in made
    return is_right, is_made, held.change_types >= CHANGE_TYPES, held.expires, held.id


def _renewed_below(subscription: Subscription, lifetime: timedelta) -> timedelta:
    """How much of its life a subscription has ahead when its turn has come: a half, give or take.

    The same subscription always gets the same answer.
    """
    chance = hashlib.sha256(subscription.id.encode()).digest()[0] / 255
    return lifetime * (0.5 + JITTER * (chance - 0.5))


def _refusal(leavers: int, subscribed: int, share: float) -> str | None:
    """A query that suddenly returns half of the people must not unsubscribe the other half.

    One may go whatever share that is, as long as another one stays: a person leaves, also from a pilot of two, and a
    query that fails seldom misses just one. It may not if it is the last one, nor with a share of 0, which is to ask
    for a person's word each time.
    """
    is_one_of_several = leavers == 1 < subscribed and share > 0
    if not leavers or is_one_of_several or leavers / subscribed <= share:
        return None
    return (
        f"{leavers} of {subscribed} mailboxes are not wanted any more;"
        " nothing is deleted or replaced until a person says that it is so"
    )


def _other_key(ours: Iterable[Subscription], deployment: Deployment) -> str | None:
    """Whoever has another key than the app makes subscriptions whose notifications the app then refuses."""
    keys = Counter(
        mark[2]
        for held in ours
        if (mark := _MARK.search(held.notification_url)) and _base(held.notification_url) == _base(deployment.url)
    )
    others = keys.total() - keys[deployment.key_mark]
    if 2 * others <= keys.total():
        return None
    return f"{others} of {keys.total()} subscriptions at this NOTIFICATION_URL have another CLIENT_STATE_KEY"


def _base(url: str) -> tuple[str, str, str]:
    return _read_url(url)[:3]


def lifetime_to_ask(last: LastRun, now: datetime) -> timedelta:
    """What the service allowed; the whole one in the first run of each week, or one odd answer would last for ever."""
    return last.lifetime if _week(last.at) == _week(now) else LIFETIME


def _week(moment: datetime) -> int:
    return int(moment.timestamp() // timedelta(weeks=1).total_seconds())


def away_since(last: LastRun | None, now: datetime, is_reached: bool | None) -> datetime | None:
    """Since when the app was away or Graph could not reach it, if that is over *now* and was long enough to lose some.

    *is_reached* says whether Graph can reach it now, None if nobody knows.
    """
    if last is None:
        return None
    if _is_outage(last.at, now):
        return last.at
    since = last.unreached_since
    return since if is_reached and since is not None and _is_outage(since, now) else None


def _is_outage(since: datetime, now: datetime) -> bool:
    return not -SKEW <= now - since <= OUTAGE


def unreached_since(last: LastRun | None, now: datetime, is_reached: bool | None) -> datetime | None:
    """What to remember of it."""
    before = last.unreached_since if last else None
    match is_reached:
        case True:
            return None
        case False:
            return before or (last.at if last else now)
        case None:
            return before


def next_trouble(
    mailbox: str, reason: str, before: Trouble | None, now: datetime, rarely: bool, in_gap: bool = False
) -> Trouble:
    """What to remember of a mailbox that went wrong; a gap lasts until all is well.

    Where it is the mailbox that refuses, it is tried *rarely*: after an hour, doubling to a day, and a little less, so
    that the timer's run of that hour finds it due. All else is tried again by each run, and not counted as a refusal.
    """
    since, tries = (before.since, before.tries) if before else (now, 0)
    in_gap = in_gap or (before is not None and before.in_gap)
    if not rarely:
        return Trouble(mailbox, reason, since, tries, now, in_gap)
    wait = min(timedelta(hours=2.0 ** min(tries, 5)), LONGEST_WAIT) - timedelta(minutes=15)
    return Trouble(mailbox, reason, since, tries + 1, now + wait, in_gap)


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
