"""Predicts the cost of mailboxes and changes: calls, the limit that is nearest, executions, storage transactions.

Sums over what was measured; nobody is asked. docs/capacity.md says the same in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sync.subscriptions.deployment import LIFETIME
from sync.sweep.rounds import MAILBOXES_PER_SECOND


@dataclass(frozen=True)
class Cost:
    """The cost of one change, or of one mailbox in a night, on average."""

    graph: float
    dataverse: float
    posts: float
    """Graph's POSTs, each an execution of `notifications`."""
    messages: float
    """Stored on a queue, each an execution that takes it."""
    table: float
    """Requests to the app's tables."""


# Measured, the changes on days in which each is notified of one to four times, by: python3 dev.py bench capacity
ORDINARY_CHANGE = Cost(graph=0.7575, dataverse=0.0975, posts=2.12, messages=2.8775, table=4.0125)
BOOKINGS_CHANGE = Cost(graph=1.16, dataverse=1.8175, posts=2.045, messages=3.06, table=6.31)
NIGHT = Cost(graph=1.0, dataverse=2.03, posts=0.0, messages=1.0, table=3.01)

MESSAGE = 3
"""Transactions of a message: it is put, received and deleted, the latter two by the host."""

RUNS = 24
"""Runs of the roster in a day; each reads all subscriptions and all people. `sweep` is woken three times more."""
SUBSCRIPTIONS_PAGE, PEOPLE_PAGE = 100, 5_000
ROSTER = 7
"""Table requests of a run: four for what it remembers, and three for what the status page shows of the mailboxes."""
HANDSHAKES = 2
"""Executions for each renewal: Graph validates the notification URL and the lifecycle notification URL again."""
WAKES = RUNS + 3

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 15
"""Seconds until the host looks again at a queue that it found empty: after a message, and in the end (host.json)."""
POLLS = 3 * 86_400 // LONGEST_WAIT
"""Transactions in a day of one instance that looks at three empty queues as rarely as host.json lets it."""
FLUSHES = 86_400 // 60
"""Transactions in a day of one instance that has something to count each minute."""

WORKING_HOURS = 10
"""In which a day's changes happen, as in the day that was measured."""

MONTH = 30
"""Days."""


@dataclass(frozen=True)
class Use:
    """The use of a limit in its window, on average, and the allowance."""

    limit: str
    used: float
    allowed: int
    is_spread: bool = False
    """By pacing, over as much time as it takes, so that with however many mailboxes it never comes to the limit."""

    @property
    def share(self) -> float:
        """The part of the limit that is used, between 0 and 1 and above."""
        return self.used / self.allowed


@dataclass(frozen=True)
class Total:
    """Counts of a day, and of a month of thirty."""

    what: str
    day: int
    month: int


@dataclass(frozen=True)
class Prediction:
    """The calculated day and month of an installation."""

    totals: Sequence[Total]
    limits: Sequence[Use]
    """The nearest first, and after them what is spread, which binds nobody."""


def predict(mailboxes: int, changes: int, bookings: float) -> Prediction:
    """For so many *changes* a day in all mailboxes, of which the share *bookings* is of bookings' events."""
    change = _mixed(bookings)
    renewals = max(mailboxes * timedelta(days=1) / (LIFETIME / 2), RUNS)
    graph = changes * change.graph + mailboxes * NIGHT.graph
    graph += RUNS * math.ceil(mailboxes / SUBSCRIPTIONS_PAGE) + renewals
    by_day, by_night = changes * change.dataverse, mailboxes * NIGHT.dataverse
    dataverse = by_day + by_night + RUNS * math.ceil(mailboxes / PEOPLE_PAGE)
    messages = changes * change.messages + mailboxes * NIGHT.messages
    executions = changes * change.posts + messages + renewals * HANDSHAKES + WAKES
    storage = messages * MESSAGE + changes * change.table + mailboxes * NIGHT.table + RUNS * ROSTER + POLLS + FLUSHES
    storage += empty_polls(changes * change.messages, WORKING_HOURS * 3_600)
    storage += empty_polls(mailboxes * NIGHT.messages, mailboxes / MAILBOXES_PER_SECOND)
    figures = {
        "Graph calls": graph,
        "Dataverse calls": dataverse,
        "executions": executions,
        "storage transactions": storage,
    }
    swept = min(mailboxes, MAILBOXES_PER_SECOND * 300)
    # Sources: Dataverse, "Service protection API limits" (of one web server, there may be more) and "Requests limits
    # and allocations" (base of a tenant with Dynamics 365); Graph, "Outlook service limits".
    limits = [
        Use("Dataverse, 5 minutes of the working day", by_day / (WORKING_HOURS * 12), 6_000),
        Use("Dataverse, 5 minutes of the sweep", swept * NIGHT.dataverse, 6_000, is_spread=True),
        Use("Dataverse, 24 hours of the tenant", dataverse, 500_000),
        Use(
            "Graph, 10 minutes of an average mailbox", changes * change.graph / mailboxes / (WORKING_HOURS * 6), 10_000
        ),
    ]
    totals = [Total(what, round(figure), round(figure * MONTH)) for what, figure in figures.items()]
    return Prediction(totals, sorted(limits, key=lambda use: (use.is_spread, -use.share)))


def empty_polls(messages: float, seconds: float) -> float:
    """Looks of one instance at a queue that is empty again, at most, beside ``POLLS``, for *messages* in *seconds*.

    After a message the host waits for 0.1 s, then after each empty look for about 0.2, 0.3, 0.5, 0.9 s and so on, until
    the next message: there is an empty look for each wait. From 0 on, the nth is longer than 0.05 s × 2^n, so no more
    than log2(1 + gap / 0.05 s) fit in the gap between two messages. Nowhere do more fit than where all gaps are equal.

    Source: Azure WebJobs SDK, QueueListener and RandomizedExponentialBackoffStrategy.
    """
    if not messages:
        return 0.0
    gap = min(seconds / messages, LONGEST_WAIT)
    return messages * min(gap / SHORTEST_WAIT, math.log2(1 + 2 * gap / SHORTEST_WAIT))


def _mixed(bookings: float) -> Cost:
    ours, others = asdict(BOOKINGS_CHANGE), asdict(ORDINARY_CHANGE)
    return Cost(**{name: bookings * ours[name] + (1 - bookings) * others[name] for name in ours})


def build_document(prediction: Prediction) -> dict[str, Any]:
    """The prediction for programs."""
    limits = [{**asdict(use), "share": use.share} for use in prediction.limits]
    return {"totals": [asdict(total) for total in prediction.totals], "limits": limits}


def build_lines(prediction: Prediction) -> list[str]:
    """How far each limit is, in their order."""
    return [f"{use.limit}: {use.used:,.1f} of {use.allowed:,}, {_distance(use)}" for use in prediction.limits]


def _distance(use: Use) -> str:
    if use.is_spread:
        return f"{use.share:.1%}, paced: it never comes to the limit"
    return f"{use.share:.1%}" + (f": {1 / use.share:,.1f} times as much would fit" if 0 < use.share < 1 else "")
