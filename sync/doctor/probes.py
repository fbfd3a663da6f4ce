"""What can be seen of a URL from outside, as anybody sees it: Graph's validation handshake, and a service's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx

from sync.errors import Transient

WITHIN = 10.0
"""Seconds that Graph waits for the answer. Source: Graph, "Receive change notifications through webhooks"."""


@dataclass(frozen=True)
class Answer:
    status: int
    media_type: str
    body: bytes
    seconds: float


async def shake_hands(url: str, token: str) -> Answer:
    """Ask *url* as Graph does before it makes or renews a subscription.

    Raises: Transient, without the URL, which holds a key.
    """
    target = f"{url}{'&' if '?' in url else '?'}validationToken={quote(token, safe='')}"
    began = time.monotonic()
    try:
        async with asyncio.timeout(WITHIN), httpx.AsyncClient(timeout=WITHIN) as client:
            answer = await client.post(target, headers={"Content-Type": "text/plain; charset=utf-8"})
    except (TimeoutError, httpx.TimeoutException):
        raise Transient(f"no answer within {WITHIN:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Transient(f"no answer ({type(error).__name__})") from None
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return Answer(answer.status_code, media_type, answer.content, time.monotonic() - began)


async def clock_offset(url: str, now: Callable[[], datetime]) -> timedelta | None:
    """How far the clock at *url* is ahead of ours, to a second or two; None if it cannot be seen.

    Any answer tells, so no token is needed. Source: RFC 9110, Date.
    """
    asked = now()
    try:
        async with httpx.AsyncClient(timeout=WITHIN) as client:
            answer = await client.get(url)
        told = parsedate_to_datetime(answer.headers["Date"])
    except (httpx.HTTPError, KeyError, ValueError, TypeError):
        return None
    told = (told if told.tzinfo else told.replace(tzinfo=UTC)) + timedelta(seconds=0.5)  # whole seconds were told
    return told - (asked + (now() - asked) / 2)
