"""What docs/guarantees.md says is so: its table is what a run yields; and each test exists that it names.

So does each one that docs/mutations.md names.

``python -m tests.pairs.test_guarantees`` writes the table anew.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import re
from pathlib import Path

import pytest

from tests.pairs.test_crashes import MEANWHILE, SCENARIOS
from tests.world.crashing import KINDS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "guarantees.md"
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
    assert found[0] == await crash_points(), "python -m tests.pairs.test_guarantees writes it anew"


def test_the_page_tells_of_all_that_people_do_meanwhile() -> None:
    assert len(MEANWHILE) == 6
    assert "once for each of six things" in PAGE.read_text(encoding="utf-8")


PAGES = [PAGE, PAGE.with_name("mutations.md")]
NAMED = re.compile(r"`(tests/\S+\.py)(?:::(?:\w+::)?(\w+))?`")


@pytest.mark.parametrize("named", sorted({each for page in PAGES for each in NAMED.findall(page.read_text("utf-8"))}))
def test_each_test_that_is_named_exists(named: tuple[str, str]) -> None:
    file, name = named
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    assert not name or name in names


def test_each_promise_names_a_test() -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    promises = [section for section in sections if re.match(r"P\d", section)]
    assert [section[:2] for section in promises] == [f"P{number}" for number in range(1, 8)]
    assert all(re.search(r"`tests/\S+::\w+`", section) for section in promises)


if __name__ == "__main__":
    logging.disable()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: asyncio.run(crash_points()), page), encoding="utf-8", newline="\n")
