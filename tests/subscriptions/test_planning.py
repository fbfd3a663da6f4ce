"""(wanted, present, now) → which subscriptions to create, renew, replace, delete, rule by rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import count, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.ids import short_id_of
from sync.model import Subscription
from sync.subscriptions.deployment import CHANGE_TYPES, LIFETIME, Deployment, mailbox_of, resource_of
from sync.subscriptions.outages import Trouble, next_trouble
from sync.subscriptions.planning import JITTER, LEAVERS_SHARE, Plan, Situation, Terms, plan_subscriptions
from tests.world.fakes import NOW

ANNA = "a11a0000-abcd-4aaa-8aaa-0123456789ab"
BEN = "be220000-abcd-4bbb-8bbb-0123456789ab"
CLEO = "c1e00000-abcd-4ccc-8ccc-0123456789ab"
OLD_URL = "https://booking-sync.example/api/notifications?code=functionkey"
KEY, OTHER_KEY = "k" * 40, "o" * 40
DATAVERSE, COLUMN = "https://contoso.crm4.dynamics.com", "contoso_outlookeventid"
US = Deployment.of(OLD_URL, KEY, DATAVERSE, COLUMN)
OURS = Subscription("s1", resource_of(ANNA), CHANGE_TYPES, US.url, US.url, NOW + LIFETIME)
HALF = LIFETIME / 2
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def deployed(url: str = OLD_URL, key: str = KEY, dataverse: str = DATAVERSE, column: str = COLUMN) -> Subscription:
    """Anna's subscription as another deployment, or this one with other settings, made it."""
    made = Deployment.of(url, key, dataverse, column).url
    return replace(OURS, notification_url=made, lifecycle_url=made)


def expiring(after: timedelta, held: Subscription = OURS) -> Subscription:
    return replace(held, expires=NOW + after)


def plan(present: Iterable[Subscription], *wanted: str, **options: Any) -> Plan:
    return plan_for(wanted or (ANNA,), present, **options)


def plan_for(
    wanted: Collection[str], present: Iterable[Subscription], deployment: Deployment = US, **options: Any
) -> Plan:
    """*options* are those of ``Terms`` and of ``Situation``."""
    terms = {name: options.pop(name) for name in ("leavers_share", "leavers_agreed", "knock") if name in options}
    return plan_subscriptions(Situation(wanted, [*present], deployment, NOW, **options), Terms(**terms))


def people(number: int) -> list[str]:
    return [f"{place:08}-0000-4000-8000-000000000000" for place in range(number)]


def subscribed(mailboxes: Iterable[str]) -> list[Subscription]:
    return [replace(OURS, id=f"of {mailbox}", resource=resource_of(mailbox)) for mailbox in mailboxes]


# Missing ones, and those that are past half of their life.


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param([], "create", id="a mailbox without subscription gets one"),
        pytest.param([OURS], "keep", id="a fresh subscription is left alone"),
        pytest.param([expiring(SECOND)], "renew", id="a subscription is renewed in its last second"),
        pytest.param([expiring(timedelta())], "create", id="a subscription that ends now counts as absent"),
        pytest.param([expiring(-SECOND)], "create", id="an expired subscription that is still listed counts as absent"),
        pytest.param([replace(OURS, resource=resource_of(BEN))], "create", id="another mailbox's does not help"),
        pytest.param([replace(OURS, resource=f"users/{ANNA}/messages")], "create", id="messages do not help"),
        pytest.param([replace(OURS, resource="me/events")], "create", id="a resource without user does not help"),
        pytest.param(
            [replace(OURS, resource=f"/Users/{ANNA.upper()}/Events")], "keep", id="a resource is read in any spelling"
        ),
        pytest.param([OURS, expiring(-SECOND)], "keep", id="an expired one beside a fresh one changes nothing"),
    ],
)
def test_of_a_wanted_mailbox(present, expected):
    found = plan(present)
    assert [name for name in ("create", "replace", "renew", "keep", "wait") if getattr(found, name)] == [expected]
    assert not found.spare
    assert found.wanted == 1


