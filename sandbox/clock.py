"""The time of the simulated world, in UTC; it can be moved and stopped, so that a week passes in a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Runs like the machine's clock until it is moved or stopped."""

    def __init__(self, stopped_at: datetime | None = None) -> None:
        self._offset = timedelta(0)
        self._stopped_at = stopped_at

    def now(self) -> datetime:
        """Aware, in UTC."""
        return self._stopped_at or datetime.now(UTC) + self._offset

    def move(self, by: timedelta) -> None:
        if self._stopped_at is None:
            self._offset += by
        else:
            self._stopped_at += by

    def stop(self) -> None:
        self._stopped_at = self.now()

    def run(self) -> None:
        """Go on from the time it was stopped at."""
        if self._stopped_at is not None:
            self._offset = self._stopped_at - datetime.now(UTC)
            self._stopped_at = None
