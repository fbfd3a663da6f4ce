"""The roster's plan applied, and lifecycle notifications followed; each mailbox's trouble is its own."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from sandbox.clock import Clock
from sandbox.faults import Fault
from sandbox.graph_errors import MAILBOX_INFO_STALE, TOO_MANY_REQUESTS, error
from sandbox.mailboxes import Mailbox
from sandbox.people import Technician
from sync import subscribing
from sync.errors import (
    Duplicate,
    LifetimeRefused,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotFound,
    Refused,
    SyncError,
    Throttled,
    Transient,
    Unagreed,
    Unvalidated,
)
from sync.model import LifecycleNotification, Subscription
from sync.notifications import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.parking import PARKS
from sync.roster import CHANGE_TYPES, LIFETIME, Deployment, LastRun, mailbox_of, resource_of
from sync.subscribing import Keeper, process_lifecycle
from sync.sweep import Difference
from tests.app import HOUR, KEY, NEW_KEY, App, an_app, is_in_step
from tests.fakes import ANNA, BEN, NOW, MemoryInMemory, QueuesInMemory

QUEUE = "subscription-lifecycle"
HELD = "88888888-8888-4888-8888-888888888888"
MISSED = LifecycleNotification(ANNA, HELD, "missed")
REAUTHORIZE = LifecycleNotification(ANNA, HELD, "reauthorizationRequired")
REMOVED = LifecycleNotification(ANNA, HELD, "subscriptionRemoved")
US = Deployment.of("https://sync.example/api/notifications?code=functionkey", KEY, "https://d.example", "a_b")
CLEO, DAN, EVE, OTTO = (f"{letter * 8}-0000-4000-8000-000000000000" for letter in "cdef")


def sweeps(queues: QueuesInMemory) -> list[str]:
    """The mailboxes whose sweep was queued."""
    found = [parse_lifecycle_message(text) for text in queues.of(LIFECYCLE)]
    return [each.mailbox for each in found if each.event == "missed" and each.subscription_id is None]


@dataclass
class GraphInMemory:
    """What Graph holds; ``step`` is awaited before and after the effect of each call."""

    held: dict[str, Subscription] = field(default_factory=dict)
    trouble: dict[str, list[SyncError]] = field(default_factory=dict)
    """By mailbox, subscription id, or "" for the list: raised by the next calls, first to last."""
    by_spelling: bool = False
    longest: timedelta = timedelta(minutes=10_070)
    calls: list[tuple[str, str]] = field(default_factory=list)
    step: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
    made: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def put(self, mailbox: str, ahead: timedelta = LIFETIME, **fields: object) -> Subscription:
        self.made += 1
        made = Subscription(
            f"{HELD[:-3]}{self.made:03}", resource_of(mailbox), CHANGE_TYPES, US.url, US.url, NOW + ahead
        )
        made = replace(made, **fields)  # type: ignore[arg-type]
        self.held[made.id] = made
        return made

    async def list(self) -> Sequence[Subscription]:
        await self._call("list", "")
        return list(self.held.values())

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        await self._call("create", mailbox)
        resource = resource_of(mailbox, beside)
        if expires > NOW + self.longest:
            raise LifetimeRefused("400", self.longest // timedelta(minutes=1))
        for other in self.held.values():
            alike = other.resource == resource if self.by_spelling else mailbox_of(other) == mailbox
            if alike and other.change_types == CHANGE_TYPES:
                raise Duplicate("409")
        self.put(mailbox, expires - NOW, resource=resource)
        await self.step()

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        await self._call("renew", subscription_id)
        if subscription_id not in self.held:
            raise NotFound("404")
        if expires > NOW + self.longest:
            raise LifetimeRefused("400", self.longest // timedelta(minutes=1))
        self.held[subscription_id] = replace(self.held[subscription_id], expires=expires)
        await self.step()

    async def delete(self, subscription_id: str) -> None:
        await self._call("delete", subscription_id)
        self.held.pop(subscription_id, None)
        await self.step()

    async def _call(self, verb: str, subject: str) -> None:
        self.calls.append((verb, subject))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.step()
            if troubles := self.trouble.get(subject):
                raise troubles.pop(0)
        finally:
            self.at_once -= 1

    def of(self, mailbox: str) -> list[Subscription]:
        return [held for held in self.held.values() if mailbox_of(held) == mailbox]

    def mailboxes(self) -> list[str]:
        return sorted(mailbox_of(held) or "" for held in self.held.values())

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] != "list"]


@dataclass
class Desk:
    """A keeper, and all that it needs, in memory."""

    graph: GraphInMemory = field(default_factory=GraphInMemory)
    memory: MemoryInMemory = field(default_factory=MemoryInMemory)
    queues: QueuesInMemory = field(default_factory=QueuesInMemory)
    wanted: list[str] = field(default_factory=list)
    now: datetime = NOW
    asked: int = 0
    swept: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def keeper(self, *wanted: str) -> Keeper:
        """In a new process."""
        self.wanted = list(wanted)

        async def mailboxes() -> Sequence[str]:
            self.asked += 1
            await asyncio.sleep(0)
            return list(self.wanted)

        async def sweep(mailbox: str) -> Sequence[Difference]:
            self.swept.append(mailbox)
            return []

        async def sweep_all() -> int:
            self.swept.append("all")
            return len(self.wanted)

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            assert len(self.slept) < 10_000, "whoever waits for the clock of the event loop has to sleep by it"
            await asyncio.sleep(0)

        return Keeper(
            mailboxes, self.graph, US, self.memory, self.queues, lambda: self.now, sweep, sweep_all, sleep=sleep
        )


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("sync.pacing.WRITES_PER_SECOND", 10_000)
    return Desk()


# The timer: what is planned is done.


@pytest.mark.parametrize(
    "listed_as", [{"lifecycle_url": None}, {"notification_url": "https://booking-sync.example/***"}]
)
async def test_a_list_that_does_not_show_what_was_made_replaces_everything_once_and_not_for_ever(desk, listed_as):
    class Masked(GraphInMemory):
        async def list(self) -> Sequence[Subscription]:
            return [replace(each, **masked) for each in await super().list()]

    masked = {name: US.url.partition("?")[0] if value else None for name, value in listed_as.items()}
    desk.graph = Masked(by_spelling=True, longest=timedelta(days=30))
    people = [f"{number:08}-0000-4000-8000-000000000000" for number in range(6)]
    for _ in range(4):
        await desk.keeper(*people).keep()
    assert desk.graph.mailboxes() == people
    assert desk.graph.made == 2 * len(people), "created, and replaced once"
    desk.now += LIFETIME * 0.7
    report = await desk.keeper(*people).keep()
    assert (report.renewed, report.replaced) == (len(people), 0)


async def test_missing_subscriptions_are_created_for_the_whole_lifetime_and_their_mailboxes_swept(desk):
    report = await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.mailboxes() == [ANNA, BEN]
    assert {held.expires for held in desk.graph.held.values()} == {NOW + LIFETIME}
    assert sorted(sweeps(desk.queues)) == [ANNA, BEN]
    assert all(hidden >= subscribing.SWEEP_AFTER for _, _, hidden in desk.queues.sent)
    assert (report.wanted, report.created, report.failed) == (2, 2, {})


async def test_a_subscription_past_half_of_its_life_is_renewed_and_stays_the_same_one(desk):
    old = desk.graph.put(ANNA, HOUR)
    report = await desk.keeper(ANNA).keep()
    assert desk.graph.held == {old.id: replace(old, expires=NOW + LIFETIME)}
    assert report.renewed == 1
    assert desk.queues.sent == [], "nothing was missed, so nothing is swept"


async def test_a_second_time_nothing_is_left_to_do(desk):
    await desk.keeper(ANNA, BEN).keep()
    desk.graph.calls.clear()
    report = await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.calls == [("list", "")]
    assert (report.wanted, report.created) == (2, 0)


async def test_a_subscription_that_vanished_since_it_was_listed_is_created_and_its_mailbox_swept(desk):
    old = desk.graph.put(ANNA, HOUR)
    listed = [old]

    async def outdated() -> Sequence[Subscription]:
        return listed

    desk.graph.held.clear()
    desk.graph.list = outdated
    await desk.keeper(ANNA).keep()
    assert desk.graph.calls == [("renew", old.id), ("create", ANNA)]
    assert sweeps(desk.queues) == [ANNA]


async def test_what_is_most_urgent_is_done_first(desk):
    desk.graph.put(BEN, HOUR)
    desk.graph.put(CLEO, LIFETIME / 3)
    desk.graph.put(DAN, lifecycle_url=None)
    left = desk.graph.put(EVE)
    await desk.keeper(ANNA, BEN, CLEO, DAN).keep()
    first = {subject: place for place, (_, subject) in reversed(list(enumerate(desk.graph.writes)))}
    assert (
        first[desk.graph.of(BEN)[0].id] < first[ANNA] < first[desk.graph.of(CLEO)[0].id] < first[DAN] < first[left.id]
    )


async def test_whether_graph_takes_a_second_subscription_is_found_out_once(desk, monkeypatch):
    monkeypatch.setattr(subscribing, "CONCURRENCY", 1)
    for mailbox in (ANNA, BEN, CLEO):
        desk.graph.put(mailbox, lifecycle_url=None)
    report = await desk.keeper(ANNA, BEN, CLEO).keep()
    assert report.replaced == 3
    verbs = [verb for verb, _ in desk.graph.writes]
    assert verbs == ["create", *["delete", "create"] * 3]
    assert sorted(sweeps(desk.queues)) == sorted([ANNA, BEN, CLEO]), "each has had a gap"


async def test_nothing_is_created_while_the_subscriptions_cannot_be_listed(desk):
    desk.graph.trouble[""] = [Transient("503")] * 99
    with pytest.raises(Transient):
        await desk.keeper(ANNA).keep()
    assert desk.graph.writes == []
    assert desk.memory.last is None


async def test_nothing_is_changed_while_the_mailboxes_cannot_be_listed(desk):
    desk.graph.put(BEN)
    keeper = desk.keeper(ANNA)

    async def refuse() -> Sequence[str]:
        raise Transient("503")

    keeper.wanted = refuse
    with pytest.raises(Transient):
        await keeper.keep()
    assert desk.graph.writes == []


async def test_handshakes_come_a_few_at_a_time(desk):
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(40)]
    await desk.keeper(*mailboxes).keep()
    assert len(desk.graph.held) == 40
    assert 1 < desk.graph.most_at_once <= 16


async def test_many_new_mailboxes_are_not_swept_all_at_once(desk):
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(40)]
    await desk.keeper(*mailboxes).keep()
    hidden = [seconds for _, _, seconds in desk.queues.sent]
    assert max(hidden) - min(hidden) >= 4


async def test_the_log_tells_how_many_of_each_and_no_secret(desk, caplog):
    caplog.set_level(logging.INFO)
    desk.graph.trouble[BEN] = [Refused("400")] * 99
    await desk.keeper(ANNA, BEN).keep()
    assert "roster wanted=2 created=1 adopted=0 replaced=0 renewed=0 deleted=0 waiting=0 failed=1 left=0" in caplog.text
    assert "functionkey" not in caplog.text
    assert KEY not in caplog.text


async def test_progress_is_told_step_by_step(desk):
    keeper, told = desk.keeper(ANNA, BEN), []
    keeper.progress = lambda done, of: told.append((done, of))
    await keeper.keep()
    assert told == [(1, 2), (2, 2)]


# Trouble.

SHOWN = [MailboxUnavailable("403"), Transient("503"), Refused("400 X"), Unvalidated("400 ValidationError")]


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_one_mailboxs_trouble_does_not_keep_the_others_from_their_subscription(desk, trouble, caplog):
    desk.graph.trouble[ANNA] = [trouble] * 99
    report = await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.mailboxes() == [BEN]
    assert report.failed == {ANNA: str(trouble)}
    assert desk.memory.known[ANNA].reason == str(trouble), "whatever it is, it is shown"
    assert any(record.levelno == logging.ERROR and ANNA in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_one_renewal_that_fails_does_not_keep_the_others_from_theirs(desk, trouble):
    annas, bens = desk.graph.put(ANNA, HOUR), desk.graph.put(BEN, HOUR)
    desk.graph.trouble[annas.id] = [trouble] * 99
    await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.held[annas.id] == annas
    assert desk.graph.held[bens.id].expires == NOW + LIFETIME
    assert desk.memory.known[ANNA].reason == str(trouble)


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_who_refuses_is_tried_rarely_and_everything_else_by_the_next_run(desk, trouble):
    desk.graph.trouble[ANNA] = [trouble] * 99
    await desk.keeper(ANNA).keep()
    desk.graph.trouble.clear()
    desk.now += timedelta(minutes=30)
    await desk.keeper(ANNA).keep()
    rarely = type(trouble) in (MailboxUnavailable, Refused)
    assert desk.graph.mailboxes() == ([] if rarely else [ANNA])
    desk.now += timedelta(minutes=30)
    await desk.keeper(ANNA).keep()
    assert desk.graph.mailboxes() == [ANNA]
    assert desk.memory.known == {}, "what went well is not shown as trouble"


async def test_a_missing_token_is_the_trouble_of_all_and_nobodys_in_particular(desk):
    desk.graph.trouble = {mailbox: [Misconfigured("no token")] * 99 for mailbox in (ANNA, BEN)}
    with pytest.raises(Misconfigured):
        await desk.keeper(ANNA, BEN).keep()
    await asyncio.sleep(0)
    assert desk.memory.known == {}
    assert desk.memory.last is None


async def test_trouble_is_forgotten_of_those_who_left_and_of_those_who_are_well_by_other_means(desk):
    for mailbox in (ANNA, BEN):
        await desk.memory.remember(mailbox, "403", NOW - HOUR * 9, True)
    desk.graph.put(ANNA)
    await desk.keeper(ANNA).keep()
    assert desk.memory.known == {}


async def test_an_app_that_graph_cannot_reach_gives_up_early_and_remembers_no_refusal(desk):
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(200)]
    desk.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes}
    report = await desk.keeper(*mailboxes).keep()
    assert len(desk.graph.writes) < 40
    assert report.left + len(report.failed) == 200
    desk.graph.trouble.clear()
    await desk.keeper(*mailboxes).keep()
    assert len(desk.graph.held) == 200


async def test_a_handshake_that_fails_now_and_then_does_not_end_the_run(desk):
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(200)]
    desk.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes[::3]}
    report = await desk.keeper(*mailboxes).keep()
    assert (report.left, len(report.failed), report.created) == (0, 67, 133)


async def test_a_subscription_that_another_run_made_meanwhile_is_adopted(desk):
    keeper, create = desk.keeper(ANNA), desk.graph.create

    async def too_late(mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        desk.graph.put(mailbox)
        await create(mailbox, expires, beside)

    desk.graph.create = too_late
    report = await keeper.keep()
    assert (report.created, report.adopted, report.failed) == (0, 1, {})
    assert len(desk.graph.held) == 1
    assert desk.memory.known == {}


async def test_a_duplicate_that_is_not_in_the_list_is_shown(desk):
    """Nobody could know otherwise that the mailbox may be silent."""
    desk.graph.trouble[ANNA] = [Duplicate("409")] * 99
    report = await desk.keeper(ANNA).keep()
    assert "does not list" in report.failed[ANNA]
    assert "does not list" in desk.memory.known[ANNA].reason


async def test_a_mailbox_that_another_deployment_holds_is_shown(desk):
    foreign = Deployment.of("https://other.example/hook", KEY, "https://other.example", "a_b").url
    desk.graph.put(ANNA, notification_url=foreign)
    report = await desk.keeper(ANNA).keep()
    assert "another deployment" in report.failed[ANNA]
    assert "another deployment" in desk.memory.known[ANNA].reason
    assert [held.notification_url for held in desk.graph.held.values()] == [foreign]


# The lifetime.


async def test_a_lifetime_that_is_refused_is_asked_for_once_and_the_allowed_one_remembered(desk):
    desk.graph.longest = timedelta(minutes=4_230)
    await desk.keeper(ANNA).keep()
    assert [held.expires for held in desk.graph.held.values()] == [NOW + timedelta(minutes=4_225)]
    assert desk.memory.last == LastRun(NOW, timedelta(minutes=4_225))
    desk.graph.calls.clear()
    await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.writes == [("create", BEN)]


async def test_refusals_that_come_side_by_side_are_all_answered(desk):
    desk.graph.longest = timedelta(minutes=4_230)
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(50)]
    report = await desk.keeper(*mailboxes).keep()
    assert (report.created, report.failed) == (50, {})
    assert len(desk.graph.writes) <= 50 + 16


async def test_a_lifetime_shorter_than_the_time_between_two_runs_is_no_lifetime(desk):
    desk.graph.longest = timedelta(minutes=45)
    report = await desk.keeper(ANNA).keep()
    assert list(report.failed) == [ANNA]
    assert desk.memory.last == LastRun(NOW, LIFETIME)


# Leavers.


async def test_a_leaver_loses_the_subscription(desk):
    desk.graph.put(ANNA)
    desk.graph.put(BEN)
    report = await desk.keeper(BEN).keep()
    assert desk.graph.mailboxes() == [BEN]
    assert report.deleted == 1


async def test_too_many_leavers_change_nothing_at_all_until_a_person_agrees(desk):
    crowd = [f"{number:08}-0000-4000-8000-000000000000" for number in range(10)]
    for place, mailbox in enumerate(crowd):
        desk.graph.put(mailbox, HOUR, lifecycle_url=None if place % 2 else US.url)
    await desk.memory.remember(crowd[9], "403", NOW, True)
    await desk.memory.ran(LastRun(NOW - HOUR * 9, LIFETIME))
    before, remembered = dict(desk.graph.held), dict(desk.memory.known)
    for _ in range(3):
        with pytest.raises(Unagreed, match="5 of 10"):
            await desk.keeper(*crowd[:5], ANNA).keep()
    assert desk.graph.held == before
    assert desk.graph.writes == []
    assert desk.memory.known == remembered
    assert desk.memory.last == LastRun(NOW - HOUR * 9, LIFETIME)
    assert desk.queues.sent == desk.swept == []
    report = await desk.keeper(*crowd[:5], ANNA).keep(leavers_agreed=True)
    assert desk.graph.mailboxes() == sorted([*crowd[:5], ANNA])
    assert report.was_away


# An outage of the app.


@pytest.mark.parametrize(("hours", "away"), [(1, False), (3, False), (4, True), (200, True)])
async def test_after_an_outage_all_mailboxes_are_swept(desk, hours, away):
    await desk.memory.ran(LastRun(NOW - HOUR * hours, LIFETIME))
    report = await desk.keeper(ANNA).keep()
    assert report.was_away is away
    assert desk.swept == (["all"] if away else [])
    assert desk.memory.last == LastRun(NOW, LIFETIME)


async def test_an_outage_is_not_over_before_the_sweeps_are_queued(desk):
    await desk.memory.ran(LastRun(NOW - HOUR * 9, LIFETIME))
    keeper = desk.keeper(ANNA)

    async def refuse() -> int:
        raise Transient("the queue refuses")

    keeper.sweep_all = refuse
    with pytest.raises(Transient):
        await keeper.keep()
    await desk.keeper(ANNA).keep()
    assert desk.swept == ["all"]


async def test_the_first_run_of_all_was_not_away(desk):
    assert not (await desk.keeper(ANNA).keep()).was_away


# Time.


async def test_the_budget_stops_a_run_and_the_next_one_goes_on(desk, monkeypatch):
    monkeypatch.setattr(subscribing, "BUDGET", 0.05)
    monkeypatch.setattr(subscribing, "CONCURRENCY", 1)
    desk.graph.step = lambda: asyncio.sleep(0.01)
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(20)]
    created, runs = 0, 0
    while created < 20:
        report = await desk.keeper(*mailboxes).keep()
        assert report.created + report.left + created == 20
        assert report.failed == {}
        created += report.created
        runs += 1
    assert 5 < runs < 30
    assert len(desk.graph.held) == 20
    assert desk.memory.known == {}


@pytest.mark.parametrize("retry_after", [0.0, 0.3, None])
async def test_a_throttled_write_makes_the_whole_run_wait(desk, monkeypatch, retry_after):
    """Whatever Graph asks for; and no write counts as failed for it, however often it comes."""
    monkeypatch.setattr("sync.pacing._patience", lambda failures: 0.3)
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(20)]
    throttled = [Throttled("429", retry_after)] * 6
    sent: list[float] = []
    create = desk.graph.create

    async def often_refused(mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        sent.append(time.monotonic())
        if throttled:
            raise throttled.pop()
        await create(mailbox, expires, beside)

    desk.graph.create = often_refused
    keeper = desk.keeper(*mailboxes)
    keeper._pace._sleep = asyncio.sleep
    report = await keeper.keep()
    assert report.created == 20
    assert len(sent) == 26
    assert sent[-1] - sent[0] >= 0.2
    if retry_after != 0:
        gaps = [later - earlier for earlier, later in pairwise(sent)]
        assert max(gaps) >= 0.25, "there was a time in which nobody wrote"


async def test_a_pause_beyond_the_runs_time_ends_the_run_and_nothing_counts_as_failed(desk):
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(50)]
    desk.graph.trouble = {mailbox: [Throttled("429", 3_600.0)] * 99 for mailbox in mailboxes}
    report = await desk.keeper(*mailboxes).keep()
    assert report.left == 50
    assert len(desk.graph.writes) <= 16
    assert desk.memory.known == {}
    assert desk.memory.last is not None
    assert max(desk.slept, default=0) < subscribing.BUDGET


async def test_a_creation_that_had_to_wait_is_swept_after_it(desk, monkeypatch):
    """Or what happened between the sweep that was queued before the wait and the creation would be lost."""
    monkeypatch.setattr(subscribing, "SWEEP_AFTER", 0.2)
    times: list[tuple[str, float]] = []
    send, create = desk.queues.send, desk.graph.create

    async def sent(queue: str, messages: Sequence[str], hidden: float = 0) -> None:
        times.append(("seen", time.monotonic() + hidden))
        await send(queue, messages, hidden)

    async def created(mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        await create(mailbox, expires, beside)
        times.append(("created", time.monotonic()))

    desk.queues.send, desk.graph.create = sent, created
    desk.graph.trouble[ANNA] = [Throttled("429", 0.5)]
    keeper = desk.keeper(ANNA)
    keeper._pace._sleep = asyncio.sleep
    await keeper.keep()
    assert len(desk.graph.held) == 1
    assert max(at for what, at in times if what == "seen") > next(at for what, at in times if what == "created")


# Runs at the same time, and runs that are killed.


def a_mess(desk: Desk) -> list[str]:
    """One mailbox for each thing that a plan may ask for; returns who is wanted."""
    graph = desk.graph
    graph.put(BEN, HOUR)  # to be renewed
    graph.put(CLEO, notification_url=US.url.replace("functionkey", "old"))  # to be replaced
    graph.put(CLEO, HOUR, change_types=frozenset({"created"}), lifecycle_url=None)
    graph.put(DAN)
    graph.put(DAN, HOUR, change_types=frozenset({"created"}))  # beside a better one
    graph.put(EVE)  # not wanted any more
    graph.put(OTTO)
    graph.put(OTTO, notification_url="https://other.example/hook")  # not ours
    return [ANNA, BEN, CLEO, DAN, OTTO]


def assert_kept(desk: Desk) -> None:
    """One right subscription for each wanted mailbox, none for others, and others' untouched."""
    ours = [held for held in desk.graph.held.values() if US.owns(held)]
    assert sorted(mailbox_of(held) or "" for held in ours) == sorted(desk.wanted)
    assert all(US.is_right(held) for held in ours)
    assert sum(held.notification_url == "https://other.example/hook" for held in desk.graph.held.values()) == 1


