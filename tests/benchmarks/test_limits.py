"""What the limits' benchmark counts: requests answered, refused, and of a change that had been told to wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from benchmarks.leaping import LeapingLoop
from benchmarks.limits import DATAVERSE, OUTLOOK, Limit, Limiter, work_off
from sync.messages.changes import Change
from tests.world.fakes import ANNA, NOW


class Moments:
    def __init__(self) -> None:
        self.now = NOW

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def limiter_of(requests: int, **options: Any) -> tuple[Limiter, Moments]:
    """Each path stands for a change."""
    moments = Moments()
    limit = replace(DATAVERSE, requests=requests)
    return Limiter(limit, lambda: moments.now, lambda path: Change(ANNA, path), **options), moments


def ask(limiter: Limiter, change: str = "a change") -> bool:
    """Whether it is refused."""
    return limiter.fits("dataverse", "GET", change)


def test_so_many_requests_are_answered_in_a_window_and_more_when_it_has_slid_on():
    limiter, moments = limiter_of(2)
    assert [ask(limiter), ask(limiter), ask(limiter)] == [False, False, True]
    assert limiter.headers == {"Retry-After": "300"}
    moments.pass_seconds(301)
    assert not ask(limiter)
    assert (len(limiter.answered), limiter.refused, limiter.too_early) == (3, 1, 0)


def test_pressing_on_lengthens_the_wait_and_is_counted_for_whoever_was_told_to_wait():
    limiter, moments = limiter_of(1)
    assert [ask(limiter, "first"), ask(limiter, "second")] == [False, True]
    moments.pass_seconds(100)
    assert ask(limiter, "second")
    assert limiter.headers == {"Retry-After": "300"}
    assert ask(limiter, "third")
    assert limiter.too_early == 2


def test_what_another_instance_was_told_is_not_known_to_this_one():
    limiter, moments = limiter_of(1, is_shared=True)
    assert [ask(limiter, "first"), ask(limiter, "second")] == [False, True]
    moments.pass_seconds(100)
    assert [ask(limiter, "second"), ask(limiter, "third")] == [True, True]
    assert limiter.too_early == 1


def test_what_was_under_way_when_it_was_told_is_not_too_early():
    limiter, moments = limiter_of(1, latency=5)
    assert [ask(limiter, "first"), ask(limiter, "second")] == [False, True]
    moments.pass_seconds(4)
    assert ask(limiter, "third")
    assert limiter.too_early == 0


def test_the_other_service_is_not_limited():
    limiter, _ = limiter_of(0)
    assert not limiter.fits("graph", "GET", "/users/anna/events/one")


@pytest.mark.parametrize(
    ("limit", "mailboxes", "others"),
    [(DATAVERSE, 3, 0), pytest.param(OUTLOOK, 1, 3, marks=pytest.mark.slow)],
    ids=["Dataverse", "one mailbox"],
)
def test_a_backlog_beyond_a_limit_is_worked_off_and_no_change_comes_before_its_retry_after(
    limit: Limit, mailboxes: int, others: int
) -> None:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        rows = runner.run(work_off("a backlog", limit, 60 / limit.requests, 4, mailboxes, others))
    found = {row.case: row for row in rows}
    assert found["calls in all"].others["needed"] == 240
    assert found["of them refused"].ours > 0
    assert found["calls in all"].ours < 2 * 240
    assert found["answered in the time of a backlog at the limit"].ours > 120
    if others:
        last = found["last of the other mailboxes done"]
        assert last.ours < last.others["this one"] / 3, "they waited for what is not theirs"
    assert found["of them before a Retry-After was over"].ours == 0
