"""What stands before every request to the Web API: token, membership, service protection; it words the refusals."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from sandbox.dataverse.answers import build_empty, build_json, parse_preferences
from sandbox.dataverse.errors import (
    NOT_A_MEMBER,
    THROTTLED_CONCURRENCY,
    THROTTLED_REQUESTS,
    ErrorAnswer,
    build_error,
    status_of,
)
from sandbox.dataverse.switches import DataverseSwitches
from sandbox.dataverse.tables import Refused, Tables

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WINDOW = timedelta(seconds=300)


def protect(tables: Tables, switches: DataverseSwitches) -> Any:
    """An aiohttp middleware that lets a request through or answers for the service."""
    protection = Protection(tables, switches)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return build_empty(401, {"WWW-Authenticate": "Bearer authorization_uri=https://login.microsoftonline.com/"})
        throttled = protection.throttle()
        if throttled is not None:
            return throttled
        try:
            if switches.not_a_member:
                raise NOT_A_MEMBER
            async with protection:
                return await handler(request)
        except Refused as refusal:
            annotated = bool(parse_preferences(request).annotations)
            code = refusal.code if switches.error_codes else ""
            return build_json(build_error(code, refusal.message, annotated=annotated), status_of(refusal))

    return guard


class Protection:
    """Source: "Service protection API limits": per user and web server, here one of each."""

    def __init__(self, tables: Tables, switches: DataverseSwitches) -> None:
        self._clock = tables.clock
        self._switches = switches
        self._arrivals: deque[datetime] = deque()
        self._under_way = 0

    async def __aenter__(self) -> None:
        self._under_way += 1
        if self._switches.latency:
            await asyncio.sleep(self._switches.latency)

    async def __aexit__(self, *trouble: object) -> None:
        self._under_way -= 1

    def throttle(self) -> web.Response | None:
        """The 429 that is due, None if the request may go on. Refused requests count, so pressing on lengthens it."""
        now, limit = self._clock.now(), self._switches.request_limit
        if limit is not None:
            self._arrivals.append(now)
            while self._arrivals[0] <= now - WINDOW:
                self._arrivals.popleft()
            if len(self._arrivals) > limit:
                frees = self._arrivals[len(self._arrivals) - limit] + WINDOW
                return _refuse(THROTTLED_REQUESTS.retry_after(str(math.ceil((frees - now).total_seconds()))))
        if self._switches.concurrency_limit is not None and self._under_way >= self._switches.concurrency_limit:
            return _refuse(THROTTLED_CONCURRENCY)
        return None


def _refuse(answer: ErrorAnswer) -> web.Response:
    return build_json(answer.body, answer.status, headers=dict(answer.headers))
