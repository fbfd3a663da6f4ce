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
from benchmarks.services import Order, services
from benchmarks.work import read_work
from sandbox.azurite import Azurite

WHATS: Mapping[What, str] = {"app": "", "libraries": "same libraries", "bare": "bare HTTP"}
MAILBOXES = 50
LATENCIES = (0.02, 0.035, 0.05)
HOT = LATENCIES[1]
"""Seconds; the latency beside which one mailbox has more to do than all others."""


def measure(quick: bool, progress: Progress) -> list[Row]:
    latencies = LATENCIES[1:2] if quick else LATENCIES
    changes = 100 if quick else 1_000
    steps = 2 * len(latencies) + (1 if quick else 2)
    rows = []
    with Azurite() as azurite:

        def each(order: Order) -> dict[What, Result]:
            """Work that is done is none any more, so each has services of its own."""
            results: dict[What, Result] = {}
            for what in WHATS:
                with services(order) as found:
                    settings = {**found.settings, "AzureWebJobsStorage": azurite.connection_string}
                    results[what] = run(what, found.work, settings)
            return results

        done = 0
        for case, order in {
            "ordinary meetings": Order(MAILBOXES, ordinary=changes),
            "moved events": Order(MAILBOXES, moved=changes),
        }.items():
            for latency in latencies:
                found = each(replace(order, latency=latency))
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
            rows.append(_beside_a_hot_mailbox(azurite, changes))
            progress((done := done + 1) / steps)
    return [*rows, *limits.measure(quick, lambda share: progress((done + share) / steps))]


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
