"""Why a booking is where it is: what is found of it with how little, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from sync.errors import Misconfigured, SyncError, Transient
from sync.model import Booking, Span
from sync.operate.explain import Bookings, Finder, Found, build_document, build_lines
from sync.pairs.actions import Outcome, Stage
from sync.pairs.entry import GONE, Decision, Entry, Held, Intent, Kind
from sync.pairs.reasons import HoldKind
from tests.world.fakes import ANNA, BEN, NOW, Table, span

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
BOOKING = Booking(GUID, 'W/"12"', span(12), "E1", ANNA)
DECISION = Decision(
    NOW, "told of a change", Outcome.MOVED, Stage.DONE, "", 'W/"AAAAAAAAAAAAAAAAb2c=="', 'W/"11"', span(12), span(9)
)
ENTRY = Entry(ANNA, "E1", "1", booking_id=GUID, agreed=(span(12),), history=(DECISION,), expires=NOW)


class Ledger:
    """Remembers what it was asked: an event, a mailbox, or everything."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = entries
        self.asked: list[str] = []

    async def read(self, mailbox: str, event_id: str) -> Entry:
        self.asked.append("event")
        found = [each for each in self.entries if (each.mailbox, each.event_id) == (mailbox, event_id)]
        return found[0] if found else Entry(mailbox, event_id)

    async def find(self, booking_or_event: str, mailbox: str | None = None) -> Sequence[Entry]:
        self.asked.append("mailbox" if mailbox else "all")
        of = [each for each in self.entries if mailbox in (None, each.mailbox)]
        return [each for each in of if booking_or_event in (each.booking_id, each.event_id)]


class TestItIsFound:
    async def find(
        self, ledger: Ledger, text: str, mailbox: str | None = None, booking: Booking | None = BOOKING
    ) -> Found:
        table = Table(rows={} if booking is None else {booking.id: booking})

        async def bookings() -> Bookings:
            return table

        return await Finder(ledger, bookings).find(text, mailbox)

    async def test_by_a_linked_booking_with_one_look(self) -> None:
        ledger = Ledger(ENTRY)
        found = await self.find(ledger, GUID.upper())
        assert (found.entries, found.booking, ledger.asked) == ([ENTRY], BOOKING, ["event"])

    async def test_by_a_canceled_booking_in_its_mailbox(self) -> None:
        ledger = Ledger(ENTRY)
        found = await self.find(ledger, GUID, booking=replace(BOOKING, event_id=None))
        assert (found.entries, ledger.asked) == ([ENTRY], ["mailbox"])

    async def test_by_a_reassigned_booking_wherever_it_was(self) -> None:
        ledger = Ledger(ENTRY)
        found = await self.find(ledger, GUID, booking=replace(BOOKING, mailbox=BEN))
        assert (found.entries, ledger.asked) == ([ENTRY], ["event", "mailbox", "all"])

    async def test_by_a_booking_that_is_not_there_any_more(self) -> None:
        ledger = Ledger(ENTRY)
        found = await self.find(ledger, GUID, booking=None)
        assert (found.entries, found.notes) == ([ENTRY], ["Dataverse has no such booking"])

    async def test_by_an_event_in_a_mailbox_or_in_all(self) -> None:
        ledger = Ledger(ENTRY)
        assert (await self.find(ledger, "E1", ANNA)).entries == [ENTRY]
        assert (await self.find(ledger, "E1", BEN)).entries == []
        assert (await self.find(ledger, "E1")).entries == [ENTRY]
        assert ledger.asked == ["mailbox", "mailbox", "all"]

    @pytest.mark.parametrize("error", [Transient("dataverse 503"), Misconfigured("DATAVERSE_URL is missing")])
    async def test_without_dataverse_all_the_same(self, error: SyncError) -> None:
        async def nobody() -> Bookings:
            raise error

        found = await Finder(Ledger(ENTRY), nobody).find(GUID, None)
        assert (found.entries, found.notes) == ([ENTRY], [f"the booking could not be read: {error}"])


def told(entry: Entry) -> str:
    return "\n".join(build_lines("E1", Found([entry])))


class TestItIsTold:
    def test_a_decision_with_time_cause_values_and_versions(self) -> None:
        assert told(ENTRY).endswith(
            """
2026-03-02 06:00:00  moved
             told of a change
             event    2026-03-02 12:00 - 13:00, at version …AAAAAb2c==
             booking  2026-03-02 09:00 - 10:00, at version 11"""
        )

    def test_a_decision_with_its_reason_and_how_often(self) -> None:
        decision = replace(
            DECISION, outcome=Outcome.HELD, reason="the event lasts all day", times=3, event_version=GONE
        )
        text = told(replace(ENTRY, history=(decision,)))
        assert "held: the event lasts all day" in text
        assert "told of a change (3 times)" in text
        assert "event    gone" in text

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            pytest.param(ENTRY, "agreed on    2026-03-02 12:00 - 13:00", id="what is agreed on"),
            pytest.param(ENTRY, "forgotten    after 2026-03-02 06:00", id="when it expires"),
            pytest.param(
                replace(ENTRY, agreed=(span(9), Span(NOW, NOW + timedelta(days=1, seconds=5)))),
                "2026-03-02 09:00 - 10:00 or 2026-03-02 06:00 - 2026-03-03 06:00:05",
                id="that a write is in doubt",
            ),
            pytest.param(
                replace(ENTRY, intent=Intent((span(15),), 'W/"12"')),
                "in doubt     a write to the booking at version 12, of 2026-03-02 15:00 - 16:00",
                id="which write",
            ),
            pytest.param(
                replace(ENTRY, held=Held(HoldKind.ALL_DAY, NOW, "v2", Outcome.MOVED)),
                "held         since 2026-03-02 06:00: the event lasts all day\n"
                "             if released, the booking is moved",
                id="what is held",
            ),
            pytest.param(
                replace(ENTRY, held=Held(HoldKind.WAITS_FOR_OUTLOOK, NOW, "v2")),
                "waiting      since 2026-03-02 06:00: the booking was moved in Dynamics, and its event is to follow",
                id="what waits",
            ),
            pytest.param(replace(ENTRY, released="v2"), "released     for the event at version v2", id="a release"),
            pytest.param(replace(ENTRY, discarded="v2"), "discarded    for the event at version v2", id="a discard"),
            pytest.param(replace(ENTRY, discarded=GONE), "discarded    for the event's deletion", id="of a deletion"),
            pytest.param(replace(ENTRY, kind=Kind.GONE), "what it is   gone", id="that it is gone"),
            pytest.param(replace(ENTRY, kind=Kind.NOT_OURS), "what it is   none of ours", id="that it is not ours"),
        ],
    )
    def test_it_says(self, entry: Entry, expected: str) -> None:
        assert expected in told(entry)

    def test_it_says_that_nothing_is_known(self) -> None:
        [line] = build_lines("E7", Found())
        assert line.startswith("nothing is known of E7")

    def test_it_says_where_the_booking_is_now(self) -> None:
        lines = build_lines(GUID, Found([], BOOKING, ["a note"]))
        assert lines[:2] == ["a note", "booking now  2026-03-02 12:00 - 13:00, linked to E1"]
        assert "linked to no event" in build_lines(GUID, Found([], replace(BOOKING, event_id=None)))[0]

    def test_a_program_gets_versions_in_full(self) -> None:
        document = build_document(GUID, Found([ENTRY], BOOKING))
        assert document["booking_now"]["version"] == 'W/"12"'
        assert document["entries"][0]["decisions"] == (DECISION,)
