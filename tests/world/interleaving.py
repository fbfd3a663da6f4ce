"""Runs coroutines against each other in every order of their steps.

A step ends where a coroutine awaits ``Steps.pause``; which one goes on then is the choice that is enumerated.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from random import Random
from typing import Any

from tests.world.sizes import lot


class Died(Exception):
    """The process that a coroutine ran in was stopped."""


class Steps:
    """Gives way to the others once per ``await steps.pause()``."""

    has_died = False

    async def pause(self) -> None:
        if self.has_died:
            raise Died
        await _GiveWay()

    def end(self, running: Coroutine[Any, Any, Any]) -> None:
        """Stop *running* where it is: it does nothing any more, not even what it would do at its end."""
        self.has_died = True
        try:
            with suppress(Died):
                running.close()
        finally:
            self.has_died = False


class _GiveWay:
    def __await__(self) -> Generator[None, None, None]:
        yield


class Schedule:
    """Follows *choices*, then takes the first actor that is left, or one by lot; remembers how many could have gone on
    each time."""

    def __init__(self, choices: list[int], rng: Random | None = None) -> None:
        self.choices = choices
        self.rng = rng
        self.taken: list[int] = []
        self.width: list[int] = []

    def run(self, actors: list[Coroutine[Any, Any, Any]]) -> list[BaseException | None]:
        """Drive all *actors* to their ends; the error that each ended with, if any."""
        errors: list[BaseException | None] = [None] * len(actors)
        alive = []
        for actor, coroutine in enumerate(actors):
            # To its first step, before which nothing has happened: when that is does not matter to anybody.
            with suppress(StopIteration):
                coroutine.send(None)
                alive.append(actor)
        while alive:
            place = len(self.taken)
            choice = self.choices[place] if place < len(self.choices) else self._next(len(alive))
            self.taken.append(choice)
            self.width.append(len(alive))
            actor = alive[choice]
            try:
                actors[actor].send(None)
            except StopIteration:
                alive.remove(actor)
            except Exception as error:
                errors[actor] = error
                alive.remove(actor)
        return errors

    def _next(self, alive: int) -> int:
        return self.rng.randrange(alive) if self.rng is not None else 0


def all_schedules(scenario: Callable[[Schedule], None], at_most: int = 2_000_000) -> Iterator[Schedule]:
    """Run *scenario*, which builds its world anew and runs the schedule it is given, in every order there is."""
    choices: list[int] = []
    for _ in range(at_most):
        schedule = Schedule(choices)
        scenario(schedule)
        yield schedule
        choices = schedule.taken
        while choices and choices[-1] + 1 >= schedule.width[len(choices) - 1]:
            choices = choices[:-1]
        if not choices:
            return
        choices = [*choices[:-1], choices[-1] + 1]
    raise AssertionError(f"more than {at_most} orders")


def some_schedules(scenario: Callable[[Schedule], None], count: int) -> Iterator[Schedule]:
    """Like ``all_schedules``, for as many orders as are drawn by the lot of the run."""
    rng = Random(lot())
    for _ in range(count):
        schedule = Schedule([], rng)
        scenario(schedule)
        yield schedule
