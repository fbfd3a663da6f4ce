"""The app dies before or after each of its external effects, people go on, it starts again: the promises hold.

Each scenario runs once for each of its crash points and for each thing that people may do before the restart. How many
these are stands in docs/guarantees.md, in a table that is compared here.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from sync.storage.tables import StorageTable
from tests.world.crashing import KINDS
from tests.world.promises import World
from tests.world.scenarios import BREAKER, BURST, MEANWHILE, SCENARIOS, Scenario, life, nothing


@pytest.fixture(autouse=True)
def unlogged() -> Iterator[None]:
    """Thousands of worlds have much to say."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("each", [11, pytest.param(1, marks=pytest.mark.slow)], ids=["every eleventh", "all points"])
@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda act: act.__name__)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_the_promises_hold_wherever_the_process_dies(
    scenario: Scenario, meanwhile: Callable[[World], bool], each: int
) -> None:
    undisturbed, outcome = await life(await scenario.world(), [], nothing)
    for point in range(0, 2 * len(undisturbed.effects), each):
        tape, remains = await life(await scenario.world(), [point], meanwhile)
        assert tape.is_dead
        if meanwhile is nothing and scenario.ends_the_same:
            assert remains == outcome, f"point {point} of {undisturbed.effects}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_the_promises_hold_if_the_process_that_comes_after_dies_as_well(scenario: Scenario) -> None:
    undisturbed, outcome = await life(await scenario.world(), [], nothing)
    for first in range(2 * len(undisturbed.effects)):
        for second in count(step=2):  # before each effect; after it is before the next
            tape, remains = await life(await scenario.world(), [first, second], nothing)
            assert remains == outcome or not scenario.ends_the_same, f"points {first}, {second}"
            if not tape.is_dead:
                break


async def test_a_crash_costs_a_burst_one_run_too_many_at_most_and_never_one_too_few() -> None:
    undisturbed = await BURST.world()
    known = undisturbed.runs
    effects = (await undisturbed.run_to_crash(None)).effects
    assert undisturbed.runs == known + 1
    for point in range(2 * len(effects)):
        world = await BURST.world()
        await world.run_to_crash(point)
        await world.run()
        assert known + 1 <= world.runs <= known + 2
        await world.check_in_step()


@pytest.mark.parametrize("each", [15, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_it_is_the_same_with_real_storage(storage: str, each: int) -> None:
    """The scenario with the most rows of all, in Azurite."""
    undisturbed, outcome = await life(await BREAKER.world(), [], nothing)
    for point in range(0, 2 * len(undisturbed.effects), each):
        rows = StorageTable.of_connection_string(storage, f"ledger{point}")
        tape, remains = await life(await BREAKER.world(rows), [point], nothing)
        await rows.close()
        assert tape.effects == undisturbed.effects[: len(tape.effects)]
        assert remains == outcome, f"point {point}"


# --- the table of docs/guarantees.md; ``python -m tests.pairs.test_crashes`` writes it anew ---

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "guarantees.md"
TABLE = re.compile(r"(?<=<!-- crash points -->\n).*(?=<!-- end of crash points -->)", re.DOTALL)


async def crash_points() -> str:
    """The table of scenarios: how many effects of each kind they have, and that there are two crash points for each."""
    lines = [f"| scenario | {' | '.join(KINDS)} | crash points |", f"|---|{'---:|' * (len(KINDS) + 1)}"]
    points = 0
    for scenario in SCENARIOS:
        effects = (await (await scenario.world()).run_to_crash(None)).effects
        counts = [str(effects.count(kind) or "") for kind in KINDS]
        assert set(effects) <= set(KINDS)
        points += 2 * len(effects)
        lines.append(f"| {scenario.name} | {' | '.join(counts)} | {2 * len(effects)} |")
    lines.append(f"| all | {' | ' * (len(KINDS) - 1)} | {points} |")
    return "\n".join(lines) + "\n"


async def test_the_table_is_what_a_run_yields() -> None:
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[0] == await crash_points(), "python -m tests.pairs.test_crashes writes it anew"


def test_the_page_tells_of_all_that_people_do_meanwhile() -> None:
    assert len(MEANWHILE) == 6
    assert "once for each of six things" in PAGE.read_text(encoding="utf-8")


if __name__ == "__main__":
    logging.disable()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: asyncio.run(crash_points()), page), encoding="utf-8", newline="\n")
