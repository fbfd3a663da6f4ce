"""The rules on subscriptions, and the handshake that each of their URLs must pass."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from aiohttp import web

from sandbox.graph.errors import GraphError
from sandbox.graph.handshake import Handshake
from sandbox.graph.subscriptions import WRITES
from tests.world.graph_world import NOW, World


@pytest.fixture
async def world():
    async with World() as world:
        yield world


async def refusal(call) -> tuple[int, str, str]:
    with pytest.raises(GraphError) as refused:
        await call
    return refused.value.status, refused.value.code, refused.value.message


# Creating.


async def test_both_urls_are_validated_before_the_answer_and_keep_their_query(world):
    seen = []
    world.webhook.reply = lambda request: (
        seen.append((request.query["code"], len(list(world.subscriptions))))
        or web.Response(text=request.query["validationToken"])
    )
    await world.subscribe()
    assert seen == [("se/cret", 0), ("se/cret", 0)]
    assert len(set(world.webhook.tokens)) == 2
    assert all({" ", ":", "+", "€"} <= set(token) for token in world.webhook.tokens)


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        pytest.param(
            lambda _: web.Response(status=403), "ValidationError", "'Forbidden'", id="a status that is not 200"
        ),
        pytest.param(lambda _: web.Response(status=202), "ValidationError", "'Accepted'", id="another 2xx"),
        pytest.param(lambda _: web.Response(status=599), "ValidationError", "'599'", id="a status without a name"),
        pytest.param(lambda _: web.Response(text="other"), "ValidationError", "200 OK", id="another token"),
        pytest.param(
            lambda request: web.Response(text=request.query["validationToken"] + "\n"),
            "ValidationError",
            "200 OK",
            id="a line end after the token",
        ),
        pytest.param(
            lambda request: web.Response(text=request.query["validationToken"], content_type="text/html"),
            "ValidationError",
            "200 OK",
            id="HTML",
        ),
    ],
)
async def test_an_endpoint_that_fails_the_handshake_gets_no_subscription(world, reply, code, words):
    world.webhook.reply = reply
    status, got, message = await refusal(world.subscribe())
    assert (status, got) == (400, code)
    assert words in message
    assert world.subscriptions.listed() == []


async def test_an_endpoint_that_is_slow_or_absent_fails_the_handshake(world):
    world.webhook.delay = 0.1
    impatient = Handshake(world.rng, within=0.02)
    assert (await refusal(impatient(world.webhook.url)))[1:] == (
        "InvalidRequest",
        "Subscription validation request timed out.",
    )
    assert (await refusal(Handshake(world.rng)("http://127.0.0.1:9/hook")))[:2] == (400, "ValidationError")


async def test_the_same_change_type_and_resource_is_in_use_already(world):
    first = await world.subscribe()
    status, code, message = await refusal(
        world.subscribe(resource=f"/Users/{world.mailbox.id.upper()}/Events", changeType="deleted,created,updated")
    )
    assert (status, code) == (409, "ObjectIdentifierInUse")
    assert message == f"Subscription Id {first.id} already exists for the requested combination"
    await world.subscribe(changeType="deleted")


async def test_with_the_switch_another_spelling_is_another_resource(world):
    world.switches.duplicates_by_spelling = True
    await world.subscribe()
    await world.subscribe(resource=f"/users/{world.mailbox.id}/events")
    assert (await refusal(world.subscribe()))[0] == 409


async def test_less_than_45_minutes_ahead_is_raised_to_that(world):
    subscription = await world.subscribe(expirationDateTime=NOW.isoformat())
    assert subscription.expiration == NOW + timedelta(minutes=45)


async def test_more_than_10070_minutes_ahead_is_refused(world):
    longest = world.switches.longest_subscription
    too_far = (NOW + longest + timedelta(seconds=1)).isoformat()
    assert await refusal(world.subscribe(expirationDateTime=too_far)) == (
        400,
        "ExtensionError",
        "Subscription expiration can only be 10070 minutes in the future.",
    )
    await world.subscribe(expirationDateTime=(NOW + longest).isoformat())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clientState", "x" * 129),
        ("changeType", "created,moved"),
        ("changeType", ...),
        ("resource", ...),
        ("resource", "users/{}/calendars/x/events"),
        ("resource", "users/{}/events?$filter=subject eq 'x'"),
        ("resource", "users/{}/events/AAMk"),
        ("resource", "me/events"),
        ("notificationUrl", "http://example.com/hook"),
        ("notificationUrl", "EventHub:https://vault.example/secrets/x"),
        ("lifecycleNotificationUrl", "/hook"),
        ("expirationDateTime", "tomorrow"),
        ("expirationDateTime", "2026-03-15T00:00:00"),
        ("latestSupportedTlsVersion", "v1_4"),
        ("includeResourceData", True),
        ("notAProperty", 1),
    ],
)
async def test_what_the_documentation_does_not_have_is_refused(world, name, value):
    if name == "resource" and isinstance(value, str):
        value = value.format(world.mailbox.id)
    assert (await refusal(world.subscribe(**{name: value})))[0] == 400
    assert world.webhook.tokens == []


@pytest.mark.parametrize("form", ["users/{}/events", "/users/{}/events", "users/AAD-UPN:ann@contoso.example/events"])
async def test_the_documented_forms_of_the_resource_are_taken(world, form):
    subscription = await world.subscribe(resource=form.format(world.mailbox.id))
    assert subscription.mailbox is world.mailbox


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("on_premises", 404, "REST API is not yet supported for this mailbox."),
        ("not_enabled", 404, "REST API is not yet supported for this mailbox."),
        ("denied", 403, "Access to OData is disabled."),
    ],
)
async def test_some_mailboxes_cannot_be_subscribed_to(world, state, status, reason):
    world.mailbox.state = state
    got, code, message = await refusal(world.subscribe())
    assert (got, code) == (status, "ExtensionError")
    assert f"Reason: {reason}" in message


async def test_the_longest_lifetime_can_be_another(world):
    world.switches.longest_subscription = timedelta(minutes=4230)
    too_far = (NOW + timedelta(minutes=4231)).isoformat()
    assert "4230 minutes" in (await refusal(world.subscribe(expirationDateTime=too_far)))[2]


async def test_a_mailbox_has_room_for_so_many_subscriptions_and_no_more(world):
    world.switches.subscriptions_per_mailbox = 2
    await world.subscribe(changeType="created")
    await world.subscribe(changeType="updated")
    assert (await refusal(world.subscribe(changeType="deleted")))[:2] == (403, "ExtensionError")


# Living.


async def test_an_expired_subscription_is_gone(world):
    subscription = await world.subscribe()
    world.clock.move(timedelta(days=7))
    assert world.subscriptions.listed() == []
    for call in (
        world.subscriptions.renew(subscription.id, {"notificationUrl": world.webhook.url}),
        world.subscriptions.reauthorize(subscription.id),
    ):
        assert (await refusal(call))[0] == 404
    await world.subscribe()  # no longer in use


async def test_with_the_switch_a_list_still_shows_the_expired(world):
    world.switches.list_shows_expired = True
    subscription = await world.subscribe()
    world.clock.move(timedelta(days=7))
    assert world.subscriptions.listed() == [subscription]
    with pytest.raises(GraphError):
        world.subscriptions.get(subscription.id)


async def test_a_renewal_validates_both_urls_again_and_moves_the_expiration(world):
    subscription = await world.subscribe()
    later = NOW + timedelta(days=6, hours=12)
    await world.subscriptions.renew(subscription.id, {"expirationDateTime": later.isoformat()})
    assert subscription.expiration == later
    assert len(world.webhook.tokens) == 4


async def test_a_failed_handshake_leaves_the_subscription_as_it_was(world):
    subscription = await world.subscribe()
    before = subscription.expiration
    world.webhook.reply = lambda _: web.Response(status=500)
    later = (NOW + timedelta(days=6, hours=12)).isoformat()
    assert (await refusal(world.subscriptions.renew(subscription.id, {"expirationDateTime": later})))[0] == 400
    assert (await refusal(world.subscriptions.reauthorize(subscription.id)))[0] == 400
    assert subscription.expiration == before


@pytest.mark.parametrize(
    "body", [{}, {"lifecycleNotificationUrl": "https://x.example"}, {"expirationDateTime": "soon"}, {"changeType": "x"}]
)
async def test_a_renewal_takes_an_expiration_or_a_notification_url_and_nothing_else(world, body):
    subscription = await world.subscribe()
    assert (await refusal(world.subscriptions.renew(subscription.id, body)))[0] == 400


async def test_reauthorize_and_patch_are_kept_ten_minutes_apart(world):
    subscription = await world.subscribe()
    renewal = {"notificationUrl": world.webhook.url}
    await world.subscriptions.reauthorize(subscription.id)
    assert (await refusal(world.subscriptions.renew(subscription.id, renewal)))[0] == 409
    world.clock.move(timedelta(minutes=10))
    await world.subscriptions.renew(subscription.id, renewal)
    assert (await refusal(world.subscriptions.reauthorize(subscription.id)))[0] == 409
    world.switches.refuse_reauthorize_near_renewal = False
    await world.subscriptions.reauthorize(subscription.id)


async def test_a_reauthorization_leaves_the_expiration_alone(world):
    subscription = await world.subscribe()
    before: datetime = subscription.expiration
    world.subscriptions.lapse(subscription)
    assert not world.subscriptions.is_authorized(subscription)
    await world.subscriptions.reauthorize(subscription.id)
    assert world.subscriptions.is_authorized(subscription)
    assert subscription.expiration == before


async def test_an_authorization_may_end_of_itself(world):
    world.switches.authorization_lasts = timedelta(hours=1)
    subscription = await world.subscribe()
    world.clock.move(timedelta(minutes=59))
    assert world.subscriptions.is_authorized(subscription)
    world.clock.move(timedelta(minutes=1))
    assert not world.subscriptions.is_authorized(subscription)


async def test_with_the_switch_a_thousand_writes_in_twenty_seconds_are_enough(world):
    world.switches.limit_subscription_writes = True
    for _ in range(WRITES):
        assert (await refusal(world.subscriptions.reauthorize("nobody")))[0] == 404
    assert (await refusal(world.subscribe()))[:2] == (429, "TooManyRequests")
    world.clock.move(timedelta(seconds=20))
    await world.subscribe()
