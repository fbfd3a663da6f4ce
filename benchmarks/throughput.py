"""How many changes one instance gets done, beside the same calls without the app, and beside what the services allow.

Without the app: once by the libraries that it calls with, storage's calls included, so that what is left is its own;
and once by a bare HTTP client, which calls Graph and Dataverse only.

The services answer as late as real ones do, and keep the limits that are documented.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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
    done = 0
    for case, order in {
        "ordinary meetings": Order(MAILBOXES, ordinary=changes),
        "moved events": Order(MAILBOXES, moved=changes),
    }.items():
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


@contextmanager
def _world(order: Order) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """The work, and the settings to do it with.

    Work that is done is none any more, and what is stored is known: each run has services and storage of its own.
    """
    with Azurite() as azurite, services(order) as found:
        yield found.work, {**found.settings, "AzureWebJobsStorage": azurite.connection_string}


def _run(what: What, order: Order) -> Result:
    with _world(order) as (work, settings):
        return run(what, work, settings)


def _beside_a_hot_mailbox(changes: int) -> Row:
    """How long the others take if one mailbox has as many changes as they have together, and comes first."""
    order = Order(MAILBOXES, moved=changes, latency=HOT)
    with _world(replace(order, one_mailbox=changes)) as (work, settings):
        hot = next(read_work(work)).mailbox
        others = [at for mailbox, at in run("app", work, settings).done.items() if mailbox != hot]
    without = _run("app", order).done.values()
    title = "Throughput: beside a hot mailbox"
    return Row(title, "all others done", "seconds", max(others), {"without it": max(without)})
