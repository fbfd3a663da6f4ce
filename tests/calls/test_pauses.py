"""A service that throttles is left alone by all workers of an instance, for as long as it says."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sync.calls.pauses import DATAVERSE, LONGEST_IN_HAND, LONGEST_PAUSE, UNTOLD, Door, Pauses
from sync.calls.retries import LONGEST_WAIT
from sync.errors import ShutOut, Throttled, Transient
from sync.messages import taking as messages_taking
from tests.world.fakes import ANNA, BEN, NOW


class Time:
    """Passes when somebody sleeps."""

    def __init__(self) -> None:
        self.moment = NOW
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def time() -> Time:
    return Time()


def throttled(pauses: Pauses, what: str, retry_after: float | None) -> None:
    with pytest.raises(Throttled), pauses.kept(what):
        raise Throttled("429", retry_after)


class TestAPause:
    def test_lasts_as_long_as_the_service_says(self, time: Time) -> None:
        pauses = Pauses(time.now)
        throttled(pauses, ANNA, 30.0)
        assert pauses.left(ANNA) == 30
        time.moment += timedelta(seconds=30)
        assert pauses.left(ANNA) == 0

    def test_lets_nothing_be_sent(self, time: Time) -> None:
        pauses = Pauses(time.now)
        throttled(pauses, ANNA, 30.0)
        with pytest.raises(Throttled) as caught, pauses.kept(ANNA):
            pytest.fail("sent")
        assert caught.value.retry_after == 30

    def test_is_nobody_elses(self, time: Time) -> None:
        pauses = Pauses(time.now)
        throttled(pauses, ANNA, 30.0)
        with pauses.kept(BEN):
            assert pauses.left(BEN) == 0

    def test_of_a_service_that_refuses_the_whole_app_doubles_and_keeps_the_reason(self, time: Time) -> None:
        pauses, waited = Pauses(time.now), []
        for _ in range(6):
            with pytest.raises(ShutOut, match="IP firewall"), pauses.kept("x"):
                raise ShutOut("the IP firewall", 15.0)
            waited.append(pauses.left("x"))
            with pytest.raises(ShutOut, match="IP firewall"), pauses.kept("x"):
                raise AssertionError("sent")
            time.moment += timedelta(seconds=waited[-1])
        assert waited == [15, 30, 60, 120, 120, 120]
        with pauses.kept("x"):
            pass
        with pytest.raises(ShutOut), pauses.kept("x"):
            raise ShutOut("the IP firewall", 15.0)
        assert pauses.left("x") == 15

    def test_is_made_longer_and_not_shorter_by_what_was_under_way(self, time: Time) -> None:
        pauses = Pauses(time.now)
        under_way = [pauses.kept(ANNA) for _ in range(2)]
        for call in under_way:
            call.__enter__()
        throttled(pauses, ANNA, 30.0)
        for call, seconds in zip(under_way, (60.0, 45.0), strict=True):
            call.__exit__(Throttled, Throttled("429", seconds), None)
        assert pauses.left(ANNA) == 60

    @pytest.mark.parametrize(("retry_after", "seconds"), [(None, UNTOLD), (1e9, LONGEST_PAUSE), (0.0, 0.0)])
    def test_is_of_a_reasonable_length(self, time: Time, retry_after: float | None, seconds: float) -> None:
        pauses = Pauses(time.now)
        throttled(pauses, ANNA, retry_after)
        assert pauses.left(ANNA) == seconds

    def test_does_not_begin_for_other_trouble(self, time: Time) -> None:
        pauses = Pauses(time.now)
        with pytest.raises(Transient), pauses.kept(ANNA):
            raise Transient("503", 30.0)
        assert pauses.left(ANNA) == 0


class TestTheDoor:
    @pytest.fixture
    def graph(self, time: Time) -> Pauses:
        return Pauses(time.now)

    @pytest.fixture
    def dataverse(self, time: Time) -> Pauses:
        return Pauses(time.now)

    @pytest.fixture
    def door(self, graph: Pauses, dataverse: Pauses, time: Time) -> Door:
        return Door(graph, dataverse, time.sleep)

    async def test_is_open(self, door: Door, time: Time) -> None:
        await door.let_in(ANNA)
        assert time.slept == []

    async def test_is_closed_to_everybody_until_dataverse_takes_calls_again(
        self, door: Door, dataverse: Pauses, time: Time
    ) -> None:
        throttled(dataverse, DATAVERSE, 283.0)
        await asyncio.gather(door.let_in(ANNA), door.let_in(BEN))
        assert time.slept == [283]

    async def test_stays_closed_if_the_pause_got_longer_meanwhile(
        self, graph: Pauses, dataverse: Pauses, time: Time
    ) -> None:
        under_way = dataverse.kept(DATAVERSE)
        under_way.__enter__()

        async def sleep(seconds: float) -> None:
            if not time.slept:
                under_way.__exit__(Throttled, Throttled("429", 100.0), None)
            await time.sleep(seconds)

        throttled(dataverse, DATAVERSE, 60.0)
        await Door(graph, dataverse, sleep).let_in(ANNA)
        assert time.slept == [60, 40]

    async def test_sends_away_who_would_wait_for_too_long(self, door: Door, dataverse: Pauses, time: Time) -> None:
        throttled(dataverse, DATAVERSE, LONGEST_IN_HAND + 1)
        with pytest.raises(Throttled) as caught:
            await door.let_in(ANNA)
        assert caught.value.retry_after == LONGEST_IN_HAND + 1
        assert time.slept == []

    async def test_sends_away_who_would_wait_for_a_mailbox_as_others_need_the_worker(
        self, door: Door, graph: Pauses, time: Time
    ) -> None:
        throttled(graph, ANNA, 30.0)
        with pytest.raises(Throttled) as caught:
            await door.let_in(ANNA)
        assert caught.value.retry_after == 30
        await door.let_in(BEN)
        assert time.slept == []

    async def test_leaves_a_moment_to_the_call_itself(self, door: Door, graph: Pauses) -> None:
        throttled(graph, ANNA, LONGEST_WAIT)
        await door.let_in(ANNA)

    def test_and_the_change_behind_it_take_less_than_the_host_gives_a_function(self) -> None:
        host = json.loads((Path(__file__).parents[2] / "host.json").read_text("utf-8"))
        hours, minutes, seconds = map(int, host["functionTimeout"].split(":"))
        assert hours * 3_600 + minutes * 60 + seconds - 30 > LONGEST_IN_HAND + messages_taking.PATIENCE