@pytest.mark.parametrize("number", range(50))
def test_it_is_renewed_from_half_of_its_life_on_give_or_take_a_jitter_of_its_own(number):
    """So that those made together do not stay together for ever; the same one always gets the same answer."""
    held = replace(OURS, id=f"id {number}")
    early, late = LIFETIME * (0.5 + JITTER / 2), LIFETIME * (0.5 - JITTER / 2)
    assert plan([expiring(early, held)]).keep
    assert plan([expiring(late - SECOND, held)]).renew
    moments = [expiring(late + (early - late) * step / 20, held) for step in range(21)]
    assert [bool(plan([moment]).keep) for moment in moments] == sorted(bool(plan([moment]).keep) for moment in moments)


def test_the_jitter_differs_between_subscriptions():
    held = [replace(expiring(HALF), id=f"id {number}") for number in range(50)]
    assert 10 < sum(bool(plan([each]).renew) for each in held) < 40


def test_a_failed_renewal_has_days_of_further_tries():
    assert timedelta(days=3) < LIFETIME * (0.5 - JITTER / 2)


def test_one_is_renewed_early_to_find_out_whether_graph_can_reach_the_app_if_none_is_due():
    held = {mailbox: replace(OURS, id=mailbox, resource=resource_of(mailbox)) for mailbox in (ANNA, BEN, CLEO)}
    fresh = [held[ANNA], expiring(LIFETIME * 0.8, held[BEN]), expiring(LIFETIME * 0.7, held[CLEO])]
    found = plan(fresh, *held, knock=True)
    assert ([mailbox for mailbox, _ in found.renew], len(found.keep)) == ([CLEO], 2)
    refuses = Trouble(CLEO, "403", NOW, 0, NOW)
    found = plan(fresh, *held, knock=True, troubles={CLEO: refuses})
    assert [mailbox for mailbox, _ in found.renew] == [BEN], "rather one that was well the last time"
    due = expiring(HOUR, held[ANNA])
    assert plan([due, *fresh[1:]], *held, knock=True) == plan([due, *fresh[1:]], *held)
    assert plan([], knock=True).renew == ()


def test_half_of_the_life_is_that_of_the_lifetime_that_the_service_allows():
    assert plan([expiring(timedelta(hours=40))], lifetime=timedelta(hours=70)).keep
    assert plan([expiring(timedelta(hours=30))], lifetime=timedelta(hours=70)).renew


def test_the_lifetime_is_below_what_the_service_is_reported_to_refuse():
    assert timedelta(days=6) < LIFETIME <= timedelta(minutes=10_000)


def test_a_mailbox_wanted_twice_gets_one_subscription():
    assert plan([], BEN, ANNA, BEN).create == (ANNA, BEN)


def test_those_that_end_first_are_renewed_and_replaced_first():
    held = {mailbox: replace(OURS, id=mailbox, resource=resource_of(mailbox)) for mailbox in (ANNA, BEN, CLEO)}
    soon = [expiring(hours * HOUR, held[mailbox]) for mailbox, hours in ((ANNA, 9), (BEN, 1), (CLEO, 5))]
    assert [mailbox for mailbox, _ in plan(soon, *held).renew] == [BEN, CLEO, ANNA]
    wrong = [replace(each, lifecycle_url=None) for each in soon]
    assert [mailbox for mailbox, _ in plan(wrong, *held).replace] == [BEN, CLEO, ANNA]


def test_the_plan_does_not_depend_on_the_order_of_what_it_is_given():
    present = [
        OURS,
        replace(OURS, id="s2"),
        replace(expiring(HOUR), id="s3"),
        replace(OURS, id="s4", resource=resource_of(BEN)),
        replace(OURS, id="s5", resource=resource_of(CLEO)),
    ]
    expected = plan(present, ANNA, BEN)
    for order in permutations(present):
        found = plan(order, BEN, ANNA)
        assert replace(found, spare=()) == replace(expected, spare=())
        assert set(found.spare) == set(expected.spare)


