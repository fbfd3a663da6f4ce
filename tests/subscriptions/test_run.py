"""The roster's plan carried out, with everything in memory; each mailbox's trouble is its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from sync.errors import (
    Duplicate,
    Full,
    MailboxUnavailable,
    Misconfigured,
    Refused,
    SyncError,
    Throttled,
    Transient,
    Unvalidated,
)
from sync.model import Subscription
from sync.subscriptions import keeper as subscriptions_keeper
from sync.subscriptions import run as roster_run
from sync.subscriptions import writes as steps
from sync.subscriptions.deployment import LIFETIME, Deployment, mailbox_of, resource_of
from sync.subscriptions.keeper import Keeper
from tests.world.app import HOUR, KEY, NEW_KEY
from tests.world.desk import CLEO, DAN, EVE, HELD, OTTO, US, Desk, GraphInMemory, a_mess, assert_kept, people, sweeps
from tests.world.fakes import ANNA, BEN, NOW, MemoryInMemory, QueuesInMemory

# The timer: what is planned is done.


class Masked(GraphInMemory):
    """Lists subscriptions otherwise than they were made."""

    masked: dict[str, str | None]

    async def list(self) -> Sequence[Subscription]:
        return [replace(each, **self.masked) for each in await super().list()]  # type: ignore[arg-type]


LISTED_AS = pytest.mark.parametrize(
    "masked", [{"lifecycle_url": None}, {"notification_url": US.url.partition("?")[0]}], ids=str
)


def masked_desk(masked: dict[str, str | None]) -> Desk:
    graph = Masked(by_spelling=True, longest=timedelta(days=30))
    graph.masked = masked
    return Desk(graph)


@LISTED_AS
@pytest.mark.parametrize("known", [True, False])
async def test_a_list_that_does_not_show_what_was_made_replaces_nothing_for_ever(masked, known, caplog):
    """What was made before it was remembered, or when the table could not be written, is replaced once."""
    desk, crew = masked_desk(masked), people(6)
    await desk.keeper(*crew).keep()
    if not known:
        desk.memory.made_last = None
    for _ in range(4):
        planned = await desk.keeper(*crew).plan()
        report = await desk.keeper(*crew).keep()
        assert (len(planned.replace), len(planned.keep)) == (report.replaced, 6 - report.replaced)
    assert desk.graph.mailboxes() == crew
    assert desk.graph.made == len(crew) * (1 if known else 2)
    assert "listed otherwise than they were made count=6" in caplog.text
    desk.now += LIFETIME * 0.7
    report = await desk.keeper(*crew).keep()
    assert (report.renewed, report.replaced) == (len(crew), 0)


@LISTED_AS
async def test_other_settings_replace_also_what_is_listed_otherwise_than_it_was_made(masked):
    desk, crew = masked_desk(masked), people(6)
    await desk.keeper(*crew).keep()
    other = desk.keeper(*crew)
    other.deployment = Deployment.of(US.url.partition("&")[0], NEW_KEY, "https://d.example", "a_b")
    assert (await other.keep()).replaced == 6
    assert (await desk.keeper(*crew).keep()).replaced == 6
    assert (await desk.keeper(*crew).keep()).replaced == 0


@pytest.mark.parametrize("by_spelling", [True, False])
async def test_a_replacement_that_failed_is_tried_again_however_many_others_were_made(desk, by_spelling):
    desk.graph.by_spelling = by_spelling
    crew = all_wrong(desk, 30)
    desk.graph.trouble = {mailbox: [Transient("503", 30.0)] * 99 for mailbox in crew[10:20]}
    await desk.keeper(*crew).keep()
    desk.graph.trouble.clear()
    for _ in range(2):
        await desk.keeper(*crew).keep()
    assert desk.graph.mailboxes() == crew
    assert all(US.is_right(held) for held in desk.graph.held.values())


async def test_missing_subscriptions_are_created_for_the_whole_lifetime_and_their_mailboxes_swept(desk):
    report = await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.mailboxes() == [ANNA, BEN]
    assert {held.expires for held in desk.graph.held.values()} == {NOW + LIFETIME}
    assert sorted(sweeps(desk.queues)) == [ANNA, BEN]
    assert all(hidden >= steps.SWEEP_AFTER for _, _, hidden in desk.queues.sent)
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
    monkeypatch.setattr(roster_run, "CONCURRENCY", 1)
    for mailbox in (ANNA, BEN, CLEO):
        desk.graph.put(mailbox, lifecycle_url=None)
    report = await desk.keeper(ANNA, BEN, CLEO).keep()
    assert report.replaced == 3
    verbs = [verb for verb, _ in desk.graph.writes]
    assert verbs == ["create", *["delete", "create"] * 3]
    assert sorted(sweeps(desk.queues)) == sorted([ANNA, BEN, CLEO]), "each has had a gap"


@pytest.mark.parametrize("by_spelling", [True, False])
async def test_the_mailboxes_of_replaced_subscriptions_are_swept_over_time(desk, by_spelling):
    """What Graph could not deliver to the old one yet, it does not deliver to the new one."""
    desk.graph.by_spelling = by_spelling
    mailboxes = all_wrong(desk, 40)
    assert (await desk.keeper(*mailboxes).keep()).replaced == 40
    assert set(sweeps(desk.queues)) == set(mailboxes)
    hidden = [seconds for _, _, seconds in desk.queues.sent]
    assert min(hidden) >= steps.SWEEP_AFTER
    assert max(hidden) - min(hidden) >= 4


async def test_one_beside_a_better_one_is_deleted_after_its_mailboxs_sweep_is_queued(desk):
    desk.graph.put(ANNA)
    spare = desk.graph.put(ANNA, HOUR, lifecycle_url=None)
    desk.queues.refuses = True
    await desk.keeper(ANNA).keep()
    assert spare.id in desk.graph.held
    desk.queues.refuses = False
    await desk.keeper(ANNA).keep()
    assert spare.id not in desk.graph.held
    assert sweeps(desk.queues) == [ANNA]


async def test_handshakes_come_a_few_at_a_time(desk):
    mailboxes = people(40)
    await desk.keeper(*mailboxes).keep()
    assert len(desk.graph.held) == 40
    assert 1 < desk.graph.most_at_once <= 16


async def test_many_new_mailboxes_are_not_swept_all_at_once(desk):
    mailboxes = people(40)
    await desk.keeper(*mailboxes).keep()
    hidden = [seconds for _, _, seconds in desk.queues.sent]
    assert max(hidden) - min(hidden) >= 4


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
    mailboxes = people(200)
    desk.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes}
    report = await desk.keeper(*mailboxes).keep()
    assert len(desk.graph.writes) < 40
    assert report.left + len(report.failed) == 200
    desk.graph.trouble.clear()
    await desk.keeper(*mailboxes).keep()
    assert len(desk.graph.held) == 200


async def test_a_handshake_that_fails_now_and_then_does_not_end_the_run(desk):
    mailboxes = people(200)
    desk.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes[::3]}
    report = await desk.keeper(*mailboxes).keep()
    assert (report.left, len(report.failed), report.created) == (0, 67, 133)


async def test_a_subscription_that_another_run_made_meanwhile_is_adopted(desk):
    keeper, create = desk.keeper(ANNA), desk.graph.create

    async def too_late(mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        desk.graph.put(mailbox)
        return await create(mailbox, expires, beside)

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


async def test_one_that_has_expired_and_is_listed_still_does_not_count_as_the_duplicate(desk):
    desk.graph.put(ANNA, -HOUR)
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


async def test_who_cannot_be_validated_does_not_keep_the_others_from_it_for_more_than_one_run(desk):
    mailboxes = people(200)
    desk.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes[:50]}
    assert (await desk.keeper(*mailboxes).keep()).left > 100
    report = await desk.keeper(*mailboxes).keep()
    assert (report.created, report.left) == (150, 0)
    assert desk.memory.known.keys() == set(mailboxes[:50])


async def test_renewals_that_could_not_be_validated_come_after_those_that_may_be(desk):
    mailboxes = people(80)
    held = {mailbox: desk.graph.put(mailbox, HOUR) for mailbox in mailboxes}
    desk.graph.trouble = {held[mailbox].id: [Unvalidated("400")] * 99 for mailbox in mailboxes[:40]}
    await desk.keeper(*mailboxes).keep()
    report = await desk.keeper(*mailboxes).keep()
    assert all(desk.graph.held[held[mailbox].id].expires == NOW + LIFETIME for mailbox in mailboxes[40:])
    assert (len(report.failed), report.left) == (40, 0)


async def test_of_those_that_failed_the_ones_tried_longest_ago_come_first(desk):
    mailboxes = people(100)
    for place, mailbox in enumerate(mailboxes):
        await desk.memory.remember(mailbox, "400", NOW - HOUR * (1 if place < 50 else 2), False)
    desk.graph.trouble = {mailbox: [Unvalidated("400")] * 99 for mailbox in mailboxes[:50]}
    assert (await desk.keeper(*mailboxes).keep()).created == 50


async def test_a_run_in_which_others_were_validated_lately_goes_on(desk):
    mailboxes = people(200)
    desk.graph.trouble = {mailbox: [Unvalidated("400")] * 99 for mailbox in mailboxes[100:]}
    report = await desk.keeper(*mailboxes).keep()
    assert (report.created, len(report.failed), report.left) == (100, 100, 0)


async def test_an_app_that_goes_down_in_the_middle_of_a_run_ends_it(desk, monkeypatch):
    monkeypatch.setattr(roster_run, "VALIDATED_LATELY", 0.0)
    mailboxes = people(200)
    desk.graph.trouble = {mailbox: [Unvalidated("400")] * 99 for mailbox in mailboxes[100:]}
    report = await desk.keeper(*mailboxes).keep()
    assert report.created == 100
    assert report.left > 30


async def test_refusals_of_another_kind_in_between_do_not_make_the_app_reachable(desk):
    mailboxes = people(200)
    for place, mailbox in enumerate(mailboxes):
        desk.graph.trouble[mailbox] = [Refused("400") if place % 2 else Unvalidated("400")] * 99
    assert (await desk.keeper(*mailboxes).keep()).left > 100


# A replacement with a gap, where Graph takes the new one for a duplicate of the old one.


@dataclass
class Refusing(GraphInMemory):
    """Answers creations with these errors, but those beside an old one."""

    in_gap: list[SyncError] = field(default_factory=list)
    let_pass: int = 0
    """So many of them before."""

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        if beside is None and self.let_pass:
            self.let_pass -= 1
        elif beside is None and self.in_gap:
            self.calls.append(("create", mailbox))
            raise self.in_gap.pop(0)
        return await super().create(mailbox, expires, beside)


def all_wrong(desk: Desk, number: int) -> list[str]:
    """Subscribed, but each subscription has to be replaced."""
    for mailbox in people(number):
        desk.graph.put(mailbox, lifecycle_url=None)
    return people(number)


IN_GAP = [*SHOWN, Throttled("429", 3_600.0)]


@pytest.mark.parametrize("trouble", IN_GAP, ids=repr)
async def test_a_gap_that_stays_is_the_only_one_and_is_shown_counted_and_closed_first_of_all(desk, trouble):
    desk.graph = Refusing(in_gap=[trouble] * 99)
    mailboxes = all_wrong(desk, 30)
    report = await desk.keeper(*mailboxes).keep()
    [silent] = [mailbox for mailbox in mailboxes if not desk.graph.of(mailbox)]
    assert desk.memory.known.keys() == {silent}
    assert desk.memory.known[silent].reason
    assert (report.replaced, report.deleted, report.left + len(report.failed)) == (0, 1, 30)
    desk.graph.in_gap.clear()
    desk.graph.calls.clear()
    desk.graph.put(ANNA, 2 * HOUR)
    desk.now += HOUR
    report = await desk.keeper(ANNA, BEN, *mailboxes).keep()
    assert desk.graph.writes[0] == ("create", silent)
    assert (report.created, report.renewed, report.replaced) == (2, 1, 29)
    assert sorted(desk.graph.mailboxes()) == sorted([ANNA, BEN, *mailboxes])
    assert desk.memory.known == {}


@pytest.mark.parametrize("trouble", IN_GAP, ids=repr)
@pytest.mark.parametrize("well", [1, 2, 7])
async def test_once_a_gap_stays_no_other_one_is_made_however_many_were_closed(desk, trouble, well):
    """Some may be on their way then."""
    desk.graph = Refusing(in_gap=[trouble] * 999, let_pass=well)
    mailboxes = all_wrong(desk, 60)
    report = await desk.keeper(*mailboxes).keep()
    silent = {mailbox for mailbox in mailboxes if not desk.graph.of(mailbox)}
    assert 1 <= len(silent) <= roster_run.GAPS_AT_ONCE < roster_run.CONCURRENCY
    assert desk.memory.known.keys() == silent
    assert (report.replaced, report.deleted) == (well, len(silent))
    desk.graph.in_gap.clear()
    desk.graph.calls.clear()
    desk.now += HOUR
    await desk.keeper(*mailboxes).keep()
    assert {subject for _, subject in desk.graph.writes[: len(silent)]} == silent
    assert all(US.is_right(held) for held in desk.graph.held.values())
    assert desk.memory.known == {}


async def test_whoever_is_without_subscription_is_shown_at_each_moment(desk):
    mailboxes = all_wrong(desk, 30)
    gaps = 0

    async def look() -> None:
        nonlocal gaps
        await asyncio.sleep(0)
        silent = {mailbox for mailbox in mailboxes if not desk.graph.of(mailbox)}
        gaps += len(silent)
        assert silent <= desk.memory.known.keys()

    desk.graph.step = look
    report = await desk.keeper(*mailboxes).keep()
    assert gaps > 0
    assert (report.replaced, report.deleted, report.failed) == (30, 0, {})
    assert desk.memory.known == {}


async def test_one_mailbox_finds_out_for_all_that_the_old_one_has_to_go_first(desk):
    mailboxes = all_wrong(desk, 40)
    await desk.keeper(*mailboxes).keep()
    verbs = [verb for verb, _ in desk.graph.writes]
    assert (verbs.count("create"), verbs.count("delete")) == (41, 40)
    assert desk.graph.most_at_once > 1, "and then they are replaced side by side"


async def test_what_was_not_deleted_for_want_of_time_leaves_no_trouble(desk):
    [mailbox] = all_wrong(desk, 1)
    [old] = desk.graph.of(mailbox)
    desk.graph.trouble[old.id] = [Throttled("429", 3_600.0)] * 99
    report = await desk.keeper(mailbox).keep()
    assert desk.graph.of(mailbox) == [old]
    assert (report.deleted, report.left, desk.memory.known) == (0, 1, {})


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_a_replacement_that_another_run_made_meanwhile_is_adopted_without_a_gap(desk, by_spelling):
    desk.graph.by_spelling = by_spelling
    old = desk.graph.put(ANNA, lifecycle_url=None)
    listed, read = [[old]], desk.graph.list

    async def outdated() -> Sequence[Subscription]:
        return listed.pop() if listed else await read()

    new = desk.graph.put(ANNA, resource=resource_of(ANNA, beside=old))
    desk.graph.held = {new.id: new, old.id: old}
    desk.graph.list = outdated
    report = await desk.keeper(ANNA).keep()
    assert (report.adopted, report.failed) == (1, {})
    assert desk.graph.held == {new.id: new, old.id: old}
    await desk.keeper(ANNA).keep()
    assert desk.graph.held == {new.id: new}


async def test_in_a_full_mailbox_nothing_makes_room_where_another_deployment_may_take_it(desk):
    old = desk.graph.put(ANNA, lifecycle_url=None)
    foreign = Deployment.of("https://other.example/hook", KEY, "https://other.example", "a_b").url
    other = desk.graph.put(ANNA, notification_url=foreign)
    desk.graph.trouble[ANNA] = [Full("403")]
    assert (await desk.keeper(ANNA).keep()).failed == {ANNA: "403"}
    assert desk.graph.of(ANNA) == [old, other]


async def test_a_replacement_that_is_taken_for_something_that_is_not_listed_is_shown(desk):
    old = desk.graph.put(ANNA, lifecycle_url=None)
    desk.graph.trouble[ANNA] = [Duplicate("409", HELD)] * 99
    report = await desk.keeper(ANNA).keep()
    assert "does not list" in report.failed[ANNA]
    assert "does not list" in desk.memory.known[ANNA].reason
    assert desk.graph.of(ANNA) == [old]


async def test_the_trouble_of_a_mailbox_whose_replacement_was_not_begun_is_not_forgotten(desk):
    desk.graph.put(ANNA, lifecycle_url=None)
    await desk.memory.remember(ANNA, "400", NOW - HOUR, True)
    desk.graph.trouble[ANNA] = [Throttled("429", 3_600.0)] * 99
    assert (await desk.keeper(ANNA).keep()).left == 1
    assert ANNA in desk.memory.known


@pytest.mark.parametrize("trouble", [*SHOWN, Duplicate("409", HELD)], ids=repr)
async def test_a_wrong_one_that_cannot_be_replaced_is_renewed_in_time_and_the_reason_shown(desk, trouble):
    desk.graph.longest = timedelta(days=30)
    old = desk.graph.put(ANNA, lifecycle_url=None)
    desk.graph.trouble[ANNA] = [trouble] * 9_999
    for _ in range(24 * 20):
        await desk.keeper(ANNA).keep()
        assert desk.graph.held[old.id].expires > desk.now + LIFETIME / 3
        assert ANNA in desk.memory.known
        desk.now += HOUR
    assert len([call for call in desk.graph.calls if call[0] == "renew"]) < 10, "not more often than any other"
    desk.graph.trouble.clear()
    assert (await desk.keeper(ANNA).keep()).replaced == 1
    assert desk.memory.known == {}


async def test_a_wrong_one_is_renewed_in_time_also_if_one_beside_it_cannot_be_deleted(desk):
    old = desk.graph.put(ANNA, 2 * HOUR, lifecycle_url=None)
    spare = desk.graph.put(ANNA, HOUR, lifecycle_url=None, change_types=frozenset({"created"}))
    desk.graph.trouble[spare.id] = [Refused("400")]
    assert (await desk.keeper(ANNA).keep()).failed == {ANNA: "400"}
    assert desk.graph.held[old.id].expires == NOW + LIFETIME
    assert (await desk.keeper(ANNA).keep()).replaced == 1
    assert [US.is_right(held) for held in desk.graph.of(ANNA)] == [True]


async def test_a_wrong_one_is_renewed_while_it_has_to_wait_for_others(desk):
    """The first gap that stays ends all replacements, in that run and in those that cannot close it."""
    desk.graph = Refusing(in_gap=[Transient("503")] * 9_999, longest=timedelta(days=30))
    mailboxes = all_wrong(desk, 5)
    for _ in range(24 * 9):
        await desk.keeper(*mailboxes).keep()
        subscribed = {mailbox_of(held) for held in desk.graph.held.values() if held.expires > desk.now}
        assert len(subscribed) == 4, "one is silent, and no other one"
        assert set(mailboxes) - subscribed <= desk.memory.known.keys()
        desk.now += HOUR


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_who_refused_while_subscribed_is_tried_at_once_when_that_has_ended(desk, trouble):
    desk.graph.longest = timedelta(days=30)
    old = desk.graph.put(ANNA, 30 * HOUR)
    desk.graph.trouble = {ANNA: [trouble] * 999, old.id: [trouble] * 999}
    for wrong in (old, replace(old, lifecycle_url=None)):
        desk.graph.held = {old.id: wrong}
        for _ in range(15):
            await desk.keeper(ANNA).keep()
            desk.now += HOUR
    desk.graph.trouble.clear()
    desk.graph.held.clear()
    await desk.keeper(ANNA).keep()
    assert [US.is_right(held) for held in desk.graph.of(ANNA)] == [True]


# Time.


async def test_the_budget_stops_a_run_and_the_next_one_goes_on(desk, monkeypatch):
    monkeypatch.setattr("sync.subscriptions.keeper.BUDGET", 0.05)
    monkeypatch.setattr(roster_run, "CONCURRENCY", 1)
    desk.graph.step = lambda: asyncio.sleep(0.01)
    mailboxes = people(20)
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


@pytest.fixture
async def pass_seconds(monkeypatch) -> Callable[[float], None]:
    """Puts the event loop's clock forward."""
    loop, passed = asyncio.get_running_loop(), [0.0]
    time_of = loop.time
    monkeypatch.setattr(loop, "time", lambda: time_of() + sum(passed))
    return passed.append


