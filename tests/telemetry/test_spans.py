"""What is told of the app's work: one trace from the notification to the write, counts, and nothing personal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from azure.storage.queue.aio import QueueClient
from opentelemetry import trace

from sandbox.faults import Fault
from sync import triggers
from sync.errors import Refused, Transient
from sync.messages.changes import Change, LifecycleNotification, SweepRequest
from sync.messages.codec import (
    LIFECYCLE,
    OUTLOOK_CHANGES,
    SWEEPS,
    build_change_message,
    build_lifecycle_message,
    build_sweep_message,
    parse_change_message,
    parse_origin,
)
from sync.telemetry import counters
from sync.telemetry import spans as telemetry
from sync.telemetry.origin import Origin
from tests.world.fakes import ANNA
from tests.world.listening import Listener, listening
from tests.world.running import HOUR, TOMORROW, running, until

PATCH = "dataverse PATCH bookableresourcebookings"
PROCESS = "process outlook-changes"


@pytest.fixture
def told() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


# One trace.


async def test_a_notification_can_be_followed_to_its_write(
    storage: str, monkeypatch: pytest.MonkeyPatch, told: Listener
) -> None:
    """Through the queue of a real storage account and the app in its host, with nothing personal on the way."""
    async with running(storage, monkeypatch, SETTLE_SECONDS="1") as app:
        ana = app.sandbox.people.hire("Ana")
        await app.subscribe()
        booking, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR, name="Planted booking")
        await until(lambda: booking["contoso_outlookeventid"] == event.immutable_id)
        await app.quiet()
        app.sandbox.mailboxes.change(event, subject="Planted subject", attendees=["planted.guest@contoso.example"])
        ana.move(event, HOUR)
        await until(lambda: booking["starttime"] == TOMORROW + HOUR)
        await app.quiet()
        for _ in range(3):
            wanted = len(told.named("receive")) + 1
            ana.edit(event)
            await until(lambda wanted=wanted: len(told.named("receive")) >= wanted)
        await app.quiet()
        metrics = told.told()

    *_, patch = told.named(PATCH)
    assert told.path(patch) == ["receive", PROCESS, PROCESS, PATCH], "first what was posted, then the event"
    processed = next(span for span in told.spans if patch.parent and span.context.span_id == patch.parent.span_id)
    assert processed.attributes is not None
    assert processed.attributes["booking_sync.event"] == event.immutable_id
    assert processed.attributes["booking_sync.booking"] == booking.id
    assert processed.attributes["booking_sync.outcome"] == "moved"
    siblings = {span.name for span in told.spans if span.context.trace_id == patch.context.trace_id}
    assert {"queue outlook-changes", "table ledger", "graph GET /users/{user-id}/events/{event-id}"} <= siblings
    coalesced = [each for span in told.named(PROCESS) for each in span.events if each.name == "redundant"]
    assert {(each.attributes or {}).get("booking_sync.event") for each in coalesced} == {event.immutable_id}

    assert metrics[telemetry.CHANGES]["linked",] == metrics[telemetry.CHANGES]["moved",] == 1
    assert metrics[telemetry.CALLS]["dataverse", "2xx"] > 2
    count, seconds = metrics[telemetry.AGE]["moved",]
    assert count == 1
    assert seconds >= 1, "the time that the message waited for more of the same"
    assert metrics[telemetry.SUBSCRIPTIONS]["kept",] == 1
    fates = Counter({fate: count for (fate,), count in metrics[telemetry.NOTIFICATIONS].items()})
    assert fates["known"] + fates["waited_for"] == len(coalesced)
    assert fates["received"] == len(coalesced) + fates["repeated"] + fates["queued"]
    assert () in metrics[telemetry.SILENCE]

    exported = "\n".join(span.to_json() for span in told.spans).lower()
    for secret in ("planted", "contoso.example", "the-function-key", "the-key-of", "$filter", "$select", "bearer"):
        assert secret not in exported
    assert not any(
        secret in json.dumps([*map(str, metrics.items())]) for secret in (ana.mailbox.id, event.immutable_id)
    )


async def test_a_change_that_was_put_back_stays_in_its_trace(
    storage: str, monkeypatch: pytest.MonkeyPatch, told: Listener
) -> None:
    async with running(storage, monkeypatch) as app:
        ana = app.sandbox.people.hire("Ana")
        await app.subscribe()
        app.sandbox.faults.order(Fault("dataverse", path="bookableresourcebookings", status=503, times=3))
        booking, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
        await until(lambda: booking["contoso_outlookeventid"] == event.immutable_id)
        await app.quiet()
        assert told.told()[telemetry.PUT_BACK]["outlook-changes",] >= 1
        assert told.told()[telemetry.CALLS]["dataverse", "5xx"] == 3
    [write] = told.named(PATCH)
    of_the_trace = [span for span in told.spans if span.context.trace_id == write.context.trace_id]
    runs = [
        span
        for span in of_the_trace
        if span.name == PROCESS and (span.attributes or {})["booking_sync.outcome"] != "spread"
    ]
    assert len(runs) > 1
    assert [each.name for span in runs for each in span.events].count("put back") == len(runs) - 1


async def test_what_is_held_and_what_a_sweep_finds_is_told(
    storage: str, monkeypatch: pytest.MonkeyPatch, told: Listener
) -> None:
    async with running(storage, monkeypatch) as app:
        ana = app.sandbox.people.hire("Ana")
        app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
        held, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
        app.sandbox.mailboxes.change(event, is_all_day=True)
        await triggers.app().processor.process(Change(ana.mailbox.id, event.immutable_id))
        await triggers.sweep_mailbox(build_sweep_message(SweepRequest(ana.mailbox.id)).encode())
        await triggers.renew_subscriptions()
        metrics = told.told()
        assert held["contoso_outlookeventid"] is None
    assert metrics[telemetry.HELD] == {("held",): 1, ("waiting",): 0}
    assert metrics[telemetry.DRIFT] == {("queued",): (1, 1), ("held",): (1, 0)}


async def test_what_is_parked_is_told_each_hour_whoever_parked_it_and_also_if_the_run_fails(
    storage: str, monkeypatch: pytest.MonkeyPatch, told: Listener
) -> None:
    """A count of what this process has parked itself would miss what the host gave up, and dies with the process."""
    async with running(storage, monkeypatch) as app:
        async with QueueClient.from_connection_string(storage, f"{OUTLOOK_CHANGES}-poison") as queue:
            await queue.create_queue()
            await queue.send_message("given up by the host")
        await triggers.renew_subscriptions()
        assert told.told()[telemetry.POISON] == {(OUTLOOK_CHANGES,): 1, (LIFECYCLE,): 0, (SWEEPS,): 0}
        app.sandbox.faults.order(Fault("dataverse", status=503, times=None))
        with pytest.raises(Transient):
            await triggers.renew_subscriptions()
        assert told.told()[telemetry.POISON] == {(OUTLOOK_CHANGES,): 1, (LIFECYCLE,): 0, (SWEEPS,): 0}


# Of what goes wrong, only the name.


async def test_an_error_is_told_by_its_name_alone(told: Listener) -> None:
    with pytest.raises(Refused), telemetry.span("work"):
        raise Refused("planted")
    [span] = told.spans
    assert (span.attributes or {})["error.type"] == "Refused"
    assert not span.status.is_ok
    assert "planted" not in span.to_json()


async def test_a_call_counts_by_the_class_of_its_answer(told: Listener) -> None:
    class Answer:
        status_code = 412

    class NoAnswer(Exception):
        pass

    async def answer() -> Answer:
        return Answer()

    async def fail() -> None:
        raise NoAnswer

    await telemetry.called("dataverse", "PATCH x", answer())
    with pytest.raises(NoAnswer):
        await telemetry.called("graph", "GET x", fail())
    assert told.told()[telemetry.CALLS] == {("dataverse", "4xx"): 1, ("graph", "none"): 1}


async def test_what_is_counted_for_the_status_is_told_as_well(told: Listener) -> None:
    telemetry.counted(
        {counters.KNOWN: 2, counters.OUTCOME + "would be moved": 1, counters.SPENT + "graph": 3}, is_notified=False
    )
    metrics = told.told()
    assert metrics[telemetry.NOTIFICATIONS] == {("known",): 2}
    assert metrics[telemetry.CHANGES] == {("would be moved",): 1}
    assert metrics.keys() == {telemetry.NOTIFICATIONS, telemetry.CHANGES}, "silence begins with the first notification"
    telemetry.counted({}, is_notified=True)
    assert () in told.told()[telemetry.SILENCE]


# Off.


async def test_off_nothing_is_told_and_no_message_says_where_it_comes_from() -> None:
    async def answer() -> int:
        return 7

    with telemetry.span("work", mailbox="x") as span, telemetry.call("graph", "GET x") as call:
        span.set(outcome="moved")
        call.answered(200)
        telemetry.event("redundant")
        telemetry.annotate(outcome="x")
        telemetry.aged("moved", None)
        telemetry.aged("moved", ORIGIN)
        telemetry.counted({"outcome.moved": 1}, is_notified=True)
        telemetry.measure(telemetry.CHANGES, outcome="x")
        assert telemetry.origin() is None
        assert await telemetry.called("queue", "x", answer()) == 7
    assert not telemetry.is_on()
    assert not trace.get_current_span().is_recording()


# The message.

ORIGIN = Origin("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 1_763_866_666.2)


def test_a_message_says_where_it_comes_from() -> None:
    for message in (
        build_change_message(Change(ANNA, "E1", origin=ORIGIN)),
        build_lifecycle_message(LifecycleNotification(ANNA, ANNA, "missed", origin=ORIGIN)),
        build_sweep_message(SweepRequest(ANNA, origin=ORIGIN)),
    ):
        assert parse_origin(message) == ORIGIN
    assert parse_change_message(build_change_message(Change(ANNA, "E1", origin=ORIGIN))).origin == ORIGIN
    assert set(json.loads(build_change_message(Change(ANNA, "E1")))) == {"mailbox", "event"}


@pytest.mark.parametrize(
    "fields",
    [
        {"traceparent": None, "notified": 1},
        {"traceparent": 7, "notified": 1},
        {"traceparent": "00-planted-01", "notified": 1},
        {"traceparent": ORIGIN.traceparent},
        {"traceparent": ORIGIN.traceparent, "notified": "1"},
        {"traceparent": ORIGIN.traceparent, "notified": -1},
        {"traceparent": ORIGIN.traceparent, "notified": float("nan")},
        {"traceparent": ORIGIN.traceparent, "notified": 10**400},
        {"traceparent": [ORIGIN.traceparent], "notified": 1},
    ],
    ids=str,
)
def test_a_change_is_done_wherever_it_may_come_from(fields: dict[str, object]) -> None:
    message = json.loads(build_change_message(Change(ANNA, "E1"))) | fields
    assert parse_change_message(json.dumps(message)) == Change(ANNA, "E1")
    assert parse_change_message(json.dumps(message)).origin is None


@pytest.mark.parametrize("text", ["", "hello", "[]", "7", "[" * 100_000, '{"traceparent": {}}'], ids=lambda t: t[:9])
def test_of_what_is_no_message_no_origin_is_known(text: str) -> None:
    assert parse_origin(text) is None


def test_each_metric_has_a_unit_a_word_and_a_name_of_ours() -> None:
    for name, metric in telemetry.METRICS.items():
        assert name.startswith("booking_sync.")
        assert metric.unit in ("1", "s")
        assert metric.tells