class Killer:
    """Kills a run at its *number*-th step, in which it never goes on; ``steps`` counts."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.steps = 0
        self.victim: asyncio.Task[object] | None = None

    async def step(self) -> None:
        self.steps += 1
        if self.steps == self.number and self.victim is not None:
            self.victim.cancel()
        if self.steps >= self.number:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    async def kills(self, desk: Desk, *wanted: str) -> bool:
        """Whether the run came to this step at all."""
        self.put_between(desk)
        self.victim = asyncio.create_task(desk.keeper(*wanted).keep())
        try:
            await self.victim
        except asyncio.CancelledError:
            return True
        return False

    def put_between(self, desk: Desk) -> None:
        desk.graph.step = self.step
        for part, name in ((desk.queues, "send"), (desk.memory, "remember"), (desk.memory, "ran")):
            setattr(part, name, self._stepping(getattr(part, name)))

    def _stepping(self, call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def stepping(*args: object, **more: object) -> None:
            await self.step()
            await call(*args, **more)
            await self.step()

        return stepping


@pytest.mark.parametrize("by_spelling", [False, True])
@pytest.mark.parametrize("at_once", [1, 16])
async def test_a_run_killed_at_any_point_leaves_nothing_that_the_next_run_does_not_mend(
    monkeypatch, by_spelling, at_once
):
    monkeypatch.setattr("sync.pacing.WRITES_PER_SECOND", 10_000)
    monkeypatch.setattr(subscribing, "CONCURRENCY", at_once)
    number, killed = 0, True
    while killed:
        number += 1
        desk = Desk(GraphInMemory(by_spelling=by_spelling))
        wanted, killer = a_mess(desk), Killer(number)
        before = set(desk.graph.held)
        killed = await killer.kills(desk, *wanted)
        desk.graph.step = lambda: asyncio.sleep(0)
        desk.queues.send = QueuesInMemory.send.__get__(desk.queues)
        desk.memory = MemoryInMemory(desk.memory.known, desk.memory.last)
        assert not by_spelling or all(desk.graph.of(mailbox) for mailbox in (BEN, CLEO, DAN, OTTO)), number
        await desk.keeper(*wanted).keep()
        assert_kept(desk)
        new = {mailbox_of(held) for held in desk.graph.held.values() if held.id not in before}
        assert new - {CLEO} <= set(sweeps(desk.queues))
        assert by_spelling or CLEO in sweeps(desk.queues), "replaced with a gap, so it is swept"
    assert number > 15


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_two_runs_at_the_same_time_leave_nothing_that_the_next_run_does_not_mend(monkeypatch, by_spelling):
    monkeypatch.setattr("sync.pacing.WRITES_PER_SECOND", 10_000)
    for lead in range(25):
        desk = Desk(GraphInMemory(by_spelling=by_spelling))
        wanted = a_mess(desk)

        async def later(keeper: Keeper, steps: int = lead) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            await keeper.keep()

        await asyncio.gather(later(desk.keeper(*wanted), 0), later(desk.keeper(*wanted)))
        ours = {mailbox_of(held) for held in desk.graph.held.values() if US.owns(held)}
        assert ours >= set(wanted), "nobody is left without a subscription in between"
        await desk.keeper(*wanted).keep()
        assert_kept(desk)
        assert desk.memory.known == {}


# Lifecycle notifications.


async def test_a_reauthorization_renews_the_subscription(desk):
    old = desk.graph.put(ANNA, HOUR)
    await desk.keeper(ANNA).follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert desk.graph.held == {old.id: replace(old, expires=NOW + LIFETIME)}
    assert desk.asked == 0, "that takes no look at Dataverse"


async def test_a_reauthorization_every_few_minutes_costs_one_renewal_in_ten_minutes(desk):
    old, keeper = desk.graph.put(ANNA, HOUR), desk.keeper(ANNA)
    for _ in range(20):
        await asyncio.gather(*(keeper.follow(replace(REAUTHORIZE, subscription_id=old.id)) for _ in range(3)))
        desk.now += timedelta(minutes=3)
    assert desk.graph.writes == [("renew", old.id)] * 5


async def test_a_renewal_that_failed_is_none(desk):
    old, keeper = desk.graph.put(ANNA, HOUR), desk.keeper(ANNA)
    desk.graph.trouble[old.id] = [Refused("403")]
    with pytest.raises(Refused):
        await keeper.follow(replace(REAUTHORIZE, subscription_id=old.id))
    await keeper.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert desk.graph.held[old.id].expires == NOW + LIFETIME


async def test_a_reauthorization_right_after_the_timers_renewal_costs_nothing(desk):
    old, keeper = desk.graph.put(ANNA, HOUR), desk.keeper(ANNA)
    await keeper.keep()
    await keeper.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert desk.graph.writes == [("renew", old.id)]


async def test_renewals_of_long_ago_are_not_kept_in_mind_for_ever(desk):
    keeper = desk.keeper(ANNA)
    for _ in range(5):
        old = desk.graph.put(ANNA, HOUR)
        await keeper.follow(replace(REAUTHORIZE, subscription_id=old.id))
        desk.now += timedelta(minutes=11)
    assert len(keeper._renewed) == 1


@pytest.mark.parametrize("event", [REAUTHORIZE, REMOVED])
async def test_a_subscription_that_is_gone_is_created_anew_once_and_its_mailbox_swept(desk, event):
    for _ in range(3):
        await desk.keeper(ANNA).follow(event)
    assert desk.graph.mailboxes() == [ANNA]
    assert ANNA in sweeps(desk.queues)
    assert desk.memory.known == {}


async def test_many_repeats_side_by_side_create_one(desk):
    keeper = desk.keeper(ANNA)
    await asyncio.gather(*(keeper.follow(REMOVED) for _ in range(8)))
    assert desk.graph.mailboxes() == [ANNA]


async def test_missed_notifications_are_swept_for(desk):
    await desk.keeper(ANNA).follow(MISSED)
    await desk.keeper(ANNA).follow(LifecycleNotification(ANNA, None, "missed"))
    assert desk.swept == [ANNA, ANNA]
    assert desk.graph.calls == []


@pytest.mark.parametrize("event", [REAUTHORIZE, REMOVED, MISSED])
async def test_a_leaver_is_neither_subscribed_nor_swept(desk, event):
    await desk.keeper(BEN).follow(event)
    assert desk.graph.mailboxes() == []
    assert desk.swept == desk.queues.sent == []


async def test_who_just_joined_is_swept_although_the_list_of_the_wanted_is_kept_in_mind(desk):
    keeper = desk.keeper(BEN)
    await keeper.follow(replace(MISSED, mailbox=BEN))
    desk.wanted.append(ANNA)
    desk.now += timedelta(seconds=subscribing.SWEEP_AFTER)
    await keeper.follow(MISSED)
    assert desk.swept == [BEN, ANNA]


async def test_a_storm_of_notifications_does_not_ask_dataverse_each_time(desk):
    keeper = desk.keeper(ANNA)
    for _ in range(50):
        await keeper.follow(MISSED)
        desk.now += timedelta(seconds=5)
    assert desk.asked == 1


async def test_an_event_that_is_new_next_year_is_logged_and_nothing_else(desk, caplog):
    await desk.keeper(ANNA).follow(replace(MISSED, event="oneThatIsNewNextYear"))
    assert desk.graph.calls == []
    assert f"lifecycle event=oneThatIsNewNextYear mailbox={ANNA}" in caplog.text


async def test_what_goes_wrong_with_a_lifecycle_notification_is_shown(desk):
    desk.graph.trouble[ANNA] = [MailboxUnavailable("404 ExtensionError")]
    with pytest.raises(MailboxUnavailable):
        await desk.keeper(ANNA).follow(REMOVED)
    assert desk.memory.known[ANNA].reason == "404 ExtensionError"


async def test_a_lifecycle_notification_does_not_sleep_through_a_long_throttle(desk):
    """It is put back on the queue, hidden for as long."""
    old, keeper = desk.graph.put(ANNA, HOUR), desk.keeper(ANNA)
    desk.graph.trouble[old.id] = [Throttled("429", 300.0)]
    with pytest.raises(Transient) as raised:
        await keeper.follow(replace(REAUTHORIZE, subscription_id=old.id))
    assert 290 < (raised.value.retry_after or 0) <= 300
    assert desk.slept == []


# Against the simulated Graph, over HTTP.


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
    assert app.writes().count("POST 409") == (0 if by_spelling else 3)


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscribing, "CONCURRENCY", 1)
        report = await app.keeper.keep()
    assert (report.replaced, len(report.failed)) == (2, 1)
    await everybody_moves_and_is_followed()
    report = await app.keeper.keep()
    assert (report.replaced, report.failed) == (1, {})
    await everybody_moves_and_is_followed()
    app.install(NEW_KEY)
    await everybody_moves_and_is_followed()
    assert "dropped" not in caplog.text
    assert app.keeper.deployment.url in {subscription.notification_url for subscription in app.sandbox.subscriptions}


async def test_subscriptions_made_before_there_were_marks_move_over(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    [held] = app.held(ana)
    held.notification_url = held.lifecycle_notification_url = f"{app.webhook}?code=functionkey"
    report = await app.keeper.keep()
    assert report.replaced == 1
    assert len(app.held(ana)) == len(list(app.sandbox.subscriptions)) == 1


async def test_what_the_service_allows_is_asked_for_from_then_on(app):
    app.sandbox.graph_switches.longest_subscription = timedelta(minutes=4_230)
    crew = hire(app, "Ana", "Ben")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscribing, "CONCURRENCY", 1)
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
        pytest.param(refuse("on_premises"), "404 ExtensionError", id="an on-premises mailbox"),
        pytest.param(refuse("not_enabled"), "404 ExtensionError", id="a mailbox without licence"),
        pytest.param(refuse("invalid_user"), "404 ExtensionError", id="a user whom Exchange does not know"),
        pytest.param(refuse("denied"), "403 ExtensionError", id="a mailbox that a policy denies"),
        pytest.param(no_room, "403 ExtensionError", id="a mailbox with 1,000 subscriptions"),
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


async def test_a_disabled_user_is_not_wanted(app):
    ana, _ = hire(app, "Ana", "Ben")
    app.sandbox.tables.update(ana.user, {"isdisabled": True})
    await app.keeper.keep()
    assert app.held(ana) == []
    assert len(list(app.sandbox.subscriptions)) == 1


async def test_a_429_makes_everybody_wait_as_long_as_it_says(app):
    crew = hire(app, *(f"Person {number}" for number in range(12)))
    moments: list[tuple[float, int | None]] = []
    app.sandbox.calls.listeners.append(
        lambda call: moments.append((time.monotonic(), call.status)) if call.method == "POST" else None
    )
    app.sandbox.faults.order(TOO_MANY_REQUESTS.retry_after("0.8").fault(method="POST", skip=3, times=2))
    report = await app.keeper.keep()
    assert report.created == 12
    last_refusal = max(at for at, status in moments if status == 429)
    after = [at - last_refusal for at, status in moments if at > last_refusal]
    assert min(at for at in after if at > 0.4) >= 0.7
    assert len([at for at in after if at < 0.7]) < 12, "only what was on its way already"
    assert all(len(app.held(technician)) == 1 for technician in crew)


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
async def test_graphs_own_limit_of_writes_is_kept(monkeypatch):
    """1,000 in 20 seconds; with three thousand mailboxes that would be hit."""
    async with an_app(clock=Clock()) as app:
        app.sandbox.graph_switches.limit_subscription_writes = True
        hire(app, *(f"Person {number}" for number in range(3_000)))
        report = await app.keeper.keep()
        assert report.created == 3_000
        assert app.writes() == ["POST 201"] * 3_000


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
    await process_lifecycle(build_lifecycle_message(REMOVED), follow, queues)
    assert followed == [REMOVED]
    assert queues.sent == []


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", '{"mailbox": "anna"}'])
async def test_a_malformed_message_is_parked_at_once(text):
    queues, (followed, follow) = QueuesInMemory(), answering()
    await process_lifecycle(text, follow, queues)
    [(queue, message, _)] = queues.sent
    assert queue == f"{QUEUE}-poison"
    assert json.loads(message)["message"] == text
    assert not followed


async def test_a_mailbox_that_is_out_of_reach_parks_nothing(caplog):
    queues = QueuesInMemory()
    await process_lifecycle(build_lifecycle_message(REMOVED), answering(MailboxUnavailable("403"))[1], queues)
    assert queues.sent == []
    assert ANNA in caplog.text


@pytest.mark.parametrize(
    "error", [Transient("503", retry_after=400.0), Misconfigured("no token"), Unvalidated("400")], ids=repr
)
async def test_what_may_work_later_is_put_back_and_counted(error):
    queues, given = QueuesInMemory(), replace(REMOVED, attempt=1)
    await process_lifecycle(build_lifecycle_message(given), answering(error)[1], queues)
    [(queue, message, hidden)] = queues.sent
    assert queue == QUEUE
    assert parse_lifecycle_message(message) == replace(REMOVED, attempt=2)
    assert hidden >= (getattr(error, "retry_after", None) or 30)


async def test_what_never_works_is_parked_in_the_end():
    queues, given = QueuesInMemory(), replace(REMOVED, attempt=PARKS)
    await process_lifecycle(build_lifecycle_message(given), answering(Transient("503"))[1], queues)
    assert [queue for queue, _, _ in queues.sent] == [f"{QUEUE}-poison"]


@pytest.mark.parametrize("error", [Refused("400 ValidationError"), Malformed("an answer without id")], ids=repr)
async def test_what_is_refused_is_parked_with_its_reason(error):
    queues = QueuesInMemory()
    await process_lifecycle(build_lifecycle_message(REMOVED), answering(error)[1], queues)
    [(queue, message, _)] = queues.sent
    assert queue == f"{QUEUE}-poison"
    assert json.loads(message)["reason"] == str(error)


async def test_a_message_is_left_to_the_host_while_the_queue_refuses():
    queues = QueuesInMemory(refuses=True)
    for text, trouble in (("hello", None), (build_lifecycle_message(REMOVED), Transient("503"))):
        with pytest.raises(Transient):
            await process_lifecycle(text, answering(trouble)[1], queues)
