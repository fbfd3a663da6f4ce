"""Graph over HTTP, about subscriptions: what stands in ``test_subscriptions.py`` is not asked again here."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.world.graph_world import IMMUTABLE, World


@pytest.fixture
async def world():
    async with World() as world:
        yield world


async def test_a_subscription_is_created_read_renewed_reauthorized_and_deleted(world):
    status, created = await world.call("POST", "//subscriptions", world.wanted(), **IMMUTABLE)
    assert (status, created["clientState"]) == (201, world.wanted()["clientState"])
    assert created["expirationDateTime"] == "2026-03-16T06:00:00Z"
    path = f"/subscriptions/{created['id'].upper()}"
    assert (await world.call("GET", path))[1] == created
    later = (world.clock.now() + timedelta(days=6, hours=1)).isoformat()
    status, renewed = await world.call("PATCH", path, {"expirationDateTime": later})
    assert (status, renewed["expirationDateTime"]) == (200, "2026-03-16T07:00:00Z")
    world.clock.move(timedelta(minutes=11))
    assert await world.call("POST", f"{path}/reauthorize") == (204, None)
    assert await world.call("DELETE", path) == (204, None)
    assert (await world.call("GET", path))[0] == 404


async def test_the_header_of_the_creation_decides_on_the_ids_of_its_notifications(world):
    await world.call("POST", "/subscriptions", world.wanted(changeType="created"), **IMMUTABLE)
    await world.call("POST", "/subscriptions", world.wanted(changeType="deleted"))
    assert [subscription.immutable_ids for subscription in world.subscriptions] == [True, False]


@pytest.mark.parametrize("shows", [False, True])
async def test_the_client_state_is_null_in_lists_and_maybe_after_a_renewal(world, shows):
    world.switches.renewal_shows_client_state = shows
    subscription = await world.subscribe()
    _, listed = await world.call("GET", "/subscriptions")
    assert [(entry["id"], entry["clientState"]) for entry in listed["value"]] == [(subscription.id, None)]
    _, renewed = await world.call("PATCH", f"/subscriptions/{subscription.id}", {"notificationUrl": world.webhook.url})
    assert renewed["clientState"] == (subscription.client_state if shows else None)


async def test_the_list_may_have_an_empty_page_in_its_midst(world):
    world.switches.empty_page, world.switches.subscriptions_page_size = True, 2
    for change_type in ("created", "updated", "deleted"):
        await world.subscribe(changeType=change_type)
    sizes, link = [], "/subscriptions"
    while link:
        _, body = await world.call("GET", link)
        sizes.append(len(body["value"]))
        link = body.get("@odata.nextLink")
    assert sizes == [2, 0, 1]


@pytest.mark.parametrize("empty_page", [False, True])
async def test_a_list_of_more_than_ten_pages_is_told_to_its_end(world, empty_page):
    world.switches.empty_page, world.switches.subscriptions_page_size = empty_page, 1
    world.switches.duplicates_by_spelling = True
    words = ["users", "Users", "USERS", "uSers", "usErs", "useRs", "userS", "/users", "/Users", "/USERS", "/uSers"]
    kept = [(await world.subscribe(resource=f"{word}/{world.mailbox.id}/events")).id for word in words]
    seen, link = [], "/subscriptions"
    while link:
        _, body = await world.call("GET", link)
        seen += [entry["id"] for entry in body["value"]]
        link = body.get("@odata.nextLink")
    assert seen == kept


async def test_the_list_takes_no_query_options(world):
    assert (await world.call("GET", "/subscriptions?$top=5"))[0] == 400


async def test_a_refusal_is_answered_in_the_shape_of_an_error(world):
    await world.subscribe()
    status, body = await world.call("POST", "/subscriptions", world.wanted())
    assert (status, body["error"]["code"]) == (409, "ObjectIdentifierInUse")
