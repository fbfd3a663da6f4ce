"""(wanted mailboxes, present subscriptions, now) → which subscriptions to create, renew, replace, delete.

Graph lists all subscriptions of the app registration. The tag in the notification URL tells ours: it names the
deployment and the clientState key, neither of which a list shows otherwise. Subscriptions of other deployments are left
alone. Only decisions live here. They are carried out in run.py.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sync.ids import short_id_of
from sync.model import Subscription
from sync.subscriptions.deployment import CHANGE_TYPES, LIFETIME, Deployment, key_of, mailbox_of
from sync.subscriptions.outages import LONGEST_WAIT, Trouble

LEAVERS_SHARE = 0.2
"""Share of the subscribed mailboxes that one run may unsubscribe without a person's word.

Too small, and a person is asked whenever a few people leave; too large, and a query that suddenly returns half of the
people unsubscribes the others.
"""

JITTER = 0.1
"""Share of a lifetime over which renewals are spread.

Too small, and subscriptions that were made together stay together for ever; too large, and some are renewed late.
"""

Of = tuple[str, Subscription]
"""A mailbox and a subscription to it."""


@dataclass(frozen=True)
class Situation:
    """The input of a run: the wanted mailboxes, Graph's list, and the memory of earlier runs."""

    wanted: Collection[str]
    present: Sequence[Subscription]
    deployment: Deployment
    at: datetime
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """By mailbox: what went wrong the last time."""
    lifetime: timedelta = LIFETIME
    """The lifetime that Graph has allowed until now."""
    made: Collection[str] = ()
    """Short ids of subscriptions that are right, even if Graph lists them otherwise."""

    def is_right(self, subscription: Subscription) -> bool:
        """Say whether *subscription* needs no replacement."""
        return self.deployment.is_right(subscription) or short_id_of(subscription.id) in self.made

    def is_due(self, subscription: Subscription) -> bool:
        """Say whether *subscription* is to be renewed: it has less than about half of its life ahead."""
        return subscription.expires - self.at < _renewed_below(subscription, self.lifetime)


@dataclass(frozen=True)
class Terms:
    """Says how far one run may go."""

    leavers_share: float = LEAVERS_SHARE
    leavers_agreed: bool = False
    """A person has agreed that all mailboxes that are not wanted lose their subscription."""
    knock: bool = False
    """Renew one early if no renewal is due, so that Graph calls the app: nothing else tells whether it can."""


