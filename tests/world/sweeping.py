"""Acts on the whole app for tests of sweeps: hire people, book for them, lose notifications, sweep."""

from __future__ import annotations

from datetime import timedelta

from sandbox.dataverse.tables import Row
from sandbox.graph.mailboxes import Event as OutlookEvent
from sandbox.world.people import Technician
from tests.world.app import HOUR, START, App, is_in_step


def hire(app: App, *names: str) -> list[Technician]:
    """Technicians with a mailbox each."""
    return [app.sandbox.people.hire(name) for name in names]


async def pairs_of(app: App, technician: Technician, number: int) -> list[tuple[Row, OutlookEvent]]:
    """Linked pairs, from tomorrow on, one each day."""
    await app.keeper.keep()
    pairs = []
    for day in range(1, number + 1):
        start = START + timedelta(days=day)
        pairs.append(app.sandbox.people.dispatcher.book(technician, start, start + HOUR))
    await app.work()
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)
    return pairs


def be_deaf(app: App) -> None:
    """From now on no notification arrives."""
    app.sandbox.delivery.hostility.drop = 1.0


async def sweep_all(app: App, after_gap: bool = True) -> None:
    """Sweep all mailboxes, and have done what follows, at once or a while later.

    It is known that notifications were lost, unless *after_gap* says otherwise.
    """
    await app.rounds.ask_all(after_gap=after_gap)
    for _ in range(2):
        app.sandbox.clock.move(timedelta(minutes=1))
        await app.work()
