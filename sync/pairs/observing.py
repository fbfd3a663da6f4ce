"""The special cases of an app that only observes (``SYNC_MODE=observe``), all in this file. Pure: no IO, no clock.

Such an app decides as any other, and sends no write. It notes each write that it left out, so that ``report`` can show
it. Two things follow when the app is switched on later: a write that was left out is in doubt, as somebody else may
have done it; and a booking may lack the link that the app would have written.
"""

from __future__ import annotations

from dataclasses import replace

from sync.model import SyncMode
from sync.pairs.actions import WRITTEN, Action, LinkBooking, Observed, Stage, Write
from sync.pairs.agreement import intent_with
from sync.pairs.entry import GONE, Decision, Entry, newest
from sync.pairs.pair import Pair


def left_out(action: Action, mode: SyncMode) -> Action:
    """*action*; if it is a write and the app only observes, the note that it was left out."""
    return Observed(action) if isinstance(action, Write) and mode is SyncMode.OBSERVE else action


def last_left_out(entry: Entry) -> Decision | None:
    """The last decision of the pair that was not carried out."""
    return next((decision for decision in reversed(entry.history) if decision.stage is Stage.OBSERVED), None)


def is_left_out(entry: Entry) -> bool:
    """Whether the last write that was decided on was not sent."""
    decided = (each for each in reversed(entry.history) if each.outcome in WRITTEN and each.stage != Stage.INTENDED)
    return next((decision.stage is Stage.OBSERVED for decision in decided), False)


def links(action: Action) -> bool:
    """Whether *action* links the booking. A link that was left out counts, or nothing would tell which side moves next.

    Example: both sides are at 9:00, and the app would link them. The technician drags the event to 12:00. The booking
    still has the times that both had, so the event moved.
    """
    return isinstance(action.write if isinstance(action, Observed) else action, LinkBooking)


def remembered(known: Entry, before: Entry, action: Observed, pair: Pair) -> Entry:
    """*known*, which follows from a decision, if *action* was left out; *before* is the entry before that decision.

    The write is in doubt like one of the app's own. A sweep goes on missing an event that is gone. A person's answer
    holds until the write is done.
    """
    is_released = before.released == pair.version
    return replace(
        known,
        booking_id=action.booking_id,
        intent=intent_with(before.intent, action.write, pair.booking),
        versions=newest(before.versions, GONE) if pair.event is None else known.versions,
        released=before.released,
        held=before.held if is_released else known.held,
    )
