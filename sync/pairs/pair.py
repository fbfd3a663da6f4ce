"""A pair as it was looked at: one event and its booking. Start reading here; a value, without IO.

The life of a pair, and which file has the word:

======================================  ===============================================================  ==============
The pair                                What happens                                                     File
======================================  ===============================================================  ==============
was made by somebody                    a change names the event; both sides are read                    looking.py
is linked                               the booking gets the event's id: both have agreed on a span      decision.py
is in step                              nothing is written, for ever                                     decision.py
was moved in Outlook                    the booking follows: one write, guarded by the booking's etag    processing.py
was moved in Dynamics                   the event is to follow; until then the pair waits for Outlook    decision.py
was moved apart                         CONFLICT_POLICY says which side stays                            decision.py
lost its event                          the booking is canceled, if the evidence is strong enough        overrides.py
is held                                 a person says: release or discard                                holds.py
is over                                 it is forgotten some time after its end                          remembering.py
======================================  ===============================================================  ==============
"""

from __future__ import annotations

from dataclasses import dataclass

from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event
from sync.pairs.entry import GONE, Entry


@dataclass(frozen=True)
class Pair:
    """Both sides as they were read for one decision, and what the ledger remembered of them before."""

    change: Change
    entry: Entry
    event: Event | None
    """The event; None if it is not there."""
    booking: Booking | None
    """The booking that the event names. If the event is gone: the one that holds its id."""
    rival: Event | None = None
    """The other event that the booking is linked to, if that one still stands in a calendar."""
    rival_trouble: str = ""
    """Why that other event could not be read; empty if it could, or if there is none."""
    holders: int = 1
    """How many bookings of the mailbox hold the id of an event that is gone."""
    event_is_newer: bool = True
    """Whether the event was read after the booking whose etag guards a write of the event's times."""
    is_own: bool = True
    """Whether the app wrote the booking last. It is asked only where ``is_own`` can matter."""

    @property
    def version(self) -> str:
        """The event's etag, or ``GONE``."""
        return self.event.etag if self.event is not None else GONE

    @property
    def is_linked(self) -> bool:
        """Whether the booking holds the id of the event that the change names."""
        event_id = self.event.id if self.event is not None else self.change.event_id
        return self.booking is not None and self.booking.event_id == event_id

    @property
    def has_rival(self) -> bool:
        """Whether the booking is linked to another event that stands, and not to an older form of this one's id."""
        return self.event is not None and self.rival is not None and self.rival.id != self.event.id

    @property
    def event_names(self) -> str | None:
        """The id of the booking that the event names; None if it names none, or is gone."""
        return self.event.booking_id if self.event is not None else None

    @property
    def is_hinted(self) -> bool:
        """Whether there is any evidence that the event is gone."""
        return self.change.evidence is not Evidence.NONE

    @property
    def has_ended(self) -> bool:
        """Whether the event is gone, or its organizer cancelled it."""
        return self.event is None or self.event.is_cancelled
