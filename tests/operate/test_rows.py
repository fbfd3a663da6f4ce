"""What operators are shown of a plan: which subscription, why, and no secret."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync.messages.changes import Change
from sync.model import Subscription
from sync.operate.rows import State, difference_rows, masked, subscription_rows
from sync.subscriptions.deployment import CHANGE_TYPES, Deployment
from sync.subscriptions.outages import Trouble
from sync.subscriptions.planning import Plan
from sync.sweep.differences import Difference

NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
DEPLOYMENT = Deployment.of("https://sync.example/api/notifications?code=SECRET", "k" * 40, "https://d.example", "a_b")
A, B, C, D, E, F = (f"0d5c8f5e-0000-4000-8000-00000000000{letter}" for letter in "abcdef")


def held(mailbox: str, url: str = DEPLOYMENT.url, lifecycle_url: str | None = "the same") -> Subscription:
    lifecycle_url = url if lifecycle_url == "the same" else lifecycle_url
    return Subscription(
        f"s-{mailbox[-1]}", f"users/{mailbox}/events", CHANGE_TYPES, url, lifecycle_url, NOW + timedelta(days=3)
    )


def test_what_is_to_be_done_is_shown_first() -> None:
    trouble = Trouble(B, "no licence", NOW, 1, NOW + timedelta(hours=1))
    plan = Plan(
        create=(A,),
        wait=(trouble,),
        replace=((C, held(C, lifecycle_url=None)),),
        renew=((D, held(D)),),
        keep=((E, held(E)),),
        spare=(held(E),),
        remove=((F, held(F)),),
        elsewhere=frozenset({A}),
    )
    rows = subscription_rows(plan, DEPLOYMENT, NOW)
    assert [(row.mailbox, row.state) for row in rows] == [
        (A, State.CREATE),
        (B, State.WAIT),
        (C, State.REPLACE),
        (D, State.RENEW),
        (F, State.DELETE),
        (E, State.DELETE),
        (A, State.ELSEWHERE),
        (E, State.KEEP),
    ]
    assert (rows[1].reason, rows[1].next_try) == ("no licence", trouble.next_try)
    assert (rows[3].subscription, rows[3].expires_in) == ("s-d", timedelta(days=3))
    assert "SECRET" not in repr(rows)


@pytest.mark.parametrize(
    ("subscription", "reason"),
    [
        (held(A, DEPLOYMENT.url.replace("sync.example", "old.example")), "another URL"),
        (held(A, DEPLOYMENT.url.replace("SECRET", "OLD")), "another function key"),
        (held(A, DEPLOYMENT.url[:-8] + "00000000"), "another clientState key"),
        (held(A, "https://sync.example/api/notifications?code=SECRET"), "another clientState key"),
        (held(A, lifecycle_url=None), "no lifecycle URL"),
        (held(A, lifecycle_url="https://old.example"), "another lifecycle URL"),
        (replace(held(A), change_types=frozenset({"updated"})), "other change types"),
        (held(A, DEPLOYMENT.url.replace("sync.", "Sync.").replace("SECRET", "%53ECRET"), None), "no lifecycle URL"),
        (held(A, "https://old.example", None), "another URL, another clientState key, no lifecycle URL"),
    ],
)
def test_a_subscription_to_be_replaced_says_what_is_wrong_with_it(subscription: Subscription, reason: str) -> None:
    assert not DEPLOYMENT.is_right(subscription)
    [row] = subscription_rows(Plan(replace=((A, subscription),)), DEPLOYMENT, NOW)
    assert row.reason == reason


def test_what_waits_for_a_persons_word_is_shown_with_its_reason() -> None:
    wrong, left, ending = held(A, lifecycle_url=None), held(B), held(C)
    plan = Plan(replace=((A, wrong),), remove=((B, left), (C, ending)), refusal="too many", prolong=((C, ending),))
    assert [(row.state, row.reason) for row in subscription_rows(plan, DEPLOYMENT, NOW)] == [
        (State.HELD_BACK, "no lifecycle URL"),
        (State.HELD_BACK, "the mailbox is not wanted any more"),
        (State.RENEW, "the mailbox is not wanted any more"),
    ]


def test_what_is_listed_otherwise_than_it_was_made_is_shown() -> None:
    strange = held(A, lifecycle_url=None)
    for plan in (Plan(keep=((A, strange),)), Plan(renew=((A, strange),))):
        [row] = subscription_rows(replace(plan, mislisted=frozenset({strange.id})), DEPLOYMENT, NOW)
        assert row.reason == "listed otherwise than it was made: no lifecycle URL"


def test_what_went_wrong_the_last_time_is_shown_whatever_is_planned_now() -> None:
    troubles = {mailbox: Trouble(mailbox, "graph 503", NOW, 0, NOW) for mailbox in (A, B, C)}
    plan = Plan(create=(A,), replace=((B, held(B, lifecycle_url=None)),), renew=((C, held(C)),), troubles=troubles)
    rows = subscription_rows(plan, DEPLOYMENT, NOW)
    assert [row.reason for row in rows] == ["graph 503", "no lifecycle URL; graph 503", "graph 503"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.example/api/n", "https://x.example/api/n"),
        ("https://x.example/n?code=K", "https://x.example/n?code=***"),
        ("https://x.example/n?code=a=b&x=1", "https://x.example/n?code=***&x=***"),
        ("https://x.example/n?K", "https://x.example/n?***"),
        (
            "https://x.example/n?code=K&booking-sync=00000000.11111111",
            "https://x.example/n?code=***&booking-sync=00000000.11111111",
        ),
        ("https://user:K@x.example/n#K", "https://x.example/n"),
        ("", ""),
    ],
)
def test_an_url_is_shown_without_what_may_be_a_secret(url: str, expected: str) -> None:
    assert masked(url) == expected


def test_a_difference_names_its_event_as_it_is() -> None:
    [row] = difference_rows([Difference(Change(A, "AAMkAb="), "its event is not in the list", NOW)])
    assert (row.mailbox, row.event, row.start) == (A, "AAMkAb=", NOW)
