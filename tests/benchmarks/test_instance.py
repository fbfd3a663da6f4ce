"""An instance in a process of its own: it gets all of its work done, and the bare calls are as many as the app's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from benchmarks.instance import CONCURRENCY, run, work_through
from benchmarks.services import Order, Services, services
from benchmarks.work import Work, read_work, write_work


def settings(found: Services, storage: str) -> Mapping[str, str]:
    return {**found.settings, "AzureWebJobsStorage": storage}


@pytest.mark.parametrize(
    ("order", "calls"),
    [
        pytest.param(Order(mailboxes=3, ordinary=10), 10, id="ordinary meetings", marks=pytest.mark.slow),
        pytest.param(Order(mailboxes=3, in_step=10), 20, id="bookings in step", marks=pytest.mark.slow),
        pytest.param(Order(mailboxes=3, moved=10), 40, id="moved events"),
    ],
)
def test_the_bare_calls_are_at_least_those_of_an_app_without_memory(storage: str, order: Order, calls: int) -> None:
    spent = []
    for what in ("bare", "app"):
        with services(order) as found:
            result = run(what, found.work, settings(found, storage))
            assert result.changes == 10
            assert len(result.done) == 3
            spent.append(found.count_calls())
    first_once_more = calls // 10
    assert spent[0] == calls + first_once_more
    assert spent[1] <= spent[0]


def test_the_libraries_alone_send_what_the_app_sends(storage: str) -> None:
    found_calls, storage_calls = [], []
    for what in ("app", "libraries"):
        with services(Order(mailboxes=3, ordinary=6, in_step=6, moved=6)) as found:
            result = run(what, found.work, settings(found, storage))
            found_calls.append(found.count_calls())
            storage_calls.append(result.storage_calls)
    assert found_calls[0] == found_calls[1] + 1, "who the app is, it asks once"
    once = storage_calls[0] - storage_calls[1]
    assert -2 <= once <= 6, (
        "a table is made once, and the app notes that the storage is its own; of one kind there are six"
    )


def test_changes_that_are_not_done_are_no_fast_ones(storage: str, capfd: pytest.CaptureFixture[str]) -> None:
    with services(Order(mailboxes=1, in_step=2)) as found, pytest.raises(CalledProcessError):
        run("app", found.work, {**settings(found, storage), "EVENT_ID_COLUMN": "nosuchcolumn"})
    assert "a change was not done: put back" in capfd.readouterr().err


def test_work_is_read_as_it_was_written(tmp_path: Path) -> None:
    work = [Work("mailbox", "event", None, is_moved=False), Work("mailbox", "other", "booking", is_moved=True)]
    write_work(tmp_path / "work", work)
    assert [*read_work(tmp_path / "work", times=2)] == [*work, *work]


async def test_so_many_changes_are_worked_on_at_a_time_as_the_host_starts() -> None:
    at_work = most = 0

    async def do(work: Work) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1

    count, _, done = await work_through([Work("mailbox", str(each), None, False) for each in range(50)], do)
    assert (count, most, [*done]) == (50, CONCURRENCY, ["mailbox"])