@dataclass(frozen=True)
class Plan:
    """Each wanted mailbox is to be created, replaced, renewed, kept, or waits; all in the order of their urgency."""

    create: tuple[str, ...] = ()
    gaps: frozenset[str] = frozenset()
    """The mailboxes of ``create`` whose old subscription was deleted to make room for the new one."""
    replace: tuple[Of, ...] = ()
    """A new subscription is made first, then the old one goes."""
    fall_back: frozenset[str] = frozenset()
    """Ids of subscriptions of ``replace`` that are renewed if no new one can be made: they would end before."""
    renew: tuple[Of, ...] = ()
    keep: tuple[Of, ...] = ()
    wait: tuple[Trouble, ...] = ()
    """Wanted mailboxes that could not be subscribed, and it is too early to try again."""
    spare: tuple[Subscription, ...] = ()
    """Ours, beside a better one of the same mailbox."""
    remove: tuple[Of, ...] = ()
    """Subscriptions of mailboxes that are not wanted any more."""
    refusal: str | None = None
    """Why nothing is deleted without a person's word: ``remove``, ``spare`` and ``replace`` have to wait for it."""
    prolong: tuple[Of, ...] = ()
    """Subscriptions of ``remove`` and ``replace`` that are renewed, as they would end before that word is given."""
    other_key: str | None = None
    """Says that most of the present subscriptions were made with another clientState key than ours."""
    elsewhere: frozenset[str] = frozenset()
    """Wanted mailboxes that another deployment is subscribed to; Graph may not allow a second subscription."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """The last trouble of each wanted mailbox, whatever is planned for it now."""
    mislisted: frozenset[str] = frozenset()
    """Ids of subscriptions of ``renew`` and ``keep`` that are listed otherwise than we made them."""

    @property
    def wanted(self) -> int:
        """How many mailboxes are wanted."""
        return sum(map(len, (self.create, self.replace, self.renew, self.keep, self.wait)))


def plan_subscriptions(situation: Situation, terms: Terms = Terms()) -> Plan:
    """Say what gives each wanted mailbox one right subscription with about half of its life ahead.

    Example: Anna is wanted and has none: create. Ben's ends tomorrow: renew. Cleo's has a former URL: replace. Dan has
    left: remove. An expired subscription may still be listed for a while; it counts as absent.
    """
    ours = _ours(situation)
    plan = _with_missing(Plan(), situation, ours)
    plan = _with_present(plan, situation, ours, terms.knock)
    plan = _with_leavers(plan, situation, ours, terms)
    known, wanted = situation.troubles, frozenset(situation.wanted)
    return replace(
        plan,
        other_key=_other_key([each for subscriptions in ours.values() for each in subscriptions], situation.deployment),
        elsewhere=_elsewhere(situation) & wanted,
        troubles={mailbox: known[mailbox] for mailbox in sorted(wanted) if mailbox in known},
    )


def _with_missing(plan: Plan, situation: Situation, ours: Mapping[str, Sequence[Subscription]]) -> Plan:
    """Add the wanted mailboxes without a subscription: to be created, or to wait as they refused lately."""
    create, wait = [], []
    for mailbox in sorted(set(situation.wanted).difference(ours)):
        trouble = situation.troubles.get(mailbox)
        if trouble is not None and situation.at < trouble.next_try <= situation.at + LONGEST_WAIT:
            wait.append(trouble)
        else:
            create.append(mailbox)
    known = situation.troubles
    gaps = frozenset(mailbox for mailbox in create if mailbox in known and known[mailbox].in_gap)
    create.sort(key=lambda mailbox: mailbox not in gaps)
    return replace(plan, create=tuple(create), gaps=gaps, wait=tuple(wait))


def _with_present(plan: Plan, situation: Situation, ours: Mapping[str, Sequence[Subscription]], knock: bool) -> Plan:
    """Add the wanted mailboxes with a subscription: to be replaced, renewed or kept."""
    spare: list[Subscription] = []
    right: list[Of] = []
    wrong: list[Of] = []
    for mailbox in sorted(set(situation.wanted).intersection(ours)):
        best, *others = _best_first(situation, ours[mailbox])
        (right if situation.is_right(best) else wrong).append((mailbox, best))
        spare += others
    renew, keep = _renewals(situation, right, knock)
    return replace(
        plan,
        replace=_by_expiry(wrong),
        fall_back=_to_fall_back_on(situation, wrong),
        renew=_by_expiry(renew),
        keep=tuple(keep),
        spare=tuple(spare),
        mislisted=frozenset(each.id for _, each in right if not situation.deployment.is_right(each)),
    )


def _with_leavers(plan: Plan, situation: Situation, ours: Mapping[str, Sequence[Subscription]], terms: Terms) -> Plan:
    """Add the subscriptions of mailboxes that are not wanted any more, and whether they may be deleted."""
    leavers = sorted(ours.keys() - set(situation.wanted))
    remove = [(mailbox, each) for mailbox in leavers for each in ours[mailbox]]
    refusal = None if terms.leavers_agreed else _refusal(len(leavers), len(ours), terms.leavers_share)
    if refusal is None:
        return replace(plan, remove=tuple(remove))
    prolong = [each for each in (*plan.replace, *remove) if situation.is_due(each[1])]
    return replace(plan, remove=tuple(remove), refusal=refusal, prolong=tuple(prolong))


def _living(situation: Situation) -> Iterable[Of]:
    """Yield the subscriptions to mailboxes that have not expired."""
    for subscription in situation.present:
        mailbox = mailbox_of(subscription)
        if mailbox is not None and subscription.expires > situation.at:
            yield mailbox, subscription


def _ours(situation: Situation) -> dict[str, list[Subscription]]:
    """Return the living subscriptions that are ours, by mailbox."""
    ours: dict[str, list[Subscription]] = {}
    for mailbox, subscription in _living(situation):
        if situation.deployment.owns(subscription):
            ours.setdefault(mailbox, []).append(subscription)
    return ours


def _elsewhere(situation: Situation) -> frozenset[str]:
    """Return the mailboxes that another deployment is subscribed to."""
    return frozenset(mailbox for mailbox, each in _living(situation) if not situation.deployment.owns(each))


def _best_first(situation: Situation, subscriptions: Iterable[Subscription]) -> list[Subscription]:
    """Sort the subscriptions of one mailbox: the one to keep comes first.

    In the end the id decides, so that two runs side by side do not delete each other's choice.
    """

    def worth(each: Subscription) -> tuple[bool, bool, bool, datetime, str]:
        is_made = short_id_of(each.id) in situation.made
        return situation.deployment.is_right(each), is_made, each.change_types >= CHANGE_TYPES, each.expires, each.id

    return sorted(subscriptions, key=worth, reverse=True)


def _renewals(situation: Situation, right: Iterable[Of], knock: bool) -> tuple[list[Of], list[Of]]:
    """Split the *right* subscriptions: to be renewed, or to be kept as they are.

    To *knock* is to renew one early if none is due but where it failed before.
    """
    renew: list[Of] = []
    keep: list[Of] = []
    for each in right:
        (renew if situation.is_due(each[1]) else keep).append(each)
    if knock and keep and all(mailbox in situation.troubles for mailbox, _ in renew):
        early = min(keep, key=lambda each: (each[0] in situation.troubles, each[1].expires))
        keep.remove(early)
        renew.append(early)
    return renew, keep


def _to_fall_back_on(situation: Situation, replace: Iterable[Of]) -> frozenset[str]:
    """Return the ids of subscriptions that are due, and whose notifications are still believed."""
    return frozenset(each.id for _, each in replace if situation.is_due(each) and situation.deployment.hears(each))


def _by_expiry(subscriptions: Iterable[Of]) -> tuple[Of, ...]:
    return tuple(sorted(subscriptions, key=lambda each: each[1].expires))


def _renewed_below(subscription: Subscription, lifetime: timedelta) -> timedelta:
    """Return how much life a subscription has ahead when its turn has come: a half of *lifetime*, give or take.

    The same subscription always gets the same answer.
    """
    chance = hashlib.sha256(subscription.id.encode()).digest()[0] / 255
    return lifetime * (0.5 + JITTER * (chance - 0.5))


def _refusal(leavers: int, subscribed: int, share: float) -> str | None:
    """Say why so many *leavers* may not lose their subscriptions at once; None if they may.

    A query that suddenly returns half of the people must not unsubscribe the other half. One mailbox may always go as
    long as another one stays: a query that fails seldom misses just one. Example: 2 of 10 may go, 3 of 10 may not; 1 of
    2 may go, 1 of 1 may not. With a share of 0 a person is asked each time.
    """
    is_one_of_several = leavers == 1 < subscribed and share > 0
    if not leavers or is_one_of_several or leavers / subscribed <= share:
        return None
    return (
        f"{leavers} of {subscribed} mailboxes are not wanted any more;"
        " nothing is deleted or replaced until a person says that it is so"
    )


def _other_key(ours: Iterable[Subscription], deployment: Deployment) -> str | None:
    """Say that most of the subscriptions at our endpoint have another key; None if they have ours.

    An operator's machine with a wrong key would replace them by subscriptions whose notifications the app refuses.
    """
    keys: Counter[str | None] = Counter(
        key for each in ours if deployment.is_at(each) and (key := key_of(each.notification_url))
    )
    others = keys.total() - keys[deployment.key_fingerprint]
    if 2 * others <= keys.total():
        return None
    return f"{others} of {keys.total()} subscriptions at this NOTIFICATION_URL have another CLIENT_STATE_KEY"
