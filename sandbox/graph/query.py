"""What a request to Graph says besides its body: path segments, query options and ``Prefer``, read strictly.

Knows how Graph spells things, not what they are about; only the options this project needs are understood, and
everything else is refused rather than ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TypeVar
from urllib.parse import parse_qsl, quote, unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sandbox.graph.errors import GraphError, bad_request

PREFIXES = ("Microsoft.OutlookServices.OpenTypeExtension.", "microsoft.graph.openTypeExtension.")

_KEY_SYNTAX = re.compile(r"(\w+)\((?:appId=)?'(.*)'\)")
_PREFERENCE = re.compile(r"""([\w.]+)\s*=\s*(?:"([^"]*)"|([^\s,;"]+))""")
_EXPAND = re.compile(r"extensions\s*\(\s*\$filter\s*=\s*id\s+eq\s+'((?:[^']|'')+)'\s*\)", re.IGNORECASE)
_ANY_EXTENSION = re.compile(
    r"extensions\s*/\s*any\s*\(\s*(\w+)\s*:\s*\1\s*/\s*id\s+eq\s+'((?:[^']|'')+)'\s*\)", re.IGNORECASE
)
# Windows' names of a few zones, after Unicode CLDR "windowsZones"; IANA names are understood, too.
_WINDOWS_ZONES = {
    "GMT Standard Time": "Europe/London",
    "W. Europe Standard Time": "Europe/Berlin",
    "Romance Standard Time": "Europe/Paris",
    "Central European Standard Time": "Europe/Warsaw",
    "FLE Standard Time": "Europe/Kiev",
    "Eastern Standard Time": "America/New_York",
    "Central Standard Time": "America/Chicago",
    "Pacific Standard Time": "America/Los_Angeles",
    "India Standard Time": "Asia/Calcutta",
    "AUS Eastern Standard Time": "Australia/Sydney",
}

T = TypeVar("T")


def parse_path(raw_path: str) -> list[str]:
    """Path segments below the version, decoded one by one, so that a ``%2F`` in an id divides nothing.

    Double slashes count as one: msgraph-sdk sends ``/v1.0//subscriptions``. ``users('x')`` is ``users``, ``x``; so is
    a key by name.
    """
    segments = [unquote(segment) for segment in raw_path.split("/") if segment]
    if segments and segments[0].lower() == "v1.0":
        del segments[0]
    parts: list[str] = []
    for segment in segments:
        match = _KEY_SYNTAX.fullmatch(segment)
        parts.extend(match.groups() if match else [segment])
    return parts


def parse_query(raw_query: str, allowed: Sequence[str]) -> dict[str, str]:
    """Options by their name in lower case.

    Raises: GraphError 400 for any ``$`` option that is not in *allowed*, and for one given twice.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        name = name.lower()
        if name in options or (name.startswith("$") and name not in allowed):
            raise bad_request(f"The query specified in the URI is not valid: '{name}' is not supported here.")
        options[name] = value
    return options


@dataclass(frozen=True)
class Preferences:
    """The ``Prefer`` headers. Source: Graph, "Get event", request headers; RFC 7240."""

    immutable_ids: bool = False
    zone_name: str | None = None
    page_size: int | None = None

    @property
    def zone(self) -> tzinfo:
        return UTC if self.zone_name is None else parse_zone(self.zone_name)

    @property
    def applied(self) -> dict[str, str]:
        """The ``Preference-Applied`` header of the answer."""
        parts = ['IdType="ImmutableId"'] if self.immutable_ids else []
        parts += [f'outlook.timezone="{self.zone_name}"'] if self.zone_name else []
        parts += [f"odata.maxpagesize={self.page_size}"] if self.page_size else []
        return {"Preference-Applied": ", ".join(parts)} if parts else {}


