"""What people do to events, and what Graph would notify of."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.clock import Clock
from sandbox.graph import outlook_ids
from sandbox.graph.mailboxes import Event, Mailboxes
from sandbox.graph.switches import GraphSwitches

ELEVEN = datetime(2026, 3, 17, 11, tzinfo=UTC)
NOON = ELEVEN + timedelta(hours=1)
BOOKING = {"Com.Contoso.Booking": {"guid": "3fa85f64-5717-4562-b3fc-2c963f66afa6"}}


class Outlook:
    """One mailbox with one linked event, and the change types notified of since then."""

    def __init__(self, **switches: object) -> None:
        self.mailboxes = Mailboxes(Clock(ELEVEN - timedelta(days=7)), random.Random(1), GraphSwitches(**switches))
        self.mailbox = self.mailboxes.add()
        self.event = self.mailboxes.create(self.mailbox, ELEVEN, NOON, subject="Heat pump", extensions=BOOKING)
        self.notices = []
        self.mailboxes.listeners.append(self.notices.append)

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [(notice.change_type, notice.plain_id) for notice in self.notices]

    def finds(self, event: Event) -> bool:
        return self.mailboxes.find(self.mailbox, event.immutable_id) is event


def test_a_change_gives_another_etag_and_one_notice():
    outlook = Outlook()
    before = outlook.event.etag
    outlook.mailboxes.change(outlook.event, start=NOON, end=NOON + timedelta(hours=1))
    [notice] = outlook.notices
    assert notice.change_type == "updated"
    assert notice.etag == outlook.event.etag != before
    assert notice.immutable_id == outlook.event.immutable_id


def test_what_an_event_does_not_have_cannot_be_changed():
    outlook = Outlook()
    with pytest.raises(TypeError):
        outlook.mailboxes.change(outlook.event, colour="red")
    with pytest.raises(TypeError):
        outlook.mailboxes.create(outlook.mailbox, ELEVEN, NOON, colour="red")


def test_a_move_to_another_calendar_changes_the_plain_id_only():
    outlook = Outlook()
    immutable, plain = outlook.event.immutable_id, outlook.event.plain_id
    outlook.mailboxes.move(outlook.event, outlook.mailboxes.add_calendar(outlook.mailbox, "Private"))
    assert outlook.event.immutable_id == immutable
    assert outlook.event.plain_id != plain
    assert outlook.mailboxes.find(outlook.mailbox, plain) is None
    assert outlook.finds(outlook.event)
    assert outlook.heard == [("deleted", plain)]  # the other calendar is nobody's subject


def test_a_move_back_is_heard_of_as_created():
    outlook = Outlook()
    calendar = outlook.mailboxes.add_calendar(outlook.mailbox, "Private")
    outlook.mailboxes.move(outlook.event, calendar)
    outlook.mailboxes.move(outlook.event, calendar)  # stays where it is
    outlook.mailboxes.change(outlook.event, subject="Unheard")
    outlook.mailboxes.move(outlook.event, outlook.mailbox.default_calendar)
    assert [change_type for change_type, _ in outlook.heard] == ["deleted", "created"]


def test_with_the_switch_a_move_is_deleted_and_created():
    outlook = Outlook(other_calendars_notify=True)
    plain = outlook.event.plain_id
    outlook.mailboxes.move(outlook.event, outlook.mailboxes.add_calendar(outlook.mailbox, "Private"))
    assert outlook.heard == [("deleted", plain), ("created", outlook.event.plain_id)]


@pytest.mark.parametrize("readable", [False, True])
def test_a_deleted_event_stands_in_no_calendar_and_may_stay_readable(readable: bool):
    outlook = Outlook(deleted_stay_readable=readable)
    outlook.mailboxes.delete(outlook.event)
    assert outlook.mailbox.in_calendar(outlook.mailbox.default_calendar) == []
    assert outlook.finds(outlook.event) is readable
    assert [change_type for change_type, _ in outlook.heard] == ["deleted"]


def test_undo_brings_back_the_event_with_the_same_immutable_id():
    outlook = Outlook()
    immutable = outlook.event.immutable_id
    outlook.mailboxes.delete(outlook.event)
    outlook.mailboxes.restore(outlook.event)
    assert outlook.finds(outlook.event)
    assert outlook.event.immutable_id == immutable
    assert [change_type for change_type, _ in outlook.heard] == ["deleted", "created"]
    with pytest.raises(ValueError, match="not in Deleted Items"):
        outlook.mailboxes.restore(outlook.event)


def test_a_purged_event_is_gone_whatever_the_switch_says():
    outlook = Outlook(deleted_stay_readable=True)
    outlook.mailboxes.delete(outlook.event)
    outlook.mailboxes.purge(outlook.event)
    assert not outlook.finds(outlook.event)
    assert len(outlook.notices) == 1
    with pytest.raises(ValueError, match="not in Deleted Items"):
        outlook.mailboxes.restore(outlook.event)


@pytest.mark.parametrize(("carries", "extensions"), [(True, BOOKING), (False, {})])
def test_a_copy_is_another_event_and_may_carry_the_extension(carries: bool, extensions: dict):
    outlook = Outlook(copies_carry_extensions=carries)
    copy = outlook.mailboxes.copy(outlook.event)
    assert copy.immutable_id != outlook.event.immutable_id
    assert (copy.subject, copy.start, copy.end) == ("Heat pump", ELEVEN, NOON)
    assert copy.extensions == extensions
    assert copy.extensions is not outlook.event.extensions


def test_a_meeting_cancelled_by_its_organizer_stays_in_the_attendees_mailbox():
    outlook = Outlook()
    outlook.mailboxes.cancel_by_organizer(outlook.event)
    assert outlook.event.is_cancelled
    assert outlook.event.subject == "Canceled: Heat pump"
    assert outlook.finds(outlook.event)
    assert [change_type for change_type, _ in outlook.heard] == ["updated"]


def test_deleting_an_occurrence_is_heard_of_as_an_update_of_the_master():
    outlook = Outlook()
    master, occurrences = outlook.mailboxes.create_series(outlook.mailbox, ELEVEN, NOON, weeks=3)
    outlook.notices.clear()
    outlook.mailboxes.delete(occurrences[1])
    assert outlook.heard == [("updated", master.plain_id)]
    assert not outlook.finds(occurrences[1])
    with pytest.raises(ValueError, match="not an occurrence"):
        outlook.mailboxes.delete_occurrence(outlook.event)


def test_a_changed_occurrence_becomes_an_exception():
    outlook = Outlook()
    _, occurrences = outlook.mailboxes.create_series(outlook.mailbox, ELEVEN, NOON, weeks=2)
    outlook.mailboxes.change(occurrences[0], subject="Other")
    assert [occurrence.type for occurrence in occurrences] == ["exception", "occurrence"]


def test_a_series_is_deleted_and_restored_as_a_whole():
    outlook = Outlook()
    master, occurrences = outlook.mailboxes.create_series(outlook.mailbox, ELEVEN, NOON, weeks=2)
    outlook.mailboxes.delete(master)
    assert not any(outlook.finds(event) for event in (master, *occurrences))
    outlook.mailboxes.restore(master)
    assert all(outlook.finds(event) for event in (master, *occurrences))


@pytest.mark.parametrize("is_change", [False, True])
def test_writing_an_extension_may_count_as_a_change(is_change: bool):
    outlook = Outlook(extension_write_is_a_change=is_change)
    before = outlook.event.etag
    outlook.mailboxes.set_extension(outlook.event, "Com.Contoso.Booking", {"guid": "other"})
    outlook.mailboxes.remove_extension(outlook.event, "Com.Contoso.Booking")
    assert (outlook.event.etag != before) is is_change
    assert len(outlook.notices) == (2 if is_change else 0)


@pytest.mark.parametrize(("shows", "extensions"), [(False, {}), (True, BOOKING)])
def test_an_occurrence_may_show_the_extensions_of_its_master(shows: bool, extensions: dict):
    outlook = Outlook(occurrences_show_master_extensions=shows)
    _, [occurrence] = outlook.mailboxes.create_series(outlook.mailbox, ELEVEN, NOON, weeks=1, extensions=BOOKING)
    assert outlook.mailboxes.extensions_of(occurrence) == extensions


@pytest.mark.parametrize("needs_header", [False, True])
def test_an_immutable_id_may_be_unknown_to_a_request_that_did_not_ask_for_such(needs_header: bool):
    outlook = Outlook(immutable_ids_need_header=needs_header)
    found = outlook.mailboxes.find(outlook.mailbox, outlook.event.immutable_id, immutable=False)
    assert (found is None) is needs_header
    assert outlook.mailboxes.find(outlook.mailbox, outlook.event.plain_id, immutable=True) is outlook.event


def test_a_twin_differs_from_its_event_in_letter_case_alone():
    outlook = Outlook()
    twin = outlook.mailboxes.create(outlook.mailbox, ELEVEN, NOON, twin_of=outlook.event)
    assert twin.immutable_id != outlook.event.immutable_id
    assert twin.immutable_id.lower() == outlook.event.immutable_id.lower()
    assert twin.plain_id.lower() == outlook.event.plain_id.lower()
    assert outlook.finds(twin)
    assert outlook.finds(outlook.event)


def test_ids_are_long_end_in_an_equals_sign_and_a_damaged_one_is_told_apart():
    event = Outlook().event
    for item_id in (event.immutable_id, event.plain_id):
        assert len(item_id) > 100
        assert item_id.endswith("=")
        assert outlook_ids.is_well_formed(item_id)
        assert not outlook_ids.is_well_formed(item_id.lower())
        assert not outlook_ids.is_well_formed(item_id[:-1])


def test_a_mailbox_is_found_by_id_and_by_address_in_any_case():
    mailboxes = Outlook().mailboxes
    mailbox = mailboxes.add(address="Ann@contoso.example")
    assert mailboxes.get(mailbox.id.upper()) is mailbox
    assert mailboxes.get("ann@CONTOSO.example") is mailbox
    assert mailboxes.get("nobody") is None
