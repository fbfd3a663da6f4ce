"""(wanted mailboxes, present subscriptions, now) → which subscriptions to create, renew, replace, delete. Without IO.

Graph lists all subscriptions of the app registration. Ours are told by the mark in their notification URL: it names the
deployment and the clientState key they were made with, neither of which a listing shows otherwise. Subscriptions of
other deployments are left alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync.ids import mark_of
from sync.model import Subscription
from sync.subscriptions.deployment import _MARK, CHANGE_TYPES, LIFETIME, Deployment, _base, mailbox_of
from sync.subscriptions.outages import LONGEST_WAIT, Trouble

LEAVERS_SHARE = 0.2
"""Mailboxes that may be left in one run without a person's word, as a share of those that are subscribed."""

JITTER = 0.1
"""Renewals are spread over this share of a lifetime, so that those made together do not stay together for ever."""


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
