"""The roster's plan applied, and lifecycle notifications followed; each mailbox's trouble is its own."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from sync.errors import (
    Duplicate,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotFound,
    Refused,
    SyncError,
    Transient,
)
from sync.model import LifecycleNotification, Subscription
from sync.notifications import build_lifecycle_message, parse_lifecycle_message
from sync.parking import PARKS
from sync.roster import CHANGE_TYPES, LIFETIME, resource_of
from sync.subscribing import Keeper, process_lifecycle
from tests.fakes import ANNA, BEN, NOW, QueuesInMemory

URL = "https://booking-sync.example/api/notifications?code=functionkey"
QUEUE = "subscription-lifecycle"
HELD = "88888888-8888-4888-8888-888888888888"
MISSED = LifecycleNotification(ANNA, HELD, "missed")
REAUTHORIZE = LifecycleNotification(ANNA, HELD, "reauthorizationRequired")
REMOVED = LifecycleNotification(ANNA, HELD, "subscriptionRemoved")


@dataclass
class SubscriptionsInMemory:
    """What Graph holds for this app, one of a kind for each mailbox; ``trouble`` is raised for mailboxes and ids."""

    held: dict[str, Subscription] = field(default_factory=dict)
    trouble: dict[str, SyncError] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def put(self, mailbox: str, expires: datetime) -> Subscription:
        subscription = Subscription(
            f"{HELD[:-1]}{len(self.held)}", resource_of(mailbox), CHANGE_TYPES, URL, URL, expires
        )
        self.held[subscription.id] = subscription
        return subscription

    async def list(self) -> Sequence[Subscription]:
        await self._call("list", "")
        return list(self.held.values())

    async def create(self, mailbox: str, expires: datetime) -> None:
        await self._call("create", mailbox)
        if any(subscription.resource == resource_of(mailbox) for subscription in self.held.values()):
            raise Duplicate("409")
        self.put(mailbox, expires)

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        await self._call("renew", subscription_id)
        if subscription_id not in self.held:
            raise NotFound("404")
        self.held[subscription_id] = replace(self.held[subscription_id], expires=expires)

    async def _call(self, verb: str, subject: str) -> None:
        self.calls.append((verb, subject))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if subject in self.trouble:
            raise self.trouble[subject]

    def mailboxes(self) -> set[str]:
        return {subscription.resource.split("/")[1] for subscription in self.held.values()}


def keeper(subscriptions: SubscriptionsInMemory, *wanted: str) -> Keeper:
    async def mailboxes() -> Sequence[str]:
        return wanted

    return Keeper(mailboxes, subscriptions, URL, lambda: NOW)


# The timer.


async def test_missing_subscriptions_are_created_for_the_whole_lifetime():
    graph = SubscriptionsInMemory()
    await keeper(graph, ANNA, BEN).keep()
    assert graph.mailboxes() == {ANNA, BEN}
    assert {subscription.expires for subscription in graph.held.values()} == {NOW + LIFETIME}


async def test_a_subscription_past_half_of_its_life_is_renewed_and_stays_the_same_one():
    graph = SubscriptionsInMemory()
    old = graph.put(ANNA, NOW + timedelta(hours=1))
    await keeper(graph, ANNA).keep()
    assert graph.held == {old.id: replace(old, expires=NOW + LIFETIME)}


async def test_a_second_time_nothing_is_left_to_do():
    graph = SubscriptionsInMemory()
    await keeper(graph, ANNA, BEN).keep()
    graph.calls.clear()
    await keeper(graph, ANNA, BEN).keep()
    assert graph.calls == [("list", "")]


async def test_a_subscription_that_vanished_since_it_was_listed_is_created():
    class Outdated(SubscriptionsInMemory):
        async def list(self) -> Sequence[Subscription]:
            return [Subscription(HELD, resource_of(ANNA), CHANGE_TYPES, URL, URL, NOW + timedelta(hours=1))]

    graph = Outdated()
    await keeper(graph, ANNA).keep()
    assert graph.calls == [("renew", HELD), ("create", ANNA)]
    assert graph.mailboxes() == {ANNA}


@pytest.mark.parametrize(
    "error", [MailboxUnavailable("403"), Transient("503"), Refused("400"), Misconfigured("no token")], ids=repr
)
async def test_one_mailboxs_trouble_does_not_keep_the_others_from_their_subscription(error, caplog):
    graph = SubscriptionsInMemory(trouble={ANNA: error})
    await keeper(graph, ANNA, BEN).keep()
    assert graph.mailboxes() == {BEN}
    assert any(record.levelno == logging.ERROR and ANNA in record.getMessage() for record in caplog.records)


async def test_one_renewal_that_fails_does_not_keep_the_others_from_theirs():
    graph = SubscriptionsInMemory()
    annas, bens = (graph.put(mailbox, NOW + timedelta(hours=1)) for mailbox in (ANNA, BEN))
    graph.trouble[annas.id] = Transient("503")
    await keeper(graph, ANNA, BEN).keep()
    assert graph.held[annas.id].expires == annas.expires
    assert graph.held[bens.id].expires == NOW + LIFETIME


async def test_a_subscription_that_exists_although_it_was_not_listed_is_left_alone(caplog):
    graph = SubscriptionsInMemory(trouble={ANNA: Duplicate("409")})
    await keeper(graph, ANNA).keep()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_nothing_is_created_while_the_subscriptions_cannot_be_listed():
    graph = SubscriptionsInMemory(trouble={"": Transient("503")})
    with pytest.raises(Transient):
        await keeper(graph, ANNA).keep()
    assert graph.calls == [("list", "")]


async def test_nothing_is_created_while_the_mailboxes_cannot_be_listed():
    graph = SubscriptionsInMemory()

    async def refuse() -> Sequence[str]:
        raise Transient("503")

    with pytest.raises(Transient):
        await Keeper(refuse, graph, URL, lambda: NOW).keep()
    assert graph.mailboxes() == set()


async def test_handshakes_come_a_few_at_a_time():
    graph = SubscriptionsInMemory()
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(50)]
    await keeper(graph, *mailboxes).keep()
    assert len(graph.held) == 50
    assert 1 < graph.most_at_once <= 8


async def test_the_log_tells_how_many_of_each_and_no_secret(caplog):
    caplog.set_level(logging.INFO)
    graph = SubscriptionsInMemory(trouble={BEN: Refused("400")})
    await keeper(graph, ANNA, BEN).keep()
    assert "roster wanted=2 created=1 renewed=0 failed=1" in caplog.text
    assert "functionkey" not in caplog.text


# Lifecycle notifications.


async def test_a_reauthorization_renews_the_subscription():
    graph = SubscriptionsInMemory()
    old = graph.put(ANNA, NOW + timedelta(hours=1))
    await keeper(graph).follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert graph.held[old.id].expires == NOW + LIFETIME


async def test_a_reauthorization_of_a_subscription_that_is_gone_creates_a_new_one():
    graph = SubscriptionsInMemory()
    await keeper(graph).follow(REAUTHORIZE)
    assert graph.mailboxes() == {ANNA}


async def test_a_removed_subscription_is_created_anew_once_however_often_that_is_told():
    graph = SubscriptionsInMemory()
    await keeper(graph).follow(REMOVED)
    await keeper(graph).follow(REMOVED)
    assert [subscription.resource for subscription in graph.held.values()] == [resource_of(ANNA)]


@pytest.mark.parametrize("word", ["missed", "oneThatIsNewNextYear"])
async def test_logged_and_nothing_else_is(word, caplog):
    graph = SubscriptionsInMemory()
    await keeper(graph).follow(replace(MISSED, event=word))
    assert graph.calls == []
    assert f"lifecycle event={word} mailbox={ANNA}" in caplog.text


# Their queue.


def answering(error: SyncError | None = None) -> tuple[list[LifecycleNotification], Callable[..., Awaitable[None]]]:
    """What was followed, and a ``follow`` that raises *error*."""
    followed: list[LifecycleNotification] = []

    async def follow(notification: LifecycleNotification) -> None:
        followed.append(notification)
        if error is not None:
            raise error

    return followed, follow


async def test_a_message_is_followed_and_done():
    queues, (followed, follow) = QueuesInMemory(), answering()
    await process_lifecycle(build_lifecycle_message(REMOVED), follow, queues)
    assert followed == [REMOVED]
    assert queues.sent == []


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", '{"mailbox": "anna"}'])
async def test_a_malformed_message_is_parked_at_once(text):
    queues, (followed, follow) = QueuesInMemory(), answering()
    await process_lifecycle(text, follow, queues)
    [(queue, message, _)] = queues.sent
    assert queue == f"{QUEUE}-poison"
    assert json.loads(message)["message"] == text
    assert not followed


async def test_a_mailbox_that_is_out_of_reach_parks_nothing(caplog):
    queues = QueuesInMemory()
    await process_lifecycle(build_lifecycle_message(REMOVED), answering(MailboxUnavailable("403"))[1], queues)
    assert queues.sent == []
    assert ANNA in caplog.text


@pytest.mark.parametrize("error", [Transient("503", retry_after=400.0), Misconfigured("no token")], ids=repr)
async def test_what_may_work_later_is_put_back_and_counted(error):
    queues, given = QueuesInMemory(), replace(REMOVED, attempt=1)
    await process_lifecycle(build_lifecycle_message(given), answering(error)[1], queues)
    [(queue, message, hidden)] = queues.sent
    assert queue == QUEUE
    assert parse_lifecycle_message(message) == replace(REMOVED, attempt=2)
    assert hidden >= (getattr(error, "retry_after", None) or 30)


async def test_what_never_works_is_parked_in_the_end():
    queues, given = QueuesInMemory(), replace(REMOVED, attempt=PARKS)
    await process_lifecycle(build_lifecycle_message(given), answering(Transient("503"))[1], queues)
    assert [queue for queue, _, _ in queues.sent] == [f"{QUEUE}-poison"]


@pytest.mark.parametrize("error", [Refused("400 ValidationError"), Malformed("an answer without id")], ids=repr)
async def test_what_is_refused_is_parked_with_its_reason(error):
    queues = QueuesInMemory()
    await process_lifecycle(build_lifecycle_message(REMOVED), answering(error)[1], queues)
    [(queue, message, _)] = queues.sent
    assert queue == f"{QUEUE}-poison"
    assert json.loads(message)["reason"] == str(error)


async def test_a_message_is_left_to_the_host_while_the_queue_refuses():
    queues = QueuesInMemory(refuses=True)
    for text, error in (("hello", None), (build_lifecycle_message(REMOVED), Transient("503"))):
        with pytest.raises(Transient):
            await process_lifecycle(text, answering(error)[1], queues)
