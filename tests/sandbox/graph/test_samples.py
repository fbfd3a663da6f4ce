"""Answers, notifications and errors of the simulated Graph against recorded bodies and Microsoft's OpenAPI document.

Both are looked for beside this checkout, and the tests are skipped where they are not.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sandbox.graph.handshake import Handshake
from sandbox.graph.notification_bodies import Hostility
from sandbox.graph.query import PREFIXES
from sandbox.graph.routes import INTERNAL_ERROR, MAILBOX_INFO_STALE, THROTTLED, TOO_MANY_REQUESTS, UNAVAILABLE
from tests.world.graph_world import BOOKING, ELEVEN, EXTENSION, IMMUTABLE, NOON, World

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "graph"
OPENAPI = SAMPLES / "openapi-events-subscriptions.yaml"
pytestmark = pytest.mark.skipif(not OPENAPI.exists(), reason="../shared/samples/graph is not beside this checkout")

COLUMNS = "id,subject,start,end,isAllDay,isCancelled,type,seriesMasterId,iCalUId,changeKey,lastModifiedDateTime,showAs"
LINKED = {EXTENSION: BOOKING[EXTENSION] | {"syncedAt": "2026-03-10T02:20:00Z"}}
EXPAND = f"$expand=extensions($filter=id eq '{EXTENSION}')"
OUT_OF_SCOPE = ("batch-", "delta-", "translate-", "notification-rich-", "validation-handshake", "error-410-")
REQUESTS = ("-request",)
NOT_RAISED = ("error-400-ErrorOccurrenceCrossingBoundary",)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))


# What the simulator says in the case of each sample.


async def read(world: World, prefer: str = "", **fields: Any) -> Any:
    event = world.mailboxes.create(world.mailbox, ELEVEN, NOON, **{"extensions": LINKED, **fields})
    return (await world.call("GET", f"{world.path(event.plain_id)}?$select={COLUMNS}&{EXPAND}", Prefer=prefer))[1]


async def read_with(world: World, **switches: Any) -> Any:
    for name, value in switches.items():
        setattr(world.switches, name, value)
    return await read(world, extensions=LINKED if "extension_prefix" in switches else {})


async def read_series(world: World, type_: str) -> Any:
    master, [occurrence] = world.mailboxes.create_series(world.mailbox, ELEVEN, NOON, weeks=1)
    event, more = (master, ",recurrence") if type_ == "seriesMaster" else (occurrence, "")
    return (await world.call("GET", f"{world.path(event.plain_id)}?$select={COLUMNS}{more}"))[1]


async def create(world: World) -> Any:
    return (await world.call("POST", f"/users/{world.mailbox.id}/events", sample("event-create-request")))[1]


async def patch_extension(world: World) -> Any:
    event = world.mailboxes.create(world.mailbox, ELEVEN, NOON, extensions=BOOKING)
    path = f"{world.path(event.plain_id)}/extensions/{EXTENSION}"
    return (await world.call("PATCH", path, sample("extension-patch-request")))[1]


async def notify(world: World, *events: str) -> Any:
    """The one POST that tells of a created event and what happened to it then."""
    await world.subscribe(changeType=",".join(dict.fromkeys(events)))
    await world.subscribe(changeType="created,updated", resource=f"users/{world.mailboxes.add().id}/events")
    world.delivery.hostility = Hostility(batch=100)
    event = world.mailboxes.create(world.mailbox, ELEVEN, NOON)
    for change in events:
        if change == "updated":
            world.mailboxes.change(event, subject="Other")
        elif change == "deleted":
            world.mailboxes.delete(event)
    await world.delivery.settle()
    [body] = world.webhook.bodies
    return body


async def tell(world: World, *events: Any) -> Any:
    subscription = await world.subscribe()
    world.delivery.hostility = Hostility(batch=100)
    for event in events:
        world.delivery.send_lifecycle(subscription, event)
    await world.delivery.settle()
    [body] = world.webhook.bodies
    return body


async def subscribe(world: World) -> Any:
    return (await world.call("POST", "/subscriptions", world.wanted()))[1]


async def renew(world: World) -> Any:
    subscription = await world.subscribe()
    later = {"expirationDateTime": (world.clock.now() + timedelta(days=6, hours=1)).isoformat()}
    return (await world.call("PATCH", f"/subscriptions/{subscription.id}", later))[1]


async def list_subscriptions(world: World, page: int) -> Any:
    world.switches.empty_page, world.switches.subscriptions_page_size = True, 2
    for change_type in ("created", "updated", "deleted"):
        await world.subscribe(changeType=change_type)
    _, body = await world.call("GET", "/subscriptions")
    for _ in range(page):
        _, body = await world.call("GET", body["@odata.nextLink"])
    return body


async def refused(world: World, path: str = "", *, state: Any = "ok", **headers: str) -> Any:
    event = world.mailboxes.create(world.mailbox, ELEVEN, NOON)
    world.mailbox.state = state
    return (await world.call("GET", path or world.path(event.plain_id), **headers))[1]


async def not_found(world: World) -> Any:
    event = world.mailboxes.create(world.mailbox, ELEVEN, NOON)
    world.mailboxes.purge(event)
    return (await world.call("GET", world.path(event.plain_id)))[1]


async def stale(world: World) -> Any:
    world.switches.honour_if_match = True
    event = world.mailboxes.create(world.mailbox, ELEVEN, NOON)
    return (await world.call("PATCH", world.path(event.plain_id), {"subject": "x"}, **{"If-Match": 'W/"old"'}))[1]


async def no_subscription(world: World, *, state: Any = "ok", reply: Any = None, **changes: Any) -> Any:
    world.mailbox.state = state
    world.webhook.reply = reply
    return (await world.call("POST", "/subscriptions", world.wanted(**changes)))[1]


async def twice(world: World) -> Any:
    await world.subscribe()
    return await no_subscription(world)


async def timed_out(world: World) -> Any:
    world.webhook.delay = 0.1
    world.subscriptions._handshake = Handshake(world.rng, within=0.01)
    return await no_subscription(world)


async def ordered(body: Any) -> Any:
    return body


CASES = {
    "event-with-extension": read,
    "event-with-extension-graph-prefix": lambda world: read_with(world, extension_prefix=PREFIXES[1]),
    "event-without-extension": lambda world: read_with(world, no_extension="absent"),
    "event-without-extension-empty-array": lambda world: read_with(world, no_extension="empty"),
    "event-all-day": lambda world: read(world, is_all_day=True, show_as="oof", extensions={}),
    "event-cancelled": lambda world: read(world, is_cancelled=True, extensions={}),
    "event-occurrence": lambda world: read_series(world, "occurrence"),
    "event-series-master": lambda world: read_series(world, "seriesMaster"),
    "event-timezone-preferred": lambda world: read(world, 'outlook.timezone="W. Europe Standard Time"', extensions={}),
    "event-create-response": create,
    "extension-patch-response": patch_extension,
    "notification-event-created": lambda world: notify(world, "created"),
    "notification-event-updated": lambda world: notify(world, "updated"),
    "notification-event-deleted": lambda world: notify(world, "deleted"),
    "notification-event-batch": lambda world: notify(world, "created", "updated", "updated", "deleted"),
    "notification-lifecycle-missed": lambda world: tell(world, "missed"),
    "notification-lifecycle-reauthorizationRequired": lambda world: tell(world, "reauthorizationRequired"),
    "notification-lifecycle-subscriptionRemoved": lambda world: tell(world, "subscriptionRemoved"),
    "notification-lifecycle-batch": lambda world: tell(world, "missed", "reauthorizationRequired"),
    "subscription-create-response": subscribe,
    "subscription-renew-response": renew,
    "subscription-list-page1": lambda world: list_subscriptions(world, 0),
    "subscription-list-page2-empty-with-nextlink": lambda world: list_subscriptions(world, 1),
    "subscription-list-page3": lambda world: list_subscriptions(world, 2),
    "error-400-ErrorInvalidIdMalformed": lambda world: refused(world, world.path("x")),
    "error-400-ValidationError": lambda world: no_subscription(world, reply=lambda _: web.Response(text="other")),
    "error-400-ValidationError-status": lambda world: no_subscription(world, reply=lambda _: web.Response(status=403)),
    "error-400-expiration-too-long": lambda world: no_subscription(world, expirationDateTime="2027-01-01T00:00:00Z"),
    "error-400-validation-timeout": timed_out,
    "error-401-InvalidAuthenticationToken": lambda world: refused(world, Authorization=""),
    "error-403-ErrorAccessDenied": lambda world: refused(world, state="denied"),
    "error-403-ExtensionError-subscription": lambda world: no_subscription(world, state="denied"),
    "error-404-ErrorInvalidUser": lambda world: refused(world, state="invalid_user"),
    "error-404-ErrorItemNotFound": not_found,
    "error-404-ExtensionError-subscription": lambda world: no_subscription(world, state="on_premises"),
    "error-404-MailboxNotEnabledForRESTAPI": lambda world: refused(world, state="not_enabled"),
    "error-404-ResourceNotFound-mailbox": lambda world: refused(world, state="not_discovered"),
    "error-404-subscription-UNVERIFIED": lambda world: refused(world, "/subscriptions/x"),
    "error-409-duplicate-subscription": twice,
    "error-412-ErrorIrresolvableConflict-UNVERIFIED": stale,
    "error-429-ApplicationThrottled": lambda _: ordered(THROTTLED.body),
    "error-429-TooManyRequests": lambda _: ordered(TOO_MANY_REQUESTS.body),
    "error-500-ErrorInternalServerError": lambda _: ordered(INTERNAL_ERROR.body),
    "error-500-expand-extensions-without-filter-STATUS-UNVERIFIED": lambda world: refused(
        world, f"/users/{world.mailbox.id}/events?$expand=extensions"
    ),
    "error-503-ExtensionError-subscription": lambda _: ordered(MAILBOX_INFO_STALE.body),
    "error-503-UnknownError-empty-message": lambda _: ordered(UNAVAILABLE.body),
}


def shape(value: Any, path: str = "") -> set[tuple[str, str]]:
    """Every place of *value* with the type found there; null is of no type, and some annotations come or not."""
    if isinstance(value, dict):
        places = {(path, "object")}
        for name, inner in value.items():
            if name != "extensions@odata.context":
                places |= shape(inner, f"{path}/{name}")
        return places
    if isinstance(value, list):
        return {(path, "list")}.union(*(shape(inner, f"{path}[]") for inner in value))
    return {(path, "" if value is None else type(value).__name__)}


def test_every_sample_has_its_case():
    files = {path.stem for path in SAMPLES.glob("*.json")}
    left_out = {name for name in files if name.startswith(OUT_OF_SCOPE) or name.endswith(REQUESTS)}
    assert files - left_out - set(NOT_RAISED) == set(CASES)


@pytest.mark.parametrize("name", CASES)
async def test_it_says_what_was_recorded(name):
    async with World() as world:
        said = await CASES[name](world)
    recorded = sample(name)
    optional = {"/value[]/id"} if name.startswith("notification-event") else set()
    ours, theirs = (dict(sorted(shape(value))) for value in (said, recorded))
    assert ours.keys() - optional == theirs.keys() - optional
    differing = {
        place: (ours[place], theirs[place])
        for place in ours.keys() & theirs.keys()
        if ours[place] and theirs[place] and ours[place] != theirs[place]
    }
    assert differing == {}
    if "error" in recorded:
        assert said["error"]["code"] == recorded["error"]["code"]


# Microsoft's OpenAPI document.


@pytest.fixture(scope="module")
def validate():
    yaml = pytest.importorskip("yaml")
    validators = pytest.importorskip("openapi_schema_validator")
    components = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))["components"]

    def check(name: str, body: Any) -> None:
        schema = {"allOf": [{"$ref": f"#/components/schemas/microsoft.graph.{name}"}], "components": components}
        validators.OAS30ReadValidator(schema, format_checker=validators.oas30_format_checker).validate(body)

    return check


def schema_of(name: str) -> str:
    if name.startswith("notification-"):
        return "changeNotificationCollection"
    if name.startswith("subscription-list"):
        return "subscriptionCollectionResponse"
    if name.startswith("extension-"):
        return "openTypeExtension"
    return {"error": "ODataErrors.ODataError", "event": "event", "subscription": "subscription"}[name.partition("-")[0]]


@pytest.mark.parametrize("name", CASES)
async def test_it_is_what_the_openapi_document_describes(name, validate):
    async with World() as world:
        validate(schema_of(name), await CASES[name](world))


@pytest.mark.parametrize("path", ["events", "calendarView?startDateTime=2026-03-01&endDateTime=2026-04-01"])
async def test_lists_are_what_the_openapi_document_describes(path, validate):
    async with World() as world:
        for _ in range(11):
            world.mailboxes.create(world.mailbox, ELEVEN, NOON, attendees=["bob@contoso.example"], location="Hall 1")
        world.mailboxes.create_series(world.mailbox, ELEVEN, NOON, weeks=2)
        status, body = await world.call("GET", f"/users/{world.mailbox.id}/{path}", **IMMUTABLE)
        assert (status, len(body["value"])) == (200, 10)
        validate("eventCollectionResponse", body)


async def test_calendars_are_what_the_openapi_document_describes(validate):
    async with World() as world:
        _, body = await world.call("GET", f"/users/{world.mailbox.id}/calendars")
        for calendar in body["value"]:
            validate("calendar", calendar)


async def test_in_a_hostile_world_items_stay_what_the_openapi_document_describes(validate):
    async with World() as world:
        await world.subscribe()
        everything = Hostility.all()
        everything.omit_fields, everything.unknown_items = False, 0.0  # the document has no place for these
        world.delivery.hostility = everything
        for _ in range(20):
            world.mailboxes.create(world.mailbox, ELEVEN, NOON)
        await world.delivery.settle()
        for body in world.webhook.bodies:
            validate("changeNotificationCollection", body)


def test_a_broken_body_would_be_noticed(validate):
    with pytest.raises(Exception, match="not of type"):
        validate("event", {"isAllDay": "yes"})