# Ours, but wrong.


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(deployed(url=OLD_URL.replace("booking-sync.", "moved.")), id="another host"),
        pytest.param(deployed(url=OLD_URL.replace("/api/", "/v2/")), id="another path"),
        pytest.param(deployed(url=OLD_URL.replace("functionkey", "rotated")), id="another function key"),
        pytest.param(deployed(key=OTHER_KEY), id="an old clientState key"),
        pytest.param(replace(OURS, notification_url=OLD_URL, lifecycle_url=OLD_URL), id="no mark, as first made"),
        pytest.param(
            replace(OURS, notification_url=OLD_URL.partition("?")[0]), id="no mark and no function key, but the URL"
        ),
        pytest.param(replace(OURS, change_types=frozenset({"updated", "deleted"})), id="a change type is missing"),
        pytest.param(replace(OURS, change_types=CHANGE_TYPES | {"moved"}), id="a change type too many"),
        pytest.param(replace(OURS, lifecycle_url=None), id="no lifecycle URL"),
        pytest.param(replace(OURS, lifecycle_url="https://elsewhere.example"), id="another lifecycle URL"),
        pytest.param(replace(OURS, lifecycle_url=OLD_URL), id="a lifecycle URL without mark"),
    ],
)
def test_replaced_is_one_with(wrong):
    assert replace(plan([wrong]), other_key=None) == Plan(replace=((ANNA, wrong),))
    assert plan([expiring(HOUR, wrong)]).replace, "renewing it would not mend it"
    assert not plan([expiring(HOUR, wrong)]).renew
    assert plan([expiring(-SECOND, wrong)]).create
    assert plan([wrong, replace(OURS, id="right")]).spare == (wrong,)


def test_what_we_made_is_not_replaced_for_what_the_list_says_of_it():
    wrong = replace(OURS, lifecycle_url=None)
    made = {short_id_of(wrong.id)}
    assert plan([wrong], made=made) == Plan(keep=((ANNA, wrong),), mislisted=frozenset({wrong.id}))
    old = expiring(HOUR, wrong)
    assert plan([old], made=made) == Plan(renew=((ANNA, old),), mislisted=frozenset({wrong.id}))
    other = replace(wrong, id="zzz")
    assert plan([other], made=made).replace == ((ANNA, other),)
    assert plan([other, wrong], made=made).spare == (other,), "and it is kept rather than what it replaced"
    assert plan([OURS], made=made) == Plan(keep=((ANNA, OURS),))


def test_the_spelling_of_an_url_is_not_taken_for_another_one():
    """Or all subscriptions would be replaced with each run, if Graph should give them back in another spelling."""
    spelt = US.url.replace("booking-sync.example", "Booking-Sync.example").replace("notifications", "%6eotifications")
    assert plan([replace(OURS, notification_url=spelt, lifecycle_url=spelt)]).keep


ROTATED = Deployment.of(OLD_URL, KEY, DATAVERSE, COLUMN, previous_keys=[OTHER_KEY])


@pytest.mark.parametrize(
    ("wrong", "is_of_use"),
    [
        pytest.param(deployed(key=OTHER_KEY), True, id="the previous clientState key"),
        pytest.param(deployed(key="x" * 40), False, id="a key before that"),
        pytest.param(deployed(url=OLD_URL.replace("functionkey", "rotated")), True, id="another function key"),
        pytest.param(replace(OURS, lifecycle_url=None), True, id="no lifecycle URL"),
        pytest.param(replace(OURS, notification_url=OLD_URL), True, id="no mark"),
        pytest.param(deployed(url=OLD_URL.replace("booking-sync.", "moved.")), False, id="another host"),
    ],
)
def test_it_is_renewed_where_it_cannot_be_replaced_if_it_is_due_and_its_notifications_are_of_use_with(wrong, is_of_use):
    def fall_back(held: Subscription) -> frozenset[str]:
        return plan_for([ANNA], [held], ROTATED).fall_back

    assert fall_back(expiring(HOUR, wrong)) == ({wrong.id} if is_of_use else set())
    assert fall_back(wrong) == set(), "there is time"
    assert fall_back(expiring(HOUR)) == set(), "it is renewed in any case"


# Several of one mailbox.


@pytest.mark.parametrize(
    ("best", "others"),
    [
        pytest.param(replace(OURS, id="a"), [expiring(HOUR)], id="the one that lives longer"),
        pytest.param(expiring(HOUR), [deployed(key=OTHER_KEY)], id="the right one, even if it ends soon"),
        pytest.param(
            replace(expiring(HOUR), lifecycle_url=None),
            [replace(OURS, id="a", change_types=frozenset({"created"}))],
            id="of wrong ones the one that notifies of everything",
        ),
        pytest.param(replace(OURS, id="z"), [replace(OURS, id="a"), replace(OURS, id="b")], id="of equal ones any one"),
    ],
)
def test_kept_of_several_is(best, others):
    others = [replace(other, id=f"other {number}") for number, other in enumerate(others)]
    for present in permutations([best, *others]):
        found = plan(present)
        assert [held for _, held in (*found.keep, *found.renew, *found.replace)] == [best]
        assert set(found.spare) == set(others)


