"""The calculator: its sums, the nearest limit, and what it takes for granted of the roster and the host."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from benchmarks.capacity import CountedRows
from sync.operate.capacity import (
    BOOKINGS_CHANGE,
    FLUSHES,
    HANDSHAKES,
    LONGEST_WAIT,
    MESSAGE,
    NIGHT,
    ORDINARY_CHANGE,
    POLLS,
    ROSTER,
    RUNS,
    SHORTEST_WAIT,
    WAKES,
    WORKING_HOURS,
    Cost,
    Prediction,
    build_lines,
    empty_polls,
    predict,
)
from sync.operate.commands import cli
from sync.status import counting
from sync.storage.counters import CounterTable
from sync.subscriptions import deployment as subscriptions_deployment
from sync.subscriptions.planning import Plan
from sync.subscriptions.result import Result
from sync.subscriptions.standing import standings_after
from sync.sweep import rounds as sweep
from tests.world.app import App
from tests.world.fakes import MemoryInMemory

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "capacity.md").read_text("utf-8")


WORK = WORKING_HOURS * 3_600
"""Seconds."""


def by_day(prediction: Prediction) -> dict[str, int]:
    return {total.what: total.day for total in prediction.totals}


def test_an_app_without_changes_keeps_subscriptions_sweeps_and_looks_at_its_queues():
    renewals = 100 * 86_400 / (subscriptions_deployment.LIFETIME / 2).total_seconds()
    assert by_day(predict(100, 0, 0.2)) == {
        "Graph calls": round(24 + renewals + 100 * NIGHT.graph),
        "Dataverse calls": round(24 + 100 * NIGHT.dataverse),
        "executions": round(WAKES + HANDSHAKES * renewals + 100 * NIGHT.messages),
        "storage transactions": round(
            POLLS
            + FLUSHES
            + RUNS * ROSTER
            + 100 * (NIGHT.table + MESSAGE * NIGHT.messages)
            + empty_polls(100 * NIGHT.messages, 100 / sweep.MAILBOXES_PER_SECOND)
        ),
    }


@pytest.mark.parametrize(("bookings", "cost"), [(0.0, ORDINARY_CHANGE), (1.0, BOOKINGS_CHANGE)])
def test_each_change_adds_what_was_measured_of_its_kind(bookings, cost):
    without, with_them = by_day(predict(100, 0, bookings)), by_day(predict(100, 10_000, bookings))
    added = {what: with_them[what] - without[what] for what in without}
    assert added == pytest.approx(
        {
            "Graph calls": 10_000 * cost.graph,
            "Dataverse calls": 10_000 * cost.dataverse,
            "executions": 10_000 * (cost.posts + cost.messages),
            "storage transactions": 10_000 * (cost.table + MESSAGE * cost.messages)
            + empty_polls(10_000 * cost.messages, WORK),
        },
        abs=1,
    )


def test_a_month_is_thirty_days():
    assert all(total.month == pytest.approx(30 * total.day, abs=30) for total in predict(100, 1_000, 0.2).totals)


@pytest.mark.parametrize(
    ("mailboxes", "changes", "nearest"),
    [
        pytest.param(1_000, 1_000, "Dataverse, 24 hours of the tenant", id="many people who change little"),
        pytest.param(20_000, 400_000, "Dataverse, 24 hours of the tenant", id="more people, who change much"),
        pytest.param(10, 10_000, "Dataverse, 24 hours of the tenant", id="few people who change much"),
        pytest.param(1, 1_000_000, "Graph, 10 minutes of an average mailbox", id="one mailbox that never rests"),
    ],
)
def test_the_nearest_limit_comes_first_and_the_sweep_which_is_paced_last(mailboxes, changes, nearest):
    *limits, paced = predict(mailboxes, changes, 0.0 if mailboxes == 1 else 0.2).limits
    assert limits[0].limit == nearest
    assert [use.share for use in limits] == sorted((use.share for use in limits), reverse=True)
    assert paced.limit == "Dataverse, 5 minutes of the sweep"
    assert paced.is_spread
    assert not any(use.is_spread for use in limits)


@pytest.mark.parametrize("mailboxes", [1, 500, 1_500, 100_000])
def test_the_sweep_of_however_many_mailboxes_stays_within_dataverses_limit_and_leaves_room_for_changes(mailboxes):
    """It is spread over as much time as that takes."""
    prediction = predict(mailboxes, 0, 0.2)
    use = prediction.limits[-1]
    assert use.used == min(mailboxes, sweep.MAILBOXES_PER_SECOND * 300) * NIGHT.dataverse
    assert use.share < 0.6
    assert build_lines(prediction)[-1].endswith("%, paced: it never comes to the limit")


async def test_a_run_of_the_roster_takes_a_page_of_each_list_and_a_renewal_a_call_and_two_handshakes(app: App):
    for number in range(3):
        app.sandbox.people.hire(f"Person {number}")
    await app.keeper.keep()
    app.sandbox.calls.clear()
    await app.keeper.keep()
    assert (app.sandbox.calls.reads("graph"), app.sandbox.calls.reads("dataverse"), len(app.sandbox.calls)) == (1, 1, 2)

    handshakes = 0
    answer = app.answer

    async def witnessed(request: web.Request) -> web.Response:
        nonlocal handshakes
        handshakes += "validationToken" in request.query
        return await answer(request)

    app.answer = witnessed  # type: ignore[method-assign]
    app.sandbox.calls.clear()
    app.sandbox.clock.move(subscriptions_deployment.LIFETIME * 0.7)
    report = await app.keeper.keep()
    assert report.renewed == app.sandbox.calls.writes("graph") == 3
    assert handshakes == 3 * HANDSHAKES


class CountedMemory(MemoryInMemory):
    """Each method that a run needs is one request, if no mailbox is in trouble."""

    requests = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("troubles", "last_run", "made", "ran", "remember_made", "remember", "forget"):
            self.requests += 1
        return super().__getattribute__(name)


async def test_a_run_of_the_roster_that_has_nothing_new_takes_as_many_table_requests_as_is_counted(app: App):
    memory, rows = CountedMemory(), CountedRows(app.sandbox.clock.now)
    table: Any = rows
    counts = counting.Counting(lambda: CounterTable(table), app.sandbox.clock.now)

    async def note(plan: Plan, result: Result, lives_until: datetime) -> None:
        await counts.roster_kept([*standings_after(plan, result, lives_until)])  # as wiring.py has it

    keeper = replace(app.keeper, memory=memory, note=note)
    app.sandbox.people.hire("Anna")
    await keeper.keep()
    await keeper.keep()  # finds listed what was made
    for later, renewed in ((timedelta(minutes=20), 0), (subscriptions_deployment.LIFETIME * 0.7, 1)):
        app.sandbox.clock.move(later)
        memory.requests = rows.requests = 0
        assert (await keeper.keep()).renewed == renewed
        assert memory.requests + rows.requests == ROSTER


def test_an_idle_instance_looks_at_its_queues_as_rarely_as_the_host_lets_it():
    longest = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["queues"]["maxPollingInterval"]
    hours, minutes, seconds = map(int, longest.split(":"))
    assert timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds() == LONGEST_WAIT
    assert 86_400 / LONGEST_WAIT * 3 == POLLS
    assert 86_400 / counting.FLUSH_AFTER == FLUSHES


def looks_in_vain(arrivals: Sequence[float]) -> int:
    """Of the host in a day, at one queue, as messages come to it at these seconds.

    Source: Azure WebJobs SDK, QueueListener and RandomizedExponentialBackoffStrategy.
    """
    due, chance = deque(sorted(arrivals)), random.Random(1)
    now, wait, step, in_vain, has_found = 0.0, float(LONGEST_WAIT), 0, 0, False
    while now < 86_400:
        batch = [due.popleft() for _ in range(8) if due and due[0] <= now]
        if batch:
            has_found = True  # and looks again at once
            continue
        in_vain += 1
        if has_found:
            wait, step, has_found = SHORTEST_WAIT, 0, False
        elif wait < LONGEST_WAIT:
            wait = min(SHORTEST_WAIT * (1 + chance.uniform(0.8, 1.2) * 2**step), LONGEST_WAIT)
            step += 1
        now += wait
    return in_vain


@pytest.mark.parametrize("messages", [0, 100, 3_000, 28_000, 300_000])
def test_the_host_looks_at_a_queue_that_messages_come_to_evenly_nearly_as_often_as_is_counted(messages):
    looked = looks_in_vain([WORK * number / messages for number in range(messages)])
    counted = POLLS / 3 + empty_polls(messages, WORK)
    assert 0.8 * counted < looked < 1.001 * counted


@pytest.mark.parametrize("messages", [100, 3_000, 28_000, 300_000])
def test_it_looks_less_often_if_they_come_as_it_happens(messages):
    chance = random.Random(2)
    arrivals = [WORK * chance.random() for _ in range(messages)]
    assert looks_in_vain(arrivals) < POLLS / 3 + empty_polls(messages, WORK)


def test_it_looks_less_often_during_the_sweep_whose_messages_come_together():
    together, a_second = sweep.MAILBOXES_AT_ONCE, sweep.MAILBOXES_PER_SECOND
    arrivals = [number // together * together / a_second for number in range(2_000)]
    assert looks_in_vain(arrivals) < POLLS / 3 + empty_polls(2_000, 2_000 / a_second)


def test_the_command_shows_totals_and_limits():
    shown = CliRunner().invoke(cli, ["capacity", "--mailboxes", "500", "--changes-per-day", "5000"])
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["what", "day", "month"]
    assert sum("times as much would fit" in line for line in lines) == 3
    told = CliRunner().invoke(cli, ["capacity", "--mailboxes", "500", "--changes-per-day", "5000", "--json"])
    document = json.loads(told.stdout)
    assert {total["what"]: total["day"] for total in document["totals"]} == by_day(predict(500, 5_000, 0.2))
    assert document["limits"][0]["share"] == max(each["share"] for each in document["limits"] if not each["is_spread"])


def test_the_pages_example_is_what_the_command_shows():
    [(command, expected)] = re.findall(r"^    \$ python -m sync (.+)\n((?:    .+\n)+)", PAGE, re.MULTILINE)
    shown = CliRunner().invoke(cli, shlex.split(command)).stdout
    assert [line.strip() for line in expected.splitlines()] == [line.strip() for line in shown.splitlines()]


@pytest.mark.parametrize(
    ("each", "cost"),
    [
        ("change of an ordinary meeting", ORDINARY_CHANGE),
        ("change of a booking's event", BOOKINGS_CHANGE),
        ("mailbox in a night, swept and in step", NIGHT),
    ],
)
def test_the_pages_table_is_what_the_calculator_counts_with(each, cost):
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {each} |")]
    assert Cost(*(float(cell.strip() or 0) for cell in row.split("|")[2:-1])) == cost


@pytest.mark.parametrize(
    "said",
    [
        f"{WAKES} (timers)",
        f"{POLLS:,} (one",
        f"{FLUSHES:,} (its counts",
        f"{HANDSHAKES} *R*",
        f"{MESSAGE} × messages",
        f"{RUNS} × {ROSTER} (runs",
        f"looks({WORK:,} s / changes' messages)",
        f"looks({1 / sweep.MAILBOXES_PER_SECOND} s)",
        f"*gap* / {SHORTEST_WAIT} s and log₂(1 + *gap* / {SHORTEST_WAIT / 2} s), with a *gap* of {LONGEST_WAIT} s",
    ],
)
def test_the_pages_formula_has_the_calculators_numbers(said):
    assert said in " ".join(PAGE.split())


@pytest.mark.parametrize(
    "wrong", ["--mailboxes 0 --changes-per-day 1", "--mailboxes 1 --changes-per-day 1 --bookings 2"]
)
def test_what_cannot_be_is_refused(wrong):
    assert CliRunner().invoke(cli, ["capacity", *wrong.split()]).exit_code == 2
