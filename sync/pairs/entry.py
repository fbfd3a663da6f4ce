"""The values that the ledger remembers of a pair. No rule lives here.

``remembering.py`` says how an entry follows from another one, ``storage/ledger.py`` stores it. The ledger is a cache:
the app reads anew what it does not remember. An entry holds ids, times and reasons, and nothing of an event's content.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sync.model import Span
from sync.pairs.actions import Outcome, Stage
from sync.pairs.reasons import HOLDS, Acts, HoldKind, reason_of

GONE = "gone"
"""Stands for the version of an event that does not exist any more."""

VERSIONS = 8
"""Versions of an event that are remembered, the newest last.

Graph notifies of one change up to four times. Too few, and a late notification costs a look; more only take room.
"""

DECISIONS = 20
"""Decisions that are kept for ``explain``. Too few, and a person cannot see what led to a hold; more only take room."""


def newest(versions: tuple[str, ...], *seen: str | None) -> tuple[str, ...]:
    """*versions* with those that were *seen*, the newest last, as many as are kept."""
    new = [version for version in seen if version]
    return tuple(dict.fromkeys([*(version for version in versions if version not in new), *new]))[-VERSIONS:]


class Kind(StrEnum):
    """The app's relation to an event."""

    PAIR = "pair"
    """It carries our extension."""
    GONE = "gone"
    """It is deleted."""
    NOT_OURS = "not ours"
    """People made it for themselves."""


@dataclass(frozen=True)
class Intent:
    """Writes that were about to be sent, and the times that the booking has afterwards.

    All of them were guarded by one *version* of the booking, so at most one took effect.
    """

    spans: tuple[Span, ...]
    """The same span stands twice if two workers were about to write it."""
    version: str


@dataclass(frozen=True)
class Decision:
    """One line of a pair's history. The spans are those that were looked at, not those that were written."""

    at: datetime
    cause: str
    outcome: Outcome
    stage: Stage = Stage.DONE
    reason: str = ""
    event_version: str = ""
    booking_version: str = ""
    event_span: Span | None = None
    booking_span: Span | None = None
    times: int = 1
    """How often in a row the same was decided of the same versions; *at* is the last time."""


@dataclass(frozen=True)
class Held:
    """Why a pair is out of step, and since when."""

    kind: HoldKind
    since: datetime
    version: str
    """The event's version. A person's answer holds for this version only."""
    outcome: Outcome | None = None
    """The booking's fate if a person releases it; None where the app can do nothing."""
    is_missed: bool = False
    """Whether the event was only missed, which is no evidence that it was deleted."""
    booking_span: Span | None = None
    """The booking's times. A person's answer to write over them holds as long as the booking has them."""
    detail: str = ""
    """Completes the reason."""

    @property
    def reason(self) -> str:
        """In words for a person."""
        return reason_of(self.kind, self.detail)

    @property
    def is_waiting(self) -> bool:
        """Whether Outlook is to follow, rather than a person to say."""
        return HOLDS[self.kind].acts is Acts.OUTLOOK

    @property
    def is_conflict(self) -> bool:
        """Whether both sides were changed; see ``HoldWords``."""
        return HOLDS[self.kind].is_conflict


@dataclass(frozen=True)
class Entry:
    """One event and its booking, as the ledger knows them; ``etag`` is the stored row's, empty if there is none yet."""

    mailbox: str
    event_id: str
    etag: str = ""
    kind: Kind = Kind.PAIR
    booking_id: str | None = None
    agreed: tuple[Span, ...] = ()
    """The times that both sides last had in common; several while a write of the app's is in doubt."""
    intent: Intent | None = None
    versions: tuple[str, ...] = ()
    """The event's versions that need no second look, the newest last."""
    modified: datetime | None = None
    """When the event was modified at the newest of them, by Exchange's clock."""
    booking_version: str = ""
    """The booking's version when the event was last seen. While the booking has it, nobody edited the booking since."""
    held: Held | None = None
    released: str | None = None
    """The version of the event for which a person said: do it."""
    discarded: str | None = None
    """The version of the event for which a person said: let the booking be."""
    discarded_span: Span | None = None
    """The booking's times then. A booking that is moved afterwards is looked at anew."""
    ended: str | None = None
    """The version of the event for which the booking was canceled. A booking that a person opens again stays open."""
    history: tuple[Decision, ...] = ()
    expires: datetime | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing of it is stored yet."""
        return not self.etag

    @property
    def was_read(self) -> bool:
        """Whether the event was seen in this mailbox with a booking that it claims, and its end was not judged since.

        While the app only observes, an event that is gone stays one to be missed.
        """
        return GONE in self.versions or (self.kind is Kind.PAIR and bool(self.versions or self.agreed))
