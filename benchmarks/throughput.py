"""How many changes one instance gets done, beside the same calls without the app, and beside what the services allow.

Without the app: once by the libraries that it calls with, storage's calls included, so that what is left is its own;
and once by a bare HTTP client, which calls Graph and Dataverse only.

The services answer as late as real ones do, and keep the limits that are documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benchmarks import limits
from benchmarks.instance import Result, What, run
from benchmarks.report import Progress, Row, at_least
from benchmarks.services import Order, world
from benchmarks.work import read_work

WHATS: Mapping[What, str] = {"app": "", "libraries": "same libraries", "bare": "bare HTTP"}
MAILBOXES = 50
LATENCIES = (0.02, 0.035, 0.05)
HOT = LATENCIES[1]
"""Seconds; the latency beside which one mailbox has more to do than all others."""


def measure(quick: bool, progress: Progress) -> list[Row]:
    latencies = LATENCIES[1:2] if quick else LATENCIES
    changes = 60 if quick else 1_000
    orders = {"moved events": Order(MAILBOXES, moved=changes)}
    if not quick:
        orders = {"ordinary meetings": Order(MAILBOXES, ordinary=changes), **orders}
    steps = len(orders) * len(latencies) + (1 if quick else 2)
    rows = []
    done = 0
    for case, order in orders.items():
        for latency in latencies:
            found = {what: _run(what, replace(order, latency=latency)) for what in WHATS}
            beside = {name: found[what].per_second for what, name in WHATS.items() if what != "app"}
            rows.append(
                Row(
                    f"Throughput: {case}",
                    "ms latency",
                    "changes in a second",
                    found["app"].per_second,
                    beside,
                    at=latency * 1_000,
                    promised=dict.fromkeys(beside, at_least(0.8)),
                )
            )
            progress((done := done + 1) / steps)
    if not quick:
        rows.append(_beside_a_hot_mailbox(changes))
        progress((done := done + 1) / steps)
    return [*rows, *limits.measure(quick, lambda share: progress((done + share) / steps))]


def _run(what: What, order: Order) -> Result:
    with world(order) as found:
        return run(what, found.work, found.settings)


def _beside_a_hot_mailbox(changes: int) -> Row:
    """How long the others take if one mailbox has as many changes as they have together, and comes first."""
    order = Order(MAILBOXES, moved=changes, latency=HOT)
    with world(replace(order, one_mailbox=changes)) as found:
        hot = next(read_work(found.work)).mailbox
        others = [at for mailbox, at in run("app", found.work, found.settings).done.items() if mailbox != hot]
    without = _run("app", order).done.values()
    title = "Throughput: beside a hot mailbox"
    return Row(title, "all others done", "seconds", max(others), {"without it": max(without)})
