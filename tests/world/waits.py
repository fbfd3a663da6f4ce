"""What lets no test wait out a retry. Tests of the waits themselves hand in a ``sleep`` of their own."""

from __future__ import annotations

import pytest


def leave_out_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once, in calls to both services and in writes of subscriptions."""
    monkeypatch.setattr("sync.calls.retries._wait", lambda state: 0.0)
    monkeypatch.setattr("sync.calls.pace._patience", lambda failures: 0.0)
