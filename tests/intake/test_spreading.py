"""What becomes of a POST: acknowledged by one message, then spread into one for each event that needs a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta

import pytest

from sync.errors import Transient
from sync.graph.client_state import build_client_state
from sync.intake.acknowledging import ACK_WITHIN
from sync.intake.coalescing import Notified
from sync.intake.spreading import spread
from sync.messages.changes import Batch, Change, Evidence
from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, build_change_message, parse_changes
from tests.world.fakes import ANNA, BEN, NOW, LedgerInMemory, QueuesInMemory
from tests.world.taking import posted

KEY = "k" * 40
MOVED, DELETED = Change(ANNA, "E1="), Change(BEN, "E2=", evidence=Evidence.TOLD)


def item(mailbox: str, event_id: str, **changes: object) -> dict[str, object]:
    return {
        "subscriptionId": "c6126aa3-0ed8-412f-a988-71e6cee627c4",
        "changeType": "updated",
        "resource": f"Users/{mailbox}/Events/{event_id}",
        "resourceData": {"id": event_id},
        "clientState": build_client_state(KEY, mailbox),
        **changes,
    }


class TestReceive:
    BODY = json.dumps(
        {
            "value": [
                item(ANNA, "E1="),
                item(BEN, "E2=", changeType="deleted"),
                {
                    "subscriptionId": "c6126aa3-0ed8-412f-a988-71e6cee627c4",
                    "lifecycleEvent": "missed",
                    "clientState": build_client_state(KEY, ANNA),
                },
                item(ANNA, "E3=", clientState="stolen"),
            ]
        }
    ).encode()

    async def test_202_means_that_changes_and_lifecycle_notifications_are_queued(self) -> None:
        queues = QueuesInMemory()
        assert (await posted(self.BODY, [KEY], queues)).status == 202
        assert [parse_changes(message) for message in queues.of(OUTLOOK_CHANGES)] == [Batch((MOVED, DELETED))]
        assert len(queues.of(LIFECYCLE)) == 1

    async def test_a_hundred_changes_are_one_message_as_graph_times_the_answer(self) -> None:
        queues = QueuesInMemory()
        body = json.dumps({"value": [item(ANNA, "A" * 150 + str(number)) for number in range(100)]}).encode()
        assert (await posted(body, [KEY], queues)).status == 202
        assert len(queues.sent) == 1

    async def test_503_if_the_queue_refuses(self) -> None:
        assert (await posted(self.BODY, [KEY], QueuesInMemory(refuses=True))).status == 503

    async def test_nothing_good_in_a_post_is_still_acknowledged(self) -> None:
        queues = QueuesInMemory()
        assert (await posted(b'{"value": [{}, 7, null]}', [KEY], queues)).status == 202
        assert queues.sent == []

    async def test_what_was_dropped_is_counted_without_secrets(self, caplog: pytest.LogCaptureFixture) -> None:
        await posted(self.BODY, [KEY], QueuesInMemory())
        assert "dropped count=1" in caplog.text
        assert "stolen" not in caplog.text
        assert build_client_state(KEY, ANNA) not in caplog.text

    async def test_a_queue_that_hangs_does_not_keep_graph_waiting(self) -> None:
        """Graph gives up after three seconds, and slows down whoever needs them often."""
        given: list[float] = []

        class Patient(QueuesInMemory):
            async def send(
                self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
            ) -> Sequence[object]:
                given.append(within)
                raise Transient("no answer in time")

        assert (await posted(self.BODY, [KEY], Patient())).status == 503
        assert max(given) <= ACK_WITHIN <= 2.5


class TestSpread:
    async def test_each_event_gets_a_message_of_its_own_that_waits_for_more_of_the_same(self) -> None:
        queues = QueuesInMemory()
        await spread(Batch((MOVED, DELETED)), queues, LedgerInMemory(), 5)
        assert queues.sent == [(OUTLOOK_CHANGES, build_change_message(change), 5) for change in (MOVED, DELETED)]

    async def test_the_same_batch_once_more_queues_nothing_while_its_messages_wait(self) -> None:
        """The host brings a message again whose process died before it was deleted."""
        queues, ledger = QueuesInMemory(), LedgerInMemory()
        for _ in range(2):
            await spread(Batch((MOVED, DELETED)), queues, ledger, 5)
        assert len(queues.sent) == 2

    @pytest.mark.parametrize(("settle", "queued"), [(5, 0), (0, 1)])
    async def test_a_change_waits_for_another_unless_that_was_turned_off(self, settle: int, queued: int) -> None:
        ledger, queues = LedgerInMemory(), QueuesInMemory()
        ledger.notes[ANNA, "E1="] = Notified(NOW, due=NOW + timedelta(seconds=5), settle=5, streak=1)
        await spread(Batch((MOVED,)), queues, ledger, settle)
        assert len(queues.sent) == queued

    async def test_if_the_queue_refuses_the_host_brings_the_batch_back(self) -> None:
        with pytest.raises(Transient):
            await spread(Batch((MOVED,)), QueuesInMemory(refuses=True), LedgerInMemory(), 5)

    async def test_what_was_not_queued_is_not_waited_for(self) -> None:
        ledger, queues = LedgerInMemory(), QueuesInMemory()
        with pytest.raises(Transient):
            await spread(Batch((MOVED,)), QueuesInMemory(refuses=True), ledger, 5)
        await spread(Batch((MOVED,)), queues, ledger, 5)
        assert len(queues.sent) == 1

    async def test_marks_that_cannot_be_left_cost_a_run_and_nothing_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Hanging(LedgerInMemory):
            async def look(self, changes: Sequence[Change], within: float) -> Sequence[Notified]:
                return [Notified(NOW) for _ in changes]

            async def queued(self, *_: object) -> None:
                await asyncio.sleep(3_600)

        monkeypatch.setattr("sync.intake.spreading.NOTE_WITHIN", 0.01)
        queues = QueuesInMemory()
        for _ in range(2):
            await spread(Batch((MOVED,)), queues, Hanging(), 5)
        assert len(queues.sent) == 2
