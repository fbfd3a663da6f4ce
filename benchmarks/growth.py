"""How calls, time, memory, storage calls and tables grow with mailboxes and with the changes an instance has seen.

Each point is an instance in a process of its own, with storage of its own, at services without latency; four of five
changes are of ordinary meetings, and no mailbox is left without a change. What is counted for each change does not
grow if all of it grows in proportion. The queue's own message, one for each change, is the host's affair, and what
acknowledging and spreading take is the calculator's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from azure.data.tables import TableServiceClient

from benchmarks.instance import Result, run
from benchmarks.report import ITSELF, Bound, Progress, Row, at_most, power
from benchmarks.services import Order, world


@dataclass(frozen=True)
class Point:
    mailboxes: int
    events: int
    times: int
    """That each event is changed; the same along an axis, as a ledger has a row for each event."""

    @property
    def changes(self) -> int:
        return self.events * self.times


SERIES = {
    # quick and full
    "mailboxes": (
        [Point(10, 100, 1), Point(100, 100, 1)],
        [Point(10, 2_000, 1), Point(100, 2_000, 1), Point(1_000, 2_000, 1), Point(10_000, 10_000, 1)],
    ),
    "changes": (
        [Point(10, 100, 1), Point(10, 600, 1)],
        [Point(20, 25, 4), Point(20, 250, 4), Point(20, 2_500, 4), Point(20, 25_000, 4)],
    ),
}
BESIDE = "the same calls alone"
CALLS, MILLISECONDS, MEMORY = "calls for each change", "ms for each change", "MB, peak of the process"
STORAGE, TABLES = "storage calls to process a change", "bytes of the ledger for each change"
UNITS = (CALLS, MILLISECONDS, MEMORY, STORAGE, TABLES)

LINEAR = 0.1
"""The power up to which a figure for each change is taken for one that does not grow, as points lie beside a line."""

FLAT = 1.1
"""Times the memory that an instance may have after the most of them, beside that after a hundredth."""


@dataclass(frozen=True)
class Found:
    """Of one point, for all of its changes."""

    ours: Result
    bare: Result
    calls: int
    bare_calls: int
    stored: int
    """Bytes."""


def measure(quick: bool, progress: Progress) -> list[Row]:
    axes = {axis: quick_points if quick else full for axis, (quick_points, full) in SERIES.items()}
    points = {point for line in axes.values() for point in line}
    total, done = sum(point.changes + 200 for point in points), 0
    found: dict[Point, Found] = {}
    for point in sorted(points, key=lambda point: point.changes):
        found[point] = _measure(point)
        progress((done := done + point.changes + 200) / total)
    rows = []
    for axis, line in axes.items():
        of_axis = [row for point in line for row in _rows(axis, point, found[point])]
        of_axis.sort(key=lambda row: UNITS.index(row.unit))
        rows += [*of_axis, *_powers(axis, of_axis)]
    return rows


def _measure(point: Point) -> Found:
    bookings = point.events // 5
    order = Order(point.mailboxes, ordinary=point.events - bookings, in_step=bookings)
    with world(order) as found:
        bare = run("bare", found.work, found.settings, point.times)
        least = found.count_calls()
        ours = run("app", found.work, found.settings, point.times)
        return Found(ours, bare, found.count_calls() - least, least, _table_bytes(found.storage))


def _rows(axis: str, point: Point, found: Found) -> list[Row]:
    ours, bare = found.ours, found.bare

    def row(unit: str, us: float, them: float | None) -> Row:
        at = point.mailboxes if axis == "mailboxes" else point.changes
        return Row(f"Growth with {axis}", axis, unit, us, {} if them is None else {BESIDE: them}, at)

    def milliseconds(result: Result) -> float:
        return result.seconds / result.changes * 1_000

    return [
        row(CALLS, found.calls / ours.changes, found.bare_calls / bare.changes),
        row(MILLISECONDS, milliseconds(ours), milliseconds(bare)),
        row(MEMORY, ours.megabytes, bare.megabytes),
        row(STORAGE, ours.storage_calls / ours.changes, None),
        row(TABLES, found.stored / ours.changes, None),
    ]


def _table_bytes(storage: str) -> int:
    """Of all rows, written as JSON."""
    with TableServiceClient.from_connection_string(storage) as service:
        tables = [service.get_table_client(table.name) for table in service.list_tables()]
        return sum(len(json.dumps(row, default=str)) for table in tables for row in table.list_entities())


def _powers(axis: str, rows: Sequence[Row]) -> list[Row]:
    """The power of the axis that each figure grows with, and how flat the memory is."""
    title, found = f"Growth with {axis}: powers", []
    for unit in UNITS:
        grows = power([row for row in rows if row.unit == unit])
        if grows is not None:
            found.append(Row(title, unit, "power", grows, promised={ITSELF: at_most(LINEAR)}))
    memory = [row for row in rows if row.unit == MEMORY]
    last = memory[-1]
    before = [row for row in memory if (row.at or 0) * 100 <= (last.at or 0)]
    if before:
        flat: dict[str, Bound] = {"after a hundredth of them": at_most(FLAT)}
        theirs = dict.fromkeys(flat, before[-1].ours)
        found.append(Row(title, f"memory after {last.at:,.0f} {axis}", "MB", last.ours, theirs, promised=flat))
    return found
