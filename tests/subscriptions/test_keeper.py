"""The roster kept by the timer, and lifecycle notifications followed, with everything in memory."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from sync.errors import (
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotFound,
    OtherKey,
    Refused,
    SyncError,
    Throttled,
    Transient,
    Unagreed,
    Unvalidated,
)
from sync.messages.changes import LifecycleNotification
from sync.messages.codec import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.messages.parking import PARKS
from sync.operate.rows import State, subscription_rows
from sync.subscriptions.deployment import LIFETIME, Deployment, mailbox_of
from sync.subscriptions.lifecycle import LifecycleTaker
from sync.subscriptions.outages import LastRun
from sync.subscriptions.writes import SWEEP_AFTER
from tests.world.app import HOUR, KEY, NEW_KEY
from tests.world.fakes import ANNA, BEN, NOW, QueuesInMemory
from tests.world.keeper import MISSED, REAUTHORIZE, REMOVED, US, a_mess, people

# The timer.


async def test_nothing_is_created_while_the_subscriptions_cannot_be_listed(keeping):
    keeping.graph.trouble[""] = [Transient("503")] * 99
    with pytest.raises(Transient):
        await keeping.keeper(ANNA).keep()
    assert keeping.graph.writes == []
    assert keeping.memory.last is None


async def test_nothing_is_changed_while_the_mailboxes_cannot_be_listed(keeping):
    keeping.graph.put(BEN)
    keeper = keeping.keeper(ANNA)

    async def refuse() -> Sequence[str]:
        raise Transient("503")

    keeper.roster.read_all = refuse
    with pytest.raises(Transient):
        await keeper.keep()
    assert keeping.graph.writes == []


@pytest.mark.parametrize("retry_after", [None, 3.0, 300.0])
async def test_lists_that_are_throttled_are_waited_for_as_writes_are(keeping, retry_after):
    keeping.longest_pause, keeping.patience, keeping.sleep = 0.05, lambda failures: 0.05, asyncio.sleep
    keeping.graph.trouble[""] = [Throttled("429", retry_after)] * 2
    keeper = keeping.keeper(ANNA)
    throttled, wanted = [Throttled("429", retry_after)] * 2, keeper.wanted

    async def refuse() -> Sequence[str]:
        if throttled:
            raise throttled.pop()
        return await wanted()

    keeper.roster.read_all = refuse
    assert (await keeper.keep()).created == 1


async def test_a_list_that_is_throttled_for_longer_than_a_run_ends_it(keeping):
    keeping.graph.trouble[""] = [Throttled("429", 3_000.0)]
    with pytest.raises(Transient):
        await keeping.keeper(ANNA).keep()
    assert keeping.graph.calls == [("list", "")]


async def test_the_log_tells_how_many_of_each_and_no_secret(keeping, caplog):
    caplog.set_level(logging.INFO)
    keeping.graph.trouble[BEN] = [Refused("400")] * 99
    await keeping.keeper(ANNA, BEN).keep()
    assert (
        "roster wanted=2 created=1 adopted=0 replaced=0 renewed=0 deleted=0 waiting=0 failed=1 not_begun=0"
        in caplog.text
    )
    assert "functionkey" not in caplog.text
    assert KEY not in caplog.text


# Leavers.


async def test_a_leaver_loses_the_subscription(keeping):
    keeping.graph.put(ANNA)
    keeping.graph.put(BEN)
    report = await keeping.keeper(BEN).keep()
    assert keeping.graph.mailboxes() == [BEN]
    assert report.deleted == 1


async def test_too_many_leavers_unsubscribe_nobody_until_a_person_agrees(keeping, caplog):
    crowd = people(10)
    for mailbox in crowd:
        keeping.graph.put(mailbox)
    before = dict(keeping.graph.held)
    for _ in range(3):
        with pytest.raises(Unagreed, match="5 of 10"):
            await keeping.keeper(*crowd[:5]).keep()
    assert keeping.graph.held == before
    assert keeping.graph.writes == []
    assert "roster: 5 of 10 mailboxes are not wanted any more" in caplog.text
    await keeping.keeper(*crowd[:5]).apply(leavers_agreed=True)
    assert keeping.graph.mailboxes() == crowd[:5]


async def test_while_a_person_decides_nobodys_subscription_ends_and_all_but_deleting_goes_on(keeping):
    keeping.graph.longest = timedelta(days=30)
    crowd = people(10)
    for place, mailbox in enumerate(crowd):
        keeping.graph.put(mailbox, 2 * HOUR, lifecycle_url=None if place % 2 else US.url)
    keeping.graph.put(crowd[0], timedelta(days=20), change_types=frozenset({"created"}))
    kept = set(keeping.graph.held)
    keeping.graph.trouble[keeping.graph.of(crowd[9])[0].id] = [MailboxUnavailable("403")]
    for day in range(10):
        with pytest.raises(Unagreed, match=r"5 of 1\d mailboxes"):
            await keeping.keeper(*crowd[:5], ANNA).keep()
        living = {mailbox_of(each) for each in keeping.graph.held.values() if each.expires > keeping.now + HOUR}
        assert living >= {*crowd, ANNA}, day
        assert [verb for verb, _ in keeping.graph.calls if verb == "delete"] == []
        keeping.now += timedelta(days=1) if day else HOUR / 2
    assert kept <= set(keeping.graph.held)
    assert keeping.memory.known == {}
    await keeping.keeper(*crowd[:5], ANNA).apply(leavers_agreed=True)
    assert keeping.graph.mailboxes() == sorted([*crowd[:5], ANNA])
    assert all(US.is_right(held) for held in keeping.graph.held.values())


async def test_a_leavers_subscription_that_vanished_meanwhile_is_not_made_again(keeping):
    crowd = people(4)
    held = {mailbox: keeping.graph.put(mailbox, HOUR) for mailbox in crowd}
    keeping.graph.trouble[held[crowd[3]].id] = [NotFound("404")]
    with pytest.raises(Unagreed):
        await keeping.keeper(*crowd[:2]).keep()
    assert "create" not in {verb for verb, _ in keeping.graph.calls}


async def test_an_outage_is_swept_for_also_while_a_person_has_to_decide_about_leavers(keeping):
    crowd = people(4)
    for mailbox in crowd:
        keeping.graph.put(mailbox)
    await keeping.memory.ran(LastRun(NOW - HOUR * 9, LIFETIME))
    for _ in range(3):
        with pytest.raises(Unagreed):
            await keeping.keeper(*crowd[:2]).keep()
        keeping.now += HOUR
    assert keeping.sweeps.rounds == 1, "and once"


@pytest.mark.parametrize("leavers_agreed", [True, False])
async def test_what_is_planned_is_done_whether_leavers_are_refused_or_not(keeping, leavers_agreed):
    wanted = a_mess(keeping)
    for mailbox in people(10):
        keeping.graph.put(mailbox, HOUR)
    before = dict(keeping.graph.held)
    keeper = keeping.keeper(*wanted)
    rows = subscription_rows((await keeper._begin(leavers_agreed)).plan, US, NOW)
    of_state = Counter(row.state for row in rows)
    report = await keeper.apply(leavers_agreed)
    assert (report.refusal is None) is leavers_agreed
    assert (report.created, report.replaced) == (of_state[State.CREATE], of_state[State.REPLACE])
    assert (report.renewed, report.deleted) == (of_state[State.RENEW], of_state[State.DELETE])
    held_back = {row.subscription for row in rows if row.state == State.HELD_BACK}
    assert all(keeping.graph.held[each] == before[each] for each in held_back if each)
    assert bool(held_back) is not leavers_agreed


async def test_how_many_may_leave_is_configured(keeping):
    crowd = people(10)
    for mailbox in crowd:
        keeping.graph.put(mailbox)
    keeper = keeping.keeper(*crowd[:5])
    keeper.leavers_share = 0.5
    assert (await keeper.keep()).deleted == 5


async def test_the_app_itself_moves_over_to_a_new_key_and_anybody_else_is_asked_first(keeping):
    other = Deployment.of(US.url.partition("&")[0], NEW_KEY, "https://d.example", "a_b")
    old = keeping.graph.put(ANNA, notification_url=other.url, lifecycle_url=other.url)
    with pytest.raises(OtherKey, match="1 of 1"):
        await keeping.keeper(ANNA).apply()
    assert keeping.graph.held == {old.id: old}
    assert keeping.memory.last is None
    assert (await keeping.keeper(ANNA).keep()).replaced == 1


# An outage of the app.


@pytest.mark.parametrize(
    ("hours", "away"), [(1, False), (3, False), (4, True), (200, True), (-0.05, False), (-0.2, True), (-9_000, True)]
)
async def test_after_an_outage_all_mailboxes_are_swept(keeping, hours, away):
    await keeping.memory.ran(LastRun(NOW - HOUR * hours, LIFETIME))
    report = await keeping.keeper(ANNA).keep()
    assert report.was_away is away
    assert keeping.sweeps.rounds == away
    assert keeping.memory.last == LastRun(NOW, LIFETIME)


async def test_what_counts_is_when_a_run_began_not_when_it_ended(keeping):
    """What was wanted and present was read at its beginning."""

    async def long() -> None:
        keeping.now += HOUR

    keeping.graph.step = long
    await keeping.keeper(ANNA).keep()
    assert keeping.now > NOW + HOUR
    assert keeping.memory.last == LastRun(NOW, LIFETIME)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(LastRun(NOW - HOUR * 9, LIFETIME), id="the app was away"),
        pytest.param(LastRun(NOW - HOUR, LIFETIME, unreached_since=NOW - HOUR * 9), id="Graph could not reach it"),
    ],
)
async def test_an_outage_is_not_over_before_the_sweeps_are_queued(keeping, last):
    keeping.graph.put(ANNA)
    await keeping.memory.ran(last)
    keeping.sweeps.refuses = True
    with pytest.raises(Transient):
        await keeping.keeper(ANNA).keep()
    keeping.sweeps.refuses = False
    await keeping.keeper(ANNA).keep()
    assert keeping.sweeps.rounds == 1


async def test_an_outage_is_noticed_also_if_the_first_run_after_it_cannot_know_of_it(keeping):
    """It could note that it ran, and nobody would know of the outage any more."""
    await keeping.memory.ran(LastRun(NOW - HOUR * 9, LIFETIME))
    keeping.memory.is_unreadable = True
    assert not (await keeping.keeper(ANNA).keep()).was_away
    assert keeping.graph.mailboxes() == [ANNA], "all else is done"
    keeping.memory.is_unreadable = False
    keeping.now += HOUR
    assert (await keeping.keeper(ANNA).keep()).was_away
    assert keeping.sweeps.rounds == 1


@pytest.mark.parametrize("every", [1, 2, 4, 7])
async def test_a_person_who_keeps_the_roster_during_an_outage_does_not_hide_it(keeping, every):
    """The sweeps wait in their queue for the app."""
    await keeping.keeper(ANNA).keep()
    for hour in range(1, 25):
        keeping.now += HOUR
        if hour % every == 0:
            await keeping.keeper(ANNA).apply()
    keeping.now += HOUR
    await keeping.keeper(ANNA).keep()
    assert keeping.sweeps.rounds
    rounds = keeping.sweeps.rounds
    keeping.now += HOUR
    await keeping.keeper(ANNA).keep()
    assert keeping.sweeps.rounds == rounds, "once is enough"


async def test_a_person_alone_may_keep_the_roster_and_is_no_outage(keeping):
    await keeping.keeper(ANNA).apply()
    await keeping.keeper(ANNA).apply()
    assert keeping.sweeps.rounds == 0


@pytest.mark.parametrize(("hours", "swept"), [(1, 0), (2, 0), (3, 1), (40, 1)])
async def test_after_hours_in_which_graph_could_not_reach_the_app_all_mailboxes_are_swept_once(keeping, hours, swept):
    """The timer runs all the time; what is out of order is what stands before the app."""
    keeping.graph.longest = timedelta(days=30)
    held = [keeping.graph.put(mailbox) for mailbox in (ANNA, BEN)]
    await keeping.keeper(ANNA, BEN).keep()
    keeping.graph.trouble = {each.id: [Unvalidated("400 ValidationError")] * 99 for each in held}
    for _ in range(hours):
        keeping.now += HOUR
        report = await keeping.keeper(ANNA, BEN).keep()
        assert list(report.failed.values()) == ["400 ValidationError"], "and it is shown at once"
    assert keeping.sweeps.rounds == 0
    keeping.graph.trouble.clear()
    for _ in range(3):
        keeping.now += HOUR
        await keeping.keeper(ANNA, BEN).keep()
    assert keeping.sweeps.rounds == swept
    assert keeping.memory.known == {}


async def test_a_handshake_that_fails_for_one_mailbox_only_is_no_outage(keeping):
    keeping.graph.longest = timedelta(days=30)
    held = [keeping.graph.put(mailbox, HOUR * 20) for mailbox in (ANNA, BEN)]
    keeping.graph.trouble = {held[0].id: [Unvalidated("400")] * 9}
    for _ in range(15):
        await keeping.keeper(ANNA, BEN).keep()
        keeping.now += HOUR
    assert keeping.sweeps.rounds == 0


async def test_an_hourly_run_costs_at_most_one_renewal_that_is_not_due_and_a_persons_none(keeping):
    crew = people(200)
    for place, mailbox in enumerate(crew):
        keeping.graph.put(mailbox, LIFETIME * (0.6 + place / 500))
    for hour in range(1, 4):
        keeping.now = NOW + HOUR * hour
        keeping.graph.calls.clear()
        await keeping.keeper(*crew).keep()
        assert len(keeping.graph.writes) <= 1
        await keeping.keeper(*crew).keep()
        await keeping.keeper(*crew).apply()
        assert len(keeping.graph.writes) == (1 if hour > 1 else 0)


async def test_the_first_run_of_all_was_not_away(keeping):
    assert not (await keeping.keeper(ANNA).keep()).was_away


# Lifecycle notifications.


async def test_a_reauthorization_renews_the_subscription(keeping):
    old = keeping.graph.put(ANNA, HOUR)
    await keeping.keeper(ANNA).lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert keeping.graph.held == {old.id: replace(old, expires=NOW + LIFETIME)}


async def test_a_reauthorization_every_few_minutes_costs_one_renewal_in_ten_minutes(keeping):
    old, keeper = keeping.graph.put(ANNA, HOUR), keeping.keeper(ANNA)
    for _ in range(20):
        await asyncio.gather(*(keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id)) for _ in range(3)))
        keeping.now += timedelta(minutes=3)
    assert keeping.graph.writes == [("renew", old.id)] * 5


async def test_a_renewal_that_failed_is_none(keeping):
    old, keeper = keeping.graph.put(ANNA, HOUR), keeping.keeper(ANNA)
    keeping.graph.trouble[old.id] = [Refused("403")]
    with pytest.raises(Refused):
        await keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    await keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert keeping.graph.held[old.id].expires == NOW + LIFETIME


async def test_a_reauthorization_right_after_the_timers_renewal_costs_nothing(keeping):
    old, keeper = keeping.graph.put(ANNA, HOUR), keeping.keeper(ANNA)
    await keeper.keep()
    await keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert keeping.graph.writes == [("renew", old.id)]


async def test_who_refused_to_be_reauthorized_is_tried_at_once_when_its_subscription_has_ended(keeping):
    """Graph asks for it again and again, the more often the nearer the end is."""
    old = keeping.graph.put(ANNA, HOUR)
    keeping.graph.trouble[old.id] = [Refused("403")] * 99
    for _ in range(9):
        with pytest.raises(Refused):
            await keeping.keeper(ANNA).lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert keeping.memory.known[ANNA].reason == "403"
    keeping.graph.held.clear()
    keeping.now += HOUR
    assert (await keeping.keeper(ANNA).keep()).created == 1


async def test_renewals_of_long_ago_are_not_kept_in_mind_for_ever(keeping):
    keeper = keeping.keeper(ANNA)
    for _ in range(5):
        old = keeping.graph.put(ANNA, HOUR)
        await keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
        keeping.now += timedelta(minutes=11)
    assert len(keeper.service.renewed) == 1


@pytest.mark.parametrize("event", [REAUTHORIZE, REMOVED])
async def test_a_subscription_that_is_gone_is_created_anew_once_and_its_mailbox_swept(keeping, event):
    for _ in range(3):
        await keeping.keeper(ANNA).lifecycle.follow(event)
    assert keeping.graph.mailboxes() == [ANNA]
    assert ANNA in keeping.sweeps.mailboxes
    assert keeping.memory.known == {}


async def test_many_repeats_side_by_side_create_one(keeping):
    keeper = keeping.keeper(ANNA)
    await asyncio.gather(*(keeper.lifecycle.follow(REMOVED) for _ in range(8)))
    assert keeping.graph.mailboxes() == [ANNA]


async def test_missed_notifications_are_swept_for(keeping):
    await keeping.keeper(ANNA).lifecycle.follow(MISSED)
    assert keeping.sweeps.asked == [(ANNA, 0.0)]
    assert keeping.graph.calls == []


async def test_who_is_subscribed_is_looked_after_even_if_the_query_for_mailboxes_has_left_them_out(keeping):
    """It may return half of the people for a while; what they missed is told of once."""
    crowd = people(4)
    for mailbox in crowd:
        keeping.graph.put(mailbox)
    keeping.graph.put(ANNA, -HOUR)
    keeping.graph.put(BEN, notification_url="https://other.example/api/notifications")
    keeper = keeping.keeper(*crowd[:1])
    found = [mailbox for mailbox in (*crowd, ANNA, BEN) if await keeper.roster.looks_after(mailbox)]
    assert found == crowd, "nobody whose subscription ended, or is another app's"
    assert keeping.graph.calls == [("list", "")], "asked for once in a while"
    keeping.now += timedelta(minutes=1)
    keeping.graph.held.clear()
    assert not await keeper.roster.looks_after(crowd[1]), "they have left, after all"


@pytest.mark.parametrize("event", [REAUTHORIZE, REMOVED])
async def test_a_leaver_is_neither_subscribed_nor_swept(keeping, event):
    keeper = keeping.keeper(BEN)
    await keeper.lifecycle.follow(event)
    assert keeping.graph.mailboxes() == []
    assert keeping.sweeps.asked == []
    assert not await keeper.roster.looks_after(ANNA)


async def test_a_leavers_subscription_is_not_renewed_for_another_week(keeping):
    old = keeping.graph.put(ANNA, HOUR)
    await keeping.keeper(BEN).lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert keeping.graph.held == {old.id: old}
    assert keeping.graph.writes == []


async def test_a_leavers_subscription_is_renewed_while_a_person_has_to_decide_about_it(keeping):
    crowd = people(4)
    held = {mailbox: keeping.graph.put(mailbox) for mailbox in crowd}
    keeper = keeping.keeper(*crowd[:2])
    with pytest.raises(Unagreed):
        await keeper.keep()
    asked = replace(REAUTHORIZE, mailbox=crowd[3], subscription_id=held[crowd[3]].id)
    await keeping.keeper(*crowd[:2]).lifecycle.follow(asked)
    assert keeping.graph.writes == [("renew", held[crowd[3]].id)]
    await keeping.keeper(*crowd[:2]).apply(leavers_agreed=True)
    keeping.graph.calls.clear()
    await keeping.keeper(*crowd[:2]).lifecycle.follow(asked)
    assert keeping.graph.writes == []


@pytest.mark.parametrize("unknown", ["wanted", "whether leavers stay"])
async def test_a_renewal_does_not_wait_for_what_tells_leavers(keeping, unknown):
    old, keeper = keeping.graph.put(ANNA, HOUR), keeping.keeper(BEN)

    async def refuse() -> Sequence[str]:
        raise Transient("503")

    if unknown == "wanted":
        keeper.roster.read_all = refuse
    keeping.memory.is_unreadable = True
    await keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert keeping.graph.writes == [("renew", old.id)]


async def test_who_just_joined_is_looked_after_although_the_list_of_the_wanted_is_kept_in_mind(keeping):
    keeper = keeping.keeper(BEN)
    assert await keeper.roster.looks_after(BEN)
    keeping.wanted.append(ANNA)
    keeping.now += timedelta(seconds=SWEEP_AFTER)
    assert await keeper.roster.looks_after(ANNA)


async def test_a_storm_of_notifications_does_not_ask_dataverse_each_time(keeping):
    keeper = keeping.keeper(ANNA)
    for _ in range(50):
        assert await keeper.roster.looks_after(ANNA)
        keeping.now += timedelta(seconds=5)
    assert keeping.asked == 1


async def test_an_event_that_is_new_next_year_is_logged_and_nothing_else(keeping, caplog):
    await keeping.keeper(ANNA).lifecycle.follow(replace(MISSED, event="oneThatIsNewNextYear"))
    assert keeping.graph.calls == []
    assert f"lifecycle event=oneThatIsNewNextYear mailbox={ANNA}" in caplog.text


async def test_what_goes_wrong_with_a_lifecycle_notification_is_shown(keeping):
    keeping.graph.trouble[ANNA] = [MailboxUnavailable("404 ExtensionError")]
    with pytest.raises(MailboxUnavailable):
        await keeping.keeper(ANNA).lifecycle.follow(REMOVED)
    assert keeping.memory.known[ANNA].reason == "404 ExtensionError"


async def test_a_lifecycle_notification_does_not_sleep_through_a_long_throttle(keeping):
    """It is put back on the queue, hidden for as long."""
    old, keeper = keeping.graph.put(ANNA, HOUR), keeping.keeper(ANNA)
    keeping.graph.trouble[old.id] = [Throttled("429", 300.0)]
    with pytest.raises(Transient) as raised:
        await keeper.lifecycle.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert 290 < (raised.value.retry_after or 0) <= 300
    assert keeping.slept == []


# Their queue.


def answering(error: SyncError | None = None) -> tuple[list[LifecycleNotification], Callable[..., Awaitable[None]]]:
    """What was followed, and a ``follow`` that raises *error*."""
    followed: list[LifecycleNotification] = []

    async def follow(notification: LifecycleNotification) -> None:
        followed.append(notification)
        if error is not None:
            raise error

    return followed, follow


async def test_a_message_is_followed_and_done():
    queues, (followed, follow) = QueuesInMemory(), answering()
    await LifecycleTaker(follow, queues).take(build_lifecycle_message(REMOVED))
    assert followed == [REMOVED]
    assert queues.sent == []


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", '{"mailbox": "anna"}'])
async def test_a_malformed_message_is_parked_at_once(text):
    queues, (followed, follow) = QueuesInMemory(), answering()
    await LifecycleTaker(follow, queues).take(text)
    [(queue, message, _)] = queues.sent
    assert queue == f"{LIFECYCLE}-poison"
    assert json.loads(message)["message"] == text
    assert not followed


async def test_a_mailbox_that_is_out_of_reach_parks_nothing(caplog):
    queues = QueuesInMemory()
    await LifecycleTaker(answering(MailboxUnavailable("403"))[1], queues).take(build_lifecycle_message(REMOVED))
    assert queues.sent == []
    assert ANNA in caplog.text


@pytest.mark.parametrize(
    "error", [Transient("503", retry_after=400.0), Misconfigured("no token"), Unvalidated("400")], ids=repr
)
async def test_what_may_work_later_is_put_back_and_counted(error):
    queues, given = QueuesInMemory(), replace(REMOVED, attempt=1)
    await LifecycleTaker(answering(error)[1], queues).take(build_lifecycle_message(given))
    [(queue, message, hidden)] = queues.sent
    assert queue == LIFECYCLE
    assert parse_lifecycle_message(message) == replace(REMOVED, attempt=2)
    assert hidden >= (getattr(error, "retry_after", None) or 30)


async def test_what_never_works_is_parked_in_the_end():
    queues, given = QueuesInMemory(), replace(REMOVED, attempt=PARKS)
    await LifecycleTaker(answering(Transient("503"))[1], queues).take(build_lifecycle_message(given))
    assert [queue for queue, _, _ in queues.sent] == [f"{LIFECYCLE}-poison"]


@pytest.mark.parametrize("error", [Refused("400 ValidationError"), Malformed("an answer without id")], ids=repr)
async def test_what_is_refused_is_parked_with_its_reason(error):
    queues = QueuesInMemory()
    await LifecycleTaker(answering(error)[1], queues).take(build_lifecycle_message(REMOVED))
    [(queue, message, _)] = queues.sent
    assert queue == f"{LIFECYCLE}-poison"
    assert json.loads(message)["reason"] == str(error)


async def test_a_message_is_left_to_the_host_while_the_queue_refuses():
    queues = QueuesInMemory(refuses=True)
    for text, trouble in (("hello", None), (build_lifecycle_message(REMOVED), Transient("503"))):
        with pytest.raises(Transient):
            await LifecycleTaker(answering(trouble)[1], queues).take(text)


async def test_a_message_that_is_not_followed_in_time_is_put_back():
    queues, ended = QueuesInMemory(), []

    async def forever(notification: LifecycleNotification) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(notification)

    await LifecycleTaker(forever, queues, within=0.05).take(build_lifecycle_message(REMOVED))
    [(queue, message, hidden)] = queues.sent
    assert (queue, ended) == (LIFECYCLE, [REMOVED])
    assert parse_lifecycle_message(message) == replace(REMOVED, attempt=1)
    assert hidden >= 15