def test_an_expired_one_is_not_deleted_it_is_gone():
    assert plan([OURS, replace(expiring(-SECOND), id="s2")]).spare == ()


# Others' subscriptions.


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(deployed(dataverse="https://fabrikam.crm4.dynamics.com"), id="another environment's deployment"),
        pytest.param(deployed(column="contoso_other"), id="another column's deployment"),
        pytest.param(deployed(url=OLD_URL + "&x=1", column="contoso_other"), id="one with the mark behind more"),
        pytest.param(replace(OURS, notification_url="https://other.example/hook"), id="another application's webhook"),
        pytest.param(replace(OURS, notification_url="EventHub:https://x.example?tenantId=y"), id="an event hub"),
        pytest.param(replace(OURS, notification_url=""), id="no URL at all"),
        pytest.param(
            replace(OURS, notification_url=OLD_URL.replace("notifications", "notifications/2")), id="a path below ours"
        ),
        pytest.param(replace(OURS, resource="chats/getAllMessages"), id="our URL with another resource"),
    ],
)
def test_never_touched_is(foreign):
    for held in (foreign, expiring(HOUR, foreign), expiring(-HOUR, foreign)):
        assert plan([held], BEN) == Plan(create=(BEN,))
        found = plan([held], ANNA)
        assert found == Plan(create=(ANNA,), elsewhere=found.elsewhere)


def test_a_mailbox_that_another_deployment_is_subscribed_to_is_known():
    other = deployed(column="contoso_other")
    assert plan([other]).elsewhere == {ANNA}
    assert plan([expiring(-SECOND, other)]).elsewhere == frozenset()
    assert plan([other], BEN).elsewhere == frozenset()


def test_a_deployment_is_the_same_after_it_moved_and_its_keys_changed():
    moved = Deployment.of("https://moved.example/api/notifications?code=new", OTHER_KEY, DATAVERSE.upper(), COLUMN)
    assert moved.id == US.id
    assert moved.owns(OURS)
    assert not moved.is_right(OURS)


def test_the_mark_gives_no_key_away():
    assert KEY not in US.url
    assert len(US.url) < len(OLD_URL) + 40


# Leavers.


def test_a_mailbox_that_is_not_wanted_any_more_loses_all_its_subscriptions():
    found = plan([OURS, replace(OURS, id="s2"), *subscribed([BEN])], BEN)
    assert {held.id for _, held in found.remove} == {"s1", "s2"}
    assert {mailbox for mailbox, _ in found.remove} == {ANNA}
    assert found.refusal is None


@pytest.mark.parametrize(
    ("before", "leavers", "refused"),
    [
        *[(1, 1, True), (2, 1, False), (2, 2, True), (4, 1, False), (4, 2, True), (9, 1, False), (9, 2, True)],
        *[(10, 2, False), (10, 3, True)],
        *[(100, 20, False), (100, 21, True), (100, 50, True), (100, 100, True)],
    ],
)
def test_a_query_that_returns_too_few_people_is_not_believed(before, leavers, refused):
    everybody = people(before)
    found = plan_for(everybody[leavers:], subscribed(everybody))
    assert (found.refusal is not None) is refused
    assert len(found.remove) == leavers
    assert not refused or f"{leavers} of {before}" in str(found.refusal)
    assert LEAVERS_SHARE == 0.2


@pytest.mark.parametrize(
    ("share", "before", "leavers", "refused"),
    [
        *[(0.0, 100, 1, True), (0.0, 2, 1, True), (0.0, 2, 0, False), (0.01, 2, 1, False), (0.01, 1, 1, True)],
        *[(0.29, 100, 29, False), (0.29, 100, 30, True), (1.0, 100, 100, False), (1.0, 1, 1, False)],
    ],
)
def test_the_share_of_leavers_is_as_configured(share, before, leavers, refused):
    everybody = people(before)
    found = plan_for(everybody[leavers:], subscribed(everybody), leavers_share=share)
    assert (found.refusal is not None) is refused


