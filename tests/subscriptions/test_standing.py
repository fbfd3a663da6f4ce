"""How the mailboxes stand after a run of the roster, told from the plan and from what became of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sync.errors import AccessDenied, Throttled, Transient
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.result import Result
from sync.subscriptions.standing import (
    NOT_BEGUN,
    Roster,
    Standing,
    brought_up_to_date,
    counts_after,
    next_roster,
    standings_after,
)
from sync.telemetry.counters import HOUR, Figures, Swept
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.keeper import CLEO, DAN, EVE, US, KeeperWorld, a_mess

FAR = NOW + LIFETIME


async def standings_of(keeping: KeeperWorld, *wanted: str) -> dict[str, Standing]:
    """After a run, as it is noted."""
    noted: list[Standing] = []
    keeper = keeping.keeper(*wanted)

    async def note(plan, report, lives_until):
        noted.extend(standings_after(plan, report, lives_until))

    keeper.note = note
    await keeper.keep()
    assert len({each.mailbox for each in noted}) == len(noted)
    return {each.mailbox: each for each in noted}


async def test_they_stand_as_graph_lists_them_afterwards(keeping: KeeperWorld):
    found = await standings_of(keeping, *a_mess(keeping))
    held = {mailbox: [each for each in keeping.graph.of(mailbox) if US.owns(each)] for mailbox in found}
    assert EVE not in found, "she is not wanted any more"
    for mailbox, standing in found.items():
        [subscription] = held[mailbox]
        assert (standing.expires, standing.reason) == (subscription.expires, "")


async def test_who_refuses_has_no_subscription_and_a_reason(keeping: KeeperWorld):
    keeping.graph.trouble[ANNA] = [AccessDenied("403 ErrorAccessDenied")]
    found = await standings_of(keeping, ANNA, BEN)
    assert found == {ANNA: Standing(ANNA, None, "403 ErrorAccessDenied"), BEN: Standing(BEN, FAR)}
    assert (await standings_of(keeping, ANNA, BEN))[ANNA] == Standing(ANNA, None, "403 ErrorAccessDenied"), "it waits"


async def test_each_mailbox_is_counted_once_by_what_is_in_the_way(keeping: KeeperWorld):
    keeping.graph.trouble[ANNA] = [AccessDenied("403 ErrorAccessDenied")]
    noted = []
    for _ in range(2):
        keeper = keeping.keeper(ANNA, BEN, CLEO)

        async def note(plan, report, lives_until):
            noted.append(counts_after(plan, report))

        keeper.note = note
        await keeper.keep()
    assert noted == [
        {"kept": 2, "failed": 1, "waiting": 0, "left": 0},
        {"kept": 2, "failed": 0, "waiting": 1, "left": 0},
    ]


async def test_who_could_not_be_renewed_is_subscribed_for_a_while(keeping: KeeperWorld):
    held = keeping.graph.put(CLEO, HOUR)
    keeping.graph.trouble[held.id] = [AccessDenied("403")]
    assert (await standings_of(keeping, CLEO))[CLEO] == Standing(CLEO, NOW + HOUR, "403")


async def test_who_lost_the_old_subscription_and_got_no_new_one_has_none(keeping: KeeperWorld):
    keeping.graph.put(DAN, notification_url=US.url.replace("functionkey", "old"))
    create = keeping.graph.create

    async def refused(mailbox, expires, beside=None):
        if not keeping.graph.of(mailbox):
            raise AccessDenied("403 and gone")
        await create(mailbox, expires, beside)

    keeping.graph.create = refused
    found = (await standings_of(keeping, DAN))[DAN]
    assert keeping.graph.of(DAN) == []
    assert found == Standing(DAN, None, "403 and gone")


async def test_who_was_not_begun_with_stands_as_before(keeping: KeeperWorld):
    held = keeping.graph.put(CLEO, HOUR)
    keeping.graph.trouble = {each: [Throttled("429", 3_600.0)] for each in (ANNA, held.id)}
    found = await standings_of(keeping, ANNA, CLEO)
    assert found == {ANNA: Standing(ANNA, None, NOT_BEGUN), CLEO: Standing(CLEO, NOW + HOUR, NOT_BEGUN)}


async def test_a_run_that_comes_to_nothing_notes_nothing(keeping: KeeperWorld):
    keeping.graph.trouble[""] = [Transient("503")] * 99
    with pytest.raises(Transient):
        await standings_of(keeping, ANNA)


def test_what_was_heard_of_a_mailbox_outlives_the_run():
    before = Roster(NOW, NOW - HOUR, (Standing(ANNA, FAR, "", NOW, Swept(NOW, 3)), Standing(CLEO, FAR, "", NOW)))
    figures = Figures(notified={BEN: NOW + HOUR})
    after = next_roster(NOW + HOUR, [Standing(BEN, FAR), Standing(ANNA, None, "403")], before, figures)
    assert after == Roster(
        NOW + HOUR,
        NOW - HOUR,
        (Standing(ANNA, None, "403", NOW, Swept(NOW, 3)), Standing(BEN, FAR, "", NOW + HOUR)),
    ), "and who is not wanted any more is forgotten"


def test_the_first_run_counts_from_now_on():
    assert next_roster(NOW, [Standing(ANNA)], None, Figures()).since == NOW


def test_only_what_is_later_brings_up_to_date():
    roster = Roster(NOW, NOW, (Standing(ANNA, FAR, "", NOW, Swept(NOW, 3)),))
    older = Figures(notified={ANNA: NOW - HOUR}, swept={ANNA: Swept(NOW - HOUR, 9)})
    assert brought_up_to_date(roster, older) == roster
    newer = Figures(notified={ANNA: NOW + HOUR}, swept={ANNA: Swept(NOW + HOUR, 0)})
    [anna] = brought_up_to_date(roster, newer).standings
    assert (anna.notified, anna.swept) == (NOW + HOUR, Swept(NOW + HOUR, 0))


def test_figures_that_were_stored_late_are_looked_at_once_more():
    on_the_hour = Roster(NOW + timedelta(minutes=3), NOW)
    assert on_the_hour.counted_from == NOW - HOUR
    assert replace(on_the_hour, at=NOW + timedelta(minutes=30)).counted_from == NOW


def test_a_report_without_anything_done_leaves_nobody_subscribed():
    from sync.subscriptions.planning import Plan

    assert list(standings_after(Plan(create=(ANNA,)), Result(), FAR)) == [Standing(ANNA, None, NOT_BEGUN)]
