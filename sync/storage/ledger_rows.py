"""Rows of the ledger's table ↔ entries. A damaged row is told apart from one that is out of date. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sync.intake.coalescing import Notified
from sync.pairs.entry import Entry, Kind
from sync.pairs.observing import last_left_out
from sync.storage.tables import Row, etag_of, written_at

SETTLED = timedelta(hours=1)
"""Time after which a worker that was about to write an entry has done so, or died; no two clocks differ by more."""

UNKNOWN = Notified(datetime.min.replace(tzinfo=UTC))


def key_of(event_id: str) -> str:
    """Fit for a row's key, whatever the id holds. Source: Azure Storage, "Table service data model"."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:40]


def row_of(entry: Entry) -> dict[str, Any]:
    return {
        "PartitionKey": entry.mailbox,
        "RowKey": key_of(entry.event_id),
        "event": entry.event_id,
        "booking": entry.booking_id or "",
        "kind": entry.kind.value,
        "versions": "\n".join(entry.versions),
        "expires": entry.expires,
        **({"observed": observed.at} if (observed := last_left_out(entry)) is not None else {}),
        "entry": _adapter().dump_json(entry, exclude={"etag"}, exclude_defaults=True).decode(),
    }


def entry_of(row: Row, blank: Entry) -> Entry | None:
    """The entry in *row*, None if somebody damaged it; *blank*, to be written over it, if it is a copy."""
    etag = etag_of(row)
    if is_copy(row):
        return replace(blank, etag=etag)
    try:
        entry = _adapter().validate_json(str(row["entry"]))
    except (ValidationError, KeyError):
        return None
    if entry.event_id != blank.event_id:
        return replace(blank, etag=etag)
    return replace(entry, etag=etag) if all(map(_is_aware, _moments_of(entry))) else None


def _moments_of(entry: Entry) -> Iterator[datetime | None]:
    """All moments in *entry* that are compared with others."""
    spans = [*entry.agreed, *(entry.intent.spans if entry.intent else ()), entry.discarded_span]
    spans += [entry.held.booking_span] if entry.held else []
    spans += [span for decision in entry.history for span in (decision.event_span, decision.booking_span)]
    yield from (entry.modified, entry.expires, entry.held.since if entry.held else None)
    yield from (decision.at for decision in entry.history)
    yield from (moment for span in spans if span is not None for moment in (span.start, span.end))


def _is_aware(moment: datetime | None) -> bool:
    return moment is None or moment.tzinfo is not None


def is_copy(row: Row) -> bool:
    """Whether somebody put an old row back: what both sides agreed on then, and people said, may not be so any more.

    Storage stamps a row when it is stored, the app stamped it when it wrote it.
    """
    written = row.get("written")
    if not isinstance(written, datetime) or written.tzinfo is None:
        return True
    return written_at(row) - written > SETTLED


@cache
def _adapter() -> TypeAdapter[Entry]:
    return TypeAdapter(Entry)


def known_of(row: Row, key: str, known: Notified, extension: str) -> Notified:
    """*known* with what one of the two rows of an event tells; nothing if it is not as we write it."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        if row["RowKey"] == key:
            if is_copy(row):
                return known
            versions, kind = frozenset(filter(None, str(row["versions"]).split("\n"))), Kind(row["kind"])
            if kind is Kind.NOT_OURS and row.get("extension", "") != extension:
                return known
            return replace(known, kind=kind, versions=versions, expires=_plain(row["expires"]))
        return replace(
            known,
            due=_plain(row["due"]),
            due_is_deletion=bool(row["deleted"]),
            settle=int(row["settle"]),
            streak=int(row["streak"]),
        )
    return known


def _plain(moment: datetime) -> datetime:
    """Without the library's own kind of datetime."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)
