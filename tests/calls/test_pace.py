"""Writes to subscriptions: no faster than Graph allows, none while it throttles, and again where that may help."""

from __future__ import annotations

import asyncio

import pytest

from sync.calls.pace import LONGEST_PAUSE, THROTTLED, TRIES, WRITES_PER_SECOND, Pace
from sync.errors import Duplicate, Paused, Refused, SyncError, Throttled, Transient


class Writer:
    """Raises *troubles*, first to last, then succeeds; remembers when it was called."""

    def __init__(self, *troubles: SyncError) -> None:
        self.troubles = list(troubles)
        self.at: list[float] = []

    async def __call__(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        if self.troubles:
            raise self.troubles.pop(0)


def soon(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture
def slept() -> list[float]:
    return []


def sleepless(slept: list[float]) -> Pace:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) < 10_000, "whoever waits for the clock of the event loop has to sleep by it"
        await asyncio.sleep(0)

    return Pace(sleep)


async def test_a_write_that_succeeds_is_done_once():
    write = Writer()
    await Pace().run(write, soon())
    assert len(write.at) == 1


async def test_no_second_sees_more_than_twice_the_rate_and_no_twenty_more_than_graph_allows():
    """A limiter that is full lets a burst through; 45 at once and 45 a second make 945 in twenty seconds."""
    write, pace = Writer(), Pace()
    await asyncio.gather(*(pace.run(write, soon()) for _ in range(100)))
    assert write.at[-1] - write.at[0] >= (100 - WRITES_PER_SECOND) / WRITES_PER_SECOND * 0.9
    assert WRITES_PER_SECOND + 20 * WRITES_PER_SECOND < 1_000


@pytest.mark.parametrize("error", [Refused("400"), Duplicate("409")], ids=repr)
async def test_what_is_refused_is_not_tried_again(error):
    write = Writer(error)
    with pytest.raises(type(error)):
        await Pace().run(write, soon())
    assert len(write.at) == 1


async def test_what_passes_is_tried_again_after_longer_and_longer_waits(slept):
    write = Writer(*[Transient("503")] * (TRIES - 1))
    await sleepless(slept).run(write, soon())
    assert len(write.at) == TRIES
    assert all(0.7 < seconds / 2**place < 1.3 for place, seconds in enumerate(slept))


async def test_what_does_not_pass_is_given_up(slept):
    write = Writer(*[Transient("503")] * 99)
    with pytest.raises(Transient):
        await sleepless(slept).run(write, soon())
    assert len(write.at) == TRIES


async def test_a_throttled_write_makes_all_others_wait_and_is_tried_until_it_succeeds():
    pace, throttled, other = Pace(), Writer(*[Throttled("429", 0.2)] * (TRIES + 1)), Writer()

    async def later() -> None:
        await asyncio.sleep(0.05)
        await pace.run(other, soon())

    await asyncio.gather(pace.run(throttled, soon()), later())
    assert other.at[0] - throttled.at[0] >= 0.2
    assert throttled.at[-1] - throttled.at[0] >= 0.2 * (TRIES + 1) * 0.99


async def test_a_429_without_retry_after_makes_all_others_wait_as_well():
    pace = Pace(patience=lambda failures: 0.2)
    throttled, other = Writer(*[Throttled("429")] * (TRIES + 1)), Writer()

    async def later() -> None:
        await asyncio.sleep(0.05)
        await pace.run(other, soon())

    await asyncio.gather(pace.run(throttled, soon()), later())
    assert other.at[0] - throttled.at[0] >= 0.2
    assert len(throttled.at) == TRIES + 2


async def test_a_write_that_is_throttled_for_ever_while_others_pass_is_given_up_and_the_others_go_on():
    pace, throttled = Pace(), Writer(*[Throttled("429", 0.05)] * 99)
    others = [Writer() for _ in range(40)]

    async def one_after_the_other() -> None:
        for other in others:
            await pace.run(other, soon())
            await asyncio.sleep(0.01)

    one = asyncio.create_task(pace.run(throttled, soon()))
    await one_after_the_other()
    with pytest.raises(Throttled):
        await one
    assert TRIES < len(throttled.at) < 30
    assert all(len(other.at) == 1 for other in others)


async def test_a_write_that_is_throttled_for_ever_is_given_up_also_if_there_is_no_other_one():
    write = Writer(*[Throttled("429", 0.0)] * 99)
    with pytest.raises(Throttled):
        await Pace().run(write, soon())
    assert len(write.at) == THROTTLED


async def test_a_503_with_retry_after_is_the_trouble_of_one_mailbox(slept):
    """Short, it is waited for; long, it is told, and nobody else waits."""
    pace, short, long = sleepless(slept), Writer(Transient("503", 2.0)), Writer(Transient("503", 300.0))
    await pace.run(short, soon())
    assert len(short.at) == 2
    with pytest.raises(Transient):
        await pace.run(long, soon())
    assert len(long.at) == 1
    others = Writer()
    await pace.run(others, soon(1))
    assert len(others.at) == 1


async def test_no_retry_after_stops_all_writes_for_ever():
    pace, write = Pace(), Writer(Throttled("429", 1e9))
    with pytest.raises(Paused) as raised:
        await pace.run(write, soon(10))
    assert 3_000 < (raised.value.retry_after or 0) <= LONGEST_PAUSE


async def test_a_retry_after_of_nothing_is_no_reason_to_press_on():
    write = Writer(Throttled("429", 0.0))
    await Pace().run(write, soon())
    assert write.at[1] - write.at[0] >= 0.19


async def test_a_pause_that_is_longer_than_there_is_time_is_not_begun(slept):
    pace, write = sleepless(slept), Writer(Throttled("429", 300.0))
    with pytest.raises(Paused) as raised:
        await pace.run(write, soon(10))
    assert 299 < (raised.value.retry_after or 0) <= 300
    with pytest.raises(Paused):
        await pace.run(write, soon(10))
    assert len(write.at) == 1
    assert slept == []


async def test_nothing_is_begun_when_time_is_over():
    write = Writer()
    with pytest.raises(Paused):
        await Pace().run(write, soon(-1))
    assert write.at == []
