"""Graph over HTTP, about events: what it answers, and how strict it is about being asked."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from urllib.parse import quote

import pytest

from sandbox.graph.query import PREFIXES
from sandbox.graph.routes import BAD_GATEWAY_HTML, THROTTLED, UNAVAILABLE, error
from tests.world.graph_world import BOOKING, ELEVEN, EXTENSION, IMMUTABLE, NOON, World

EXPAND = f"$expand=extensions($filter=id eq '{EXTENSION}')"
FILTER = f"$filter=Extensions/any(f:f/id eq '{EXTENSION}')"
WINDOW = "startDateTime=2026-03-17T00:00:00Z&endDateTime=2026-03-18T00:00:00Z"
TIMES = {
    "start": {"dateTime": "2026-03-17T11:00:00", "timeZone": "UTC"},
    "end": {"dateTime": "2026-03-17T12:00:00", "timeZone": "UTC"},
}


@pytest.fixture
async def world():
    async with World() as world:
        yield world


@pytest.fixture
def event(world):
    return world.mailboxes.create(world.mailbox, ELEVEN, NOON, subject="Heat pump", extensions=BOOKING)


def code(answer) -> tuple[int, str]:
    status, body = answer
    return status, body["error"]["code"]


# Who asks for what.


async def test_without_a_token_nothing_is_answered(world, event):
    answer = await world.call("GET", world.path(event.plain_id), Authorization="")
    assert code(answer) == (401, "InvalidAuthenticationToken")


async def test_words_are_compared_without_case_and_double_slashes_are_one(world, event):
    path = f"//USERS/{world.mailbox.id.upper()}//Events/{quote(event.plain_id, safe='')}?$Select=id"
    assert (await world.call("GET", path))[1]["id"] == event.plain_id
    path = f"/users('{world.mailbox.id}')/events('{event.plain_id}')"
    assert (await world.call("GET", path))[1]["id"] == event.plain_id


async def test_ids_are_compared_with_case(world, event):
    twin = world.mailboxes.create(world.mailbox, ELEVEN, NOON, subject="Twin", twin_of=event)
    for each in (event, twin):
        _, body = await world.call("GET", world.path(each.immutable_id), **IMMUTABLE)
        assert body["subject"] == each.subject


async def test_a_damaged_id_is_malformed_and_an_unknown_one_is_not_found(world, event):
    damaged = event.plain_id.lower()
    assert code(await world.call("GET", world.path(damaged))) == (400, "ErrorInvalidIdMalformed")
    world.mailboxes.delete(event)
    assert code(await world.call("GET", world.path(event.plain_id))) == (404, "ErrorItemNotFound")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("not_enabled", (404, "MailboxNotEnabledForRESTAPI")),
        ("on_premises", (404, "MailboxNotEnabledForRESTAPI")),
        ("not_discovered", (404, "ResourceNotFound")),
        ("invalid_user", (404, "ErrorInvalidUser")),
        ("denied", (403, "ErrorAccessDenied")),
    ],
)
async def test_trouble_with_a_mailbox_has_codes_of_its_own(world, event, state, expected):
    world.mailbox.state = state
    assert code(await world.call("GET", world.path(event.plain_id))) == expected


async def test_a_user_without_mailbox_is_invalid(world):
    assert code(await world.call("GET", "/users/nobody/events")) == (404, "ErrorInvalidUser")


@pytest.mark.parametrize("path", ["/", "/me/events", "/users/x/messages", "/users/x/calendarView/delta"])
async def test_a_path_that_is_not_simulated_is_refused(world, path):
    assert (await world.call("GET", path))[0] == 400


async def test_a_method_that_a_path_does_not_have_is_refused(world):
    assert (await world.call("PUT", "/subscriptions"))[0] == 405


async def test_an_error_carries_the_ids_of_its_request(world):
    answer = await world.response("GET", "/nowhere", **{"client-request-id": "mine"})
    inner = (await answer.json())["error"]["innerError"]
    assert inner == {
        "date": "2026-03-10T06:00:00",
        "request-id": answer.headers["request-id"],
        "client-request-id": "mine",
    }


async def test_a_body_that_is_no_json_object_is_refused(world):
    assert (await world.call("POST", f"/users/{world.mailbox.id}/events", ["x"]))[0] == 400


# Reading one event.


async def test_only_the_selected_properties_are_answered(world, event):
    _, body = await world.call("GET", world.path(event.plain_id) + "?$select=id,start,isAllDay")
    assert body.keys() == {"@odata.context", "@odata.etag", "id", "start", "isAllDay"}
    assert body["start"] == {"dateTime": "2026-03-17T11:00:00.0000000", "timeZone": "UTC"}
    assert body["@odata.etag"] == event.etag


@pytest.mark.parametrize(
    "query", ["$select=id,colour", "$select=iscancelled", "$orderby=subject", "$select=id&$select=id"]
)
async def test_unknown_names_and_options_are_refused(world, event, query):
    assert (await world.call("GET", f"{world.path(event.plain_id)}?{query}"))[0] == 400


async def test_each_kind_of_id_is_answered_to_who_asked_for_it(world, event):
    answer = await world.response("GET", world.path(event.plain_id), **IMMUTABLE)
    assert (await answer.json())["id"] == event.immutable_id
    assert answer.headers["Preference-Applied"] == 'IdType="ImmutableId"'
    assert (await world.call("GET", world.path(event.plain_id)))[1]["id"] == event.plain_id
    assert code(await world.call("GET", world.path(event.immutable_id))) == (404, "ErrorItemNotFound")


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-03-17T11:00:00.0000000"),
        ("W. Europe Standard Time", "2026-03-17T12:00:00.0000000"),
        ("Europe/Helsinki", "2026-03-17T13:00:00.0000000"),
    ],
)
async def test_times_are_answered_in_the_preferred_zone(world, event, zone, shown):
    prefer = f'idtype="immutableid",outlook.timezone="{zone}"'
    answer = await world.response("GET", world.path(event.plain_id), Prefer=prefer)
    assert (await answer.json())["start"] == {"dateTime": shown, "timeZone": zone}
    assert answer.headers["Preference-Applied"] == f'IdType="ImmutableId", outlook.timezone="{zone}"'


async def test_an_unknown_zone_is_refused(world, event):
    answer = await world.call("GET", world.path(event.plain_id), Prefer='outlook.timezone="Mars"')
    assert answer[0] == 400


async def test_an_all_day_event_is_midnight_in_every_zone(world):
    day = ELEVEN.replace(hour=0)
    event = world.mailboxes.create(world.mailbox, day, day + timedelta(days=1), is_all_day=True)
    _, body = await world.call("GET", world.path(event.plain_id), Prefer='outlook.timezone="Europe/Berlin"')
    assert (body["start"]["dateTime"], body["end"]["dateTime"]) == (
        "2026-03-17T00:00:00.0000000",
        "2026-03-18T00:00:00.0000000",
    )


@pytest.mark.parametrize("readable", [True, False])
async def test_a_deleted_event_may_stay_readable_by_its_immutable_id(world, event, readable):
    world.switches.deleted_stay_readable = readable
    world.mailboxes.delete(event)
    path = world.path(event.immutable_id)
    assert (await world.call("GET", path, **IMMUTABLE))[0] == (200 if readable else 404)
    assert code(await world.call("PATCH", path, {"subject": "x"}, **IMMUTABLE)) == (404, "ErrorItemNotFound")
    assert (await world.call("DELETE", path, **IMMUTABLE))[0] == (403 if readable else 404)


@pytest.mark.parametrize("answer", ["not_found", "folder", "default"])
async def test_the_calendar_of_a_deleted_event_is_whatever_the_switch_says(world, event, answer):
    path = world.path(event.immutable_id) + "/calendar?$select=id"
    assert (await world.call("GET", path, **IMMUTABLE))[1]["id"] == world.mailbox.default_calendar.id
    world.switches.deleted_stay_readable, world.switches.calendar_of_deleted = True, answer
    world.mailboxes.delete(event)
    status, body = await world.call("GET", path, **IMMUTABLE)
    assert status == (404 if answer == "not_found" else 200)
    if status == 200:
        view = f"/users/{world.mailbox.id}/calendars/{quote(body['id'], safe='')}/calendarView?{WINDOW}"
        status, body = await world.call("GET", view, **IMMUTABLE)
        assert (status, body.get("value")) == ((200, []) if answer == "default" else (404, None))


# Writing events.


async def test_an_event_is_created_with_its_extension_in_one_post(world):
    extension = {"@odata.type": "microsoft.graph.openTypeExtension", "extensionName": EXTENSION, "bookingId": "b"}
    body = TIMES | {"subject": "New", "extensions": [extension]}
    status, created = await world.call("POST", f"/users/{world.mailbox.id}/events", body, **IMMUTABLE)
    assert status == 201
    assert created["extensions"][0]["bookingId"] == "b"
    assert world.mailbox.events[created["id"]].extensions == {EXTENSION: {"bookingId": "b"}}


@pytest.mark.parametrize(("answer", "status"), [("existing", 201), ("conflict", 409)])
async def test_a_repeated_transaction_makes_no_second_event(world, answer, status):
    world.switches.repeated_transaction = answer
    path, body = f"/users/{world.mailbox.id}/events", TIMES | {"transactionId": "t1"}
    first = await world.call("POST", path, body)
    again = await world.call("POST", path, body)
    assert (first[0], again[0]) == (201, status)
    assert len(world.mailbox.in_calendar(world.mailbox.default_calendar)) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        TIMES | {"colour": "red"},
        TIMES | {"end": {"dateTime": "2026-03-17T10:00:00", "timeZone": "UTC"}},
        TIMES | {"start": "2026-03-17T11:00:00"},
        TIMES | {"isAllDay": True},
        TIMES | {"body": "text"},
        TIMES | {"extensions": [{"bookingId": "b"}]},
    ],
)
async def test_an_event_that_cannot_be_is_not_created(world, body):
    assert (await world.call("POST", f"/users/{world.mailbox.id}/events", body))[0] == 400
    assert not world.mailbox.events


async def test_a_change_of_the_app_is_a_change_like_any_other(world, event):
    notices = []
    world.mailboxes.listeners.append(notices.append)
    later = {"end": {"dateTime": "2026-03-17T15:00:00", "timeZone": "Europe/Berlin"}}
    status, body = await world.call("PATCH", world.path(event.plain_id), later)
    assert status == 200
    assert body["end"]["dateTime"] == "2026-03-17T14:00:00.0000000"
    assert [notice.change_type for notice in notices] == ["updated"]


@pytest.mark.parametrize(("honours", "status"), [(False, 200), (True, 412)])
async def test_a_stale_etag_may_be_refused(world, event, honours, status):
    world.switches.honour_if_match = honours
    stale = event.etag
    world.mailboxes.change(event, subject="Other")
    headers = {"If-Match": stale}
    assert (await world.call("PATCH", world.path(event.plain_id), {"subject": "x"}, **headers))[0] == status
    headers = {"If-Match": event.etag}
    assert (await world.call("DELETE", world.path(event.plain_id), **headers))[0] == 204


async def test_only_the_organizer_cancels(world, event):
    comment = {"Comment": "Rain"}
    assert (await world.call("POST", world.path(event.plain_id) + "/cancel", comment)) == (202, None)
    invited = world.mailboxes.create(world.mailbox, ELEVEN, NOON, is_organizer=False)
    assert code(await world.call("POST", world.path(invited.plain_id) + "/cancel", comment))[0] == 400


# Open extensions.


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_an_extension_comes_with_either_prefix_and_is_asked_for_by_any_name(world, event, prefix):
    world.switches.extension_prefix = prefix
    for name in (EXTENSION, prefix + EXTENSION):
        query = f"?$select=id&$expand=Extensions($filter=id eq '{name}')"
        [extension] = (await world.call("GET", world.path(event.plain_id) + query))[1]["extensions"]
        assert extension["id"] == prefix + EXTENSION
        assert extension["extensionName"] == EXTENSION
        assert extension["bookingId"] == BOOKING[EXTENSION]["bookingId"]
        status, alone = await world.call("GET", f"{world.path(event.plain_id)}/extensions/{name}")
        assert (status, alone["id"]) == (200, prefix + EXTENSION)


@pytest.mark.parametrize(("switch", "expected"), [("absent", None), ("empty", [])])
async def test_without_such_an_extension_there_is_none_or_an_empty_list(world, event, switch, expected):
    world.switches.no_extension = switch
    _, body = await world.call("GET", world.path(event.plain_id) + "?$expand=extensions($filter=id eq 'other')")
    assert body.get("extensions") == expected


async def test_extensions_are_neither_expanded_without_filter_nor_listed(world, event):
    path = world.path(event.plain_id)
    assert code(await world.call("GET", f"{path}?$expand=extensions")) == (500, "UnknownError")
    assert code(await world.call("GET", f"{path}/extensions")) == (400, "ErrorInvalidRequest")


@pytest.mark.parametrize(("replaces", "left"), [(False, {"bookingId", "revision"}), (True, {"revision"})])
async def test_an_extension_is_created_patched_and_deleted(world, event, replaces, left):
    world.switches.extension_patch_replaces = replaces
    path = f"{world.path(event.plain_id)}/extensions"
    assert (await world.call("POST", path, {"extensionName": "Second", "list": [1, 2]}))[0] == 201
    assert (await world.call("POST", path, {"extensionName": "Second"}))[0] == 409
    assert (await world.call("PATCH", f"{path}/{EXTENSION}", {"revision": 8}))[0] == 200
    assert event.extensions[EXTENSION].keys() == left
    assert (await world.call("PATCH", f"{path}/{EXTENSION}", {"nested": {"a": 1}}))[0] == 400
    assert await world.call("DELETE", f"{path}/{EXTENSION}") == (204, None)
    for method in ("GET", "PATCH", "DELETE"):
        assert code(await world.call(method, f"{path}/{EXTENSION}")) == (404, "ErrorItemNotFound")


# Lists.


async def test_events_are_found_by_their_extension(world, event):
    world.mailboxes.create(world.mailbox, ELEVEN, NOON)
    path = f"/users/{world.mailbox.id}/events?$select=id&{FILTER}&{EXPAND}"
    [found] = (await world.call("GET", path))[1]["value"]
    assert found["id"] == event.plain_id
    assert found["extensions"][0]["extensionName"] == EXTENSION
    assert (await world.call("GET", f"/users/{world.mailbox.id}/events?$filter=subject eq 'x'"))[0] == 400


@pytest.mark.parametrize("spans", [False, True])
async def test_the_list_of_events_may_span_all_calendars(world, event, spans):
    world.switches.events_list_spans_calendars = spans
    world.mailboxes.move(event, world.mailboxes.add_calendar(world.mailbox, "Private"))
    assert len((await world.call("GET", f"/users/{world.mailbox.id}/events"))[1]["value"]) == (1 if spans else 0)


@pytest.mark.parametrize("empty_page", [False, True])
@pytest.mark.parametrize(("query", "prefer"), [("&$top=2", ""), ("", "odata.maxpagesize=2")])
async def test_pages_are_followed_to_the_end(world, empty_page, query, prefer):
    world.switches.empty_page = empty_page
    for _ in range(5):
        world.mailboxes.create(world.mailbox, ELEVEN, NOON, extensions=BOOKING)
    sizes, link = [], f"/users/{world.mailbox.id}/events?{FILTER}&{EXPAND}{query}"
    while link:
        _, body = await world.call("GET", link, Prefer=prefer)
        sizes.append(len(body["value"]))
        assert all(entry["extensions"] for entry in body["value"])
        link = body.get("@odata.nextLink")
    assert sizes == ([2, 2, 0, 1] if empty_page else [2, 2, 1])


@pytest.mark.parametrize("query", ["$top=0", "$top=x", "$skiptoken=9", "$skiptoken=p9"])
async def test_a_page_that_is_not_is_refused(world, query):
    assert (await world.call("GET", f"/users/{world.mailbox.id}/events?{query}"))[0] == 400


async def test_a_calendar_view_shows_what_overlaps_its_window(world, event):
    master, [occurrence, _] = world.mailboxes.create_series(world.mailbox, NOON, NOON + timedelta(hours=1), weeks=2)
    path = f"/users/{world.mailbox.id}/calendarView?$select=id&startDateTime=2026-03-17T11:30:00Z&endDateTime="
    shown = (await world.call("GET", path + "2026-03-17T12:00:00Z"))[1]["value"]
    assert [entry["id"] for entry in shown] == [event.plain_id]
    shown = (await world.call("GET", path + "2026-03-17T12:00:01Z"))[1]["value"]
    assert [entry["id"] for entry in shown] == [event.plain_id, occurrence.plain_id]
    events = (await world.call("GET", f"/users/{world.mailbox.id}/events"))[1]["value"]
    assert {entry["id"] for entry in events} == {event.plain_id, master.plain_id}


async def test_a_calendar_view_needs_its_window_and_refuses_what_it_cannot_do(world):
    view = f"/users/{world.mailbox.id}/calendarView"
    assert code(await world.call("GET", f"{view}?startDateTime=2026-03-17T00:00:00Z")) == (400, "ErrorInvalidParameter")
    assert (await world.call("GET", f"{view}?{WINDOW}&$select=lastModifiedDateTime"))[0] == 400
    assert code(await world.call("GET", f"{view}?{WINDOW}&{FILTER}")) == (500, "ErrorInternalServerError")


async def test_each_calendar_has_a_view_of_its_own(world, event):
    world.mailboxes.move(event, world.mailboxes.add_calendar(world.mailbox, "Private"))
    _, calendars = await world.call("GET", f"/users/{world.mailbox.id}/calendars?$select=name")
    assert [calendar["name"] for calendar in calendars["value"]] == ["Calendar", "Private"]
    sizes = []
    for calendar in calendars["value"]:
        view = f"/users/{world.mailbox.id}/calendars/{quote(calendar['id'], safe='')}/calendarView?{WINDOW}"
        sizes.append(len((await world.call("GET", view))[1]["value"]))
    assert sizes == [0, 1]


@pytest.mark.parametrize("spans", [False, True])
async def test_each_calendar_has_a_list_of_its_own(world, event, spans):
    world.switches.events_list_spans_calendars = spans
    world.mailboxes.move(event, world.mailboxes.add_calendar(world.mailbox, "Private"))
    sizes = []
    for calendar in world.mailbox.calendars:
        events = f"/users/{world.mailbox.id}/calendars/{quote(calendar.id, safe='')}/events?{FILTER}&{EXPAND}"
        sizes.append(len((await world.call("GET", events))[1]["value"]))
    assert sizes == [0, 1]
    nowhere = f"/users/{world.mailbox.id}/calendars/AAkAnowhere=/events"
    assert code(await world.call("GET", nowhere)) == (404, "ErrorItemNotFound")


# Limits and faults.


@pytest.mark.parametrize(("limit", "refused"), [(4, 2), (None, 0)])
async def test_a_mailbox_serves_four_requests_at_the_same_time(world, event, limit, refused):
    world.switches.latency, world.switches.mailbox_concurrency = 0.05, limit
    other = world.mailboxes.add()
    calls = [world.response("GET", world.path(event.plain_id)) for _ in range(6)]
    *answers, undisturbed = await asyncio.gather(*calls, world.response("GET", f"/users/{other.id}/events"))
    throttled = [answer for answer in answers if answer.status == 429]
    assert len(throttled) == refused
    assert undisturbed.status == 200
    assert all(answer.headers["Retry-After"] == "7" for answer in throttled)
    assert (await world.call("GET", world.path(event.plain_id)))[0] == 200


def test_errors_can_be_ordered_as_faults_any_number_of_times():
    first, second = THROTTLED.fault(times=3), THROTTLED.retry_after("2.128").fault(path="/events")
    assert (first.service, first.status, first.times, first.headers) == ("graph", 429, 3, {"Retry-After": "7"})
    assert (second.path, second.headers) == ("/events", {"Retry-After": "2.128"})
    assert THROTTLED.retry_after(None).fault().headers == {}
    assert UNAVAILABLE.fault().body["error"]["message"] == ""
    assert BAD_GATEWAY_HTML.fault().body.startswith("<html>")
    assert error(400, "Some", "words").body["error"]["code"] == "Some"
