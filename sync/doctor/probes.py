"""Looks at a URL from outside, without a token: Graph's validation handshake, and a service's clock.

Judging what is seen stays out.
"""

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
"""Seconds that Graph waits for the answer to a handshake. With a smaller value, an app that Graph accepts fails here;
with a larger one, an app passes that Graph refuses. Source: Graph, "Receive change notifications through webhooks"."""


@dataclass(frozen=True)
class Answer:
    """An answer to the handshake: HTTP status, media type in lower case, body, and the seconds that it took."""

    status: int
    media_type: str
    body: bytes
    seconds: float


async def shake_hands(url: str, token: str, within: float = WITHIN) -> Answer:
    """Ask *url* as Graph does before it makes or renews a subscription.

    Raises: Transient if there is no answer *within* so many seconds. Its text leaves the URL out, which holds a key.
    """
    target = f"{url}{'&' if '?' in url else '?'}validationToken={quote(token, safe='')}"
    began = time.monotonic()
    try:
        async with asyncio.timeout(within), httpx.AsyncClient(timeout=within) as client:
            answer = await client.post(target, headers={"Content-Type": "text/plain; charset=utf-8"})
    except (TimeoutError, httpx.TimeoutException):
        raise Transient(f"no answer within {within:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Transient(f"no answer ({type(error).__name__})") from None
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return Answer(answer.status_code, media_type, answer.content, time.monotonic() - began)


async def clock_offset(url: str, now: Callable[[], datetime]) -> timedelta | None:
    """Return how far the clock at *url* is ahead of ours, to a second or two; None if it cannot be seen.

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
