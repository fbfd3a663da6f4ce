"""How many changes one instance gets done, beside the same calls without the app, and beside what the services allow.

The services answer as late as real ones do, and keep the limits that are documented.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import limits
from benchmarks.instance import Result, run
from benchmarks.report import Progress, Row
from benchmarks.services import Order, services
from benchmarks.work import read_work
from sandbox.azurite import Azurite

MAILBOXES = 50
LATENCIES = (0.02, 0.03, 0.04, 0.05)
HOT = 0.035
"""Seconds; the latency beside which one mailbox has more to do than all others."""


def measure(quick: bool, progress: Progress) -> list[Row]:
    latencies = LATENCIES[1:2] if quick else LATENCIES
    changes = 150 if quick else 1_500
    steps = 2 * len(latencies) + 2
    rows = []
    with Azurite() as azurite:

        def both(order: Order) -> tuple[Result, Result]:
            """Work that is done is none any more, so each has services of its own."""
            results = []
            for what in ("app", "bare"):
                with services(order) as found:
                    settings = {**found.settings, "AzureWebJobsStorage": azurite.connection_string}
                    results.append(run(what, found.work, settings))
            return results[0], results[1]

        done = 0
        for case, order in {
            "ordinary meetings": Order(MAILBOXES, ordinary=changes),
            "moved events": Order(MAILBOXES, moved=changes),
        }.items():
            for latency in latencies:
                ours, bare = both(replace(order, latency=latency))
                rows.append(
                    Row(
                        f"Throughput: {case}",
                        "ms latency",
                        "changes in a second",
                        ours.per_second,
                        {"the same calls alone": bare.per_second},
                        at=latency * 1_000,
                    )
                )
                progress((done := done + 1) / steps)
        rows.append(_beside_a_hot_mailbox(azurite, changes))
        progress((done + 1) / steps)
    return [*rows, *limits.measure(quick, lambda share: progress((done + 1 + share) / (steps + 1)))]


def _beside_a_hot_mailbox(azurite: Azurite, changes: int) -> Row:
    """How long the others take if one mailbox has as many changes as they have together, and comes first."""
    seconds = []
    for one_mailbox in (changes, 0):
        with services(Order(MAILBOXES, moved=changes, latency=HOT, one_mailbox=one_mailbox)) as found:
            settings = {**found.settings, "AzureWebJobsStorage": azurite.connection_string}
            hot = next(read_work(found.work)).mailbox if one_mailbox else None
            result = run("app", found.work, settings)
        seconds.append(max(at for mailbox, at in result.done.items() if mailbox != hot))
    return Row("Throughput: beside a hot mailbox", "all others done", "seconds", seconds[0], {"without it": seconds[1]})
