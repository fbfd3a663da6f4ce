"""The roster's plan carried out, with everything in memory; each mailbox's trouble is its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

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
from sync.subscriptions.deployment import LIFETIME, Deployment, mailbox_of, resource_of
from sync.subscriptions.keeper import BUDGET, Keeper
from sync.subscriptions.replacing import GAPS_AT_ONCE, REPLACE_WITHIN
from sync.subscriptions.run import CONCURRENCY, Limits
from sync.subscriptions.writes import SWEEP_AFTER
from tests.world.app import HOUR, KEY, NEW_KEY
from tests.world.fakes import ANNA, BEN, NOW, MemoryInMemory
from tests.world.keeper import (
    CLEO,
    DAN,
    EVE,
    HELD,
    OTTO,
    US,
    GraphInMemory,
    KeeperWorld,
    SweepsInMemory,
    a_mess,
    assert_kept,
    people,
)

# The timer: what is planned is done.


class Masked(GraphInMemory):
    """Lists subscriptions otherwise than they were made."""

    masked: dict[str, str | None]

    async def list(self) -> Sequence[Subscription]:
        return [replace(each, **self.masked) for each in await super().list()]  # type: ignore[arg-type]


LISTED_AS = pytest.mark.parametrize(
    "masked", [{"lifecycle_url": None}, {"notification_url": US.url.partition("?")[0]}], ids=str
)


def masked_desk(masked: dict[str, str | None]) -> KeeperWorld:
    graph = Masked(by_spelling=True, longest=timedelta(days=30))
    graph.masked = masked
    return KeeperWorld(graph)


@LISTED_AS
@pytest.mark.parametrize("known", [True, False])
async def test_a_list_that_does_not_show_what_was_made_replaces_nothing_for_ever(masked, known, caplog):
    """What was made before it was remembered, or when the table could not be written, is replaced once."""
    keeping, crew = masked_desk(masked), people(6)
    await keeping.keeper(*crew).keep()
    if not known:
        keeping.memory.made_last = None
    for _ in range(4):
        planned = await keeping.keeper(*crew).plan()
        report = await keeping.keeper(*crew).keep()
        assert (len(planned.replace), len(planned.keep)) == (report.replaced, 6 - report.replaced)
    assert keeping.graph.mailboxes() == crew
    assert keeping.graph.made == len(crew) * (1 if known else 2)
    assert "listed otherwise than they were made count=6" in caplog.text
    keeping.now += LIFETIME * 0.7
    report = await keeping.keeper(*crew).keep()
    assert (report.renewed, report.replaced) == (len(crew), 0)


@LISTED_AS
async def test_other_settings_replace_also_what_is_listed_otherwise_than_it_was_made(masked):
    keeping, crew = masked_desk(masked), people(6)
    await keeping.keeper(*crew).keep()
    other = keeping.keeper(*crew)
    other.deployment = Deployment.of(US.url.partition("&")[0], NEW_KEY, "https://d.example", "a_b")
    assert (await other.keep()).replaced == 6
    assert (await keeping.keeper(*crew).keep()).replaced == 6
    assert (await keeping.keeper(*crew).keep()).replaced == 0


@pytest.mark.parametrize("by_spelling", [True, False])
async def test_a_replacement_that_failed_is_tried_again_however_many_others_were_made(keeping, by_spelling):
    keeping.graph.by_spelling = by_spelling
    crew = all_wrong(keeping, 30)
    keeping.graph.trouble = {mailbox: [Transient("503", 30.0)] * 99 for mailbox in crew[10:20]}
    await keeping.keeper(*crew).keep()
    keeping.graph.trouble.clear()
    for _ in range(2):
        await keeping.keeper(*crew).keep()
    assert keeping.graph.mailboxes() == crew
    assert all(US.is_right(held) for held in keeping.graph.held.values())


async def test_missing_subscriptions_are_created_for_the_whole_lifetime_and_their_mailboxes_swept(keeping):
    report = await keeping.keeper(ANNA, BEN).keep()
    assert keeping.graph.mailboxes() == [ANNA, BEN]
    assert {held.expires for held in keeping.graph.held.values()} == {NOW + LIFETIME}
    assert sorted(keeping.sweeps.mailboxes) == [ANNA, BEN]
    assert min(keeping.sweeps.seconds) >= SWEEP_AFTER
    assert (report.wanted, report.created, report.failed) == (2, 2, {})


async def test_a_subscription_past_half_of_its_life_is_renewed_and_stays_the_same_one(keeping):
    old = keeping.graph.put(ANNA, HOUR)
    report = await keeping.keeper(ANNA).keep()
    assert keeping.graph.held == {old.id: replace(old, expires=NOW + LIFETIME)}
    assert report.renewed == 1
    assert keeping.sweeps.asked == [], "nothing was missed, so nothing is swept"


async def test_a_second_time_nothing_is_left_to_do(keeping):
    await keeping.keeper(ANNA, BEN).keep()
    keeping.graph.calls.clear()
    report = await keeping.keeper(ANNA, BEN).keep()
    assert keeping.graph.calls == [("list", "")]
    assert (report.wanted, report.created) == (2, 0)


async def test_a_subscription_that_vanished_since_it_was_listed_is_created_and_its_mailbox_swept(keeping):
    old = keeping.graph.put(ANNA, HOUR)
    listed = [old]

    async def outdated() -> Sequence[Subscription]:
        return listed

    keeping.graph.held.clear()
    keeping.graph.list = outdated
    await keeping.keeper(ANNA).keep()
    assert keeping.graph.calls == [("renew", old.id), ("create", ANNA)]
    assert keeping.sweeps.mailboxes == [ANNA]


async def test_what_is_most_urgent_is_done_first(keeping):
    keeping.graph.put(BEN, HOUR)
    keeping.graph.put(CLEO, LIFETIME / 3)
    keeping.graph.put(DAN, lifecycle_url=None)
    left = keeping.graph.put(EVE)
    await keeping.keeper(ANNA, BEN, CLEO, DAN).keep()
    ben, cleo = keeping.graph.of(BEN)[0].id, keeping.graph.of(CLEO)[0].id
    first = {subject: place for place, (_, subject) in reversed(list(enumerate(keeping.graph.writes)))}
    assert first[ben] < first[ANNA] < first[cleo] < first[DAN] < first[left.id]


async def test_whether_graph_takes_a_second_subscription_is_found_out_once(keeping):
    keeping.limits = Limits(concurrency=1)
    for mailbox in (ANNA, BEN, CLEO):
        keeping.graph.put(mailbox, lifecycle_url=None)
    report = await keeping.keeper(ANNA, BEN, CLEO).keep()
    assert report.replaced == 3
    verbs = [verb for verb, _ in keeping.graph.writes]
    assert verbs == ["create", *["delete", "create"] * 3]
    assert sorted(keeping.sweeps.mailboxes) == sorted([ANNA, BEN, CLEO]), "each has had a gap"


@pytest.mark.parametrize("by_spelling", [True, False])
async def test_the_mailboxes_of_replaced_subscriptions_are_swept_over_time(keeping, by_spelling):
    """What Graph could not deliver to the old one yet, it does not deliver to the new one."""
    keeping.graph.by_spelling = by_spelling
    mailboxes = all_wrong(keeping, 40)
    assert (await keeping.keeper(*mailboxes).keep()).replaced == 40
    assert set(keeping.sweeps.mailboxes) == set(mailboxes)
    hidden = keeping.sweeps.seconds
    assert min(hidden) >= SWEEP_AFTER
    assert max(hidden) - min(hidden) >= 4


async def test_one_beside_a_better_one_is_deleted_after_its_mailboxs_sweep_is_queued(keeping):
    keeping.graph.put(ANNA)
    spare = keeping.graph.put(ANNA, HOUR, lifecycle_url=None)
    keeping.sweeps.refuses = True
    await keeping.keeper(ANNA).keep()
    assert spare.id in keeping.graph.held
    keeping.sweeps.refuses = False
    await keeping.keeper(ANNA).keep()
    assert spare.id not in keeping.graph.held
    assert keeping.sweeps.mailboxes == [ANNA]


async def test_handshakes_come_a_few_at_a_time(keeping):
    mailboxes = people(40)
    await keeping.keeper(*mailboxes).keep()
    assert len(keeping.graph.held) == 40
    assert 1 < keeping.graph.most_at_once <= 16


async def test_many_new_mailboxes_are_not_swept_all_at_once(keeping):
    mailboxes = people(40)
    await keeping.keeper(*mailboxes).keep()
    hidden = keeping.sweeps.seconds
    assert max(hidden) - min(hidden) >= 4


async def test_progress_is_told_step_by_step(keeping):
    keeper, told = keeping.keeper(ANNA, BEN), []
    keeper.progress = lambda done, of: told.append((done, of))
    await keeper.keep()
    assert told == [(1, 2), (2, 2)]


# Trouble.

SHOWN = [MailboxUnavailable("403"), Transient("503"), Refused("400 X"), Unvalidated("400 ValidationError")]


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_one_mailboxs_trouble_does_not_keep_the_others_from_their_subscription(keeping, trouble, caplog):
    keeping.graph.trouble[ANNA] = [trouble] * 99
    report = await keeping.keeper(ANNA, BEN).keep()
    assert keeping.graph.mailboxes() == [BEN]
    assert report.failed == {ANNA: str(trouble)}
    assert keeping.memory.known[ANNA].reason == str(trouble), "whatever it is, it is shown"
    assert any(record.levelno == logging.ERROR and ANNA in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_one_renewal_that_fails_does_not_keep_the_others_from_theirs(keeping, trouble):
    annas, bens = keeping.graph.put(ANNA, HOUR), keeping.graph.put(BEN, HOUR)
    keeping.graph.trouble[annas.id] = [trouble] * 99
    await keeping.keeper(ANNA, BEN).keep()
    assert keeping.graph.held[annas.id] == annas
    assert keeping.graph.held[bens.id].expires == NOW + LIFETIME
    assert keeping.memory.known[ANNA].reason == str(trouble)


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_who_refuses_is_tried_rarely_and_everything_else_by_the_next_run(keeping, trouble):
    keeping.graph.trouble[ANNA] = [trouble] * 99
    await keeping.keeper(ANNA).keep()
    keeping.graph.trouble.clear()
    keeping.now += timedelta(minutes=30)
    await keeping.keeper(ANNA).keep()
    rarely = type(trouble) in (MailboxUnavailable, Refused)
    assert keeping.graph.mailboxes() == ([] if rarely else [ANNA])
    keeping.now += timedelta(minutes=30)
    await keeping.keeper(ANNA).keep()
    assert keeping.graph.mailboxes() == [ANNA]
    assert keeping.memory.known == {}, "what went well is not shown as trouble"


async def test_a_missing_token_is_the_trouble_of_all_and_nobodys_in_particular(keeping):
    keeping.graph.trouble = {mailbox: [Misconfigured("no token")] * 99 for mailbox in (ANNA, BEN)}
    with pytest.raises(Misconfigured):
        await keeping.keeper(ANNA, BEN).keep()
    await asyncio.sleep(0)
    assert keeping.memory.known == {}
    assert keeping.memory.last is None


async def test_trouble_is_forgotten_of_those_who_left_and_of_those_who_are_well_by_other_means(keeping):
    for mailbox in (ANNA, BEN):
        await keeping.memory.remember(mailbox, "403", NOW - HOUR * 9, True)
    keeping.graph.put(ANNA)
    await keeping.keeper(ANNA).keep()
    assert keeping.memory.known == {}


async def test_an_app_that_graph_cannot_reach_gives_up_early_and_remembers_no_refusal(keeping):
    mailboxes = people(200)
    keeping.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes}
    report = await keeping.keeper(*mailboxes).keep()
    assert len(keeping.graph.writes) < 40
    assert report.not_begun + len(report.failed) == 200
    keeping.graph.trouble.clear()
    await keeping.keeper(*mailboxes).keep()
    assert len(keeping.graph.held) == 200


async def test_a_handshake_that_fails_now_and_then_does_not_end_the_run(keeping):
    mailboxes = people(200)
    keeping.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes[::3]}
    report = await keeping.keeper(*mailboxes).keep()
    assert (report.not_begun, len(report.failed), report.created) == (0, 67, 133)


async def test_a_subscription_that_another_run_made_meanwhile_is_adopted(keeping):
    keeper, create = keeping.keeper(ANNA), keeping.graph.create

    async def too_late(mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        keeping.graph.put(mailbox)
        return await create(mailbox, expires, beside)

    keeping.graph.create = too_late
    report = await keeper.keep()
    assert (report.created, report.adopted, report.failed) == (0, 1, {})
    assert len(keeping.graph.held) == 1
    assert keeping.memory.known == {}


async def test_a_duplicate_that_is_not_in_the_list_is_shown(keeping):
    """Nobody could know otherwise that the mailbox may be silent."""
    keeping.graph.trouble[ANNA] = [Duplicate("409")] * 99
    report = await keeping.keeper(ANNA).keep()
    assert "does not list" in report.failed[ANNA]
    assert "does not list" in keeping.memory.known[ANNA].reason


async def test_a_duplicate_that_graph_names_and_does_not_list_yet_is_adopted_and_renewed(keeping):
    named = keeping.graph.put(ANNA, HOUR)
    keeping.graph.is_listed = False
    report = await keeping.keeper(ANNA).keep()
    assert (report.adopted, report.failed) == (1, {})
    assert keeping.graph.held[named.id].expires > NOW + HOUR
    assert keeping.memory.known == {}


async def test_one_that_has_expired_and_is_listed_still_does_not_count_as_the_duplicate(keeping):
    keeping.graph.put(ANNA, -HOUR)
    report = await keeping.keeper(ANNA).keep()
    assert "does not list" in report.failed[ANNA]
    assert "does not list" in keeping.memory.known[ANNA].reason


async def test_a_mailbox_that_another_deployment_holds_is_shown(keeping):
    foreign = Deployment.of("https://other.example/hook", KEY, "https://other.example", "a_b").url
    keeping.graph.put(ANNA, notification_url=foreign)
    report = await keeping.keeper(ANNA).keep()
    assert "another deployment" in report.failed[ANNA]
    assert "another deployment" in keeping.memory.known[ANNA].reason
    assert [held.notification_url for held in keeping.graph.held.values()] == [foreign]


async def test_who_cannot_be_validated_does_not_keep_the_others_from_it_for_more_than_one_run(keeping):
    mailboxes = people(200)
    keeping.graph.trouble = {mailbox: [Unvalidated("400 ValidationError")] * 99 for mailbox in mailboxes[:50]}
    assert (await keeping.keeper(*mailboxes).keep()).not_begun > 100
    report = await keeping.keeper(*mailboxes).keep()
    assert (report.created, report.not_begun) == (150, 0)
    assert keeping.memory.known.keys() == set(mailboxes[:50])


async def test_renewals_that_could_not_be_validated_come_after_those_that_may_be(keeping):
    mailboxes = people(80)
    held = {mailbox: keeping.graph.put(mailbox, HOUR) for mailbox in mailboxes}
    keeping.graph.trouble = {held[mailbox].id: [Unvalidated("400")] * 99 for mailbox in mailboxes[:40]}
    await keeping.keeper(*mailboxes).keep()
    report = await keeping.keeper(*mailboxes).keep()
    assert all(keeping.graph.held[held[mailbox].id].expires == NOW + LIFETIME for mailbox in mailboxes[40:])
    assert (len(report.failed), report.not_begun) == (40, 0)


async def test_of_those_that_failed_the_ones_tried_longest_ago_come_first(keeping):
    mailboxes = people(100)
    for place, mailbox in enumerate(mailboxes):
        await keeping.memory.remember(mailbox, "400", NOW - HOUR * (1 if place < 50 else 2), False)
    keeping.graph.trouble = {mailbox: [Unvalidated("400")] * 99 for mailbox in mailboxes[:50]}
    assert (await keeping.keeper(*mailboxes).keep()).created == 50


async def test_a_run_in_which_others_were_validated_lately_goes_on(keeping):
    mailboxes = people(200)
    keeping.graph.trouble = {mailbox: [Unvalidated("400")] * 99 for mailbox in mailboxes[100:]}
    report = await keeping.keeper(*mailboxes).keep()
    assert (report.created, len(report.failed), report.not_begun) == (100, 100, 0)


async def test_an_app_that_goes_down_in_the_middle_of_a_run_ends_it(keeping):
    keeping.limits = Limits(validated_lately=0.0)
    mailboxes = people(200)
    keeping.graph.trouble = {mailbox: [Unvalidated("400")] * 99 for mailbox in mailboxes[100:]}
    report = await keeping.keeper(*mailboxes).keep()
    assert report.created == 100
    assert report.not_begun > 30


async def test_refusals_of_another_kind_in_between_do_not_make_the_app_reachable(keeping):
    mailboxes = people(200)
    for place, mailbox in enumerate(mailboxes):
        keeping.graph.trouble[mailbox] = [Refused("400") if place % 2 else Unvalidated("400")] * 99
    assert (await keeping.keeper(*mailboxes).keep()).not_begun > 100


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


def all_wrong(keeping: KeeperWorld, number: int) -> list[str]:
    """Subscribed, but each subscription has to be replaced."""
    for mailbox in people(number):
        keeping.graph.put(mailbox, lifecycle_url=None)
    return people(number)


IN_GAP = [*SHOWN, Throttled("429", 3_600.0)]


@pytest.mark.parametrize("trouble", IN_GAP, ids=repr)
async def test_a_gap_that_stays_is_the_only_one_and_is_shown_counted_and_closed_first_of_all(keeping, trouble):
    keeping.graph = Refusing(in_gap=[trouble] * 99)
    mailboxes = all_wrong(keeping, 30)
    report = await keeping.keeper(*mailboxes).keep()
    [silent] = [mailbox for mailbox in mailboxes if not keeping.graph.of(mailbox)]
    assert keeping.memory.known.keys() == {silent}
    assert keeping.memory.known[silent].reason
    assert (report.replaced, report.deleted, report.not_begun + len(report.failed)) == (0, 1, 30)
    keeping.graph.in_gap.clear()
    keeping.graph.calls.clear()
    keeping.graph.put(ANNA, 2 * HOUR)
    keeping.now += HOUR
    report = await keeping.keeper(ANNA, BEN, *mailboxes).keep()
    assert keeping.graph.writes[0] == ("create", silent)
    assert (report.created, report.renewed, report.replaced) == (2, 1, 29)
    assert sorted(keeping.graph.mailboxes()) == sorted([ANNA, BEN, *mailboxes])
    assert keeping.memory.known == {}


@pytest.mark.parametrize("trouble", IN_GAP, ids=repr)
@pytest.mark.parametrize("well", [1, 2, 7])
async def test_once_a_gap_stays_no_other_one_is_made_however_many_were_closed(keeping, trouble, well):
    """Some may be on their way then."""
    keeping.graph = Refusing(in_gap=[trouble] * 999, let_pass=well)
    mailboxes = all_wrong(keeping, 60)
    report = await keeping.keeper(*mailboxes).keep()
    silent = {mailbox for mailbox in mailboxes if not keeping.graph.of(mailbox)}
    assert 1 <= len(silent) <= GAPS_AT_ONCE < CONCURRENCY
    assert keeping.memory.known.keys() == silent
    assert (report.replaced, report.deleted) == (well, len(silent))
    keeping.graph.in_gap.clear()
    keeping.graph.calls.clear()
    keeping.now += HOUR
    await keeping.keeper(*mailboxes).keep()
    assert {subject for _, subject in keeping.graph.writes[: len(silent)]} == silent
    assert all(US.is_right(held) for held in keeping.graph.held.values())
    assert keeping.memory.known == {}


async def test_whoever_is_without_subscription_is_shown_at_each_moment(keeping):
    mailboxes = all_wrong(keeping, 30)
    gaps = 0

    async def look() -> None:
        nonlocal gaps
        await asyncio.sleep(0)
        silent = {mailbox for mailbox in mailboxes if not keeping.graph.of(mailbox)}
        gaps += len(silent)
        assert silent <= keeping.memory.known.keys()

    keeping.graph.step = look
    report = await keeping.keeper(*mailboxes).keep()
    assert gaps > 0
    assert (report.replaced, report.deleted, report.failed) == (30, 0, {})
    assert keeping.memory.known == {}


async def test_one_mailbox_finds_out_for_all_that_the_old_one_has_to_go_first(keeping):
    mailboxes = all_wrong(keeping, 40)
    await keeping.keeper(*mailboxes).keep()
    verbs = [verb for verb, _ in keeping.graph.writes]
    assert (verbs.count("create"), verbs.count("delete")) == (41, 40)
    assert keeping.graph.most_at_once > 1, "and then they are replaced side by side"


async def test_what_was_not_deleted_for_want_of_time_leaves_no_trouble(keeping):
    [mailbox] = all_wrong(keeping, 1)
    [old] = keeping.graph.of(mailbox)
    keeping.graph.trouble[old.id] = [Throttled("429", 3_600.0)] * 99
    report = await keeping.keeper(mailbox).keep()
    assert keeping.graph.of(mailbox) == [old]
    assert (report.deleted, report.not_begun, keeping.memory.known) == (0, 1, {})


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_a_replacement_that_another_run_made_meanwhile_is_adopted_without_a_gap(keeping, by_spelling):
    keeping.graph.by_spelling = by_spelling
    old = keeping.graph.put(ANNA, lifecycle_url=None)
    listed, read = [[old]], keeping.graph.list

    async def outdated() -> Sequence[Subscription]:
        return listed.pop() if listed else await read()

    new = keeping.graph.put(ANNA, resource=resource_of(ANNA, beside=old))
    keeping.graph.held = {new.id: new, old.id: old}
    keeping.graph.list = outdated
    report = await keeping.keeper(ANNA).keep()
    assert (report.adopted, report.failed) == (1, {})
    assert keeping.graph.held == {new.id: new, old.id: old}
    await keeping.keeper(ANNA).keep()
    assert keeping.graph.held == {new.id: new}


async def test_in_a_full_mailbox_nothing_makes_room_where_another_deployment_may_take_it(keeping):
    old = keeping.graph.put(ANNA, lifecycle_url=None)
    foreign = Deployment.of("https://other.example/hook", KEY, "https://other.example", "a_b").url
    other = keeping.graph.put(ANNA, notification_url=foreign)
    keeping.graph.trouble[ANNA] = [Full("403")]
    assert (await keeping.keeper(ANNA).keep()).failed == {ANNA: "403"}
    assert keeping.graph.of(ANNA) == [old, other]


async def test_a_replacement_that_is_taken_for_something_that_is_not_listed_is_shown(keeping):
    old = keeping.graph.put(ANNA, lifecycle_url=None)
    keeping.graph.trouble[ANNA] = [Duplicate("409", HELD)] * 99
    report = await keeping.keeper(ANNA).keep()
    assert "does not list" in report.failed[ANNA]
    assert "does not list" in keeping.memory.known[ANNA].reason
    assert keeping.graph.of(ANNA) == [old]


async def test_the_trouble_of_a_mailbox_whose_replacement_was_not_begun_is_not_forgotten(keeping):
    keeping.graph.put(ANNA, lifecycle_url=None)
    await keeping.memory.remember(ANNA, "400", NOW - HOUR, True)
    keeping.graph.trouble[ANNA] = [Throttled("429", 3_600.0)] * 99
    assert (await keeping.keeper(ANNA).keep()).not_begun == 1
    assert ANNA in keeping.memory.known


@pytest.mark.parametrize("trouble", [*SHOWN, Duplicate("409", HELD)], ids=repr)
async def test_a_wrong_one_that_cannot_be_replaced_is_renewed_in_time_and_the_reason_shown(keeping, trouble):
    keeping.graph.longest = timedelta(days=30)
    old = keeping.graph.put(ANNA, lifecycle_url=None)
    keeping.graph.trouble[ANNA] = [trouble] * 9_999
    for _ in range(24 * 20):
        await keeping.keeper(ANNA).keep()
        assert keeping.graph.held[old.id].expires > keeping.now + LIFETIME / 3
        assert ANNA in keeping.memory.known
        keeping.now += HOUR
    assert len([call for call in keeping.graph.calls if call[0] == "renew"]) < 10, "not more often than any other"
    keeping.graph.trouble.clear()
    assert (await keeping.keeper(ANNA).keep()).replaced == 1
    assert keeping.memory.known == {}


async def test_a_wrong_one_is_renewed_in_time_also_if_one_beside_it_cannot_be_deleted(keeping):
    old = keeping.graph.put(ANNA, 2 * HOUR, lifecycle_url=None)
    spare = keeping.graph.put(ANNA, HOUR, lifecycle_url=None, change_types=frozenset({"created"}))
    keeping.graph.trouble[spare.id] = [Refused("400")]
    assert (await keeping.keeper(ANNA).keep()).failed == {ANNA: "400"}
    assert keeping.graph.held[old.id].expires == NOW + LIFETIME
    assert (await keeping.keeper(ANNA).keep()).replaced == 1
    assert [US.is_right(held) for held in keeping.graph.of(ANNA)] == [True]


async def test_a_wrong_one_is_renewed_while_it_has_to_wait_for_others(keeping):
    """The first gap that stays ends all replacements, in that run and in those that cannot close it."""
    keeping.graph = Refusing(in_gap=[Transient("503")] * 9_999, longest=timedelta(days=30))
    mailboxes = all_wrong(keeping, 5)
    for _ in range(24 * 9):
        await keeping.keeper(*mailboxes).keep()
        subscribed = {mailbox_of(held) for held in keeping.graph.held.values() if held.expires > keeping.now}
        assert len(subscribed) == 4, "one is silent, and no other one"
        assert set(mailboxes) - subscribed <= keeping.memory.known.keys()
        keeping.now += HOUR


@pytest.mark.parametrize("trouble", SHOWN, ids=repr)
async def test_who_refused_while_subscribed_is_tried_at_once_when_that_has_ended(keeping, trouble):
    keeping.graph.longest = timedelta(days=30)
    old = keeping.graph.put(ANNA, 30 * HOUR)
    keeping.graph.trouble = {ANNA: [trouble] * 999, old.id: [trouble] * 999}
    for wrong in (old, replace(old, lifecycle_url=None)):
        keeping.graph.held = {old.id: wrong}
        for _ in range(15):
            await keeping.keeper(ANNA).keep()
            keeping.now += HOUR
    keeping.graph.trouble.clear()
    keeping.graph.held.clear()
    await keeping.keeper(ANNA).keep()
    assert [US.is_right(held) for held in keeping.graph.of(ANNA)] == [True]


# Time.


async def test_the_budget_stops_a_run_and_the_next_one_goes_on(keeping):
    keeping.budget, keeping.limits = 0.05, Limits(concurrency=1)
    keeping.graph.step = lambda: asyncio.sleep(0.01)
    mailboxes = people(20)
    created, runs = 0, 0
    while created < 20:
        report = await keeping.keeper(*mailboxes).keep()
        assert report.created + report.not_begun + created == 20
        assert report.failed == {}
        created += report.created
        runs += 1
    assert 5 < runs < 30
    assert len(keeping.graph.held) == 20
    assert keeping.memory.known == {}


async def test_no_subscription_makes_room_for_another_one_that_there_is_no_time_to_make(keeping):
    [mailbox] = all_wrong(keeping, 1)
    held = keeping.graph.of(mailbox)
    keeping.budget = REPLACE_WITHIN / 2
    report = await keeping.keeper(mailbox).keep()
    assert (report.deleted, report.not_begun, keeping.graph.of(mailbox)) == (0, 1, held)
    assert keeping.memory.known == {}


async def test_a_gap_is_closed_also_when_the_runs_time_is_over(keeping):
    [mailbox] = all_wrong(keeping, 1)
    keeping.budget, delete = REPLACE_WITHIN + 1.0, keeping.graph.delete

    async def until_the_end(subscription_id: str) -> None:
        await delete(subscription_id)
        await asyncio.sleep(1.2)

    keeping.graph.delete = until_the_end
    assert (await keeping.keeper(mailbox).keep()).replaced == 1
    assert [US.is_right(held) for held in keeping.graph.of(mailbox)] == [True]


@pytest.mark.parametrize("retry_after", [0.0, 0.3, None])
async def test_a_throttled_write_makes_the_whole_run_wait(keeping, retry_after):
    """Whatever Graph asks for; and no write counts as failed for it, however often it comes."""
    keeping.patience, keeping.sleep = lambda failures: 0.3, asyncio.sleep
    mailboxes = people(20)
    throttled = [Throttled("429", retry_after)] * 6
    sent: list[float] = []
    create = keeping.graph.create

    async def often_refused(mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        sent.append(time.monotonic())
        if throttled:
            raise throttled.pop()
        return await create(mailbox, expires, beside)

    keeping.graph.create = often_refused
    keeper = keeping.keeper(*mailboxes)
    report = await keeper.keep()
    assert report.created == 20
    assert len(sent) == 26
    assert sent[-1] - sent[0] >= 0.2
    if retry_after != 0:
        gaps = [later - earlier for earlier, later in pairwise(sent)]
        assert max(gaps) >= 0.25, "there was a time in which nobody wrote"


async def test_a_pause_beyond_the_runs_time_ends_the_run_and_nothing_counts_as_failed(keeping):
    mailboxes = people(50)
    keeping.graph.trouble = {mailbox: [Throttled("429", 3_600.0)] * 99 for mailbox in mailboxes}
    report = await keeping.keeper(*mailboxes).keep()
    assert report.not_begun == 50
    assert len(keeping.graph.writes) <= 16
    assert keeping.memory.known == {}
    assert keeping.memory.last is not None
    assert max(keeping.slept, default=0) < BUDGET


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

    async def kills(self, keeping: KeeperWorld, *wanted: str) -> bool:
        """Whether the run came to this step at all."""
        self.put_between(keeping)
        self.victim = asyncio.create_task(keeping.keeper(*wanted).keep())
        try:
            await self.victim
        except asyncio.CancelledError:
            return True
        return False

    def put_between(self, keeping: KeeperWorld) -> None:
        keeping.graph.step = self.step
        for part, name in ((keeping.sweeps, "ask"), (keeping.memory, "remember"), (keeping.memory, "ran")):
            setattr(part, name, self._stepping(getattr(part, name)))

    def _stepping(self, call: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def stepping(*args: object, **more: object) -> None:
            await self.step()
            await call(*args, **more)
            await self.step()

        return stepping


@pytest.mark.parametrize("by_spelling", [False, True])
@pytest.mark.parametrize("at_once", [1, 16])
async def test_a_run_killed_at_any_point_leaves_nothing_that_the_next_run_does_not_mend(by_spelling, at_once):
    number, killed = 0, True
    while killed:
        number += 1
        keeping = KeeperWorld(GraphInMemory(by_spelling=by_spelling), limits=Limits(concurrency=at_once))
        wanted, killer = a_mess(keeping), Killer(number)
        before = set(keeping.graph.held)
        killed = await killer.kills(keeping, *wanted)
        keeping.graph.step = lambda: asyncio.sleep(0)
        keeping.sweeps.ask = SweepsInMemory.ask.__get__(keeping.sweeps)
        keeping.memory = MemoryInMemory(keeping.memory.known, keeping.memory.last, keeping.memory.made_last)
        silent = {mailbox for mailbox in (BEN, CLEO, DAN, OTTO) if not keeping.graph.of(mailbox)}
        assert silent <= (set() if by_spelling else keeping.memory.known.keys()), number
        await keeping.keeper(*wanted).keep()
        assert_kept(keeping)
        new = {mailbox_of(held) for held in keeping.graph.held.values() if held.id not in before}
        assert new | {CLEO, DAN} <= set(keeping.sweeps.mailboxes), "also those that lost one of several"
    assert number > 15


@pytest.mark.parametrize("by_spelling", [False, True])
async def test_two_runs_at_the_same_time_leave_nothing_that_the_next_run_does_not_mend(by_spelling):
    for lead in range(25):
        keeping = KeeperWorld(GraphInMemory(by_spelling=by_spelling))
        wanted = a_mess(keeping)

        async def later(keeper: Keeper, steps: int = lead) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            await keeper.keep()

        await asyncio.gather(later(keeping.keeper(*wanted), 0), later(keeping.keeper(*wanted)))
        ours = {mailbox_of(held) for held in keeping.graph.held.values() if US.owns(held)}
        assert ours >= set(wanted), "nobody is left without a subscription in between"
        await keeping.keeper(*wanted).keep()
        assert_kept(keeping)
        assert keeping.memory.known == {}
