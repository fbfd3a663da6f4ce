"""The status as a page for people, and as JSON: values in, text and headers out.

No script, no picture and no style comes from elsewhere, so the browser is told to refuse all that is not in the page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from pydantic import TypeAdapter

from sync.status.findings import Status
from sync.times import build_moment

SHOWN, FEW = 50, 10
"""Rows of a table, the JSON has them all; so many are shown unasked."""

CHART_WIDTH, CHART_HEIGHT = 480, 96

_TEMPLATES = Path(__file__).parent

PRIVATE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the function key is in the URL
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in its own units; two parts stand on each other."""

    x: float
    width: float
    lower: float
    upper: float
    title: str


def build_json(status: Status) -> bytes:
    """The status as one JSON document."""
    return _adapter().dump_json(status)


@cache
def _adapter() -> TypeAdapter[Status]:
    return TypeAdapter(Status)


def build_page(status: Status) -> tuple[str, dict[str, str]]:
    """The page and its headers."""
    style = (_TEMPLATES / "page.css").read_text("utf-8")
    page = _template().render(status=status, style=style, shown=SHOWN, few=FEW)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{allowed}'; img-src data:; base-uri 'none'; form-action 'none'"
    return page, {**PRIVATE, "Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(number=_number, when=_when, iso=build_moment, ago=_ago, left=_left)
    environment.globals.update(bars=bars, highest=highest, share=_share)
    environment.globals.update(chart_width=CHART_WIDTH, chart_height=CHART_HEIGHT)
    return environment.get_template("page.html")


def bars(hours: Sequence[Any], lower: str, upper: str = "") -> list[Bar]:
    """One bar for each of *hours*, as high as its fields of these names; the highest fills the chart."""
    values = _pairs(hours, lower, upper)
    scale = CHART_HEIGHT / max(1, highest(hours, lower, upper))
    step = CHART_WIDTH / max(1, len(values))
    return [
        Bar(
            x=round(place * step + 1, 2),
            width=round(step - 2, 2),
            lower=round(low * scale, 2),
            upper=round(high * scale, 2),
            title=f"{_hour(each.hour)}: {_number(low)} {lower}" + (f", {_number(high)} {upper}" if upper else ""),
        )
        for place, (each, (low, high)) in enumerate(zip(hours, values, strict=True))
    ]


def highest(hours: Sequence[Any], lower: str, upper: str = "") -> int:
    """The highest value of a chart; 1 for a chart without any."""
    return max(map(sum, _pairs(hours, lower, upper)), default=0)


def _pairs(hours: Sequence[Any], lower: str, upper: str) -> list[tuple[int, int]]:
    return [(getattr(each, lower), getattr(each, upper) if upper else 0) for each in hours]


def _share(count: int, total: int) -> float:
    """In percent."""
    return round(100 * count / total, 1) if total else 0.0


def _number(value: int) -> str:
    return f"{value:,}"


def _hour(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:00}"


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _ago(moment: datetime, now: datetime) -> str:
    return f"{_span(now - moment)} ago"


def _left(moment: datetime, now: datetime) -> str:
    return f"in {_span(moment - now)}" if moment > now else _ago(moment, now)


def _span(span: timedelta) -> str:
    minutes = max(0, int(span / timedelta(minutes=1)))
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d"
    return f"{hours} h" if hours >= 2 else f"{hours * 60 + minutes} min"
