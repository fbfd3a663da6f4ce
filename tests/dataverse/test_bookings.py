"""Bookings and resources over HTTP, against the simulated Dataverse in every position of its switches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from requests.adapters import HTTPAdapter

from sandbox.dataverse import errors as dataverse_errors
from sandbox.faults import Fault
from sandbox.graph.outlook_ids import twin
from sync.calls.credentials import LoopbackCredential
from sync.dataverse import (
    bookings as dataverse_bookings,
)
from sync.dataverse import (
    parsing as dataverse_parsing,
)
from sync.dataverse import (
    transport as dataverse_transport,
)
from sync.dataverse.resources import ORDER_PAGES, Resources
from sync.errors import (
    Malformed,
    Misconfigured,
    NoAnswer,
    NotPermitted,
    NotWritten,
    Refused,
    Stale,
    SyncError,
    Throttled,
    Transient,
)
from sync.model import Booking, Span
from sync.pairs.actions import CancelBooking, LinkBooking, MoveBooking, UnlinkBooking
from tests.world.services import HOUR, MORNING, NINE, TEN, World, a_world

EVENT_ID = "AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0Aq_k="


async def read(world: World) -> Booking:
    booking = await world.bookings.read(world.booking.id)
    assert booking is not None
    return booking


@contextmanager
def refused(reason: type[SyncError], match: str = "") -> Iterator[pytest.ExceptionInfo[NotWritten]]:
    """The write was refused for that *reason*, so that certainly nothing was written."""
    with pytest.raises(NotWritten, match=match) as caught:
        yield caught
    assert type(caught.value.reason) is reason


class TestReadingABooking:
    async def test_one_read_brings_all_the_decision_needs(self, world: World) -> None:
        booking = await read(world)
        row = world.booking
        modified_by = row["_modifiedby_value"]
        assert booking == Booking(row.id, row.etag, Span(NINE, TEN), None, world.mailbox, modified_by=modified_by)
        assert len(world.sandbox.calls) == 1

    async def test_nothing_of_the_work_or_the_people_is_asked_for(self, world: World) -> None:
        await read(world)
        [call] = world.sandbox.calls
        assert call.query == (
            "$select=starttime,endtime,statecode,_modifiedby_value,contoso_outlookeventid&$expand="
            "BookingStatus($select=status,msdyn_fieldservicestatus),"
            "Resource($select=resourcetype;$expand=UserId($select=azureactivedirectoryobjectid))"
        )

    @pytest.mark.parametrize(
        ("status", "is_canceled", "has_begun"),
        [
            ("Scheduled", False, False),
            ("Traveling", False, True),
            ("On Break", False, True),
            ("In Progress", False, True),
            ("Completed", False, True),
            ("Canceled", True, False),
        ],
    )
    async def test_the_status_tells_what_may_still_change(
        self, world: World, status: str, is_canceled: bool, has_begun: bool
    ) -> None:
        world.sandbox.tables.update(world.booking, {"_bookingstatus_value": world.sandbox.tables.status(status).id})
        booking = await read(world)
        assert (booking.is_canceled, booking.has_begun) == (is_canceled, has_begun)

    async def test_without_field_service_the_plain_status_tells(self) -> None:
        async with a_world(field_service=False) as world:
            assert not (await read(world)).is_canceled
            world.sandbox.people.dispatcher.cancel(world.booking)
            assert (await read(world)).is_canceled
            assert world.sandbox.calls.reads("dataverse") == 4, "that the column is missing is learnt once"

    async def test_an_environment_without_field_service_may_be_found_out_by_many_at_once(self) -> None:
        async with a_world(field_service=False) as world:
            found = await asyncio.gather(*(read(world) for _ in range(8)))
            assert len(found) == 8

    async def test_no_passing_trouble_makes_the_app_blind_to_work_that_has_begun(self, world: World) -> None:
        """The same code also tells of a column that is not yet published, and of other misuse."""
        world.sandbox.people.dispatcher.complete(world.booking)
        world.sandbox.faults.order(
            dataverse_errors.error(400, "0x80060888", "Could not find a property").fault(service="dataverse")
        )
        with pytest.raises(Misconfigured):
            await read(world)
        assert (await read(world)).has_begun

    async def test_an_inactive_booking_is_told_apart(self, world: World) -> None:
        world.sandbox.tables.update(world.booking, {"statecode": 1, "statuscode": 2})
        assert not (await read(world)).is_active

    async def test_field_services_status_overrules_the_plain_one(self, world: World) -> None:
        odd = world.sandbox.tables.add_status("Oddly set up", 3, 690970000)
        world.sandbox.tables.update(world.booking, {"_bookingstatus_value": odd.id})
        assert not (await read(world)).is_canceled

    async def test_a_booking_of_a_crew_has_no_mailbox(self, world: World) -> None:
        crew = world.sandbox.tables.add_resource(None, name="Crew", type=6)
        booking = world.sandbox.tables.add_booking(crew, NINE, TEN)
        found = await world.bookings.read(booking.id)
        assert found is not None
        assert found.mailbox is None

    async def test_a_booking_that_does_not_exist_is_none(self, world: World) -> None:
        assert await world.bookings.read("00000000-0000-4000-8000-000000000000") is None

    @pytest.mark.parametrize("codes", [True, False])
    async def test_a_404_without_code_is_understood(self, world: World, codes: bool) -> None:
        world.sandbox.dataverse_switches.error_codes = codes
        assert await world.bookings.read("00000000-0000-4000-8000-000000000000") is None

    async def test_fractions_of_seconds_are_rounded_away(self, world: World) -> None:
        world.sandbox.dataverse_switches.fractional_seconds = True
        assert (await read(world)).span == Span(NINE, TEN)

    async def test_a_column_that_does_not_exist_is_a_wrong_setting(self, world: World) -> None:
        bookings = dataverse_bookings.DataverseBookings(world.bookings._transport, "contoso_mistyped")
        with pytest.raises(Misconfigured, match="EVENT_ID_COLUMN"):
            await bookings.read(world.booking.id)


class TestWhoWroteABookingLast:
    async def test_the_app_or_somebody_else(self, world: World) -> None:
        assert not await world.bookings.is_own(await read(world))
        await world.link()
        assert await world.bookings.is_own(await read(world))
        world.sandbox.people.dispatcher.move(world.booking, HOUR)
        assert not await world.bookings.is_own(await read(world))
        asked = [call for call in world.sandbox.calls if call.path.endswith("/WhoAmI")]
        assert len(asked) == 1, "who the app is, is asked once"

    async def test_many_who_ask_at_once_ask_once(self, world: World) -> None:
        booking = await read(world)
        world.sandbox.calls.clear()
        await asyncio.gather(*(world.bookings.is_own(booking) for _ in range(8)))
        assert world.sandbox.calls.reads("dataverse") == 1

    async def test_an_answer_that_does_not_say_who_we_are_is_none(self, world: World) -> None:
        booking = await read(world)
        world.sandbox.faults.order(Fault(service="dataverse", status=200, body="[]"))
        with pytest.raises(Malformed, match="WhoAmI"):
            await world.bookings.is_own(booking)


class TestFindingByEvent:
    async def test_only_the_exact_id_counts_though_dataverse_ignores_case(self, world: World) -> None:
        tables, resource = world.sandbox.tables, world.technician.resource
        twins = [EVENT_ID.swapcase(), EVENT_ID.lower(), EVENT_ID.upper()]
        others = [tables.add_booking(resource, NINE, TEN, event_id=twin) for twin in twins]
        tables.update(world.booking, {"contoso_outlookeventid": EVENT_ID})
        [found] = await world.bookings.linked_to(EVENT_ID)
        assert found.id == world.booking.id
        assert [booking.id for booking in await world.bookings.linked_to(twins[0])] == [others[0].id]
        assert await world.bookings.linked_to(EVENT_ID.title()) == []

    async def test_a_twin_that_outlook_itself_might_make_is_another_event(self, world: World) -> None:
        other = twin(world.sandbox.rng, world.event.immutable_id)
        await world.link()
        assert other.lower() == world.event.immutable_id.lower()
        assert await world.bookings.linked_to(other) == []

    async def test_more_twins_than_a_page_holds_hide_nothing(self, world: World) -> None:
        world.sandbox.dataverse_switches.page_size = 2
        tables = world.sandbox.tables
        for number in range(7):
            other = "".join(c.upper() if number >> i & 1 else c.lower() for i, c in enumerate("abcE="))
            tables.add_booking(world.technician.resource, NINE, TEN, event_id=other)
        tables.update(world.booking, {"contoso_outlookeventid": "abcE="})
        [found] = await world.bookings.linked_to("abcE=")
        assert found.id == world.booking.id

    @pytest.mark.parametrize(
        "event_id", ["a+b/c=", "O'Brien", "a&b", "100%", "a#b", "a;b,c", "ä", "$filter", "' or 1 eq 1"]
    )
    async def test_any_id_reaches_dataverse_as_it_is(self, world: World, event_id: str) -> None:
        world.sandbox.tables.update(world.booking, {"contoso_outlookeventid": event_id})
        [found] = await world.bookings.linked_to(event_id)
        assert found.id == world.booking.id

    @pytest.mark.parametrize(("held", "asked"), [("AA+b/c==", "AA-b_c=="), ("AA-b_c==", "AA+b/c==")])
    async def test_an_id_is_found_in_either_alphabet_of_exchange(self, world: World, held: str, asked: str) -> None:
        world.sandbox.tables.update(world.booking, {"contoso_outlookeventid": held})
        [found] = await world.bookings.linked_to(asked)
        assert (found.id, found.event_id) == (world.booking.id, "AA-b_c==")


class TestWriting:
    async def test_a_move_writes_start_end_and_duration(self, world: World) -> None:
        booking = await read(world)
        await world.bookings.write(MoveBooking(booking.id, booking.etag, Span(NINE, TEN + HOUR)))
        assert (world.booking["endtime"], world.booking["duration"]) == (TEN + HOUR, 120)
        assert json.loads(list(world.sandbox.calls)[-1].body) == {
            "starttime": "2026-03-02T09:00:00Z",
            "endtime": "2026-03-02T11:00:00Z",
            "duration": 120,
        }

    @pytest.mark.parametrize("plugin_touches", [False, True])
    async def test_a_write_tells_the_version_that_the_row_has_afterwards(
        self, world: World, plugin_touches: bool
    ) -> None:
        world.sandbox.dataverse_switches.plugin_touches = plugin_touches
        booking = await read(world)
        written = await world.bookings.write(MoveBooking(booking.id, booking.etag, Span(NINE, TEN + HOUR)))
        assert written == (await read(world)).etag != booking.etag

    async def test_an_answer_without_the_row_tells_no_version(self, world: World) -> None:
        world.sandbox.faults.order(Fault("dataverse", "PATCH", status=204, moment="after"))
        booking = await read(world)
        assert await world.bookings.write(MoveBooking(booking.id, booking.etag, Span(NINE, TEN + HOUR))) == ""

    async def test_a_cancellation_and_the_forgotten_event_are_one_write(self, world: World) -> None:
        await world.link()
        booking = await read(world)
        world.sandbox.calls.clear()
        await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=True))
        assert world.booking["_bookingstatus_value"] == world.sandbox.tables.status("Canceled").id
        assert world.booking["contoso_outlookeventid"] is None
        assert world.sandbox.calls.writes("dataverse") == 1

    async def test_canceled_is_looked_up_once_and_only_when_needed(self, world: World) -> None:
        bookings = [world.sandbox.people.dispatcher.book(world.technician, NINE, TEN)[0] for _ in range(3)]
        for row in bookings:
            booking = await world.bookings.read(row.id)
            assert booking is not None
            await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))
        assert sum("bookingstatuses" in call.path for call in world.sandbox.calls) == 1

    @pytest.mark.parametrize("action", [LinkBooking, UnlinkBooking])
    async def test_linking_writes_the_event_id_alone(self, world: World, action: Any) -> None:
        booking = await read(world)
        await world.bookings.write(action(booking.id, booking.etag, EVENT_ID))
        value = EVENT_ID if action is LinkBooking else None
        assert json.loads(list(world.sandbox.calls)[-1].body) == {"contoso_outlookeventid": value}

    async def test_a_row_that_changed_since_it_was_read_is_stale(self, world: World) -> None:
        booking = await read(world)
        world.sandbox.people.dispatcher.rename(world.booking)
        with refused(Stale):
            await world.bookings.write(LinkBooking(booking.id, booking.etag, EVENT_ID))
        assert world.booking["contoso_outlookeventid"] is None

    async def test_a_row_that_was_deleted_is_not_created_again(self, world: World) -> None:
        booking = await read(world)
        world.sandbox.people.dispatcher.delete(world.booking)
        with refused(Stale):
            await world.bookings.write(LinkBooking(booking.id, booking.etag, EVENT_ID))
        assert world.sandbox.tables.bookings() == []

    async def test_a_lost_answer_is_repeated_and_met_by_the_etag(self, world: World) -> None:
        """The write took effect, so the repetition finds another version: read again and see."""
        booking = await read(world)
        world.sandbox.faults.order(Fault("dataverse", "PATCH", status=None, moment="after"))
        with pytest.raises(Stale):
            await world.bookings.write(LinkBooking(booking.id, booking.etag, EVENT_ID))
        assert (await read(world)).event_id == EVENT_ID
        assert len(world.sandbox.tables.writes_to(world.booking)) == 2, "created, linked"

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            pytest.param([dataverse_errors.error(412, "0x80060882", "x")], (NotWritten, Stale), id="412"),
            pytest.param([dataverse_errors.error(429, "0x80072322", "x")] * 3, (NotWritten, Throttled), id="429"),
            pytest.param([dataverse_errors.error(403, "0x80040220", "x")], (NotWritten, NotPermitted), id="403"),
            pytest.param([dataverse_errors.error(400, "0x80040265", "x")], (NotWritten, Refused), id="400"),
            pytest.param([dataverse_errors.error(404, "0x80040217", "x")], (NotWritten, Stale), id="404"),
            pytest.param([dataverse_errors.error(503, "0x80072321", "x")] * 3, (Transient, None), id="503"),
        ],
    )
    async def test_a_refusal_tells_that_nothing_was_written_and_an_outage_does_not(
        self, world: World, answers: list[Any], expected: tuple[type[SyncError], type[SyncError] | None]
    ) -> None:
        booking = await read(world)
        for each in answers:
            world.sandbox.faults.order(each.fault(service="dataverse", method="PATCH"))
        with pytest.raises(SyncError) as caught:
            await world.bookings.write(LinkBooking(booking.id, booking.etag, EVENT_ID))
        reason = caught.value.reason if isinstance(caught.value, NotWritten) else None
        assert (type(caught.value), reason and type(reason)) == expected

    @pytest.mark.parametrize(
        ("faults", "expected"),
        [
            pytest.param([("before", 503), ("before", 412)], Stale, id="an outage, then a refusal"),
            pytest.param([("after", 503)], Stale, id="done, then an outage; the repetition finds another version"),
            pytest.param([("before", None)] * 3, NoAnswer, id="no answer at all"),
            pytest.param([("before", None), ("before", 503), ("before", 503)], NoAnswer, id="one of them unanswered"),
        ],
    )
    async def test_after_one_try_without_a_clear_answer_the_effect_is_unknown(
        self, world: World, faults: list[tuple[Any, int | None]], expected: type[SyncError]
    ) -> None:
        booking = await read(world)
        body = {"error": {"code": "0x80060882", "message": "x"}}
        for moment, status in faults:
            world.sandbox.faults.order(Fault("dataverse", "PATCH", status=status, body=body, moment=moment))
        with pytest.raises(expected):
            await world.bookings.write(LinkBooking(booking.id, booking.etag, EVENT_ID))

    async def test_a_plugins_refusal_is_final(self, world: World) -> None:
        world.sandbox.dataverse_switches.plugin_refuses = {"*": "Bookings of today are locked."}
        booking = await read(world)
        with refused(Refused, match="0x80040265") as caught:
            await world.bookings.write(LinkBooking(booking.id, booking.etag, EVENT_ID))
        assert "locked" not in str(caught.value), "the service's words may quote content"

    @pytest.mark.parametrize("recalculates", [True, False])
    async def test_the_duration_fits_whoever_computes_it(self, world: World, recalculates: bool) -> None:
        world.sandbox.dataverse_switches.recalculates_duration = recalculates
        booking = await read(world)
        await world.bookings.write(MoveBooking(booking.id, booking.etag, Span(NINE, NINE + timedelta(minutes=45))))
        assert world.booking["duration"] == 45

    async def test_a_plugin_that_touches_the_row_costs_no_second_write(self, world: World) -> None:
        world.sandbox.dataverse_switches.plugin_touches = True
        await world.link()
        world.technician.move(world.event, HOUR)
        await world.process(world.event)
        world.sandbox.calls.clear()
        await world.process(world.event)
        assert world.sandbox.calls.writes("dataverse") == 0

    async def test_a_canceled_status_that_was_deleted_is_looked_up_again(self, world: World) -> None:
        booking = await read(world)
        tables = world.sandbox.tables
        await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))
        old = tables.status("Canceled")
        new = tables.add_status("Called off", 3, 690970005)
        for row in tables.bookings():
            tables.update(row, {"_bookingstatus_value": tables.status("Scheduled").id})
        tables.delete(old)
        booking = await read(world)
        with refused(Stale):
            await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))
        await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))
        assert world.booking["_bookingstatus_value"] == new.id


class TestWhichStatusIsCanceled:
    SCHEDULED: ClassVar = {"bookingstatusid": "0bef5d3c-fefb-490a-ac96-2bb3811e51bb", "name": "Scheduled", "status": 2}
    CANCELED: ClassVar = {"bookingstatusid": "cdeec2c9-2352-4509-a285-7c07d92a2be4", "name": "Storniert", "status": 3}
    SECOND: ClassVar = {"bookingstatusid": "2b6f0cc9-04e9-4d5d-a3a1-5f0f8b6f9d21", "name": "By customer", "status": 3}

    def test_the_only_one_with_field_services_value(self) -> None:
        rows = [self.SCHEDULED, self.SECOND, {**self.CANCELED, "msdyn_fieldservicestatus": 690970005}]
        assert dataverse_parsing.choose_canceled(rows) == self.CANCELED["bookingstatusid"]

    def test_else_the_only_one_with_status_3(self) -> None:
        assert dataverse_parsing.choose_canceled([self.SCHEDULED, self.CANCELED]) == self.CANCELED["bookingstatusid"]

    def test_several_are_a_question_that_names_them(self) -> None:
        with pytest.raises(Misconfigured, match=r"Storniert \(cdeec2c9.*By customer \(2b6f0cc9"):
            dataverse_parsing.choose_canceled([self.CANCELED, self.SECOND])

    def test_none_is_a_question_too(self) -> None:
        with pytest.raises(Misconfigured, match="none"):
            dataverse_parsing.choose_canceled([self.SCHEDULED])

    async def test_the_setting_answers_it(self, world: World) -> None:
        second = world.sandbox.tables.add_status("By customer", 3, 690970005)
        bookings = dataverse_bookings.DataverseBookings(world.bookings._transport, "contoso_outlookeventid", second.id)
        booking = await read(world)
        await bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))
        assert world.booking["_bookingstatus_value"] == second.id

    async def test_a_setting_that_names_no_status_is_told_by_its_name(self, world: World) -> None:
        unknown = "00000000-0000-4000-8000-000000000000"
        bookings = dataverse_bookings.DataverseBookings(world.bookings._transport, "contoso_outlookeventid", unknown)
        booking = await read(world)
        with refused(Misconfigured, match="CANCELED_STATUS_ID"):
            await bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))

    async def test_inactive_statuses_do_not_count(self, world: World) -> None:
        old = world.sandbox.tables.add_status("Storno", 3, 690970005)
        world.sandbox.tables.update(old, {"statecode": 1, "statuscode": 2})
        booking = await read(world)
        await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))
        assert world.booking["_bookingstatus_value"] == world.sandbox.tables.status("Canceled").id

    async def test_while_it_is_a_question_nothing_is_canceled(self, world: World) -> None:
        world.sandbox.tables.add_status("By customer", 3, 690970005)
        booking = await read(world)
        with refused(Misconfigured):
            await world.bookings.write(CancelBooking(booking.id, booking.etag, unlink=False))


class TestMailboxes:
    async def test_active_user_resources_whose_user_is_enabled_and_known_to_entra(self, world: World) -> None:
        tables = world.sandbox.tables
        ben = world.sandbox.people.hire("Ben")
        tables.add_resource(ben.user)
        tables.add_resource(
            tables.add_user(name="Disabled", object_id="d" * 8 + "-0000-4000-8000-000000000000", disabled=True)
        )
        tables.add_resource(tables.add_user(name="Local", object_id=None, azureactivedirectoryobjectid=None))
        tables.add_resource(None, name="Crane", type=4)
        retired = world.sandbox.people.hire("Retired")
        tables.update(retired.resource, {"statecode": 1, "statuscode": 2})
        assert await world.bookings.resources.mailboxes() == sorted([world.mailbox, ben.mailbox.id])

    async def test_all_pages_are_read(self, world: World) -> None:
        world.sandbox.dataverse_switches.page_size = 2
        mailboxes = [world.sandbox.people.hire(f"T{n}").mailbox.id for n in range(5)]
        assert await world.bookings.resources.mailboxes() == sorted([world.mailbox, *mailboxes])


class TestWhoseBookingsComeFirst:
    """Three people with two bookings each, on pages of two rows; and a van, which has no mailbox."""

    @pytest.fixture
    def crew(self, world: World) -> list[str]:
        people, dispatcher = world.sandbox.people, world.sandbox.people.dispatcher
        ben, cleo = people.hire("Ben"), people.hire("Cleo")
        van = world.sandbox.tables.add_resource(None, name="Van", type=4)
        world.sandbox.tables.add_booking(van, NINE, TEN, by=world.technician.user.id, name="Van")
        for hours, technician in enumerate([cleo, ben, cleo, ben, world.technician], start=1):
            dispatcher.book(technician, NINE + hours * HOUR, TEN + hours * HOUR)
        world.sandbox.dataverse_switches.page_size = 2
        world.sandbox.calls.clear()
        return [world.mailbox, cleo.mailbox.id, ben.mailbox.id]

    async def asked(self, world: World, wanted: list[str], pages: int = ORDER_PAGES) -> list[str]:
        resources = Resources(world.bookings._transport, pages)
        return list(await resources.by_start(wanted, Span.of(MORNING, MORNING + 20 * HOUR)))

    async def test_the_one_with_the_next_booking_comes_first(self, world: World, crew: list[str]) -> None:
        assert await self.asked(world, sorted(crew)) == crew
        assert world.sandbox.calls.reads("dataverse") == 2, "no page is read once all are found"

    async def test_who_has_no_booking_there_is_not_among_them(self, world: World, crew: list[str]) -> None:
        dora = world.sandbox.people.hire("Dora").mailbox.id
        assert await self.asked(world, [*sorted(crew), dora]) == crew
        assert world.sandbox.calls.reads("dataverse") == 3

    async def test_a_limited_number_of_pages_is_read(self, world: World, crew: list[str]) -> None:
        assert await self.asked(world, sorted(crew), pages=1) == crew[:2]
        assert world.sandbox.calls.reads("dataverse") == 1


class TestAnswersThatNobodyWants:
    @pytest.mark.parametrize(
        "fault",
        [
            dataverse_errors.UNAVAILABLE.retry_after(None).fault(service="dataverse"),
            dataverse_errors.BAD_GATEWAY_HTML.fault(service="dataverse"),
            dataverse_errors.THROTTLED_REQUESTS.retry_after("0").fault(service="dataverse"),
            Fault("dataverse", status=None),
        ],
        ids=["503", "502 HTML", "429", "cut"],
    )
    async def test_a_short_trouble_is_waited_for(self, world: World, fault: Fault) -> None:
        world.sandbox.faults.order(fault)
        assert await read(world)

    async def test_a_long_retry_after_is_not_slept_but_told(self, world: World) -> None:
        throttled = dataverse_errors.THROTTLED_REQUESTS.retry_after("120")
        world.sandbox.faults.order(throttled.fault(service="dataverse", times=None))
        with pytest.raises(Transient) as caught:
            await read(world)
        assert caught.value.retry_after == 120
        assert len(world.sandbox.calls) == 1

    async def test_what_one_call_is_told_all_others_keep_to(self, world: World) -> None:
        throttled = dataverse_errors.THROTTLED_REQUESTS.retry_after("120")
        world.sandbox.faults.order(throttled.fault(service="dataverse"))
        with pytest.raises(Throttled):
            await read(world)
        for _ in range(3):
            with pytest.raises(Throttled) as caught:
                await read(world)
            assert 115 < (caught.value.retry_after or 0) <= 120
        assert len(world.sandbox.calls) == 1
        world.sandbox.clock.move(timedelta(seconds=120))
        assert await read(world)

    async def test_a_missing_application_user_is_refused_with_the_cure(self, world: World) -> None:
        world.sandbox.dataverse_switches.not_a_member = True
        with pytest.raises(Refused, match="application user"):
            await read(world)

    async def test_a_missing_privilege_is_refused_with_the_cure(self, world: World) -> None:
        world.sandbox.dataverse_switches.missing_privileges = {"prvReadBookableResourceBooking"}
        with pytest.raises(Refused, match="privilege"):
            await read(world)

    async def test_a_nextlink_to_another_host_is_not_followed(self, world: World) -> None:
        page = {"value": [], "@odata.nextLink": "https://evil.example/api/data/v9.2/bookableresources"}
        world.sandbox.faults.order(Fault("dataverse", status=200, body=page))
        with pytest.raises(Malformed):
            await world.bookings.resources.mailboxes()

    async def test_a_nextlink_to_another_port_is_not_followed(self, world: World) -> None:
        page = {"value": [], "@odata.nextLink": "http://127.0.0.1:9/api/data/v9.2/bookableresources"}
        world.sandbox.faults.order(Fault("dataverse", status=200, body=page))
        with pytest.raises(Malformed):
            await world.bookings.resources.mailboxes()

    async def test_a_list_that_leads_in_a_circle_ends(self, world: World) -> None:
        world.bookings._transport.pages = 5
        page = {"value": [], "@odata.nextLink": f"{world.sandbox.dataverse_url}/api/data/v9.2/bookableresources"}
        world.sandbox.faults.order(Fault("dataverse", status=200, body=page, times=None))
        with pytest.raises(Malformed):
            await world.bookings.resources.mailboxes()

    async def test_a_redirection_is_not_followed(self, world: World) -> None:
        world.sandbox.faults.order(
            Fault("dataverse", status=302, headers={"Location": f"{world.sandbox.url}/sandbox/state"}, times=None)
        )
        with pytest.raises(Refused):
            await read(world)

    async def test_an_odd_user_or_row_does_not_keep_the_others(self, world: World) -> None:
        odd = {"UserId": {"azureactivedirectoryobjectid": "no guid", "isdisabled": False}}
        good = {"UserId": {"azureactivedirectoryobjectid": world.mailbox, "isdisabled": False}}
        world.sandbox.faults.order(Fault("dataverse", status=200, body={"value": [odd, good]}))
        assert await world.bookings.resources.mailboxes() == [world.mailbox]
        neighbour = {"contoso_outlookeventid": EVENT_ID.lower()}
        world.sandbox.faults.order(Fault("dataverse", status=200, body={"value": [neighbour]}))
        assert await world.bookings.linked_to(EVENT_ID) == []

    async def test_an_odd_booking_does_not_keep_the_others_of_its_list(self, world: World) -> None:
        path = f"bookableresourcebookings({world.booking.id})?{world.bookings._columns('status')}"
        rows = [{"bookableresourcebookingid": "x"}, await world.bookings._transport.get(path)]
        world.sandbox.faults.order(Fault("dataverse", status=200, body={"value": rows}))
        assert [each.id for each in await world.bookings.with_ids([world.booking.id])] == [world.booking.id]

    async def test_a_netrc_file_does_not_replace_our_token(
        self, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login somebody password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        seen: list[str] = []
        send = HTTPAdapter.send

        def spy(self: HTTPAdapter, request: Any, **options: Any) -> Any:
            seen.append(request.headers["Authorization"])
            return send(self, request, **options)

        monkeypatch.setattr(HTTPAdapter, "send", spy)
        await read(world)
        assert seen == ["Bearer loopback"]

    @pytest.mark.parametrize(
        "body", [{}, [], "null", {"error": {"code": "x"}}, {"bookableresourcebookingid": "x"}, {"value": None}]
    )
    async def test_a_200_that_does_not_have_what_was_asked_for_is_no_answer(self, world: World, body: Any) -> None:
        world.sandbox.faults.order(Fault("dataverse", status=200, body=body, times=None))
        with pytest.raises(Transient):
            await read(world)
        with pytest.raises(Transient):
            await world.bookings.linked_to("E1")

    async def test_a_row_whose_times_are_none_is_malformed(self, world: World) -> None:
        world.booking.values["starttime"] = "tomorrow"
        with pytest.raises(Malformed):
            await read(world)

    async def test_a_service_that_is_not_there_is_transient(self, world: World) -> None:
        transport = dataverse_transport.Transport("http://127.0.0.1:9", LoopbackCredential(), lambda: MORNING)
        with pytest.raises(Transient):
            await dataverse_bookings.DataverseBookings(transport, "contoso_outlookeventid").read(world.booking.id)
        transport.close()

    async def test_many_reads_at_once_share_one_pool(self, world: World) -> None:
        found = await asyncio.gather(*(read(world) for _ in range(60)))
        assert len(found) == 60
