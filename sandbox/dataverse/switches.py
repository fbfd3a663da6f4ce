"""What Dataverse does where its documentation says nothing, and the trouble an environment can be in, as switches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class DataverseSwitches:
    """Read at every request, so that a switch may be thrown at any time."""

    # Writing.
    recalculates_duration: bool = False
    """A write of start or end sets ``duration`` to the minutes between them; otherwise it is kept as sent."""
    optimistic_concurrency: bool = True
    """``IsOptimisticConcurrencyEnabled`` of bookings; without it an etag in If-Match is refused with 0x8006088D."""
    upsert_needs_required: bool = True
    """A PATCH that creates is refused if it lacks a required column; otherwise the row holds null there."""
    column_needs_publishing: bool = True
    """A new column is unknown to queries and payloads until PublishXml; reported, not documented."""
    definitions_are_cached: bool = True
    """For 30 seconds a new definition is found with ``Consistency: Strong`` only. Source: "Query table definitions"."""
    languages: set[int] = field(default_factory=lambda: {1033})
    """Those of the environment; a label in another one is refused, which is common belief and not documented."""
    solutions: dict[str, str] = field(default_factory=lambda: {"ContosoBookingSync": "contoso"})
    """By unique name the customization prefix of its publisher; there are no other solutions and prefixes."""
    plugin_refuses: dict[str, str] = field(default_factory=dict)
    """Row id, or "*" for every booking: the message of the synchronous plug-in that refuses each write (0x80040265)."""
    plugin_touches: bool = False
    """A plug-in writes to another column after each write of a booking, so the etag rises once more."""

    # Answers.
    error_codes: bool = True
    """Errors carry their code; otherwise it is "", as pages of up to 2022 show."""
    fractional_seconds: bool = False
    """Fractions of a second are kept on write, and every time is answered with them: ``08:00:00.000Z``."""
    page_size: int = 5000
    """The most rows of one page, whatever ``odata.maxpagesize`` asks for."""

    # Rights of the caller.
    not_a_member: bool = False
    """There is no application user for the token's application."""
    missing_privileges: set[str] = field(default_factory=set)
    """Such as ``prvWriteBookableResourceBooking``."""
    privilege_depth: Literal["Basic", "Local", "Deep", "Global"] = "Global"
    """Of all that the caller holds: own rows, those of the business unit, of units below, of the organization. It is
    only told, every row is served."""
    secured_columns: set[str] = field(default_factory=set)
    """Columns of bookings under column security, by their logical names."""
    column_rights: set[str] = field(default_factory=lambda: {"read", "update"})
    """What the caller's column security profiles allow with those. It is only told, every value is served."""
    definitions_readable: bool = True
    """Otherwise the role lacks what reading the definitions of tables takes."""

    # Service protection. Source: "Service protection API limits": 6000 requests in 300 s; 52 at the same time.
    request_limit: int | None = None
    concurrency_limit: int | None = None
    latency: float = 0.0
    """Real seconds that each request takes, so that requests can overlap at all."""
