"""Events and subscriptions over the SDK, against the simulated Graph in every position of its switches."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest

from sandbox.faults import Fault
from sandbox.graph import errors as graph_errors
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY
from sync.calls.credentials import LoopbackCredential
from sync.errors import (
    Incomplete,
    InvalidId,
    MailboxUnavailable,
    Malformed,
    NotFound,
    NotOurs,
    Refused,
    Stale,
    SyncError,
    Throttled,
    Transient,
)
from sync.graph import events as graph_events
from sync.graph import parsing as graph_parsing
from sync.graph import transport as graph_transport
from sync.model import Event, EventType, Span
from tests.world.services import HOUR, MORNING, NINE, TEN, World


def in_classic_letters(event_id: str) -> str:
    """The same id as other interfaces of Exchange write it; it has at least one letter that differs."""
    classic = event_id.translate(str.maketrans("-_", "+/"))
    assert classic != event_id
    return classic


async def read(world: World) -> Event | None:
    return await world.events.read(world.mailbox, world.event.immutable_id)


class TestReadingAnEvent:
    async def test_an_event_with_our_extension_names_its_booking(self, world: World) -> None:
        event = await read(world)
        assert event == Event(
            world.event.immutable_id,
            world.event.etag,
            Span(NINE, TEN),
            has_extension=True,
            booking_id=world.booking.id,
            created=MORNING,
            modified=MORNING,
        )

    @pytest.mark.parametrize("position", ["absent", "empty"])
    async def test_an_ordinary_meeting_has_none(self, world: World, position: Any) -> None:
        world.sandbox.graph_switches.no_extension = position
        meeting = world.technician.meet(NINE, TEN)
        event = await world.events.read(world.mailbox, meeting.immutable_id)
        assert event is not None
        assert (event.has_extension, event.booking_id) == (False, None)

    @pytest.mark.parametrize(
        "prefix", ["Microsoft.OutlookServices.OpenTypeExtension.", "microsoft.graph.openTypeExtension."]
    )
    async def test_either_prefix_of_the_extensions_id_is_understood(self, world: World, prefix: Any) -> None:
        world.sandbox.graph_switches.extension_prefix = prefix
        event = await read(world)
        assert event is not None
        assert event.booking_id == world.booking.id

    async def test_only_what_the_decision_needs_is_asked_for(self, world: World) -> None:
        await read(world)
        [call] = world.sandbox.calls
        assert call.query == (
            f"$expand=extensions($filter=id eq '{EXTENSION_NAME}')"
            "&$select=id,start,end,isAllDay,isCancelled,type,createdDateTime,lastModifiedDateTime"
        )
        prefer = {part.strip() for part in call.headers["prefer"].split(",")}
        assert prefer == {'IdType="ImmutableId"', 'outlook.timezone="UTC"'}

    async def test_a_deleted_event_is_not_there(self, world: World) -> None:
        world.technician.delete(world.event)
        assert await read(world) is None

    @pytest.mark.parametrize("state", ["not_enabled", "not_discovered", "invalid_user", "denied"])
    async def test_no_other_404_or_403_means_deleted(self, world: World, state: Any) -> None:
        world.technician.mailbox.state = state
        with pytest.raises(MailboxUnavailable):
            await read(world)

    async def test_a_damaged_id_is_told_apart(self, world: World) -> None:
        with pytest.raises(InvalidId):
            await world.events.read(world.mailbox, "???")

    @pytest.mark.parametrize("answer", ["invalid_mailbox_item", "not_found"])
    async def test_an_event_of_another_mailbox_is_not_there(self, world: World, answer: Any) -> None:
        world.sandbox.graph_switches.foreign_ids = answer
        colleague = world.sandbox.mailboxes.add()
        other = world.sandbox.mailboxes.create(colleague, NINE, TEN)
        assert await world.events.read(world.mailbox, other.immutable_id) is None
        assert await world.events.read(world.mailbox, other.plain_id) is None

    async def test_an_id_in_the_other_alphabet_of_exchange_is_found(self, world: World) -> None:
        world.sandbox.graph_switches.classic_ids = "found"
        event = await world.events.read(world.mailbox, in_classic_letters(world.event.plain_id))
        assert event is not None
        assert event.id == world.event.immutable_id

    async def test_an_id_in_the_other_alphabet_of_exchange_is_told_apart_from_a_deletion(self, world: World) -> None:
        with pytest.raises(InvalidId):
            await world.events.read(world.mailbox, in_classic_letters(world.event.plain_id))

    async def test_an_id_with_slashes_and_quotes_stays_one_segment_of_the_path(self, world: World) -> None:
        with pytest.raises(SyncError):
            await world.events.read(world.mailbox, "AAMk/../../users/'x'?a=b#c%2F")
        [call] = world.sandbox.calls
        assert call.path == f"/users/{world.mailbox}/events/AAMk/../../users/'x'?a=b#c%2F"

    @pytest.mark.parametrize("kind", ["seriesMaster", "occurrence", "exception"])
    async def test_the_type_tells_of_a_series(self, world: World, kind: Any) -> None:
        world.event.type = kind
        event = await read(world)
        assert event is not None
        assert event.type == EventType(kind)

    async def test_a_cancelled_event_says_so(self, world: World) -> None:
        world.sandbox.mailboxes.cancel_by_organizer(world.event)
        event = await read(world)
        assert event is not None
        assert event.is_cancelled


class TestAnswersThatNobodyWants:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("graph", status=503, body={"error": {"code": "UnknownError", "message": ""}}),
            Fault("graph", status=502, body="<html>Bad Gateway</html>"),
            Fault("graph", status=500, body={"error": {"code": "ErrorInternalServerError", "message": "…"}}),
            Fault("graph", status=429, body={"error": {"code": "TooManyRequests"}}, headers={"Retry-After": "0"}),
            Fault("graph", status=429, body={}, headers={"Retry-After": "1.128"}),
            Fault("graph", status=401, body={"error": {"code": "InvalidAuthenticationToken", "message": "…"}}),
            Fault("graph", status=None),
        ],
        ids=["503", "502 HTML", "500", "429 now", "429 fraction", "401", "cut"],
    )
    async def test_a_short_trouble_is_waited_for(self, world: World, fault: Fault) -> None:
        world.sandbox.faults.order(fault)
        assert await read(world) is not None
        assert len(world.sandbox.calls) == 2

    async def test_a_long_retry_after_is_not_slept_but_told(self, world: World) -> None:
        world.sandbox.faults.order(graph_errors.THROTTLED.retry_after("30").fault(service="graph", times=None))
        with pytest.raises(Transient) as caught:
            await read(world)
        assert caught.value.retry_after == 30
        assert len(world.sandbox.calls) == 1

    async def test_a_mailbox_that_is_throttled_is_left_alone_and_no_other(self, world: World) -> None:
        ben = world.sandbox.people.hire("Ben")
        meeting = ben.meet(NINE, TEN)
        world.sandbox.faults.order(graph_errors.THROTTLED.retry_after("30").fault(service="graph", path=world.mailbox))
        for _ in range(3):
            with pytest.raises(Throttled) as caught:
                await read(world)
            assert 25 < (caught.value.retry_after or 0) <= 30
        assert await world.events.read(ben.mailbox.id, meeting.immutable_id) is not None
        assert len(world.sandbox.calls) == 2
        world.sandbox.clock.move(timedelta(seconds=30))
        assert await read(world) is not None

    async def test_retries_are_bounded(self, world: World) -> None:
        world.sandbox.faults.order(Fault("graph", status=503, times=None))
        with pytest.raises(Transient):
            await read(world)
        assert len(world.sandbox.calls) == 3

    @pytest.mark.parametrize("body", ["<html>Not Found</html>", {"error": {"code": ""}}, {}])
    async def test_a_404_that_does_not_say_why_is_not_a_deletion(self, world: World, body: Any) -> None:
        world.sandbox.faults.order(Fault("graph", status=404, body=body, times=None))
        with pytest.raises((Refused, Transient)) as caught:
            await read(world)
        assert not isinstance(caught.value, NotFound)

    async def test_a_200_that_is_no_json_is_tried_again(self, world: World) -> None:
        world.sandbox.faults.order(Fault("graph", status=200, body="<html>captive portal</html>"))
        assert await read(world) is not None

    async def test_a_service_that_is_not_there_is_transient(self) -> None:
        transport = graph_transport.Transport("http://127.0.0.1:9/v1.0", LoopbackCredential(), lambda: MORNING)
        with pytest.raises(Transient):
            await graph_events.GraphEvents(transport, EXTENSION_NAME, EXTENSION_PROPERTY).read("x", "y")
        await transport.close()

    async def test_a_mailbox_that_hangs_is_left_alone_for_a_while(self, world: World) -> None:
        """Its changes must not keep those of others; another mailbox is served meanwhile."""
        world.events._transport._http.timeout = httpx.Timeout(0.1)
        ben = world.sandbox.people.hire("Ben")
        meeting = ben.meet(NINE, TEN)
        world.sandbox.faults.order(Fault("graph", path=world.mailbox, status=0, delay=0.5, times=None))
        for _ in range(3):
            with pytest.raises(Transient) as caught:
                await read(world)
            assert (caught.value.retry_after or 0) > 5
        assert await world.events.read(ben.mailbox.id, meeting.immutable_id) is not None
        await asyncio.sleep(0.5)
        assert sum(world.mailbox in call.path for call in world.sandbox.calls) == 1

    async def test_a_redirection_is_not_followed(self, world: World) -> None:
        location = {"Location": f"{world.sandbox.url}/sandbox/state"}
        world.sandbox.faults.order(Fault("graph", status=302, headers=location, times=None))
        with pytest.raises(Refused):
            await read(world)

    async def test_an_empty_200_is_tried_again(self, world: World) -> None:
        world.sandbox.faults.order(Fault("graph", status=200, body="", times=None))
        with pytest.raises(Transient):
            await read(world)

    async def test_a_list_that_leads_in_a_circle_ends(self, world: World) -> None:
        world.events._transport.pages = 5
        page = {"value": [], "@odata.nextLink": f"{world.sandbox.graph_url}/subscriptions"}
        world.sandbox.faults.order(Fault("graph", status=200, body=page, times=None))
        with pytest.raises(Malformed):
            await world.subscriptions.list()

    async def test_an_odd_subscription_does_not_hide_the_others(self, world: World) -> None:
        good = {
            "id": "S",
            "resource": "users/x/events",
            "changeType": "updated",
            "expirationDateTime": "2026-03-21T09:30:00Z",
        }
        odd = [{"id": "T"}, 7, None]
        world.sandbox.faults.order(Fault("graph", status=200, body={"value": [*odd, good]}))
        assert [each.id for each in await world.subscriptions.list()] == ["S"]

    async def test_no_more_than_four_calls_at_a_time_go_to_one_mailbox(self, world: World) -> None:
        """A fifth would be throttled by Outlook, and throttled calls count, too."""
        world.sandbox.graph_switches.latency = 0.05
        await asyncio.gather(*(read(world) for _ in range(12)))
        assert len(world.sandbox.calls) == 12


class TestStanding:
    """Whether an event that can still be read stands in a calendar."""

    @pytest.fixture(autouse=True)
    def stays_readable(self, world: World) -> None:
        world.sandbox.graph_switches.deleted_stay_readable = True

    async def stands(self, world: World, event: Event | None = None) -> bool:
        event = event or await read(world)
        return await world.events.stands(world.mailbox, world.event.immutable_id, event)

    async def test_an_event_in_the_default_calendar_does(self, world: World) -> None:
        assert await self.stands(world)
        assert world.sandbox.calls.reads("graph") == 2

    async def test_an_event_in_another_calendar_does(self, world: World) -> None:
        world.technician.file(world.event)
        assert await self.stands(world)

    @pytest.mark.parametrize("answer", ["not_found", "folder", "default"])
    async def test_an_event_in_deleted_items_does_not_whatever_its_calendar_says(
        self, world: World, answer: Any
    ) -> None:
        world.sandbox.graph_switches.calendar_of_deleted = answer
        world.technician.delete(world.event)
        assert not await self.stands(world)

    async def test_an_event_among_many_is_found_on_a_later_page(self, world: World) -> None:
        for _ in range(25):
            world.technician.meet(NINE, TEN)
        world.sandbox.graph_switches.empty_page = True
        assert await self.stands(world)

    async def test_an_event_that_moves_while_it_is_looked_for_is_not_gone(self, world: World) -> None:
        event = await read(world)
        world.technician.move(world.event, timedelta(days=3))
        with pytest.raises(Stale):
            await self.stands(world, event)

    async def test_a_series_whose_first_occurrence_is_gone_stands_in_its_calendar(self, world: World) -> None:
        master, (first, *_) = world.sandbox.mailboxes.create_series(world.technician.mailbox, NINE, TEN, weeks=3)
        world.sandbox.mailboxes.delete_occurrence(first)
        event = await world.events.read(world.mailbox, master.immutable_id)
        assert event is not None
        assert await world.events.stands(world.mailbox, master.immutable_id, event)

    async def test_a_series_stands_by_its_occurrences(self, world: World) -> None:
        master, _ = world.sandbox.mailboxes.create_series(world.technician.mailbox, NINE, TEN, weeks=3)
        event = await world.events.read(world.mailbox, master.immutable_id)
        assert event is not None
        assert await world.events.stands(world.mailbox, master.immutable_id, event)

    async def test_an_event_that_cannot_be_read_is_gone_only_without_a_calendar(self, world: World) -> None:
        with pytest.raises(Refused):
            await world.events.stands(world.mailbox, world.event.immutable_id, None)
        world.technician.delete(world.event)
        assert not await world.events.stands(world.mailbox, world.event.immutable_id, None)


class TestSubscriptions:
    @pytest.fixture
    def handshake(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Handshakes are the subject of test_end_to_end.py."""

        async def agreed(*urls: str | None) -> None:
            return None

        monkeypatch.setattr(world.sandbox.subscriptions, "_validate", agreed)

    @pytest.mark.usefixtures("handshake")
    async def test_a_subscription_asks_for_all_changes_by_immutable_ids(self, world: World) -> None:
        made = await world.subscriptions.create(world.mailbox, MORNING + timedelta(minutes=10_000))
        assert made in {each.id for each in world.sandbox.subscriptions}
        [call] = world.sandbox.calls
        body = json.loads(call.body)
        assert body.pop("clientState").startswith(f"{world.mailbox}.")
        assert body.pop("expirationDateTime").startswith("2026-03-09T04:40:00")
        assert body == {
            "changeType": "created,deleted,updated",
            "notificationUrl": "http://127.0.0.1:9/api/notifications",
            "lifecycleNotificationUrl": "http://127.0.0.1:9/api/notifications",
            "resource": f"users/{world.mailbox}/events",
        }
        assert call.headers["prefer"] == 'IdType="ImmutableId"'

    @pytest.mark.usefixtures("handshake")
    async def test_all_pages_are_listed_empty_ones_included(self, world: World) -> None:
        world.sandbox.graph_switches.empty_page = True
        world.sandbox.graph_switches.subscriptions_page_size = 2
        names = ["Ben", "Cleo", "Dan", "Eve"]
        mailboxes = [world.mailbox, *(world.sandbox.people.hire(name).mailbox.id for name in names)]
        for mailbox in mailboxes:
            await world.subscriptions.create(mailbox, MORNING + timedelta(minutes=10_000))
        listed = await world.subscriptions.list()
        assert sorted(each.resource for each in listed) == sorted(f"users/{mailbox}/events" for mailbox in mailboxes)
        assert all(each.expires == MORNING + timedelta(minutes=10_000) for each in listed)

    @pytest.mark.usefixtures("handshake")
    async def test_a_renewal_extends_it(self, world: World) -> None:
        await world.subscriptions.create(world.mailbox, MORNING + timedelta(minutes=100))
        [held] = await world.subscriptions.list()
        await world.subscriptions.renew(held.id, MORNING + timedelta(minutes=10_000))
        [renewed] = await world.subscriptions.list()
        assert renewed == replace(held, expires=MORNING + timedelta(minutes=10_000))

    @pytest.mark.usefixtures("handshake")
    async def test_a_write_is_sent_once(self, world: World) -> None:
        """All writes share one limit, so waiting and trying again is not each one's own affair."""
        world.sandbox.faults.order(Fault("graph", path="/subscriptions", status=503, times=None))
        for write in (
            lambda: world.subscriptions.create(world.mailbox, MORNING + HOUR),
            lambda: world.subscriptions.renew("c6126aa3-0ed8-412f-a988-71e6cee627c4", MORNING + HOUR),
            lambda: world.subscriptions.delete("c6126aa3-0ed8-412f-a988-71e6cee627c4"),
        ):
            world.sandbox.calls.clear()
            with pytest.raises(Transient):
                await write()
            assert len(world.sandbox.calls) == 1

    async def test_a_subscription_that_is_gone_is_deleted(self, world: World) -> None:
        await world.subscriptions.delete("c6126aa3-0ed8-412f-a988-71e6cee627c4")

    async def test_a_removed_subscription_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            await world.subscriptions.renew("c6126aa3-0ed8-412f-a988-71e6cee627c4", MORNING + HOUR)

    @pytest.mark.parametrize("state", ["on_premises", "denied"])
    async def test_a_mailbox_that_cannot_be_subscribed_is_told_apart(self, world: World, state: Any) -> None:
        world.technician.mailbox.state = state
        with pytest.raises(MailboxUnavailable):
            await world.subscriptions.create(world.mailbox, MORNING + HOUR)

    @pytest.mark.parametrize(
        "where", ["http://localhost:9", "http://127.0.0.1:9", "https://graph.microsoft.com.evil.example"]
    )
    async def test_a_link_to_elsewhere_is_not_followed(self, world: World, where: str) -> None:
        """Neither to another host nor to another port, where the token would go along."""
        page = {"value": [], "@odata.nextLink": f"{where}/v1.0/subscriptions?$skiptoken=x"}
        world.sandbox.faults.order(Fault("graph", status=200, body=page))
        with pytest.raises(Malformed, match="a link to elsewhere"):
            await world.subscriptions.list()

    async def test_a_link_to_elsewhere_is_not_followed_in_a_list_of_events_either(self, world: World) -> None:
        page = {"value": [], "@odata.nextLink": "http://127.0.0.1:9/v1.0/users/x/events?$skiptoken=x"}
        world.sandbox.faults.order(Fault("graph", status=200, body=page))
        with pytest.raises(Malformed, match="a link to elsewhere"):
            await world.events.with_extension(world.mailbox)

    @pytest.mark.parametrize("body", [{}, [], "null", {"error": {"code": "x"}}, {"id": "E1"}, {"value": None}])
    async def test_a_200_that_does_not_have_what_was_asked_for_is_no_answer(self, world: World, body: Any) -> None:
        world.sandbox.faults.order(Fault("graph", status=200, body=body, times=None))
        with pytest.raises(Transient):
            await read(world)
        with pytest.raises(Transient):
            await world.events.with_extension(world.mailbox)
        with pytest.raises(Transient):
            await world.subscriptions.list()


