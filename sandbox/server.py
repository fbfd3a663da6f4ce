"""The simulated world on one port: Graph at ``/v1.0``, Dataverse at ``/api/data/v9.2``, control at ``/sandbox``."""

from __future__ import annotations

import random
from email.utils import format_datetime
from types import TracebackType
from typing import Self

from aiohttp import web

from sandbox import faults
from sandbox.calls import Calls
from sandbox.clock import Clock
from sandbox.dataverse import routes as dataverse
from sandbox.dataverse.switches import DataverseSwitches
from sandbox.dataverse.tables import Tables
from sandbox.graph import routes as graph
from sandbox.graph.delivery import Delivery
from sandbox.graph.handshake import Handshake
from sandbox.graph.mailboxes import Mailboxes
from sandbox.graph.notification_bodies import Hostility
from sandbox.graph.subscriptions import Subscriptions
from sandbox.graph.switches import GraphSwitches
from sandbox.world import control
from sandbox.world.overview import Overview
from sandbox.world.people import People


class Sandbox:
    """Serves on 127.0.0.1 while entered: ``async with Sandbox() as sandbox: … sandbox.url …``.

    Its parts are for tests to act on and look at, without HTTP; all of them work before it is entered, too.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        port: int = 0,
        clock: Clock | None = None,
        field_service: bool = True,
        hostility: Hostility | None = None,
        time_scale: float = 1.0,
    ) -> None:
        """*time_scale*: real seconds for each simulated second that a notification waits."""
        self.clock = clock or Clock()
        self.rng = random.Random(seed)
        self.calls = Calls()
        self.faults = faults.Faults(self.rng)
        self.graph_switches = GraphSwitches()
        self.dataverse_switches = DataverseSwitches()
        self.mailboxes = Mailboxes(self.clock, self.rng, self.graph_switches)
        self.handshake = Handshake(self.rng)
        self.subscriptions = Subscriptions(self.mailboxes, self.clock, self.rng, self.handshake)
        self.delivery = Delivery(
            self.mailboxes, self.subscriptions, self.clock, self.rng, hostility, time_scale=time_scale
        )
        self.tables = Tables(self.clock, self.rng, field_service=field_service)
        self.people = People(self.mailboxes, self.tables)
        self.overview = Overview(self.mailboxes, self.tables, self.people)
        self.url = ""
        self._port = port
        self._runner = web.AppRunner(self._build(), access_log=None, shutdown_timeout=1)

    @property
    def graph_url(self) -> str:
        return f"{self.url}/v1.0"

    @property
    def dataverse_url(self) -> str:
        return self.url

    @property
    def settings(self) -> dict[str, str]:
        """The app's settings that lead it here."""
        return {
            "GRAPH_URL": self.graph_url,
            "DATAVERSE_URL": self.dataverse_url,
            "EVENT_ID_COLUMN": self.tables.event_id_column or "",
        }

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        await self.delivery.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.delivery.stop()
        await self._runner.cleanup()

    def _build(self) -> web.Application:
        to_graph = graph.build_app(self.mailboxes, self.subscriptions)
        to_dataverse = dataverse.build_app(self.tables, self.dataverse_switches)
        to_graph.middlewares.insert(0, faults.middleware("graph", "/v1.0", self.calls, self.faults, self.clock))
        to_dataverse.middlewares.insert(
            0, faults.middleware("dataverse", "/api/data/v9.2", self.calls, self.faults, self.clock)
        )
        for service in (to_graph, to_dataverse):
            service.on_response_prepare.append(self._date)
        app = web.Application()
        app.add_subapp("/v1.0", to_graph)
        app.add_subapp("/api/data/v9.2", to_dataverse)
        switches = {"graph": self.graph_switches, "dataverse": self.dataverse_switches}
        app.add_subapp(
            "/sandbox",
            control.build_app(self.clock, self.calls, self.faults, self.people, self.overview, switches),
        )
        return app

    async def _date(self, request: web.Request, response: web.StreamResponse) -> None:
        """The services go by their own clock, and every answer tells it."""
        response.headers["Date"] = format_datetime(self.clock.now(), usegmt=True)
