"""What was asked of the simulated services: the record that tests and the tour count calls from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Service = Literal["graph", "dataverse"]


@dataclass(frozen=True)
class Call:
    """One request as it arrived; ``status`` is what was answered, None where the connection was cut."""

    service: Service
    method: str
    path: str
    """Percent-decoded, below the service's root, without the query: ``/users/…/events/…``."""
    query: str
    """Percent-decoded."""
    headers: dict[str, str]
    """Names in lower case; the Authorization header's value is left out."""
    body: bytes
    at: datetime
    status: int | None

    @property
    def is_write(self) -> bool:
        return self.method != "GET"

    def __str__(self) -> str:
        return f"{self.service} {self.method} {self.path} {self.status}"


@dataclass
class Calls:
    """All calls so far, oldest first; ``listeners`` hear of each one when it has been answered."""

    recorded: list[Call] = field(default_factory=list)
    listeners: list[Callable[[Call], None]] = field(default_factory=list)

    def record(self, call: Call) -> None:
        self.recorded.append(call)
        for listener in self.listeners:
            listener(call)

    def clear(self) -> None:
        self.recorded.clear()

    def reads(self, service: Service) -> int:
        return sum(call.service == service and not call.is_write for call in self.recorded)

    def writes(self, service: Service) -> int:
        return sum(call.service == service and call.is_write for call in self.recorded)

    def __iter__(self) -> Iterator[Call]:
        return iter(self.recorded)

    def __len__(self) -> int:
        return len(self.recorded)
