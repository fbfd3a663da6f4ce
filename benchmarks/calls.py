"""Calls to Graph and Dataverse for each kind of change of a mixed day: the app's, the original's, an oracle's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial

from benchmarks.day import Calls, Day, Kind, mixed_day, oracle
from benchmarks.parallel import in_parallel
from benchmarks.replay import Subject, replay, the_app, the_original
from benchmarks.report import ITSELF, Bound, Progress, Row, at_most, exactly

FOUR, MIXED = "4 notifications a change", "1 to 4 notifications a change"
SLOW = "4 notifications a change, up to 15 s apart"
NOTIFICATIONS = {
    "1 notification a change": (1, 1),
    "2 notifications a change": (2, 2),
    "3 notifications a change": (3, 3),
    FOUR: (4, 4),
    MIXED: (1, 4),
    SLOW: (4, 4),
}
"""The changes are the same each time. Where the number is fixed nothing is delivered once more: four are four."""

QUICK = (FOUR, MIXED)
"""The days with promises of their own."""

REDELIVERED = 0.05
"""Of the changes of the mixed day."""

APART = {SLOW: 15.0}
"""Seconds from one notification to the next at most, where they are more than the few that Graph seems to take."""

BUT_KNOWN = "all changes but those of known meetings"
PROMISED: Mapping[tuple[str, str], Mapping[str, Bound]] = {
    (FOUR, Kind.MOVED.value): {"original": at_most(1 / 4)},
    (FOUR, Kind.DELETED.value): {"original": at_most(1 / 5)},
    (FOUR, Kind.MEETING_FIRST.value): {"original": at_most(1 / 4)},
    (FOUR, Kind.MEETING_KNOWN.value): {ITSELF: exactly(0)},
    (MIXED, "all changes"): {"original": at_most(1 / 3), "oracle": at_most(1.05)},
    (MIXED, BUT_KNOWN): {"oracle": at_most(1.05)},
    **{(name, "all changes, writes"): {"oracle": exactly(1)} for name in NOTIFICATIONS},
}
"""By the day and the row."""

Make = Callable[[], AbstractAsyncContextManager[Subject]]


def measure(quick: bool, progress: Progress) -> list[Row]:
    changes, mailboxes = (120, 12) if quick else (2_000, 200)
    days = {
        name: mixed_day(
            seed=1,
            changes=changes,
            mailboxes=mailboxes,
            notifications=times,
            redelivered=REDELIVERED if name == MIXED else 0.0,
            apart=APART.get(name, 1.5),
        )
        for name, times in NOTIFICATIONS.items()
        if name in QUICK or not quick
    }
    tasks = {
        ("ours, readable", FOUR): partial(_spent, partial(the_app, deleted_stay_readable=True), days[FOUR]),
        **{("ours", name): partial(_spent, the_app, day) for name, day in days.items()},
        **{("theirs", name): partial(_spent, the_original, day) for name, day in days.items()},
    }
    found = {}
    for key, spent in in_parallel(tasks):
        found[key] = spent
        progress(len(found) / len(tasks))
    rows = [row for name, day in days.items() for row in _rows(name, day, found["ours", name], found["theirs", name])]
    return [*rows, *_readable(days[FOUR], found["ours, readable", FOUR])]


def _spent(make: Make, day: Day) -> Mapping[Kind, Calls]:
    async def replayed() -> Mapping[Kind, Calls]:
        async with make() as subject:
            return await replay(day, subject)

    return asyncio.run(replayed())


def _readable(day: Day, ours: Mapping[Kind, Calls]) -> list[Row]:
    """What deletions cost where a deleted event stays readable; the original takes it for one that is there."""
    count, knowing = Counter(change.kind for change in day.changes), oracle(day.changes)
    return [
        Row(
            "Calls: deleted events that stay readable",
            kind.value,
            "calls for each change",
            ours[kind].total / count[kind],
            {"oracle": knowing[kind].total / count[kind]},
        )
        for kind in (Kind.DELETED, Kind.MEETING_DELETED)
        if count[kind]
    ]


def _rows(name: str, day: Day, ours: Mapping[Kind, Calls], theirs: Mapping[Kind, Calls]) -> list[Row]:
    count, knowing = Counter(change.kind for change in day.changes), oracle(day.changes)

    def row(case: str, of: Callable[[Calls], int], *kinds: Kind) -> Row:
        us, original, all_knowing = (
            of(sum((spent[kind] for kind in kinds), Calls())) / sum(count[kind] for kind in kinds)
            for spent in (ours, theirs, knowing)
        )
        others = {"original": original, "oracle": all_knowing}
        promised = PROMISED.get((name, case), {})
        return Row(f"Calls: {name}", case, "calls for each change", us, others, promised=promised)

    return [
        *(row(kind.value, lambda calls: calls.total, kind) for kind in Kind if count[kind]),
        row("all changes", lambda calls: calls.total, *count),
        row(BUT_KNOWN, lambda calls: calls.total, *(kind for kind in count if kind is not Kind.MEETING_KNOWN)),
        row("all changes, writes", lambda calls: calls.writes, *count),
    ]
