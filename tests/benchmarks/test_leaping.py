"""Time that leaps: sleeps and time-outs keep their order, and stand still while something real is under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from benchmarks.leaping import LeapingLoop, LoopsClock
from tests.world.fakes import NOW


def run(what: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(what)


def test_who_sleeps_longer_wakes_later_and_an_hour_is_an_hour():
    async def main() -> tuple[list[int], float]:
        woken = []

        async def sleep(seconds: int) -> None:
            await asyncio.sleep(seconds)
            woken.append(seconds)

        await asyncio.gather(sleep(3_600), sleep(5), sleep(60))
        return woken, asyncio.get_running_loop().time()

    assert run(main()) == ([5, 60, 3_600], 3_600)


def test_a_time_out_comes_before_what_takes_longer():
    async def main() -> None:
        await asyncio.wait_for(asyncio.sleep(121), 120)

    with pytest.raises(TimeoutError):
        run(main())


def test_time_stands_still_while_a_thread_is_at_work():
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        timer = asyncio.create_task(asyncio.sleep(60))
        with loop.under_way():
            await loop.run_in_executor(None, time.sleep, 0.05)
        assert not timer.done()
        timer.cancel()
        return loop.time()

    assert run(main()) == 0


def test_the_simulated_world_has_the_loops_time():
    async def main() -> timedelta:
        clock = LoopsClock(asyncio.get_running_loop(), NOW)
        await asyncio.sleep(90)
        return clock.now() - NOW

    assert run(main()) == timedelta(seconds=90)
