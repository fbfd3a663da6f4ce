"""What the services were seen or documented to send is understood, and what we send is what they document.

The recorded bodies and Microsoft's OpenAPI document are looked for beside this checkout; without them nothing is run.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_schema_validator import OAS30Validator

from sync.calls.answers import check
from sync.dataverse import parsing as dataverse_parsing
from sync.errors import (
    AccessDenied,
    Duplicate,
    InvalidId,
    LifetimeRefused,
    MailboxUnavailable,
    Misconfigured,
    NotFound,
    NotPermitted,
    Refused,
    ShutOut,
    Stale,
    SyncError,
    Throttled,
    Transient,
    UnknownColumn,
    Unvalidated,
)
from sync.graph import (
    client_state as graph_client_state,
)
from sync.graph import (
    notifications as graph_notifications,
)
from sync.graph import (
    parsing as graph_parsing,
)
from sync.model import EventType
from tests.world.services import HOUR, MORNING, World

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
OPENAPI = SAMPLES / "graph" / "openapi-events-subscriptions.yaml"
pytestmark = pytest.mark.skipif(not OPENAPI.exists(), reason="../shared/samples is not beside this checkout")

NAME, PROPERTY = "com.contoso.fieldBooking", "bookingId"
COLUMN = "contoso_outlookeventid"
KEY = "k" * 40

FOLDERS = ("graph", "dataverse")
"""Folders of recorded bodies that the app reads or sends."""

NOT_OURS = {
    # Neither sent nor received by the app: ways that Graph and Dataverse offer and that are not taken.
    "graph/batch-request.json",
    "graph/batch-response.json",
    "graph/delta-next-round-removed.json",
    "graph/delta-page1-nextlink.json",
    "graph/delta-page2-recurring-nextlink.json",
    "graph/delta-page3-deltalink.json",
    "graph/translate-exchange-ids-request.json",
    "graph/translate-exchange-ids-response.json",
    "graph/subscription-create-rich-request.json",
    "dataverse/create-alternate-key.json",
    "dataverse/delta-changes.json",
    "dataverse/delta-initial.json",
    "dataverse/webhook-delete-preimage.json",
    "dataverse/webhook-size-exceeded.json",
    "dataverse/webhook-update.json",
    # Of other clients, or of a set-up step: the simulated services answer them (tests/sandbox).
    "graph/event-create-request.json",
    "graph/extension-patch-request.json",
    "graph/extension-patch-response.json",
    "dataverse/create-column.json",
    "dataverse/systemuser-by-object-id.json",
    "dataverse/table-capabilities.json",
    "dataverse/whoami.json",
    # Rows without the status and resource that the app always asks for; only their pages and ids matter to it.
    "dataverse/bookableresource-by-user.json",
    "dataverse/booking-get-annotations.json",
    "dataverse/list-page-1.json",
}


def load(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def names(pattern: str) -> list[str]:
    return sorted(f"{path.parent.name}/{path.name}" for path in SAMPLES.glob(pattern))


EVENTS = [name for name in names("graph/event-*.json") if name not in NOT_OURS and "timezone" not in name]


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_understood(name: str) -> None:
    raw = load(name)
    event = graph_parsing.parse_event(raw, NAME, PROPERTY)
    assert event.id == raw["id"]
    assert event.type == EventType(raw["type"])
    assert (event.is_all_day, event.is_cancelled) == (raw["isAllDay"], raw["isCancelled"])
    linked = bool(raw.get("extensions"))
    assert event.booking_id == ("3fa85f64-5717-4562-b3fc-2c963f66afa6" if linked else None)


def test_an_event_in_another_time_zone_than_asked_for_is_not_misread() -> None:
    with pytest.raises(SyncError):
        graph_parsing.parse_event(load("graph/event-timezone-preferred.json"), NAME, PROPERTY)


@pytest.mark.parametrize("name", names("graph/notification-*.json"))
def test_a_notification_is_understood(name: str) -> None:
    """With our clientState in the place of the recorded one."""
    collection = load(name)
    for item in collection["value"]:
        path = str(item.get("resource", "users/622eaaff-0683-4862-9de4-f2ec83c2bd98/events")).replace("('", "/")
        item["clientState"] = graph_client_state.build_client_state(KEY, path.split("/")[1].rstrip("')").lower())
    received = graph_notifications.parse_notifications(json.dumps(collection).encode(), [KEY])
    assert not received.dropped
    wanted = {item["resourceData"]["id"] for item in collection["value"] if "resourceData" in item}
    assert {change.event_id for change in received.changes} == wanted
    lifecycle = {item["lifecycleEvent"] for item in collection["value"] if "lifecycleEvent" in item}
    assert {item.event for item in received.lifecycle} == lifecycle


@pytest.mark.parametrize(
    "name", [*names("graph/subscription-list-*.json"), *names("graph/subscription-*-response.json")]
)
def test_a_subscription_is_understood(name: str) -> None:
    body = load(name)
    for raw in body.get("value", [body]):
        assert graph_parsing.parse_subscription(raw).id == raw["id"]


def test_the_validation_handshake_is_answered_as_recorded() -> None:
    import asyncio
    from urllib.parse import parse_qsl, urlsplit

    from sync import triggers

    recorded = load("graph/validation-handshake.json")
    query = dict(parse_qsl(urlsplit(recorded["request"]["url"]).query))
    answer = asyncio.run(triggers.notifications(query, recorded["request"]["body"].encode()))
    assert (answer["status_code"], answer["body"]) == (200, recorded["response"]["body"])
    assert answer["mimetype"] == recorded["response"]["headers"]["Content-Type"]


GRAPH_ERRORS: dict[str, type[SyncError]] = {
    "400-ErrorInvalidIdMalformed": InvalidId,
    "400-ErrorOccurrenceCrossingBoundary": Refused,
    "401-InvalidAuthenticationToken": Transient,
    "403-ErrorAccessDenied": AccessDenied,
    "404-ErrorInvalidUser": MailboxUnavailable,
    "404-ErrorItemNotFound": NotFound,
    "404-MailboxNotEnabledForRESTAPI": MailboxUnavailable,
    "404-ResourceNotFound-mailbox": MailboxUnavailable,
    "410-syncStateNotFound": Refused,
    "412-ErrorIrresolvableConflict-UNVERIFIED": Refused,
    "429-ApplicationThrottled": Throttled,
    "429-TooManyRequests": Throttled,
    "500-ErrorInternalServerError": Transient,
    "500-expand-extensions-without-filter-STATUS-UNVERIFIED": Transient,
    "503-UnknownError-empty-message": Transient,
}
SUBSCRIPTION_ERRORS: dict[str, type[SyncError]] = {
    "400-ValidationError": Unvalidated,
    "400-ValidationError-status": Unvalidated,
    "400-expiration-too-long": LifetimeRefused,
    "400-validation-timeout": Unvalidated,
    "403-ExtensionError-subscription": MailboxUnavailable,
    "404-ExtensionError-subscription": MailboxUnavailable,
    "404-subscription-UNVERIFIED": NotFound,
    "409-duplicate-subscription": Duplicate,
    "503-ExtensionError-subscription": Transient,
}


@pytest.mark.parametrize("name", names("graph/error-*.json"))
def test_an_error_of_graph_is_named_by_what_happens_next(name: str) -> None:
    what = name.removeprefix("graph/error-").removesuffix(".json")
    expected = GRAPH_ERRORS.get(what) or SUBSCRIPTION_ERRORS[what]
    service: Any = "graph" if what in GRAPH_ERRORS else "subscriptions"
    with pytest.raises(SyncError) as caught:
        check(service, int(what[:3]), {}, json.dumps(load(name)).encode(), MORNING)
    assert type(caught.value) is expected


DATAVERSE_ERRORS: dict[str, type[SyncError]] = {
    "400-bind-wrong-case": Refused,
    "400-null-system-required": Refused,
    "400-plugin": Refused,
    "400-unknown-property": UnknownColumn,
    "403-not-member": ShutOut,
    "403-privilege": NotPermitted,
    "404-not-found": NotFound,
    "412-alternate-key": Refused,
    "412-exists": Refused,
    "412-version-mismatch": Stale,
    "429-concurrent": Throttled,
    "429-requests": Throttled,
    "429-time": Throttled,
}


@pytest.mark.parametrize("name", names("dataverse/error-*.json"))
def test_an_error_of_dataverse_is_named_by_what_happens_next(name: str) -> None:
    answer = load(name)["response"]
    with pytest.raises(SyncError) as caught:
        check("dataverse", answer["status"], answer["headers"], json.dumps(answer["body"]).encode(), MORNING)
    assert type(caught.value) is DATAVERSE_ERRORS[name.removeprefix("dataverse/error-").removesuffix(".json")]
    if answer["status"] == 429:
        assert isinstance(caught.value, Transient)
        assert caught.value.retry_after == float(answer["headers"]["Retry-After"])


def test_an_expanded_booking_is_understood() -> None:
    row = load("dataverse/booking-get-expand.json")["response"]["body"]
    booking = dataverse_parsing.parse_booking(row, COLUMN)
    assert (booking.id, booking.etag) == (row["bookableresourcebookingid"], row["@odata.etag"])
    assert booking.event_id == row[COLUMN]
    assert booking.mailbox == row["Resource"]["UserId"]["azureactivedirectoryobjectid"]
    assert booking.span.start == datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert booking.is_open


@pytest.mark.parametrize("case", ["list-by-event-id", "list-case-collision"])
def test_a_list_by_event_id_gives_the_exact_row_alone(case: str) -> None:
    """The recorded rows lack the expanded status and resource; they get those of the recorded booking."""
    whole = load("dataverse/booking-get-expand.json")["response"]["body"]
    rows = load(f"dataverse/booking-{case}.json")["response"]["body"]["value"]
    bookings = [
        dataverse_parsing.parse_booking(
            {**row, "BookingStatus": whole["BookingStatus"], "Resource": whole["Resource"]}, COLUMN
        )
        for row in rows
    ]
    assert [booking.event_id for booking in bookings].count(rows[0][COLUMN]) == 1


def test_of_two_rows_for_canceled_none_is_chosen_by_name() -> None:
    rows = load("dataverse/bookingstatuses-list.json")["response"]["body"]["value"]
    with pytest.raises(Misconfigured, match="Customer Canceled"):
        dataverse_parsing.choose_canceled(rows)


async def test_our_writes_are_the_recorded_ones(world: World) -> None:
    await world.link()
    world.technician.move(world.event, HOUR)
    await world.process(world.event)
    world.technician.delete(world.event)
    await world.process(world.event, deleted=True)
    _, move, cancel = [call for call in world.sandbox.calls if call.method == "PATCH"]
    for call, name in ((move, "times-ok"), (cancel, "cancel-ok")):
        recorded = load(f"dataverse/patch-{name}.json")["request"]
        assert set(json.loads(call.body)) == set(recorded["body"])
        assert {name.lower() for name in recorded["headers"]} <= set(call.headers) | {"authorization"}


def test_every_recorded_body_is_in_one_of_these_tests() -> None:
    parsed = {
        *EVENTS,
        "graph/event-timezone-preferred.json",
        *names("graph/notification-*.json"),
        *names("graph/subscription-list-*.json"),
        *names("graph/subscription-*-response.json"),
        "graph/subscription-create-request.json",
        "graph/subscription-renew-request.json",
        "graph/validation-handshake.json",
        *names("graph/error-*.json"),
        *names("dataverse/error-*.json"),
        *names("dataverse/patch-*.json"),
        "dataverse/booking-get-expand.json",
        "dataverse/booking-list-by-event-id.json",
        "dataverse/booking-list-case-collision.json",
        "dataverse/bookingstatuses-list.json",
        "dataverse/list-empty.json",
    }
    recorded = {name for folder in FOLDERS for name in names(f"{folder}/*.json")}
    assert recorded == parsed | NOT_OURS


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))


class TestOurRequestsAgainstTheOpenApiDocument:
    def schema(self, document: Any, name: str) -> OAS30Validator:
        schema = {**document["components"]["schemas"][name], "components": document["components"]}
        return OAS30Validator(schema)

    async def test_what_is_subscribed_and_renewed_fits_the_schema(
        self, world: World, document: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def agreed(*urls: str | None) -> None:
            return None

        monkeypatch.setattr(world.sandbox.subscriptions, "_validate", agreed)
        await world.subscriptions.create(world.mailbox, MORNING + HOUR)
        [held] = await world.subscriptions.list()
        await world.subscriptions.renew(held.id, MORNING + timedelta(days=6))
        bodies = [json.loads(call.body) for call in world.sandbox.calls if call.body]
        recorded = [load("graph/subscription-create-request.json"), load("graph/subscription-renew-request.json")]
        known = set(document["components"]["schemas"]["microsoft.graph.subscription"]["allOf"][1]["properties"])
        for body, sample in zip(bodies, recorded, strict=True):
            self.schema(document, "microsoft.graph.subscription").validate(body)
            assert set(body) <= known
            assert set(body) <= set(sample)

    async def test_every_path_and_parameter_we_use_is_documented(self, world: World, document: Any) -> None:
        """The document has no ``/events/{id}/calendar`` and no ``/calendars/{id}/calendarView``."""
        world.sandbox.graph_switches.deleted_stay_readable = True
        await world.link()
        world.technician.file(world.event)
        await world.process(world.event, deleted=True)
        await world.subscriptions.list()
        covered = set()
        for call in world.sandbox.calls:
            for template, operations in document["paths"].items():
                pattern = re.sub(r"\\{[^/]*?\\}", "[^/]+", re.escape(template))
                if call.service == "graph" and re.fullmatch(pattern, call.path.replace("//", "/")):
                    covered.add(template)
                    documented = {
                        self.resolve(document, item)["name"]
                        for item in [*operations.get("parameters", []), *operations["get"].get("parameters", [])]
                    }
                    assert {part.partition("=")[0] for part in call.query.split("&") if part} <= documented
        assert covered == {"/users/{user-id}/events/{event-id}", "/users/{user-id}/calendarView", "/subscriptions"}

    def resolve(self, document: Any, item: Any) -> Any:
        """What a ``$ref`` points to, else *item* itself."""
        if "$ref" not in item:
            return item
        for name in item["$ref"].removeprefix("#/").split("/"):
            document = document[name]
        return document
