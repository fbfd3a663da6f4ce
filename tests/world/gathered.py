"""What the status page is built from, where all is well, and three things that are not. Tests stay out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sync.pairs.entry import Entry, Held
from sync.pairs.reasons import HoldKind
from sync.status.figures import Backlog, Gathered
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import Swept
from tests.world.fakes import ANNA, NOW

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
AT = NOW + 25 * MINUTE

ANNAS = Standing(ANNA, NOW + LIFETIME, "", NOW, Swept(NOW, 0))
WELL = Gathered(
    roster=Roster(NOW, NOW - 30 * DAY, (ANNAS,)),
    backlogs=(Backlog("outlook-changes", 0, None, 0),),
    held=((), 0),
    tripped=(),
)


def with_standings(*standings: Standing, **roster: object) -> Gathered:
    return replace(WELL, roster=replace(WELL.roster, standings=standings, **roster))  # type: ignore[type-var]


BEHIND = Backlog("outlook-changes", 9, AT - 20 * MINUTE, 0)
HELD = Entry(ANNA, "E1", booking_id=GUID, held=Held(HoldKind.ALL_DAY, NOW, "1"))
LEFT = Entry(ANNA, "E2", booking_id=GUID, held=Held(HoldKind.WAITS_FOR_OUTLOOK, NOW, "1"))
