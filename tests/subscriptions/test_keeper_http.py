"""The roster kept and lifecycle notifications followed against the simulated Graph, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from sandbox.calls import Call
from sandbox.clock import Clock
from sandbox.faults import Fault
from sandbox.graph.errors import MAILBOX_INFO_STALE, TOO_MANY_REQUESTS, error
from sandbox.graph.mailboxes import Mailbox
from sandbox.world.people import Technician
from sync.subscriptions.run import Limits
from tests.world.app import HOUR, KEY, NEW_KEY, App, an_app, is_in_step


def hire(app: App, *names: str) -> list[Technician]:
    return [app.sandbox.people.hire(name) for name in names]


async def a_pair(app: App, technician: Technician):
    start = app.sandbox.clock.now() + 3 * HOUR
    booking, event = app.sandbox.people.dispatcher.book(technician, start, start + HOUR)
    await app.work()
    return booking, event


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_what_happens_during_a_replacement_is_not_lost(app, by_spelling):
    """A new clientState key and a new function key; events are moved at each step of the run."""
    app.sandbox.graph_switches.duplicates_by_spelling = by_spelling
    crew = hire(app, "Ana", "Ben", "Cleo")
    await app.keeper.keep()
    pairs = [await a_pair(app, technician) for technician in crew]
    old = {subscription.id for subscription in app.sandbox.subscriptions}
    app.install(NEW_KEY, KEY, code="rotated")
    moves = 0

    def everybody_moves(call: object) -> None:
        nonlocal moves
        moves += 1
        for technician, (_, event) in zip(crew, pairs, strict=True):
            technician.move(event, timedelta(minutes=5))

    app.sandbox.calls.listeners.append(everybody_moves)
    report = await app.keeper.keep()
    app.sandbox.calls.listeners.clear()
    assert report.replaced == 3
    assert moves >= 7
    for technician in crew:
        assert len(app.held(technician)) == 1
    assert not old & {subscription.id for subscription in app.sandbox.subscriptions}
    await app.work()
    if not by_spelling:
        app.sandbox.clock.move(timedelta(minutes=2))
        await app.work()
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    assert len(list(app.sandbox.subscriptions)) == 3
    assert app.writes().count("POST 409") == (0 if by_spelling else 1), "found out once"


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_what_graph_would_have_tried_again_for_a_replaced_subscription_is_swept(app, by_spelling):
    """The app was restarting for its new key, and did not answer."""
    app.sandbox.graph_switches.duplicates_by_spelling = by_spelling
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    pair = await a_pair(app, ana)
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    app.sandbox.delivery.hostility.drop = 1.0
    ana.move(pair[1], HOUR)
    app.sandbox.delivery.hostility.drop = 0.0
    app.install(NEW_KEY, KEY)
    assert (await app.keeper.keep()).replaced == 1
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    assert is_in_step(app.sandbox, *pair)


async def test_no_valid_notification_is_refused_while_the_key_changes(app, caplog):
    """Those of either generation, before, between and after the runs in which the subscriptions move over."""
    crew = hire(app, "Ana", "Ben", "Cleo")
    await app.keeper.keep()
    pairs = [await a_pair(app, technician) for technician in crew]

    async def everybody_moves_and_is_followed() -> None:
        for technician, (_, event) in zip(crew, pairs, strict=True):
            technician.move(event, timedelta(minutes=5))
        await app.work()
        assert all(is_in_step(app.sandbox, *pair) for pair in pairs)

    app.install(NEW_KEY, KEY)
    await everybody_moves_and_is_followed()
    app.sandbox.faults.order(Fault("graph", method="POST", path="/subscriptions", status=500, times=4))
    app.keeper.limits = Limits(concurrency=1)
    report = await app.keeper.keep()
    app.keeper.limits = Limits()
    assert (report.replaced, len(report.failed)) == (2, 1)
    await everybody_moves_and_is_followed()
    report = await app.keeper.keep()
    assert (report.replaced, report.failed) == (1, {})
    await everybody_moves_and_is_followed()
    app.install(NEW_KEY)
    await everybody_moves_and_is_followed()
    assert "dropped" not in caplog.text
    assert app.keeper.deployment.url in {subscription.notification_url for subscription in app.sandbox.subscriptions}


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_settings_that_come_back_after_a_run_with_others_was_killed_come_back_for_everybody(app, by_spelling):
    app.sandbox.graph_switches.duplicates_by_spelling = by_spelling
    crew = hire(app, *(f"Person {number}" for number in range(8)))
    await app.keeper.keep()
    app.install(KEY, code="rotated")
    await app.keeper.keep()
    app.install(KEY)
    run, deleted = asyncio.create_task(app.keeper.keep()), 0

    def kill(call: Call) -> None:
        nonlocal deleted
        deleted += call.method == "DELETE"
        if deleted == 4:
            run.cancel()

    app.sandbox.calls.listeners.append(kill)
    with pytest.raises(asyncio.CancelledError):
        await run
    app.sandbox.calls.listeners.clear()
    app.install(KEY, code="rotated")
    assert 0 < sum(bool(app.held(technician)) for technician in crew) < 8
    for _ in range(2):  # the killed one's last request may still be on its way
        await app.keeper.keep()
    assert [len(app.held(technician)) for technician in crew] == [1] * 8


async def test_subscriptions_made_before_there_were_marks_move_over(app):
    (ana,) = hire(app, "Ana")
    for _ in range(2):
        await app.keeper.keep()
    [held] = app.held(ana)
    held.notification_url = held.lifecycle_notification_url = f"{app.webhook}?code=functionkey"
    report = await app.keeper.keep()
    assert report.replaced == 1
    assert len(app.held(ana)) == len(list(app.sandbox.subscriptions)) == 1


async def test_what_the_service_allows_is_asked_for_from_then_on(app):
    app.sandbox.graph_switches.longest_subscription = timedelta(minutes=4_230)
    crew = hire(app, "Ana", "Ben")
    app.keeper.limits = Limits(concurrency=1)
    await app.keeper.keep()
    assert app.writes() == ["POST 400", "POST 201", "POST 201"]
    app.install(KEY)
    hire(app, "Cleo")
    app.sandbox.clock.move(timedelta(minutes=2_700))
    app.sandbox.calls.clear()
    report = await app.keeper.keep()
    assert (report.created, report.renewed) == (1, 2)
    assert sorted(app.writes()) == ["PATCH 200", "PATCH 200", "POST 201"]
    assert [len(app.held(technician)) for technician in crew] == [1, 1]


def refuse(state: str) -> Callable[[App, Mailbox], None]:
    def change(app: App, mailbox: Mailbox) -> None:
        mailbox.state = state  # type: ignore[assignment]

    return change


def no_room(app: App, mailbox: Mailbox) -> None:
    app.sandbox.graph_switches.subscriptions_per_mailbox = 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(refuse("on_premises"), "on-premises", id="an on-premises mailbox"),
        pytest.param(refuse("not_enabled"), "unlicensed", id="a mailbox without licence"),
        pytest.param(refuse("invalid_user"), "disabled", id="a user whom Exchange does not know"),
        pytest.param(refuse("denied"), "access policy", id="a mailbox that a policy denies"),
        pytest.param(no_room, "as many subscriptions", id="a mailbox with 1,000 subscriptions"),
    ],
)
async def test_remembered_with_the_reason_and_tried_rarely_is(app, change, reason):
    (ana,) = hire(app, "Ana")
    change(app, ana.mailbox)
    tries = []
    for _ in range(24):
        app.sandbox.calls.clear()
        plan = await app.keeper.plan()
        assert plan.create or reason in plan.wait[0].reason
        await app.keeper.keep()
        tries.append(len(app.writes()))
        app.sandbox.clock.move(HOUR)
    assert tries == [1, 1, 0, 1, 0, 0, 0, 1, *[0] * 7, 1, *[0] * 8]
    ana.mailbox.state = "ok"
    app.sandbox.graph_switches.subscriptions_per_mailbox = 1_000
    app.sandbox.clock.move(timedelta(days=1))
    await app.keeper.keep()
    assert len(app.held(ana)) == 1
    assert app.memory.known == {}


async def test_a_mailbox_in_which_the_renewal_is_refused_stays_subscribed_and_is_shown(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    app.sandbox.clock.move(timedelta(days=4))
    fault = app.sandbox.faults.order(error(403, "ErrorAccessDenied", "No.").fault(method="PATCH", times=None))
    await app.keeper.keep()
    assert len(app.held(ana)) == 1
    assert "403 ErrorAccessDenied" in (await app.keeper.plan()).troubles[ana.mailbox.id].reason
    fault.times = 1
    await app.keeper.keep()
    await app.keeper.keep()
    assert app.memory.known == {}


async def test_in_a_mailbox_that_is_full_the_old_subscription_makes_room_for_the_new_one(app):
    app.sandbox.graph_switches.duplicates_by_spelling = True
    app.sandbox.graph_switches.subscriptions_per_mailbox = 1
    crew = hire(app, "Ana", "Ben")
    await app.keeper.keep()
    app.install(NEW_KEY, KEY)
    report = await app.keeper.keep()
    assert (report.replaced, report.failed) == (2, {})
    assert [len(app.held(technician)) for technician in crew] == [1, 1]
    assert app.memory.known == {}


async def test_a_disabled_user_is_not_wanted(app):
    ana, _ = hire(app, "Ana", "Ben")
    app.sandbox.tables.update(ana.user, {"isdisabled": True})
    await app.keeper.keep()
    assert app.held(ana) == []
    assert len(list(app.sandbox.subscriptions)) == 1


async def test_a_429_makes_everybody_wait_as_long_as_it_says(app):
    app.keeper.limits = Limits(concurrency=3)
    crew = hire(app, *(f"Person {number}" for number in range(12)))
    moments: list[tuple[float, int | None]] = []
    app.sandbox.calls.listeners.append(
        lambda call: moments.append((time.monotonic(), call.status)) if call.method == "POST" else None
    )
    app.sandbox.faults.order(TOO_MANY_REQUESTS.retry_after("0.8").fault(method="POST", skip=3, times=1))
    report = await app.keeper.keep()
    assert report.created == 12
    [refused] = [at for at, status in moments if status == 429]
    during = [at for at, status in moments if status == 201 and 0 <= at - refused < 0.8]
    assert len(during) < 3, "only what was on its way already"
    assert all(len(app.held(technician)) == 1 for technician in crew)


async def test_a_mailbox_that_is_always_throttled_is_shown_and_keeps_nobody_else_from_a_renewal(app):
    crew = hire(app, *(f"Person {number}" for number in range(60)))
    await app.keeper.keep()
    app.sandbox.clock.move(timedelta(days=4))
    [held] = app.held(crew[0])
    throttled = TOO_MANY_REQUESTS.retry_after("0.2").fault(method="PATCH", path=f"/subscriptions/{held.id}", times=None)
    app.sandbox.faults.order(throttled)
    report = await app.keeper.keep()
    assert (report.renewed, report.not_begun) == (59, 0)
    assert "429" in report.failed[crew[0].mailbox.id]
    assert "429" in app.memory.known[crew[0].mailbox.id].reason


async def test_stale_mailbox_information_is_one_mailboxs_affair(app):
    ana, ben = hire(app, "Ana", "Ben")
    stale = MAILBOX_INFO_STALE.fault(method="POST", path="/subscriptions", times=2)
    app.sandbox.faults.order(stale)
    assert (await app.keeper.keep()).created == 2
    assert len(app.held(ana)) == len(app.held(ben)) == 1


@pytest.mark.parametrize("status", [None, 500, 503])
async def test_an_answer_that_is_lost_leaves_no_second_subscription(app, status):
    app.sandbox.faults.order(Fault("graph", method="POST", path="/subscriptions", status=status, moment="after"))
    (ana,) = hire(app, "Ana")
    report = await app.keeper.keep()
    assert (report.created, report.adopted, report.failed) == (0, 1, {})
    assert len(app.held(ana)) == 1


@pytest.mark.parametrize("by_spelling", [False, True])
@pytest.mark.parametrize("verb", ["POST", "DELETE"])
async def test_an_answer_that_is_lost_during_a_replacement_is_mended_by_the_next_run(app, by_spelling, verb):
    app.sandbox.graph_switches.duplicates_by_spelling = by_spelling
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    app.install(NEW_KEY, KEY)
    fault = Fault("graph", method=verb, path="/subscriptions", status=None, moment="after", skip=not by_spelling)
    app.sandbox.faults.order(fault)
    await app.keeper.keep()
    assert app.held(ana)
    await app.keeper.keep()
    assert len(app.held(ana)) == len(list(app.sandbox.subscriptions)) == 1


async def test_all_pages_of_the_list_are_read_empty_and_outdated_ones_included(app):
    switches = app.sandbox.graph_switches
    switches.subscriptions_page_size, switches.empty_page, switches.list_shows_expired = 2, True, True
    crew = hire(app, *(f"Person {number}" for number in range(7)))
    await app.keeper.keep()
    app.sandbox.clock.move(timedelta(days=8))
    await app.keeper.keep()
    app.sandbox.calls.clear()
    await app.keeper.keep()
    assert app.writes() == []
    assert all(len(app.held(technician)) == 1 for technician in crew)


async def test_an_unreadable_subscription_of_somebody_elses_does_not_end_the_run(app):
    (ana,) = hire(app, "Ana")
    foreign = {"id": "x", "resource": None, "changeType": "updated", "expirationDateTime": "soon"}
    app.sandbox.faults.order(Fault("graph", method="GET", path="/subscriptions", status=200, body={"value": [foreign]}))
    await app.keeper.keep()
    assert len(app.held(ana)) == 1


async def test_a_run_takes_one_look_and_one_write_for_each_mailbox(app):
    hire(app, *(f"Person {number}" for number in range(30)))
    await app.keeper.keep()
    assert app.writes() == ["POST 201"] * 30
    assert app.sandbox.calls.reads("graph") == 1
    assert app.sandbox.calls.reads("dataverse") == 1


async def test_two_processes_at_the_same_time_leave_one_subscription_each(app):
    crew = hire(app, *(f"Person {number}" for number in range(10)))
    await asyncio.gather(app.keeper.keep(), app.second_process().keep())
    assert all(len(app.held(technician)) == 1 for technician in crew)
    app.sandbox.calls.clear()
    await app.keeper.keep()
    assert app.writes() == []


async def test_an_app_that_does_not_answer_the_handshake_is_subscribed_as_soon_as_it_does(app):
    (ana,) = hire(app, "Ana")
    app.is_up = False
    report = await app.keeper.keep()
    assert "400 ValidationError" in report.failed[ana.mailbox.id]
    assert "NOTIFICATION_URL" in report.failed[ana.mailbox.id]
    app.is_up = True
    await app.keeper.keep()
    assert len(app.held(ana)) == 1


async def test_what_was_lost_while_graph_could_not_reach_the_app_is_swept_for(app):
    """Its timer ran all the time."""
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    pair = await a_pair(app, ana)
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    app.is_up, app.sandbox.delivery.hostility.drop = False, 1.0
    ana.move(pair[1], HOUR)
    for _ in range(14):
        app.sandbox.clock.move(HOUR)
        assert "NOTIFICATION_URL" in (await app.keeper.keep()).failed[ana.mailbox.id]
    app.is_up, app.sandbox.delivery.hostility.drop = True, 0.0
    app.sandbox.clock.move(HOUR)
    assert (await app.keeper.keep()).was_away
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    assert is_in_step(app.sandbox, *pair)
    assert app.memory.known == {}


async def test_a_reauthorization_is_one_patch_and_never_a_reauthorize(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    [held] = app.held(ana)
    app.sandbox.calls.clear()
    for _ in range(10):
        app.sandbox.subscriptions.lapse(held)
        app.sandbox.delivery.send_lifecycle(held, "reauthorizationRequired")
        app.sandbox.delivery.send_lifecycle(held, "reauthorizationRequired")
        await app.work()
        app.sandbox.clock.move(timedelta(minutes=4))
    assert app.writes() == ["PATCH 200"] * 4
    assert not [call for call in app.sandbox.calls if "reauthorize" in call.path]


async def test_what_was_paused_for_want_of_authorization_comes_after_the_renewal(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    booking, event = await a_pair(app, ana)
    [held] = app.held(ana)
    app.sandbox.subscriptions.lapse(held)
    ana.move(event, HOUR)
    await app.work()
    assert not is_in_step(app.sandbox, booking, event)
    app.sandbox.delivery.send_lifecycle(held, "reauthorizationRequired")
    await app.work()
    assert is_in_step(app.sandbox, booking, event)


async def test_a_removed_subscription_is_created_anew_and_the_mailbox_swept(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    moved, deleted = await a_pair(app, ana), await a_pair(app, ana)
    [held] = app.held(ana)
    app.sandbox.subscriptions.remove(held)
    ana.move(moved[1], HOUR)
    ana.delete(deleted[1])
    for _ in range(3):
        app.sandbox.delivery.send_lifecycle(held, "subscriptionRemoved")
    await app.work()
    assert len(app.held(ana)) == len(list(app.sandbox.subscriptions)) == 1
    for _ in range(2):
        app.sandbox.clock.move(timedelta(minutes=2))
        await app.work()
    assert is_in_step(app.sandbox, *moved)
    assert is_in_step(app.sandbox, *deleted)
    assert app.inbox.parked == []


async def test_dropped_notifications_are_swept_for_when_graph_says_so(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    pair = await a_pair(app, ana)
    app.sandbox.delivery.hostility.drop = 1.0
    ana.move(pair[1], HOUR)
    await app.work()
    assert not is_in_step(app.sandbox, *pair)
    app.sandbox.delivery.send_lifecycle(app.held(ana)[0], "missed")
    await app.work()
    assert is_in_step(app.sandbox, *pair)


@pytest.mark.parametrize("event", ["reauthorizationRequired", "subscriptionRemoved", "missed"])
async def test_forged_lifecycle_notifications_do_nothing(app, event):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    [held] = app.held(ana)
    held.client_state = (held.client_state or "")[:-1] + "!"
    app.sandbox.calls.clear()
    waiting = len(app.inbox.messages)
    app.sandbox.delivery.send_lifecycle(held, event)
    await app.sandbox.delivery.settle()
    assert [post.status for post in app.sandbox.delivery.posts] == [202], "the sender learns nothing"
    assert len(app.inbox.messages) == waiting
    assert len(app.sandbox.calls) == 0


async def test_a_leavers_lifecycle_notifications_bring_nothing_back(app):
    ana, _ = hire(app, "Ana", "Ben")
    await app.keeper.keep()
    [held] = app.held(ana)
    app.sandbox.tables.update(ana.resource, {"statecode": 1})
    app.sandbox.clock.move(timedelta(minutes=11))
    for event in ("subscriptionRemoved", "missed", "reauthorizationRequired"):
        app.sandbox.delivery.send_lifecycle(held, event)
        await app.work()
    assert app.held(ana) == []
    assert app.inbox.parked == []


@pytest.mark.slow
async def test_graphs_own_limit_of_writes_is_kept():
    """1,000 in 20 seconds; with three thousand mailboxes that would be hit."""
    async with an_app(clock=Clock()) as app:
        app.sandbox.graph_switches.limit_subscription_writes = True
        hire(app, *(f"Person {number}" for number in range(3_000)))
        report = await app.keeper.keep()
        assert report.created == 3_000
        assert app.writes() == ["POST 201"] * 3_000
