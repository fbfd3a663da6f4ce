"""Each test exists that docs/guarantees.md names, and each one that docs/mutations.md names.

The table of crash points in docs/guarantees.md is compared in ``test_crashes.py``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "guarantees.md"


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