def parse_preferences(headers: Sequence[str]) -> Preferences:
    """One header with several values, or several headers; names without regard to case, others than ours ignored."""
    found = {match[1].lower(): match[2] or match[3] for match in _PREFERENCE.finditer(", ".join(headers))}
    size = found.get("odata.maxpagesize")
    if size is not None and not (size.isascii() and size.isdecimal() and int(size) > 0):
        raise bad_request("The odata.maxpagesize preference must be a positive number.")
    zone_name = found.get("outlook.timezone")
    if zone_name is not None:
        parse_zone(zone_name)
    immutable_ids = found.get("idtype", "").lower() == "immutableid"
    return Preferences(immutable_ids, zone_name, int(size) if size else None)


def parse_zone(name: str) -> tzinfo:
    """Windows or IANA name. Raises: GraphError 400."""
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(_WINDOWS_ZONES.get(name, name))
    except (ZoneInfoNotFoundError, ValueError):
        message = f"A valid TimeZone value must be specified. The following TimeZone value is not supported: '{name}'."
        raise GraphError(400, "TimeZoneNotSupportedException", message) from None


def parse_select(text: str | None, properties: Mapping[str, T] | frozenset[str], kind: str) -> list[str] | None:
    """Raises: GraphError 400 for a name that *kind* does not have."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in properties:
            raise GraphError(
                400, "RequestBroker--ParseUri", f"Could not find a property named '{name}' on type '{kind}'."
            )
    return names


def parse_expand(text: str | None) -> str | None:
    """The name of the one extension to expand, without prefix.

    Raises: GraphError, also for ``extensions`` without ``$filter``: reported as UnknownError for events
    (msgraph-sdk-dotnet issue 1540), with a status that nobody wrote down.
    """
    if text is None:
        return None
    if text.strip().lower() == "extensions":
        raise GraphError(500, "UnknownError", "Error while processing response.")
    match = _EXPAND.fullmatch(text.strip())
    if match is None:
        raise bad_request(f"Parsing OData Select and Expand failed: '{text}' is not supported here.")
    return short_name(_unquoted(match[1]))


def parse_extension_filter(text: str | None) -> str | None:
    """``Extensions/any(f:f/id eq 'NAME')`` → NAME without prefix; the one filter on events that is simulated."""
    if text is None:
        return None
    match = _ANY_EXTENSION.fullmatch(text.strip())
    if match is None:
        raise bad_request(f"Invalid filter clause: '{text}' is not supported here.")
    return short_name(_unquoted(match[2]))


def short_name(extension_id: str) -> str:
    """The extension's name from either of its qualified ids, or from the name itself."""
    for prefix in PREFIXES:
        if extension_id.lower().startswith(prefix.lower()):
            return extension_id[len(prefix) :]
    return extension_id


def parse_moment(text: str | None) -> datetime | None:
    """A date-time of the query, UTC where it has no offset; None where it is missing or no date-time at all."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_page_size(options: Mapping[str, str], preferences: Preferences, default: int = 10) -> int:
    """``$top`` is the size of Outlook's pages, like odata.maxpagesize; the smaller one counts."""
    top = options.get("$top")
    if top is None:
        return preferences.page_size or default
    if not (top.isascii() and top.isdecimal() and 1 <= int(top) <= 1000):
        raise bad_request(f"Invalid value '{top}' for $top query option found. It must be between 1 and 1000.")
    return min(int(top), preferences.page_size or int(top))


def page(items: Sequence[T], size: int, token: str | None, *, with_empty: bool) -> tuple[Sequence[T], str | None]:
    """One page of *items* and the token of the next; *with_empty* puts a page without items before the last one."""
    pages = [items[at : at + size] for at in range(0, len(items), size)] or [items[:0]]
    if with_empty:
        pages.insert(len(pages) - 1, items[:0])
    try:
        number = int(token.removeprefix("p")) if token else 0
        return pages[number], f"p{number + 1}" if number + 1 < len(pages) else None
    except (ValueError, IndexError):
        raise bad_request("The $skiptoken is not valid.") from None


def next_link(url: str, options: Mapping[str, str], token: str) -> str:
    """*url* with the same options and another ``$skiptoken``, to be followed as it is."""
    query = {**options, "$skiptoken": token}
    return f"{url}?" + "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in query.items())


def _unquoted(literal: str) -> str:
    return literal.replace("''", "'")
