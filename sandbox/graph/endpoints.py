"""How fast webhooks answer, and what Graph does to those that are slow; state is kept for each host name.

Source: Graph, "Receive change notifications through webhooks", throttling of slow endpoints.
"""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime, timedelta
from typing import Literal

from sandbox.clock import Clock

State = Literal["ok", "slow", "drop"]
WINDOW = timedelta(minutes=10)
SLOW_SHARE, DROP_SHARE = 0.10, 0.15


class Endpoints:
    """*slow* and *very_slow* are seconds an answer takes: over 3, over 10."""

    def __init__(self, clock: Clock, slow: float = 3.0, very_slow: float = 10.0) -> None:
        self._clock = clock
        self._slow = slow
        self._very_slow = very_slow
        self._answers: defaultdict[str, deque[tuple[datetime, float]]] = defaultdict(deque)
        self._judged: dict[str, tuple[State, datetime]] = {}

    def record(self, host: str, seconds: float) -> None:
        self._answers[host].append((self._clock.now(), seconds))

    def state(self, host: str) -> State:
        """`slow`: new notifications are delayed by ten minutes. `drop`: they are dropped. Judged every ten minutes."""
        now = self._clock.now()
        state, until = self._judged.get(host, ("ok", now))
        if now >= until:
            state = self._judge(host, now)
            self._judged[host] = (state, now if state == "ok" else now + WINDOW)
        return state

    def _judge(self, host: str, now: datetime) -> State:
        answers = self._answers[host]
        while answers and answers[0][0] <= now - WINDOW:
            answers.popleft()
        if sum(seconds >= self._very_slow for _, seconds in answers) > DROP_SHARE * len(answers):
            return "drop"
        if sum(seconds >= self._slow for _, seconds in answers) > SLOW_SHARE * len(answers):
            return "slow"
        return "ok"
