"""How much of the tests is run, and in which order: a plugin of pytest.

Options and hooks live here. Fixtures stay in ``conftest.py``, and what a single test needs stays with it.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

LOT = "TEST_LOT"
"""Names the environment variable that hands the lot to each worker of xdist."""

FIRST = (
    "tests/sandbox/tour/test_tour.py",
    "tests/test_end_to_end.py",
    "tests/pairs/test_observing.py",
    "tests/pairs/test_hostile_user.py",
    "tests/subscriptions/test_month.py",
    "tests/telemetry/test_spans.py",
    "tests/benchmarks",
    "tests/operate/test_command_line.py",
    "tests/pairs/test_crashes.py",
    "tests/pairs/test_interleavings.py",
    "tests/sandbox/host",
    "tests/graph/test_notifications.py",
    "tests/doctor",
    "tests/sweep",
)
"""Files and folders whose tests take longest, the longest first.

They begin first, so that no core is idle at the end while another one is busy with a long test. A file that is missing
here only costs a few seconds.
"""

ROOT = Path(__file__).resolve().parent.parent.parent


def lot() -> int:
    """The number that draws what is drawn by lot. It is the same in each run, unless ``--lot`` gives another one."""
    return int(os.environ.get(LOT, "7"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--lot`` and ``--minutes``."""
    group = parser.getgroup("sizes")
    group.addoption("--lot", type=int, help="draw another order of the tests, and other orders within the drawn ones")
    group.addoption("--minutes", type=float, help="skip the tests that have not begun after so many minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the lot on, also to the tests of other processes, and note when the run began."""
    if config.getoption("--lot") is not None:
        os.environ[LOT] = str(config.getoption("--lot"))
    config.stash[BEGAN] = time.monotonic()


BEGAN = pytest.StashKey[float]()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Tell the lot, so that the same run can be asked for again."""
    given = config.getoption("--lot")
    return None if given is None else f"drawn by lot {given}; the same again: --lot {given}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest first; or, with ``--lot``, in the order that the lot draws."""
    if config.getoption("--lot") is not None:
        random.Random(lot()).shuffle(items)
        return
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    path = item.path.relative_to(ROOT).as_posix()
    return next((rank for rank, first in enumerate(FIRST) if path.startswith(first)), len(FIRST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what would begin after ``--minutes``."""
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - item.config.stash[BEGAN] > 60 * minutes:
        pytest.skip(f"{minutes:g} minutes are over")
