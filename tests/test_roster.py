"""(wanted, present, now) → which subscriptions to create and renew, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.model import Subscription
from sync.roster import CHANGE_TYPES, LIFETIME, Plan, mailbox_of, plan_roster, resource_of
from tests.fakes import NOW

ANNA = "a11a0000-abcd-4aaa-8aaa-0123456789ab"
BEN = "be220000-abcd-4bbb-8bbb-0123456789ab"
URL = "https://booking-sync.example/api/notifications?code=functionkey"
FRESH = Subscription("s1", resource_of(ANNA), CHANGE_TYPES, URL, URL, NOW + LIFETIME)
HALF = LIFETIME / 2
SECOND = timedelta(seconds=1)

NOTHING = Plan((), ())
CREATE = Plan((ANNA,), ())
RENEW = Plan((), ((ANNA, "s1"),))


def expiring(after: timedelta) -> Subscription:
    return replace(FRESH, expires=NOW + after)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param([], CREATE, id="a mailbox without subscription gets one"),
        pytest.param([FRESH], NOTHING, id="a fresh subscription is left alone"),
        pytest.param([expiring(HALF)], NOTHING, id="a subscription is left alone at exactly half of its life"),
        pytest.param([expiring(HALF - SECOND)], RENEW, id="a subscription past half of its life is renewed"),
        pytest.param([expiring(SECOND)], RENEW, id="a subscription is renewed in its last second"),
        pytest.param([expiring(timedelta())], CREATE, id="a subscription that ends now counts as absent"),
        pytest.param([expiring(-SECOND)], CREATE, id="an expired subscription that is still listed counts as absent"),
        pytest.param([replace(FRESH, notification_url=URL + "2")], CREATE, id="another deployment's is not ours"),
        pytest.param([replace(FRESH, resource=resource_of(BEN))], CREATE, id="another mailbox's does not help"),
        pytest.param(
            [replace(FRESH, resource=f"users/{ANNA}/messages")], CREATE, id="a subscription to messages does not help"
        ),
        pytest.param([replace(FRESH, resource="me/events")], CREATE, id="a resource without user does not help"),
        pytest.param(
            [replace(FRESH, resource=f"/Users/{ANNA.upper()}/Events")], NOTHING, id="a resource is read in any spelling"
        ),
        pytest.param([expiring(SECOND), FRESH], NOTHING, id="of two subscriptions the one that lives longer counts"),
        pytest.param([FRESH, expiring(-SECOND)], NOTHING, id="an expired one beside a fresh one changes nothing"),
        pytest.param(
            [replace(expiring(SECOND), id="s0"), expiring(2 * SECOND)],
            RENEW,
            id="of two that end soon the one that lives longer is renewed",
        ),
    ],
)
def test_the_roster(present, expected):
    assert plan_roster([ANNA], present, URL, NOW) == expected


def test_nobody_wanted_means_nothing_to_do():
    assert plan_roster([], [FRESH, expiring(SECOND)], URL, NOW) == NOTHING


def test_a_mailbox_wanted_twice_gets_one_subscription():
    assert plan_roster([BEN, ANNA, BEN], [], URL, NOW) == Plan((ANNA, BEN), ())


def test_the_lifetime_is_below_what_the_service_is_reported_to_refuse():
    assert timedelta(days=6) < LIFETIME <= timedelta(minutes=10_000)


@pytest.mark.parametrize(
    "resource",
    ["", "users//events", f"users/{ANNA}", f"users/{ANNA}/events/x", f"xusers/{ANNA}/events", "users/anna@x/events"],
)
def test_any_other_resource_belongs_to_no_mailbox(resource):
    assert mailbox_of(replace(FRESH, resource=resource)) is None


def test_a_resource_leads_back_to_its_mailbox():
    assert mailbox_of(replace(FRESH, resource=resource_of(BEN))) == BEN


@given(
    st.sets(st.sampled_from([ANNA, BEN])),
    st.lists(
        st.builds(
            Subscription,
            st.sampled_from(["s1", "s2", "s3"]),
            st.sampled_from([resource_of(ANNA), resource_of(BEN), "me/events"]),
            st.just(CHANGE_TYPES),
            st.sampled_from([URL, "https://elsewhere.example"]),
            st.none(),
            st.timedeltas(-LIFETIME, LIFETIME).map(lambda ahead: NOW + ahead),
        )
    ),
)
def test_after_the_plan_each_wanted_mailbox_has_half_a_life_ahead_and_a_second_plan_is_empty(wanted, present):
    plan = plan_roster(wanted, present, URL, NOW)
    renewed = {(resource_of(mailbox), held) for mailbox, held in plan.renew}
    after = [
        replace(item, expires=NOW + LIFETIME)
        if (item.resource, item.id) in renewed and item.notification_url == URL
        else item
        for item in present
    ]
    after += [replace(FRESH, id=f"new {mailbox}", resource=resource_of(mailbox)) for mailbox in plan.create]
    assert plan_roster(wanted, after, URL, NOW) == NOTHING
    assert {*plan.create, *(mailbox for mailbox, _ in plan.renew)} <= wanted
    assert not set(plan.create) & {mailbox for mailbox, _ in plan.renew}
