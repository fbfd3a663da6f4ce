"""The origin of a message, which travels with it on the queue. A value; it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """The notification or sweep that a message comes from; it decides nothing."""

    traceparent: str
    """Source: W3C, "Trace Context"."""
    at: float
    """When that was, in seconds since 1970."""
