"""What every answer of the simulated Web API shares: preferences, links, page cookies, headers; no rows, no rules."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web

from sandbox.dataverse.odata import refused
from sandbox.dataverse.tables import Refused, Row

ROOT = "/api/data/v9.2/"


@dataclass(frozen=True)
class Preferences:
    """The Prefer header. Source: "Compose HTTP requests and handle errors", preference headers."""

    representation: bool
    page_size: int | None
    annotations: list[str]
    """Names or patterns, ``*`` is all."""
    applied: dict[str, str]


def parse_preferences(request: web.Request) -> Preferences:
    applied: dict[str, str] = {}
    for name, value in re.findall(r'([\w.-]+)=("[^"]*"|[^,;\s]+)', ",".join(request.headers.getall("Prefer", []))):
        if name in ("return", "odata.maxpagesize", "odata.include-annotations"):
            applied[name] = value
    size = applied.get("odata.maxpagesize", "")
    annotations = applied.get("odata.include-annotations", "").strip('"')
    return Preferences(
        representation=applied.get("return") == "representation",
        page_size=int(size) if size.isdigit() and int(size) else None,
        annotations=[name.strip() for name in annotations.split(",") if name],
        applied=applied,
    )


def root_of(request: web.Request) -> str:
    return f"{request.url.origin()}{ROOT}"


def url_of(request: web.Request, row: Row) -> str:
    return f"{root_of(request)}{row.table.entity_set}({row.id})"


def split_segment(text: str) -> tuple[str, str | None]:
    """``bookings(key)`` as name and key."""
    match = re.fullmatch(r"(\w+)(?:\((.*)\))?", text, re.DOTALL)
    if match is None:
        raise not_found(text)
    return match[1], match[2] or None


def not_found(segment: str) -> Refused:
    return Refused("0x8006088a", f"Resource not found for the segment '{segment}'.")


def build_next_link(request: web.Request, raw_query: str, page: int, shown: list[Row]) -> str:
    """The query as it came and a cookie, escaped twice over: opaque, to be followed unchanged ("Page results")."""
    key, first, last = shown[0].table.key, shown[0].id.upper(), shown[-1].id.upper()
    inner = f'<cookie page="{page - 1}"><{key} last="{{{last}}}" first="{{{first}}}" /></cookie>'
    cookie = f'<cookie pagenumber="{page}" pagingcookie="{quote(inner, safe="")}" istracking="False" />'
    options = [option for option in raw_query.split("&") if option and not unquote(option).startswith("$skiptoken")]
    query = "&".join([*options, f"$skiptoken={quote(cookie, safe='=/')}"])
    return f"{root_of(request)}{shown[0].table.entity_set}?{query}"


def find_page(skiptoken: str | None, found: list[Row], page_size: int) -> tuple[int, int]:
    """The page asked for and where it starts in *found*: after the last row shown, wherever that is by now."""
    if skiptoken is None:
        return 1, 0
    match = re.search(r'pagenumber="(\d+)".*last="\{([0-9A-F-]{36})\}"', unquote(skiptoken))
    if match is None:
        raise refused("Malformed XML in the Paging Cookie")
    page, last = int(match[1]), match[2].lower()
    return page, next((place + 1 for place, row in enumerate(found) if row.id == last), (page - 1) * page_size)


def build_json(
    body: Any, status: int = 200, *, applied: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    """*applied*: the preferences that were, named in the answer."""
    headers = {"Content-Type": "application/json; odata.metadata=minimal", "OData-Version": "4.0", **(headers or {})}
    if applied:
        headers["Preference-Applied"] = ",".join(f"{name}={value}" for name, value in applied.items())
    return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)


def build_empty(status: int = 204, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, headers={"OData-Version": "4.0", **(headers or {})})
