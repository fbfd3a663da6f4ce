"""Short waits inside one call; nobody sleeps here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sync.calls.retries import ATTEMPTS, LONGEST_WAIT, short_waits
from sync.errors import MailboxUnavailable, Malformed, Misconfigured, NotFound, Refused, Stale, Transient


@pytest.fixture
def slept() -> list[float]:
    """The seconds of all waits, none of which takes time."""
    return []


def noting(slept: list[float]) -> Callable[[float], Awaitable[None]]:
    """Return a sleep that only notes its seconds."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return sleep


class Service:
    """Answers one call after the other with *answers*, the last one for ever."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def call(self) -> str:
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


async def ask(service: Service, slept: list[float]) -> str:
    async for attempt in short_waits(noting(slept)):
        with attempt:
            return await service.call()
    raise AssertionError("unreachable")


async def test_an_answer_is_not_waited_for(slept):
    service = Service("answer")
    assert await ask(service, slept) == "answer"
    assert (service.calls, slept) == (1, [])


async def test_a_transient_error_is_tried_again(slept):
    service = Service(Transient("503"), Transient("503"), "answer")
    assert await ask(service, slept) == "answer"
    assert (service.calls, len(slept)) == (3, 2)


async def test_the_last_attempts_error_goes_up_as_it_is(slept):
    errors = [Transient(f"503 for the {n}. time") for n in range(ATTEMPTS + 1)]
    service = Service(*errors)
    with pytest.raises(Transient) as info:
        await ask(service, slept)
    assert info.value is errors[ATTEMPTS - 1]
    assert (service.calls, len(slept)) == (ATTEMPTS, ATTEMPTS - 1)


@pytest.mark.parametrize("seconds", [0.0, 0.128, 1.0, LONGEST_WAIT])
async def test_the_service_gets_the_wait_it_asks_for(slept, seconds):
    assert await ask(Service(Transient("429", retry_after=seconds), "answer"), slept) == "answer"
    assert slept == [seconds]


@pytest.mark.parametrize("seconds", [LONGEST_WAIT + 0.001, 7.0, 86_400.0])
async def test_a_longer_wait_is_left_to_the_queue(slept, seconds):
    service = Service(Transient("429", retry_after=seconds), "answer")
    with pytest.raises(Transient) as info:
        await ask(service, slept)
    assert info.value.retry_after == seconds
    assert (service.calls, slept) == (1, [])


async def test_waits_grow_and_stay_short_if_the_service_asks_for_none(slept):
    for _ in range(20):
        with pytest.raises(Transient):
            await ask(Service(Transient("503")), slept)
    first, second = slept[::2], slept[1::2]
    assert all(0.2 <= seconds <= 0.4 for seconds in first)
    assert all(0.4 <= seconds <= 0.8 for seconds in second)
    assert len(set(slept)) > 20  # spread, so that a herd does not come back together


@pytest.mark.parametrize(
    "make",
    [Stale, Refused, NotFound, MailboxUnavailable, Malformed, Misconfigured, ValueError],
    ids=lambda error: error.__name__,
)
async def test_not_tried_again_is(slept, make: Callable[[str], Exception]):
    """A stale row has to be read and decided anew first, the rest gives the same again."""
    service = Service(make("no"), "answer")
    with pytest.raises(make):
        await ask(service, slept)
    assert (service.calls, slept) == (1, [])


async def test_a_cancelled_call_is_not_repeated(slept):
    calls = 0

    async def cancelled() -> None:
        nonlocal calls
        async for attempt in short_waits(noting(slept)):
            with attempt:
                calls += 1
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cancelled()
    assert (calls, slept) == (1, [])