def test_nobody_subscribed_yet_is_nobody_to_leave():
    assert plan_for([ANNA], [], leavers_share=0.0).refusal is None


def test_other_deployments_mailboxes_are_no_leavers():
    others = [replace(deployed(column="contoso_other"), resource=resource_of(mailbox)) for mailbox in people(50)]
    assert plan([OURS, *others]) == Plan(keep=((ANNA, OURS),))


def test_several_subscriptions_of_one_leaver_count_as_one():
    crowd = people(10)
    several = [replace(OURS, id=f"s{number}", resource=resource_of(crowd[0])) for number in range(9)]
    assert plan_for(crowd[1:], [*several, *subscribed(crowd[1:])]).refusal is None


# Another clientState key.


@pytest.mark.parametrize(
    ("keys", "is_told"),
    [
        pytest.param([], False, id="nobody is subscribed yet"),
        pytest.param([KEY], False, id="it is the one that is there"),
        pytest.param([OTHER_KEY], True, id="there is only another one"),
        pytest.param([KEY, OTHER_KEY], False, id="half of them have moved over"),
        pytest.param([KEY, OTHER_KEY, OTHER_KEY], True, id="most have another one"),
        pytest.param([KEY, OTHER_KEY, OTHER_KEY[:-1]], True, id="most have others"),
    ],
)
def test_that_most_have_another_key_is_told_unless(keys, is_told):
    crowd = people(len(keys))
    made = [replace(deployed(key=key), resource=resource_of(mailbox)) for key, mailbox in zip(keys, crowd, strict=True)]
    found = plan_for(crowd, made)
    assert (found.other_key is not None) is is_told
    assert not is_told or f"{len(keys) - keys.count(KEY)} of {len(keys)}" in str(found.other_key)


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(deployed(key=OTHER_KEY, url="https://moved.example/api"), id="another URL"),
        pytest.param(expiring(-SECOND, deployed(key=OTHER_KEY)), id="an end that is past"),
        pytest.param(deployed(key=OTHER_KEY, column="contoso_other"), id="another deployment"),
        pytest.param(replace(OURS, notification_url=OLD_URL, lifecycle_url=OLD_URL), id="no mark"),
        pytest.param(deployed(url=OLD_URL.replace("functionkey", "rotated")), id="another function key"),
    ],
)
def test_nothing_is_said_of_another_key_by_one_with(held):
    assert plan([held]).other_key is None


def test_another_function_key_does_not_hide_another_key():
    assert plan([deployed(url=OLD_URL.replace("functionkey", "rotated"), key=OTHER_KEY)]).other_key


# Mailboxes that cannot be subscribed.


def test_a_mailbox_that_refused_waits_until_its_next_try():
    trouble = Trouble(ANNA, "no licence", NOW - HOUR, 1, NOW + SECOND)
    assert plan([], troubles={ANNA: trouble}) == Plan(wait=(trouble,), troubles={ANNA: trouble})
    due = replace(trouble, next_try=NOW)
    assert plan([], troubles={ANNA: due}).create == (ANNA,)
    assert plan([], BEN, troubles={ANNA: trouble}) == Plan(create=(BEN,))


def test_a_next_try_that_only_a_wrong_clock_can_have_set_is_not_waited_for():
    refused = next_trouble(ANNA, "no licence", None, NOW + timedelta(days=400), rarely=True)
    assert plan([], troubles={ANNA: refused}).create == (ANNA,)


def test_those_whose_old_subscription_was_deleted_for_a_new_one_are_created_first():
    gap = Trouble(CLEO, "503", NOW - HOUR, 0, NOW - HOUR, in_gap=True)
    found = plan([], ANNA, BEN, CLEO, troubles={CLEO: gap, ANNA: replace(gap, mailbox=ANNA, in_gap=False)})
    assert found.create == (CLEO, ANNA, BEN)
    assert found.gaps == {CLEO}
    assert plan([replace(OURS, resource=resource_of(CLEO))], CLEO, troubles={CLEO: gap}).gaps == frozenset()


def test_a_trouble_does_not_keep_a_subscription_that_is_there_from_its_renewal():
    trouble = Trouble(ANNA, "forbidden", NOW, 9, NOW + HOUR)
    assert plan([expiring(HOUR)], troubles={ANNA: trouble}).renew
    assert plan([OURS], troubles={ANNA: trouble}).keep


