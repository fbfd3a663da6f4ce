"""Moments to and from text and numbers: always aware, always in UTC.

A file that reads or writes a moment uses a function of this file. No function here looks at the clock. Texts for people
("2 h ago") are made where they are shown.
"""

from __future__ import annotations

from datetime import UTC, datetime


def in_utc(moment: datetime) -> datetime:
    """Return *moment* in UTC; one without a zone is in UTC already.

    Example: 10:00+01:00 becomes 9:00, and 9:00 without a zone stays 9:00.
    """
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 text, in UTC; a text without a zone is in UTC already.

    Source: Dataverse, "Behavior and format of the date and time column"; Graph, "dateTimeTimeZone resource type".
    Raises: ValueError if *text* is no such text; OverflowError if UTC has no such date.
    """
    return in_utc(datetime.fromisoformat(text))


def build_moment(moment: datetime) -> str:
    """Return *moment* as text in UTC, in whole seconds, like ``2026-03-02T09:00:00Z``."""
    return in_utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_seconds(seconds: float) -> datetime:
    """Return the moment *seconds* after 1970 began, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def as_plain(moment: datetime) -> datetime:
    """Return an ordinary datetime in UTC for one of a library's own kind, such as TablesEntityDatetime."""
    return from_seconds(moment.timestamp())