def taking(seconds: float, call: Callable[..., Awaitable[Any]], pass_seconds: Callable[[float], None]) -> Any:
    async def slow(*args: object) -> object:
        done = await call(*args)
        pass_seconds(seconds)
        return done

    return slow


async def test_no_subscription_makes_room_for_another_one_that_there_is_no_time_to_make(desk, pass_seconds):
    [mailbox] = all_wrong(desk, 1)
    held = desk.graph.of(mailbox)
    desk.graph.list = taking(subscriptions_keeper.BUDGET - 30, desk.graph.list, pass_seconds)
    report = await desk.keeper(mailbox).keep()
    assert (report.deleted, report.left, desk.graph.of(mailbox)) == (0, 1, held)
    assert desk.memory.known == {}


async def test_a_gap_is_closed_also_when_the_runs_time_is_over(desk, pass_seconds):
    [mailbox] = all_wrong(desk, 1)
    desk.graph.delete = taking(subscriptions_keeper.BUDGET + 10, desk.graph.delete, pass_seconds)
    assert (await desk.keeper(mailbox).keep()).replaced == 1
    assert [US.is_right(held) for held in desk.graph.of(mailbox)] == [True]


@pytest.mark.parametrize("retry_after", [0.0, 0.3, None])
async def test_a_throttled_write_makes_the_whole_run_wait(desk, monkeypatch, retry_after):
    """Whatever Graph asks for; and no write counts as failed for it, however often it comes."""
    monkeypatch.setattr("sync.calls.pace._patience", lambda failures: 0.3)
    mailboxes = people(20)
    throttled = [Throttled("429", retry_after)] * 6
    sent: list[float] = []
    create = desk.graph.create

    async def often_refused(mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        sent.append(time.monotonic())
        if throttled:
            raise throttled.pop()
        return await create(mailbox, expires, beside)

    desk.graph.create = often_refused
    keeper = desk.keeper(*mailboxes)
    keeper.steps.pace._sleep = asyncio.sleep
    report = await keeper.keep()
    assert report.created == 20
    assert len(sent) == 26
    assert sent[-1] - sent[0] >= 0.2
    if retry_after != 0:
        gaps = [later - earlier for earlier, later in pairwise(sent)]
        assert max(gaps) >= 0.25, "there was a time in which nobody wrote"


async def test_a_pause_beyond_the_runs_time_ends_the_run_and_nothing_counts_as_failed(desk):
    mailboxes = people(50)
    desk.graph.trouble = {mailbox: [Throttled("429", 3_600.0)] * 99 for mailbox in mailboxes}
    report = await desk.keeper(*mailboxes).keep()
    assert report.left == 50
    assert len(desk.graph.writes) <= 16
    assert desk.memory.known == {}
    assert desk.memory.last is not None
    assert max(desk.slept, default=0) < subscriptions_keeper.BUDGET


# Runs at the same time, and runs that are killed.


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
    monkeypatch.setattr("sync.calls.pace.WRITES_PER_SECOND", 10_000)
    monkeypatch.setattr(roster_run, "CONCURRENCY", at_once)
    number, killed = 0, True
    while killed:
        number += 1
        desk = Desk(GraphInMemory(by_spelling=by_spelling))
        wanted, killer = a_mess(desk), Killer(number)
        before = set(desk.graph.held)
        killed = await killer.kills(desk, *wanted)
        desk.graph.step = lambda: asyncio.sleep(0)
        desk.queues.send = QueuesInMemory.send.__get__(desk.queues)
        desk.memory = MemoryInMemory(desk.memory.known, desk.memory.last, desk.memory.made_last)
        silent = {mailbox for mailbox in (BEN, CLEO, DAN, OTTO) if not desk.graph.of(mailbox)}
        assert silent <= (set() if by_spelling else desk.memory.known.keys()), number
        await desk.keeper(*wanted).keep()
        assert_kept(desk)
        new = {mailbox_of(held) for held in desk.graph.held.values() if held.id not in before}
        assert new | {CLEO, DAN} <= set(sweeps(desk.queues)), "also those that lost one of several"
    assert number > 15


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_two_runs_at_the_same_time_leave_nothing_that_the_next_run_does_not_mend(monkeypatch, by_spelling):
    monkeypatch.setattr("sync.calls.pace.WRITES_PER_SECOND", 10_000)
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