def test_who_refuses_is_tried_rarely_from_each_hour_to_once_a_day():
    trouble, waits = None, []
    for _ in range(8):
        trouble = next_trouble(ANNA, "no licence", trouble, NOW, rarely=True)
        waits.append(round((trouble.next_try - NOW) / HOUR, 2))
    assert waits == [0.75, 1.75, 3.75, 7.75, 15.75, 23.75, 23.75, 23.75]
    assert trouble is not None
    assert (trouble.tries, trouble.since) == (8, NOW)


def test_the_run_an_hour_later_finds_the_first_try_due():
    trouble = next_trouble(ANNA, "no licence", None, NOW + timedelta(minutes=8), rarely=True)
    assert trouble.next_try < NOW + HOUR


def test_what_passes_is_tried_by_each_run_and_counts_as_no_refusal():
    trouble = next_trouble(ANNA, "503", None, NOW, rarely=False)
    assert (trouble.tries, trouble.next_try) == (0, NOW)
    refused = next_trouble(ANNA, "no licence", trouble, NOW + HOUR, rarely=True)
    assert (refused.tries, refused.since) == (1, NOW)


# Resources.


@pytest.mark.parametrize(
    "resource",
    ["", "users//events", f"users/{ANNA}", f"users/{ANNA}/events/x", f"xusers/{ANNA}/events", "users/anna@x/events"],
)
def test_any_other_resource_belongs_to_no_mailbox(resource):
    assert mailbox_of(replace(OURS, resource=resource)) is None


def test_a_resource_leads_back_to_its_mailbox_in_either_spelling():
    first = replace(OURS, resource=resource_of(BEN))
    second = replace(OURS, resource=resource_of(BEN, first))
    assert first.resource != second.resource
    assert resource_of(BEN, second) == first.resource
    assert mailbox_of(first) == mailbox_of(second) == BEN


# All together.

SUBSCRIPTIONS = st.builds(
    Subscription,
    st.uuids().map(str),
    st.sampled_from([resource_of(ANNA), f"/Users/{ANNA}/events", resource_of(BEN), resource_of(CLEO), "me/events"]),
    st.sampled_from([CHANGE_TYPES, frozenset({"created"})]),
    st.sampled_from([US.url, OLD_URL, deployed(key=OTHER_KEY).notification_url, "https://other.example"])
    | st.just(deployed(column="contoso_other").notification_url),
    st.sampled_from([US.url, OLD_URL, None]),
    st.timedeltas(-HOUR, LIFETIME).map(lambda ahead: NOW + ahead),
)


def carried_out(found: Plan, present: list[Subscription], names: Iterable[int]) -> list[Subscription]:
    """What Graph holds after every step of the plan."""
    gone = {held.id for held in found.spare} | {held.id for _, held in (*found.remove, *found.replace)}
    renewed = {held.id for _, held in found.renew}
    fresh = zip((*found.create, *(mailbox for mailbox, _ in found.replace)), names, strict=False)
    return [
        *(
            replace(held, expires=NOW + LIFETIME) if held.id in renewed else held
            for held in present
            if held.id not in gone
        ),
        *(replace(OURS, id=f"new {name}", resource=resource_of(mailbox)) for mailbox, name in fresh),
    ]


@settings(max_examples=300)
@given(st.sets(st.sampled_from([ANNA, BEN, CLEO])), st.lists(SUBSCRIPTIONS, max_size=8, unique_by=lambda s: s.id))
def test_a_plan_carried_out_leaves_one_right_subscription_for_each_wanted_mailbox_and_nothing_to_do(wanted, present):
    names = count()
    found = plan_for(wanted, present)
    after = carried_out(found, present, names)
    again = plan_for(wanted, after)
    assert [mailbox for mailbox, _ in again.keep] == sorted(wanted)
    assert replace(again, keep=(), elsewhere=frozenset()) == Plan()
    ours = [held for held in after if US.owns(held) and mailbox_of(held) and held.expires > NOW]
    assert sorted(mailbox_of(held) or "" for held in ours) == sorted(wanted)
    assert all(US.is_right(held) for held in ours)
    foreign = [held for held in present if not US.owns(held) or mailbox_of(held) is None]
    assert all(held in after for held in foreign), "others' are as they were"
    assert found.wanted == len(wanted)
