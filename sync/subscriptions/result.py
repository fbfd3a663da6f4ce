"""Holds what one run did, and whether Graph could reach the app while it did so.

Only counting lives here. The writes stand in steps.py and replacing.py, and their order in run.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

UNVALIDATED_IN_A_ROW = 20
"""Failed handshakes after which a run gives up, if none has passed lately: the app cannot be reached at all.

Too few, and some odd mailboxes end the run; too many, and a run without hope costs calls and time.
"""

VALIDATED_LATELY = 60.0
"""Seconds for which a handshake that passed shows that the app can be reached.

Too short, and a run ends though the app can be reached; too long, and it goes on though it cannot.
"""


@dataclass
class Result:
    """The work of one run. It is counted while the run goes on, and returned by ``Run.carry_out``."""

    wanted: int = 0
    created: int = 0
    adopted: int = 0
    """Subscriptions that were there already when they were to be created; another run made them most likely."""
    replaced: int = 0
    renewed: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """The reason, by mailbox."""
    not_begun: int = 0
    """Steps for which there was no time."""
    done: set[str] = field(default_factory=set)
    """Mailboxes with a step that came to its end."""
    gaps: set[str] = field(default_factory=set)
    """Mailboxes of ``failed`` whose old subscription was deleted, now or by an earlier run, and no new one made."""
    is_reached: bool | None = None
    """Whether Graph could reach the app; None if the run has not shown it."""
    was_away: bool = False
    """Whether the app was away, or out of Graph's reach, before this run."""
    queued_sweeps: int = 0
    """How many mailboxes are swept because of that."""
    refusal: str | None = None
    """Why nothing was deleted, although it was planned."""


@dataclass
class Handshakes:
    """Counts whether Graph could reach the app: it validates the notification URL at each creation and renewal."""

    in_a_row: int = UNVALIDATED_IN_A_ROW
    lately: float = VALIDATED_LATELY
    _failed: int = 0
    _passed_at: float = -math.inf

    def passed(self, at: float) -> None:
        """Note that one passed *at* this time of the event loop's clock."""
        self._failed, self._passed_at = 0, at

    def failed(self) -> None:
        """Note that one did not pass. A write that fails for another reason says nothing about it, either way."""
        self._failed += 1

    def are_hopeless(self, at: float) -> bool:
        """Say whether so many failed in a row that the app cannot be reached for any mailbox."""
        return self._failed >= self.in_a_row and at - self._passed_at > self.lately

    @property
    def is_reached(self) -> bool | None:
        """Whether Graph can reach the app; None if nothing has shown it."""
        if self._passed_at > -math.inf:
            return True
        return False if self._failed else None
