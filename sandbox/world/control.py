"""The sandbox's own HTTP routes: what the people do, the state of both sides, the calls so far, faults to order.

Everything but a fault is asked for by query parameters alone, so that one line of curl works in every shell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from sandbox.calls import Call, Calls
from sandbox.clock import Clock
from sandbox.dataverse.tables import Refused, Row
from sandbox.faults import Fault, Faults
from sandbox.graph.mailboxes import Event
from sandbox.world.overview import Overview
from sandbox.world.people import Dispatcher, People, Technician


class Asked:
    """The query parameters of one act as the values they mean. Raises: 400 or 404 with a line that says why."""

    def __init__(self, query: Any, clock: Clock, people: People, overview: Overview) -> None:
        self._query = query
        self._clock = clock
        self._people = people
        self._overview = overview

    @property
    def dispatcher(self) -> Dispatcher:
        return self._people.dispatcher

    def text(self, name: str) -> str:
        if name not in self._query:
            raise web.HTTPBadRequest(text=f"{name}= is missing\n")
        return str(self._query[name])

    @property
    def event(self) -> Event:
        event = self._overview.find_event(self.text("event"))
        if event is None:
            raise web.HTTPNotFound(text=f"there is no event {self.text('event')}\n")
        return event

    @property
    def booking(self) -> Row:
        booking = self._overview.find_booking(self.text("booking"))
        if booking is None:
            raise web.HTTPNotFound(text=f"there is no booking {self.text('booking')}\n")
        return booking

    @property
    def technician(self) -> Technician:
        name = self.text("technician").lower()
        technician = next((each for each in self._people if each.name.lower() == name), None)
        if technician is None:
            raise web.HTTPNotFound(text=f"there are {', '.join(each.name for each in self._people)}\n")
        return technician

    @property
    def owner(self) -> Technician:
        """Whose event it is."""
        return self._people.owner(self.event)

    @property
    def minutes(self) -> timedelta:
        try:
            return timedelta(minutes=int(self._query.get("minutes", "60")))
        except (ValueError, OverflowError):
            raise web.HTTPBadRequest(text="minutes= must be a whole number\n") from None

    @property
    def span(self) -> tuple[datetime, datetime]:
        """``start=`` in UTC, tomorrow at nine if left out, and ``minutes=`` later."""
        tomorrow = (self._clock.now() + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
        try:
            start = datetime.fromisoformat(self._query.get("start", tomorrow.isoformat()))
        except ValueError:
            raise web.HTTPBadRequest(text="start= must be like 2030-01-31T09:00\n") from None
        start = start.replace(tzinfo=start.tzinfo or UTC)
        return start, start + self.minutes


@dataclass(frozen=True)
class Act:
    path: str
    example: str
    what: str
    do: Callable[[Asked], object]


ACTS = [
    Act(
        "dispatcher/book",
        "technician=Ana&minutes=90",
        "a new booking and its event",
        lambda asked: asked.dispatcher.book(asked.technician, *asked.span),
    ),
    Act(
        "dispatcher/move",
        "booking=B1&minutes=30",
        "moves a booking; its event follows",
        lambda asked: asked.dispatcher.move(asked.booking, asked.minutes),
    ),
    Act(
        "dispatcher/reschedule",
        "booking=B1&minutes=30",
        "moves a booking; its event stays behind",
        lambda asked: asked.dispatcher.reschedule(asked.booking, asked.minutes),
    ),
    Act(
        "dispatcher/bring",
        "booking=B1",
        "brings the event along",
        lambda asked: asked.dispatcher.update_event(asked.booking),
    ),
    Act(
        "dispatcher/rename",
        "booking=B1",
        "an edit that is none of Outlook's business",
        lambda asked: asked.dispatcher.rename(asked.booking),
    ),
    Act(
        "dispatcher/reassign",
        "booking=B1&technician=Ben",
        "gives a booking to someone else",
        lambda asked: asked.dispatcher.reassign(asked.booking, asked.technician),
    ),
    Act(
        "dispatcher/start",
        "booking=B1",
        "sets a booking In Progress",
        lambda asked: asked.dispatcher.start(asked.booking),
    ),
    Act(
        "dispatcher/complete",
        "booking=B1",
        "sets a booking Completed",
        lambda asked: asked.dispatcher.complete(asked.booking),
    ),
    Act(
        "dispatcher/cancel",
        "booking=B1",
        "cancels a booking; its event goes",
        lambda asked: asked.dispatcher.cancel(asked.booking),
    ),
    Act(
        "dispatcher/delete",
        "booking=B1",
        "deletes a booking; its event goes",
        lambda asked: asked.dispatcher.delete(asked.booking),
    ),
    Act(
        "technician/meet",
        "technician=Ana&minutes=30",
        "an ordinary meeting",
        lambda asked: asked.technician.meet(*asked.span),
    ),
    Act(
        "technician/move",
        "event=E1&minutes=60",
        "drags an event to another time",
        lambda asked: asked.owner.move(asked.event, asked.minutes),
    ),
    Act("technician/edit", "event=E1", "changes the subject alone", lambda asked: asked.owner.edit(asked.event)),
    Act("technician/copy", "event=E1", "copies an event", lambda asked: asked.owner.copy(asked.event)),
    Act(
        "technician/file",
        "event=E1",
        "drags an event into another calendar",
        lambda asked: asked.owner.file(asked.event),
    ),
    Act("technician/delete", "event=E1", "deletes an event", lambda asked: asked.owner.delete(asked.event)),
    Act(
        "technician/restore",
        "event=E1",
        "takes it back out of Deleted Items",
        lambda asked: asked.owner.restore(asked.event),
    ),
]


def build_app(
    clock: Clock, calls: Calls, faults: Faults, people: People, overview: Overview, switches: Mapping[str, object]
) -> web.Application:
    """A sub-application to be mounted at ``/sandbox``; *switches* by the name of their service."""
    app = web.Application()
    control = _Control(clock, calls, faults, people, overview, switches)
    app.router.add_get("", control.help)
    app.router.add_get("/state", control.state)
    app.router.add_get("/calls", control.list_calls)
    app.router.add_delete("/calls", control.clear_calls)
    app.router.add_post("/clock", control.move_clock)
    app.router.add_get("/switches", control.list_switches)
    app.router.add_post("/switches", control.throw_switches)
    app.router.add_post("/faults", control.order_fault)
    app.router.add_delete("/faults", control.clear_faults)
    for act in ACTS:
        app.router.add_post(f"/{act.path}", control.handler(act))
    return app


class _Control:
    def __init__(
        self,
        clock: Clock,
        calls: Calls,
        faults: Faults,
        people: People,
        overview: Overview,
        switches: Mapping[str, object],
    ) -> None:
        self._switches = switches
        self._clock = clock
        self._calls = calls
        self._faults = faults
        self._people = people
        self._overview = overview

    async def help(self, request: web.Request) -> web.Response:
        root = f"{request.scheme}://{request.host}/sandbox"
        lines = [
            ("GET", "/state?format=text", "bookings and events side by side; JSON without format="),
            ("GET", "/calls?format=text", "what was asked of Graph and Dataverse; DELETE forgets it"),
            *(("POST", f"/{act.path}?{act.example}", act.what) for act in ACTS),
            ("POST", "/clock?minutes=60", "moves the simulated time"),
            ("POST", "/switches?dataverse.optimistic_concurrency=false", "breaks something; GET lists what there is"),
        ]
        commands = [f'curl -X {method} "{root}{rest}"' for method, rest, _ in lines]
        width = max(map(len, commands))
        text = [f"{command:{width}}  # {what}" for command, (_, _, what) in zip(commands, lines, strict=True)]
        fault = (
            'POST /sandbox/faults {"service": "dataverse", "method": "PATCH", "status": 503, "times": 2} orders trouble'
        )
        names = ", ".join(technician.name for technician in self._people)
        return web.Response(text="\n".join([*text, "", f"{fault}; DELETE calls it off.", f"Technicians: {names}", ""]))

    async def state(self, request: web.Request) -> web.Response:
        if request.query.get("format") == "text":
            return web.Response(text=self._overview.table())
        return web.json_response([line.as_json() for line in self._overview.lines()])

    async def list_calls(self, request: web.Request) -> web.Response:
        if request.query.get("format") == "text":
            return web.Response(text="".join(f"{call.at:%H:%M:%S} {call}\n" for call in self._calls))
        return web.json_response([_as_json(call) for call in self._calls])

    async def clear_calls(self, request: web.Request) -> web.Response:
        self._calls.clear()
        return web.Response(status=204)

    async def move_clock(self, request: web.Request) -> web.Response:
        self._clock.move(self._asked(request).minutes)
        return web.Response(text=f"{self._clock.now().isoformat()}\n")

    async def list_switches(self, request: web.Request) -> web.Response:
        lines = [
            f"{service}.{name}={','.join(sorted(value)) if isinstance(value, set) else value}\n"
            for service, switches in self._switches.items()
            for name, value in vars(switches).items()
            if _is_thrown_by_text(value)
        ]
        return web.Response(text="".join(lines))

    async def throw_switches(self, request: web.Request) -> web.Response:
        for key, text in request.query.items():
            service, _, name = key.partition(".")
            switches = self._switches.get(service)
            present = vars(switches).get(name) if switches is not None else None
            if switches is None or not _is_thrown_by_text(present):
                raise web.HTTPNotFound(text=f"there is no switch {key}\n")
            setattr(switches, name, _read_switch(key, text, present))
        return await self.list_switches(request)

    async def order_fault(self, request: web.Request) -> web.Response:
        try:
            self._faults.order(Fault(**await request.json()))
        except (TypeError, json.JSONDecodeError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return web.Response(status=204)

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    def handler(self, act: Act) -> Callable[[web.Request], Any]:
        async def perform(request: web.Request) -> web.Response:
            try:
                act.do(self._asked(request))
            except (Refused, ValueError) as refusal:
                raise web.HTTPConflict(text=f"{refusal}\n") from refusal
            return web.Response(text=self._overview.table())

        return perform

    def _asked(self, request: web.Request) -> Asked:
        return Asked(request.query, self._clock, self._people, self._overview)


def _is_thrown_by_text(value: object) -> bool:
    """Whether a switch in this position is one for the command line: yes or no, a word, or several."""
    return isinstance(value, (bool, str)) or (isinstance(value, set) and all(isinstance(each, str) for each in value))


def _read_switch(key: str, text: str, present: object) -> object:
    if isinstance(present, set):
        return {name for name in text.split(",") if name}
    if isinstance(present, str):
        return text
    if text.lower() not in ("true", "false"):
        raise web.HTTPBadRequest(text=f"{key}= must be true or false\n")
    return text.lower() == "true"


def _as_json(call: Call) -> dict[str, Any]:
    names = ("service", "method", "path", "query", "status")
    return {name: getattr(call, name) for name in names} | {"at": call.at.isoformat()}
