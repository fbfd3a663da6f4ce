"""Notifications on their way to the webhook: what they say, and what happens to them when the world is unkind."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from aiohttp import web

from sandbox.clock import Clock
from sandbox.graph.endpoints import Endpoints
from sandbox.graph.notification_bodies import Hostility
from tests.world.graph_world import ELEVEN, NOON, NOW, World


@pytest.fixture
async def world():
    async with World() as world:
        yield world


def create(world: World, **fields):
    return world.mailboxes.create(world.mailbox, ELEVEN, NOON, **fields)


async def posts(world: World, count: int) -> None:
    """Wait until so many POSTs were answered."""
    enough = asyncio.Event()
    world.delivery.listeners.append(lambda _: enough.set() if len(world.delivery.posts) >= count else None)
    await asyncio.wait_for(enough.wait(), timeout=5)


# What is told.


async def test_a_change_reaches_the_url_with_its_query(world):
    subscription = await world.subscribe()
    event = create(world)
    await world.delivery.settle()
    [item] = world.webhook.items
    assert world.webhook.queries == ["code=se%2Fcret"]
    assert item["subscriptionId"] == subscription.id
    assert item["clientState"] == subscription.client_state
    assert item["changeType"] == "created"
    assert item["resourceData"]["id"] == event.immutable_id
    assert item["resourceData"]["@odata.etag"] == event.etag
    assert item["resource"] == f"Users/{world.mailbox.id}/Events/{event.immutable_id}"


async def test_a_subscription_created_without_the_header_hears_of_plain_ids(world):
    await world.subscribe(immutable_ids=False)
    event = create(world)
    await world.delivery.settle()
    assert world.webhook.items[0]["resourceData"]["id"] == event.plain_id


async def test_only_what_was_subscribed_to_is_told(world):
    await world.subscribe(changeType="updated,deleted")
    event = create(world)
    world.mailboxes.change(event, subject="Other")
    world.mailboxes.create(world.mailboxes.add(), ELEVEN, NOON)
    world.mailboxes.delete(event)
    await world.delivery.settle()
    assert world.webhook.change_types == ["updated", "deleted"]


async def test_nothing_of_an_event_but_its_id_and_etag_is_told(world):
    await world.subscribe()
    create(world, subject="Secret subject", body="Secret body", attendees=["secret@contoso.example"])
    await world.delivery.settle()
    assert "ecret" not in str(world.webhook.bodies)


async def test_an_expired_or_deleted_subscription_hears_nothing(world):
    subscription = await world.subscribe()
    world.subscriptions.delete(subscription.id)
    await world.subscribe()
    world.clock.move(timedelta(days=7))
    create(world)
    await world.delivery.settle()
    assert world.webhook.bodies == []


# Again, and no more.


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_2xx_counts_as_delivered(world, status):
    await world.subscribe()
    world.webhook.reply = lambda _: web.Response(status=status)
    create(world)
    await world.delivery.settle()
    assert [post.status for post in world.delivery.posts] == [status]


async def test_another_answer_brings_the_notification_back(world):
    await world.subscribe()
    answers = iter([503, 404, 302, 202])
    world.webhook.reply = lambda _: web.Response(status=next(answers))
    create(world)
    await world.delivery.settle()
    assert [post.status for post in world.delivery.posts] == [503, 404, 302, 202]
    assert world.webhook.bodies[0] == world.webhook.bodies[3]


async def test_an_answer_in_time_for_a_retry_is_too_late_for_the_first_try():
    async with World(answer_within=0.02) as world:
        await world.subscribe()
        world.webhook.delay = 0.1
        create(world)
        await world.delivery.settle()
        assert [post.status for post in world.delivery.posts] == [None, 202]


async def test_after_four_hours_a_notification_is_dropped_and_missed_tells_of_it(world):
    await world.subscribe()

    def refuse_changes(request: web.Request) -> web.Response:
        return web.Response(status=202 if "lifecycleEvent" in world.webhook.items[-1] else 503)

    world.webhook.reply = refuse_changes
    create(world)
    await world.delivery.settle()
    assert [post.status for post in world.delivery.posts] == [503] * 11 + [202]
    assert world.webhook.items[-1]["lifecycleEvent"] == "missed"


async def test_four_hours_on_the_clock_are_four_hours(world):
    await world.subscribe()
    world.delivery.time_scale = 1.0
    world.webhook.reply = lambda _: web.Response(status=503)
    create(world)
    await posts(world, 1)
    world.clock.move(timedelta(hours=5))
    await posts(world, 3)
    assert "lifecycleEvent" not in world.webhook.bodies[1]["value"][0]
    assert world.webhook.bodies[2]["value"][0]["lifecycleEvent"] == "missed"


async def test_without_a_url_for_lifecycle_notifications_a_loss_stays_untold(world):
    await world.subscribe(lifecycleNotificationUrl=...)
    world.webhook.reply = lambda _: web.Response(status=503)
    create(world)
    await world.delivery.settle()
    assert all("lifecycleEvent" not in item for item in world.webhook.items)


async def test_retries_end_with_the_subscription(world):
    subscription = await world.subscribe()

    def remove(_: web.Request) -> web.Response:
        world.subscriptions.remove(subscription)
        return web.Response(status=503)

    world.webhook.reply = remove
    create(world)
    await world.delivery.settle()
    assert len(world.webhook.bodies) == 1


# Authorization and lifecycle.


async def test_delivery_pauses_until_the_authorization_is_refreshed(world):
    subscription = await world.subscribe()
    world.subscriptions.lapse(subscription)
    create(world)
    await world.delivery.settle()
    assert world.webhook.bodies == []
    await world.subscriptions.reauthorize(subscription.id)
    await world.delivery.settle()
    assert world.webhook.change_types == ["created"]


async def test_what_was_paused_for_more_than_four_hours_is_missed(world):
    subscription = await world.subscribe()
    world.subscriptions.lapse(subscription)
    create(world)
    world.clock.move(timedelta(hours=4, seconds=1))
    await world.subscriptions.reauthorize(subscription.id)
    await world.delivery.settle()
    assert [item["lifecycleEvent"] for item in world.webhook.items] == ["missed"]


@pytest.mark.parametrize("event", ["reauthorizationRequired", "missed", "subscriptionRemoved"])
async def test_a_lifecycle_notification_names_no_resource(world, event):
    subscription = await world.subscribe()
    world.delivery.send_lifecycle(subscription, event)
    await world.delivery.settle()
    [item] = world.webhook.items
    assert item.keys() == {
        "subscriptionId",
        "subscriptionExpirationDateTime",
        "tenantId",
        "clientState",
        "lifecycleEvent",
    }
    assert item["lifecycleEvent"] == event
    assert (subscription in world.subscriptions) is (event != "subscriptionRemoved")


async def test_subscription_removed_is_retried_though_the_subscription_is_gone(world):
    subscription = await world.subscribe()
    answers = iter([503, 202])
    world.webhook.reply = lambda _: web.Response(status=next(answers))
    world.delivery.send_lifecycle(subscription, "subscriptionRemoved")
    await world.delivery.settle()
    assert len(world.webhook.bodies) == 2


# A hostile world.


async def deliver(world: World, hostility: Hostility, events: int = 20) -> list[dict]:
    await world.subscribe()
    world.delivery.hostility = hostility
    for _ in range(events):
        create(world)
    await world.delivery.settle()
    return world.webhook.items


async def test_copies_and_further_updates(world):
    items = await deliver(world, Hostility(copies=4, extra_updates=2))
    counts = [sum(item == other for other in items) for item in items]
    assert set(counts) == {1, 2, 3, 4}
    assert {item["changeType"] for item in items} == {"created", "updated"}


async def test_several_items_in_one_post_and_in_another_order(world):
    items = await deliver(world, Hostility(batch=5, reorder=True))
    arrived = [item["resourceData"]["id"] for item in items]
    made = list(dict.fromkeys(event.immutable_id for event in world.mailbox.events.values()))
    assert sorted(arrived) == sorted(made)
    assert arrived != made
    assert 1 < max(len(body["value"]) for body in world.webhook.bodies) <= 5


async def test_several_subscriptions_share_a_post(world):
    world.delivery.hostility = Hostility(batch=50, gather=1.0)
    await world.subscribe()
    other = world.mailboxes.add()
    await world.subscribe(resource=f"users/{other.id}/events")
    for _ in range(10):
        create(world)
        world.mailboxes.create(other, ELEVEN, NOON)
    await world.delivery.settle()
    assert any(len({item["subscriptionId"] for item in body["value"]}) == 2 for body in world.webhook.bodies)


async def test_lost_without_a_trace(world):
    items = await deliver(world, Hostility(drop=0.5))
    assert 0 < len(items) < 20


async def test_items_of_others_ride_along(world):
    items = await deliver(world, Hostility(forged=0.5, unknown_items=0.5, lifecycle=0.5))
    [subscription] = world.subscriptions
    ours = [item for item in items if item.get("subscriptionId") == subscription.id]
    assert len([item for item in ours if item["clientState"] == subscription.client_state]) > 20
    assert any(item["clientState"] != subscription.client_state for item in ours)
    assert any(item.get("subscriptionId") != subscription.id for item in items)
    assert {"reauthorizationRequired", "somethingNew"} <= {item.get("lifecycleEvent") for item in items}


async def test_paths_and_dates_in_every_form_mean_the_same(world):
    items = await deliver(world, Hostility(path_forms=True, date_forms=True), events=60)
    [subscription] = world.subscriptions
    paths = [item["resource"] for item in items]
    for beginning in ("Users/", "users/", "/Users/", "Users('", "Users/ann%40contoso.example/", "Users('ann%40"):
        assert any(path.startswith(beginning) for path in paths), beginning
    assert any(f"@{world.mailboxes.tenant_id}" in path for path in paths)
    dates = {item["subscriptionExpirationDateTime"] for item in items}
    assert len(dates) == 5
    assert all(abs(datetime.fromisoformat(date) - subscription.expiration) < timedelta(seconds=1) for date in dates)


async def test_fields_are_missing_and_unknown_ones_are_there(world):
    items = await deliver(world, Hostility(omit_fields=True, unknown_fields=True))
    for name in ("id", "tenantId"):
        assert {name in item for item in items} == {True, False}
    assert {"@odata.etag" in item["resourceData"] for item in items} == {True, False}
    assert all("experimental" in item for item in items)


async def test_the_same_seed_gives_the_same_items_however_they_are_timed():
    async def items() -> list[str]:
        async with World() as world:
            return sorted(map(str, await deliver(world, Hostility.all())))

    assert await items() == await items()


async def test_in_a_hostile_world_nothing_is_lost_unless_ordered(world):
    items = await deliver(world, Hostility.all())
    told = {item["resourceData"]["id"] for item in items if "resourceData" in item}
    assert told == {event.immutable_id for event in world.mailbox.events.values()}


# Slow endpoints.


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        pytest.param([1.0] * 9 + [4.0], "ok", id="one in ten over three seconds is not more than ten per cent"),
        pytest.param([1.0] * 8 + [4.0] * 2, "slow", id="two in ten are"),
        pytest.param([1.0] * 9 + [11.0], "ok", id="one in ten over ten seconds"),
        pytest.param([1.0] * 8 + [11.0] * 2, "drop", id="two in ten over ten seconds"),
    ],
)
def test_endpoints_are_judged_by_the_share_of_slow_answers(seconds, state):
    clock = Clock(NOW)
    endpoints = Endpoints(clock)
    for each in seconds:
        endpoints.record("example.com", each)
    assert endpoints.state("example.com") == state
    assert endpoints.state("example.net") == "ok"
    clock.move(timedelta(minutes=10))
    assert endpoints.state("example.com") == "ok"


async def test_an_endpoint_in_drop_state_hears_missed_ten_minutes_later(world):
    world.delivery.judges_endpoints = True
    world.delivery.endpoints.record("127.0.0.1", 11.0)
    items = await deliver(world, Hostility(), events=1)
    assert [item["lifecycleEvent"] for item in items] == ["missed"]


async def test_an_endpoint_in_slow_state_hears_later(world):
    world.delivery.judges_endpoints = True
    world.delivery.endpoints.record("127.0.0.1", 2.5)
    assert [item["changeType"] for item in await deliver(world, Hostility(), events=1)] == ["created"]


async def test_stopping_forgets_what_is_pending():
    async with World() as world:
        await world.subscribe()
        world.delivery.time_scale = 1.0
        world.webhook.reply = lambda _: web.Response(status=503)
        create(world)
        await posts(world, 1)
    create(world)
    assert len(world.delivery.posts) == 1


async def test_listeners_hear_of_every_post(world):
    heard = []
    world.delivery.listeners.append(heard.append)
    await deliver(world, Hostility(), events=2)
    assert heard == world.delivery.posts
