"""How calls, time, memory, storage calls and tables grow with mailboxes and with the changes an instance has seen.

Each point is an instance in a process of its own, with storage of its own, at services without latency; four of five
changes are of ordinary meetings, and each event is changed four times, but no mailbox is left without a change. The
queue's own message, one for each change, is the host's affair.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import linear_regression

from azure.data.tables import TableServiceClient

from benchmarks.instance import Result, run
from benchmarks.report import Progress, Row
from benchmarks.services import Order, services
from sandbox.azurite import Azurite

EACH = 4
"""Changes of one event."""

SERIES = {
    # (mailboxes, changes), quick and full
    "mailboxes": (
        [(10, 200), (1_000, 200)],
        [(10, 2_000), (100, 2_000), (1_000, 2_000), (10_000, 2_000)],
    ),
    "changes": (
        [(100, 100), (100, 400), (100, 1_600)],
        [(100, 100), (100, 1_000), (100, 10_000), (100, 100_000)],
    ),
}
BESIDE = "the same calls alone"


def measure(quick: bool, progress: Progress) -> list[Row]:
    rows, done = [], 0
    points = {axis: quick_points if quick else full for axis, (quick_points, full) in SERIES.items()}
    total = sum(changes + 200 for series in points.values() for _, changes in series)
    for axis, series in points.items():
        found: list[Row] = []
        for mailboxes, changes in series:
            found += _point(axis, mailboxes, changes)
            progress((done := done + changes + 200) / total)
        found.sort(key=lambda row: row.benchmark)
        rows += [*found, *_fits(axis, found)]
    return rows


def _point(axis: str, mailboxes: int, changes: int) -> list[Row]:
    events = max(changes // EACH, mailboxes)
    times = max(changes // events, 1)
    order = Order(mailboxes, ordinary=events - events // 5, in_step=events // 5)
    with Azurite() as azurite, services(order) as found:
        settings = {**found.settings, "AzureWebJobsStorage": azurite.connection_string}
        bare = run("bare", found.work, settings, times)
        least = found.count_calls()
        ours = run("app", found.work, settings, times)
        calls, stored = found.count_calls() - least, _table_bytes(azurite)
    at = mailboxes if axis == "mailboxes" else changes

    def row(what: str, unit: str, us: float, them: float | None) -> Row:
        return Row(f"Growth with {axis}: {what}", axis, unit, us, {} if them is None else {BESIDE: them}, at)

    def milliseconds(result: Result) -> float:
        return result.seconds / result.changes * 1_000

    return [
        row("calls", "calls for each change", calls / ours.changes, least / bare.changes),
        row("memory", "MB, peak of the process", ours.megabytes, bare.megabytes),
        row("storage", "storage calls for each change", ours.storage_calls / ours.changes, None),
        row("tables", "bytes for each change", stored / ours.changes, None),
        row("time", "ms for each change", milliseconds(ours), milliseconds(bare)),
    ]


def _table_bytes(azurite: Azurite) -> int:
    """Of all rows, written as JSON."""
    with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        tables = [service.get_table_client(table.name) for table in service.list_tables()]
        return sum(len(json.dumps(row, default=str)) for table in tables for row in table.list_entities())


def _fits(axis: str, rows: Sequence[Row]) -> list[Row]:
    """For each figure the power of the axis that it grows with: 0 is not at all, 1 in proportion."""
    fits = []
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        line = [
            (math.log(row.at), math.log(row.ours)) for row in rows if row.benchmark == benchmark and row.at and row.ours
        ]
        if len(line) > 1:
            power = linear_regression(*zip(*line, strict=True)).slope
            fits.append(Row(f"Growth with {axis}: powers", benchmark.partition(": ")[2], "power", power))
    return fits
