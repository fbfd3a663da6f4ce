"""Faults to order: a middleware that delays, refuses or cuts requests to a simulated service.

What an error of each service looks like is known by ``graph.py`` and ``dataverse.py``; here is only when it strikes.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from aiohttp import web

from sandbox.calls import Call, Calls, Service
from sandbox.clock import Clock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Fault:
    """One trouble: whom it hits, how often, and what happens then.

    ``moment`` says whether the service still does what it was asked: "before" its effect, or "after" it, so that the
    caller does not learn of the effect. ``status`` None cuts the connection; 0 only delays.
    """

    service: Service | None = None
    method: str | None = None
    path: str | None = None
    """A regular expression searched in the decoded path below the service's root."""
    status: int | None = 503
    body: Any = None
    """JSON as an object, or text as it is (gateways answer HTML)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    moment: Literal["before", "after"] = "before"
    delay: float = 0.0
    """Seconds, before anything else."""
    skip: int = 0
    """Requests that fit are let through this many times first."""
    times: int | None = 1
    """How often it strikes; None is until it is removed."""
    chance: float = 1.0

    def fits(self, service: Service, method: str, path: str) -> bool:
        return (
            self.service in (None, service)
            and self.method in (None, method)
            and (self.path is None or re.search(self.path, path) is not None)
        )


class Faults:
    """The faults ordered so far; the first that fits a request strikes."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ordered: list[Fault] = []

    def order(self, fault: Fault) -> Fault:
        self._ordered.append(fault)
        return fault

    def cancel(self, fault: Fault) -> None:
        """It strikes no more, if it still could."""
        self._ordered = [each for each in self._ordered if each is not fault]

    def clear(self) -> None:
        self._ordered.clear()

    def take(self, service: Service, method: str, path: str) -> Fault | None:
        """The fault that strikes this request, counted down; None: the service works."""
        for fault in self._ordered:
            if not fault.fits(service, method, path) or self._rng.random() >= fault.chance:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._ordered.remove(fault)
            return fault
        return None


def middleware(service: Service, root: str, calls: Calls, faults: Faults, clock: Clock) -> Any:
    """An aiohttp middleware that records each request to *service* below *root* and lets *faults* strike it."""

    @web.middleware
    async def strike(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = unquote(request.raw_path.partition("?")[0].removeprefix(root))
        fault = faults.take(service, request.method, path)
        body = await request.read()
        status: int | None = None
        try:
            response = await _answer(request, handler, fault)
            status = None if fault is not None and fault.status is None else response.status
        except web.HTTPException as refusal:
            status = refusal.status
            raise
        finally:
            calls.record(
                Call(
                    service,
                    request.method,
                    path,
                    unquote(request.rel_url.raw_query_string),
                    {name.lower(): value for name, value in request.headers.items() if name != "Authorization"},
                    body,
                    clock.now(),
                    status,
                )
            )
        return response

    return strike


async def _answer(request: web.Request, handler: Handler, fault: Fault | None) -> web.StreamResponse:
    if fault is None:
        return await handler(request)
    if fault.delay:
        await asyncio.sleep(fault.delay)
    if fault.status == 0:
        return await handler(request)
    if fault.moment == "after":
        await handler(request)
    if fault.status is None:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # goes nowhere, the connection is gone
    if isinstance(fault.body, str):
        return web.Response(status=fault.status, text=fault.body, content_type="text/html", headers=fault.headers)
    return web.json_response(fault.body, status=fault.status, headers=fault.headers)