class TestParsing:
    RAW: ClassVar[dict[str, Any]] = {
        "id": "E1",
        "@odata.etag": 'W/"1"',
        "start": {"dateTime": "2026-03-17T11:00:00.0000000", "timeZone": "UTC"},
        "end": {"dateTime": "2026-03-17T12:00:00.0000000", "timeZone": "UTC"},
        "type": "singleInstance",
    }

    def parse(self, **changes: Any) -> Event:
        return graph_parsing.parse_event(self.RAW | changes, EXTENSION_NAME, EXTENSION_PROPERTY)

    @pytest.mark.parametrize("text", ["2026-03-17T11:00:00.4999999", "2026-03-17T11:00:00", "2026-03-17T10:59:59.6"])
    def test_times_are_whole_seconds(self, text: str) -> None:
        event = self.parse(start={"dateTime": text, "timeZone": "UTC"})
        assert event.span.start == datetime(2026, 3, 17, 11, tzinfo=UTC)

    @pytest.mark.parametrize(
        "changes",
        [
            {"start": {"dateTime": "2026-03-17T11:00:00", "timeZone": "W. Europe Standard Time"}},
            {"start": {"dateTime": "2026-03-17T11:00:00", "timeZone": "../../etc/passwd"}},
            {"start": {"dateTime": "2026-03-17T11:00:00", "timeZone": "Europe/Nowhere"}},
            {"start": {"dateTime": "tomorrow", "timeZone": "UTC"}},
            {"start": {"dateTime": "9999-12-31T23:59:59.9999999", "timeZone": "UTC"}},
            {"start": {"dateTime": "0001-01-01T00:00:00+02:00", "timeZone": "UTC"}},
            {"type": "somethingNew"},
        ],
    )
    def test_an_event_that_cannot_be_understood_is_malformed(self, changes: dict[str, Any]) -> None:
        with pytest.raises(Malformed):
            self.parse(**changes)

    @pytest.mark.parametrize(
        "changes", [{"start": None}, {"id": None}, {"@odata.etag": None}, {"extensions": {"id": "no list"}}]
    )
    def test_an_event_without_what_was_asked_for_says_nothing(self, changes: dict[str, Any]) -> None:
        with pytest.raises(Incomplete, match="graph"):
            self.parse(**changes)

    @pytest.mark.parametrize(
        ("text", "zone"),
        [
            ("2026-03-17T11:00:00", "tzone://Microsoft/Utc"),
            ("2026-03-17T11:00:00", "Etc/UTC"),
            ("2026-03-17T12:00:00.0000000", "Europe/Berlin"),
            ("2026-03-17T07:00:00", "America/New_York"),
        ],
    )
    def test_times_in_a_zone_that_says_which_instant_is_meant_are_read(self, text: str, zone: str) -> None:
        event = self.parse(start={"dateTime": text, "timeZone": zone})
        assert event.span.start == datetime(2026, 3, 17, 11, tzinfo=UTC)

    def test_a_creation_in_the_year_0_is_unknown(self) -> None:
        event = self.parse(createdDateTime="0000-12-31T00:00:00Z")
        assert (event.created, event.id) == (None, "E1")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("3FA85F64-5717-4562-B3FC-2C963F66AFA6", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
            ("{3fa85f64-5717-4562-b3fc-2c963f66afa6}", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
            (" 3fa85f64-5717-4562-b3fc-2c963f66afa6\n", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
            ("\u200b3fa85f64-5717-4562-b3fc-2c963f66afa6", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
            ("not a guid", None),
            ("", None),
            (7, None),
            (None, None),
            (["3fa85f64-5717-4562-b3fc-2c963f66afa6"], None),
        ],
    )
    def test_the_booking_is_named_by_a_guid_or_not_at_all(self, value: Any, expected: str | None) -> None:
        event = self.parse(extensions=[{"extensionName": EXTENSION_NAME, EXTENSION_PROPERTY: value}])
        assert (event.has_extension, event.booking_id) == (True, expected)

    def test_the_property_is_found_in_any_case(self) -> None:
        guid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
        event = self.parse(extensions=[{"extensionName": EXTENSION_NAME, EXTENSION_PROPERTY.upper(): guid}])
        assert event.booking_id == guid

    @pytest.mark.parametrize("found", [None, "x", 7, [], {}, {"id": 5}])
    def test_an_odd_extension_is_not_ours(self, found: Any) -> None:
        assert not self.parse(extensions=[found]).has_extension

    def test_an_all_day_event_says_so(self) -> None:
        assert self.parse(isAllDay=True).is_all_day

    def test_the_name_of_the_extension_is_compared_without_case(self) -> None:
        assert self.parse(extensions=[{"extensionName": EXTENSION_NAME.upper()}]).has_extension

    def test_an_event_that_cannot_be_read_is_ours_only_with_our_extension(self) -> None:
        with pytest.raises(Malformed) as caught:
            self.parse(type="new", extensions=[{"extensionName": EXTENSION_NAME}])
        assert not isinstance(caught.value, NotOurs)
        with pytest.raises(NotOurs):
            self.parse(type="new")

    def test_another_apps_extension_is_not_ours(self) -> None:
        event = self.parse(extensions=[{"extensionName": "com.other", EXTENSION_PROPERTY: "x"}])
        assert not event.has_extension

    @pytest.mark.parametrize(
        "text", ["2026-03-21T09:30:00.5082Z", "2026-03-21T09:30:00+00:00", "2026-03-21T10:30:00+01:00"]
    )
    def test_a_subscription_expires_in_utc(self, text: str) -> None:
        raw = {"id": "S", "resource": "users/x/events", "changeType": "updated, created", "expirationDateTime": text}
        subscription = graph_parsing.parse_subscription(raw)
        assert subscription.expires.replace(microsecond=0) == datetime(2026, 3, 21, 9, 30, tzinfo=UTC)
        assert subscription.change_types == {"created", "updated"}
