"""What people are told, from what is stored and counted: figures, and which of them are trouble."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from typer.main import get_command

from sync.model import SyncMode, Tripped
from sync.operate.commands import cli
from sync.pairs.actions import CancelBooking, LinkBooking, MoveBooking, Observed, Stage, UnlinkBooking, outcome_of
from sync.pairs.entry import Held
from sync.pairs.reasons import HoldKind
from sync.status.figures import HOURS, WRITTEN, Backlog, Gathered, State
from sync.status.findings import Level, Status, build_status, summary_lines
from sync.subscriptions.standing import Standing
from sync.telemetry.counters import HOUR, OUTCOME, Swept, hour_of
from tests.world.fakes import ANNA, BEN, NOW, span
from tests.world.gathered import ANNAS, AT, BEHIND, DAY, GUID, HELD, LEFT, MINUTE, WELL, with_standings
from tests.world.keeper import CLEO, DAN


def found(gathered: Gathered) -> list[tuple[Level, str]]:
    return [(finding.level, finding.text) for finding in build_status(gathered, AT).findings]


def test_where_all_is_well_there_is_nothing_to_look_at():
    status = build_status(WELL, AT)
    assert (status.is_well, status.findings) == (True, [])


def test_before_the_first_run_there_is_something_to_wait_for_and_no_trouble():
    status = build_status(Gathered(backlogs=(), held=((), 0), tripped=()), AT)
    assert status.is_well
    assert [finding.level for finding in status.findings] == [Level.NOTICE]
    assert (status.mailboxes, status.drift) == (None, None)


@pytest.mark.parametrize(
    ("gathered", "level", "word"),
    [
        pytest.param(replace(WELL, failure=(AT, "graph 503")), Level.TROUBLE, "graph 503", id="a run that failed"),
        pytest.param(
            replace(WELL, shut_out=(AT - 5 * MINUTE, "dataverse 403 0x80095ffe (allow the address)")),
            Level.TROUBLE,
            "refuses the whole app: dataverse 403 0x80095ffe (allow the address)",
            id="a service that is closed to the app",
        ),
        pytest.param(
            replace(WELL, hours={hour_of(AT): Counter({f"{OUTCOME}mailbox unavailable": 3})}),
            Level.NOTICE,
            "could not be reached for an hour: 3",
            id="mailboxes that were given up",
        ),
        pytest.param(replace(WELL, unread=["The queues could not be read"]), Level.TROUBLE, "queues", id="unreadable"),
        pytest.param(with_standings(ANNAS, at=AT - 4 * HOUR), Level.TROUBLE, "not kept", id="no run for hours"),
        pytest.param(
            with_standings(ANNAS, Standing(BEN, None, "403")), Level.TROUBLE, "not subscribed: 1", id="refused"
        ),
        pytest.param(with_standings(replace(ANNAS, expires=AT)), Level.TROUBLE, "not subscribed: 1", id="expired"),
        pytest.param(with_standings(replace(ANNAS, expires=AT + HOUR)), Level.TROUBLE, "expires", id="expires soon"),
        pytest.param(
            with_standings(replace(ANNAS, notified=AT - 2 * DAY)), Level.NOTICE, "No notification", id="silent"
        ),
        pytest.param(
            with_standings(replace(ANNAS, notified=None)), Level.NOTICE, "No notification", id="never notified"
        ),
        pytest.param(replace(WELL, backlogs=(BEHIND,)), Level.NOTICE, "outlook-changes: 20", id="a slow queue"),
        pytest.param(
            replace(WELL, backlogs=(replace(BEHIND, oldest=AT - 2 * HOUR),)), Level.TROUBLE, "120", id="a stuck queue"
        ),
        pytest.param(
            replace(WELL, backlogs=(Backlog("outlook-changes", 0, None, 3),)), Level.TROUBLE, "poison: 3", id="poison"
        ),
        pytest.param(replace(WELL, tripped=(Tripped("all", NOW, 201),)), Level.TROUBLE, "canceled", id="the breaker"),
        pytest.param(replace(WELL, held=((HELD, LEFT), 0)), Level.NOTICE, "person: 1", id="held"),
        pytest.param(replace(WELL, held=((), 7)), Level.NOTICE, "here: 7", id="more held than was looked at"),
        pytest.param(
            with_standings(replace(ANNAS, swept=Swept(AT - 2 * DAY, 0))), Level.TROUBLE, "swept", id="no sweep"
        ),
        pytest.param(with_standings(replace(ANNAS, swept=Swept(NOW, 4))), Level.NOTICE, "found: 4", id="drift"),
        pytest.param(replace(WELL, mode=SyncMode.OBSERVE), Level.NOTICE, "only observes", id="observing"),
        pytest.param(with_standings(), Level.NOTICE, "Nobody is to be synchronized", id="nobody wanted"),
    ],
)
def test_one_thing_that_is_wrong_is_found_and_nothing_else_with_what_to_do(gathered, level, word):
    [finding] = build_status(gathered, AT).findings
    assert (finding.level, word in finding.text) == (level, True), finding.text
    assert finding.then
    assert build_status(gathered, AT).is_well == (level is Level.NOTICE)


def test_what_is_to_be_done_names_commands_that_there_are():
    commands = set(get_command(cli).commands)
    everything = replace(
        with_standings(
            replace(ANNAS, expires=AT + HOUR, notified=AT - 2 * DAY, swept=Swept(AT - 2 * DAY, 4)),
            Standing(BEN, None, "403"),
            at=AT - 4 * HOUR,
        ),
        failure=(AT, "graph 503"),
        unread=["The queues could not be read"],
        backlogs=(Backlog("outlook-changes", 9, AT - 2 * HOUR, 3),),
        held=((HELD,), 0),
        tripped=(Tripped("all", NOW, 201),),
        mode=SyncMode.OBSERVE,
    )
    findings = [
        finding
        for gathered in (everything, with_standings(), Gathered())
        for finding in build_status(gathered, AT).findings
    ]
    named = {name for finding in findings for name in re.findall(r"python -m sync (\w+)", finding.then)}
    assert {"doctor", "subscriptions", "poison", "holds", "sweep", "report"} <= named <= commands


def test_what_waits_for_outlook_and_queues_that_move_are_nothing_to_look_at():
    assert found(replace(WELL, held=((LEFT,), 0), backlogs=(replace(BEHIND, oldest=AT - 10 * MINUTE),))) == []


def test_a_failure_is_over_with_the_next_run():
    assert found(replace(WELL, failure=(NOW - HOUR, "graph 503"))) == []
    assert build_status(replace(WELL, failure=(NOW - HOUR, "graph 503")), AT).roster_failure is None


def test_trouble_comes_before_notices():
    levels = [level for level, _ in found(replace(WELL, held=((HELD,), 0), failure=(AT, "x"), backlogs=(BEHIND,)))]
    assert levels == [Level.TROUBLE, Level.NOTICE, Level.NOTICE]


def test_mailboxes_in_trouble_come_first_and_then_who_is_silent_longest():
    standings = (
        replace(ANNAS, mailbox=CLEO, notified=NOW - HOUR),
        ANNAS,
        replace(ANNAS, mailbox=DAN, reason="503", notified=NOW),
        Standing(BEN, None, "403"),
    )
    status = build_status(with_standings(*standings), AT)
    assert status.mailboxes is not None
    assert [row.mailbox for row in status.mailboxes.rows] == [BEN, DAN, CLEO, ANNA]
    assert [row.state for row in status.mailboxes.rows] == [State.NOT_SUBSCRIBED, *[State.SUBSCRIBED] * 3]
    assert (status.mailboxes.wanted, status.mailboxes.subscribed, status.mailboxes.not_subscribed) == (4, 3, 1)


def test_reasons_that_differ_in_ids_only_are_counted_as_one():
    standings = (
        Standing(ANNA, None, f"graph 403 {GUID} (policy?)"),
        Standing(BEN, None, f"graph 403 {ANNA} (policy?)"),
    )
    mailboxes = build_status(with_standings(*standings), AT).mailboxes
    assert mailboxes is not None
    assert mailboxes.reasons == {"graph 403 (policy?)": 2}


def test_expiries_and_silence_are_told_in_bands():
    standings = (
        replace(ANNAS, expires=AT + 36 * HOUR, notified=AT),
        replace(ANNAS, mailbox=BEN, expires=AT + 37 * HOUR, notified=AT - 2 * DAY),
        replace(ANNAS, mailbox=CLEO, expires=AT + 9 * DAY, notified=None),
        Standing(DAN, None, "403"),
    )
    mailboxes = build_status(with_standings(*standings), AT).mailboxes
    assert mailboxes is not None
    assert {band.within: band.count for band in mailboxes.expiries if band.count} == {"2 d": 2, "longer": 1}
    assert {b.within: b.count for b in mailboxes.silence if b.count} == {"an hour": 1, "3 d": 1, "never": 1}
    assert (mailboxes.silent, mailboxes.never_notified) == (2, 1)
    assert mailboxes.next_expiry == AT + 36 * HOUR


def test_a_mailbox_is_not_silent_for_longer_than_is_counted():
    roster = replace(with_standings(replace(ANNAS, notified=None)).roster, since=AT - HOUR)  # type: ignore[type-var]
    assert found(replace(WELL, roster=roster)) == []


def test_hours_are_told_without_a_gap_and_older_ones_are_left_out():
    hours = {
        NOW: Counter({"outcome.moved": 2, "outcome.ignored": 5, "notifications.queued": 7, "notifications.known": 1}),
        NOW - 2 * HOUR: Counter({"spent.graph": 3, "spent.dataverse": 4, "avoided.graph": 9}),
        NOW - HOURS * HOUR: Counter({"outcome.moved": 100}),
    }
    status = build_status(replace(WELL, hours=hours), AT)
    assert [row.hour for row in status.hours] == [NOW - HOUR * ago for ago in range(23, -1, -1)]
    now, before = status.hours[-1], status.hours[-3]
    assert (now.changes, now.written, now.others) == (7, 2, 5)
    assert (now.queued, now.redundant, now.spent) == (7, 1, 0)
    assert (before.changes, before.spent, before.avoided) == (0, 7, 9)
    assert status.outcomes == {"ignored": 5, "moved": 2}
    assert list(status.outcomes) == ["ignored", "moved"], "the most frequent first"
    assert (status.calls.spent, status.calls.avoided) == ({"dataverse": 4, "graph": 3}, {"graph": 9})


def test_what_counts_as_written_is_what_the_app_says_of_its_writes():
    writes = [
        MoveBooking(GUID, "b1", span(9)),
        LinkBooking(GUID, "b1", "E1"),
        CancelBooking(GUID, "b1", unlink=True),
        UnlinkBooking(GUID, "b1", "its event was deleted"),
    ]
    assert {outcome_of(write)[0] for write in writes} == set(WRITTEN)
    assert outcome_of(Observed(writes[0]))[1] is Stage.OBSERVED


def test_holds_are_told_by_reason_and_the_longest_first():
    later = replace(HELD, held=Held(HoldKind.TOO_MANY, NOW + MINUTE, "1"))
    holds = build_status(replace(WELL, held=((later, LEFT, HELD), 2)), AT).holds
    assert holds is not None
    assert (holds.total, holds.for_a_person, holds.waiting, holds.not_looked_at) == (5, 2, 1, 2)
    assert [row.reason for row in holds.rows][-1] == later.held.reason
    assert holds.rows[0].booking == GUID


@pytest.mark.parametrize(("hours", "is_told"), [(1, False), (2, True)])
def test_a_pair_that_waits_for_outlook_longer_than_an_hour_is_a_notice(hours: int, is_told: bool):
    waiting = replace(LEFT, held=replace(LEFT.held, kind=HoldKind.OVERRULED, since=AT - hours * HOUR))
    text = lines_of(build_status(replace(WELL, held=((waiting,), 0)), AT))
    assert ("notice: Out of step for more than an hour" in text) is is_told


def test_drift_is_what_the_last_sweep_of_each_mailbox_found():
    standings = (
        ANNAS,
        replace(ANNAS, mailbox=BEN, swept=Swept(AT, 3)),
        replace(ANNAS, mailbox=CLEO, swept=Swept(AT - 2 * DAY, 1)),
        replace(ANNAS, mailbox=DAN, swept=None),
    )
    drift = build_status(with_standings(*standings), AT).drift
    assert drift is not None
    assert (drift.last, drift.mailboxes, drift.with_differences, drift.differences) == (AT, 3, 2, 4)
    assert drift.not_swept_lately == 2


def lines_of(status: Status) -> str:
    return "\n".join(summary_lines(status))


def test_a_terminal_is_told_the_same_in_a_few_lines():
    gathered = replace(WELL, hours={NOW: Counter({"outcome.moved": 2})}, backlogs=(BEHIND,), held=((HELD,), 0))
    text = lines_of(build_status(gathered, AT))
    for part in ("wanted: 1; subscribed: 1", "outlook-changes: 9", "in 24 h: moved: 2", "notice: ", "person: 1"):
        assert part in text
    assert "notice: Held for a person: 1\n  python -m sync holds" in text
    assert not any("\n" in line for line in summary_lines(build_status(gathered, AT))), "it would be shown as ?"
    assert lines_of(build_status(Gathered(), AT))
