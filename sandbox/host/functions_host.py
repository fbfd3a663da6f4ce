"""A small local Functions host on azure-functions' public API: HTTP, queue and on-demand timer triggers.

It stands in where Core Tools (``func start``) are not installed, and keeps to what the real host does to a request on
its way in (Azure Functions host 4.x, "HTTP trigger" and "Queue storage trigger" in the documentation). Left out: timer
schedules (a timer runs by ``POST /admin/functions/NAME``, or a test would wait for the clock), output bindings, route
templates, identity-based connections, functionTimeout, several instances, and the worker's check of annotations.

All functions share one event loop, as in the Python worker: ``async def`` is awaited in it, ``def`` runs in a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import inspect
import json
import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

import azure.functions as func
from aiohttp import web
from azure.functions.decorators.function_app import Function
from azure.functions.timer import TimerRequest

from sandbox.host.queues import GRACE, QueueListener, build_message, parse_options
from sandbox.host.signals import StopSignal

BODY_LIMIT = 210 * 1024**2
"""Bytes; "Azure Functions HTTP triggers and bindings", limits."""

log = logging.getLogger(__name__)
_built: WeakKeyDictionary[func.FunctionApp, list[Function]] = WeakKeyDictionary()


class HostError(Exception):
    """The app cannot be hosted as it is; the text says what to change."""


@dataclass(frozen=True)
class Trigger:
    """One function with the binding that starts it."""

    function: Function
    binding: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.function.get_function_name())

    @property
    def kind(self) -> str:
        return str(self.binding["type"])

    @property
    def route(self) -> str:
        return str(self.binding.get("route") or self.name).strip("/")

    def takes(self, method: str) -> bool:
        return method in (self.binding.get("methods") or [method])

    @property
    def wants_key(self) -> bool:
        return str(self.binding.get("authLevel")).lower() != "anonymous"


def load_app(folder: Path) -> func.FunctionApp:
    """Run the function_app.py of *folder*, whose packages become importable, last on the path as in the worker.

    Raises: HostError where there is no file or not exactly one FunctionApp in it.
    """
    path = folder.resolve() / "function_app.py"
    spec = importlib.util.spec_from_file_location("function_app", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise HostError(f"there is no function_app.py in {folder}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    apps = [value for value in vars(module).values() if isinstance(value, func.FunctionApp)]
    if len(apps) != 1:
        raise HostError(f"{path.name} must hold exactly one FunctionApp, there are {len(apps)}")
    return apps[0]


def read_triggers(app: func.FunctionApp) -> list[Trigger]:
    """The functions of *app*; it may be asked for them only once, so the answer is kept.

    Raises: HostError for what the worker refuses (a parameter without a binding) and for what is left out here.
    """
    triggers = []
    for function in _built.get(app) or _built.setdefault(app, app.get_functions()):
        bindings = [json.loads(raw) for raw in function.get_raw_bindings()]
        trigger = next(binding for binding in bindings if binding["type"].endswith("Trigger"))
        name = function.get_function_name()
        if trigger["type"] not in ("httpTrigger", "queueTrigger", "timerTrigger"):
            raise HostError(f"{name}: a {trigger['type']} is not offered by this host")
        if others := [binding["type"] for binding in bindings if binding is not trigger and binding["type"] != "http"]:
            raise HostError(f"{name}: bindings beside the trigger are not offered by this host: {', '.join(others)}")
        if "{" in str(trigger.get("route")):
            raise HostError(f"{name}: route templates are not offered by this host")
        parameters = list(inspect.signature(function.get_user_function()).parameters)
        if parameters != [trigger["name"]]:
            raise HostError(f"{name}: the parameters are {parameters}, the bindings fill {[trigger['name']]}")
        triggers.append(Trigger(function, trigger))
    return triggers


def read_host_json(folder: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """host.json, with ``AzureFunctionsJobHost__a__b`` of *settings* in the place of its ``{"a": {"b": …}}``."""
    host_json: dict[str, Any] = _read_json(folder / "host.json")
    for name, value in settings.items():
        start, *keys = name.split("__")
        if start != "AzureFunctionsJobHost" or not keys:
            continue
        section = host_json
        for key in keys[:-1]:
            section = section.setdefault(key, {})
        section[keys[-1]] = value
    return host_json


def read_settings(folder: Path) -> dict[str, str]:
    """The Values of local.settings.json, where there is one."""
    values = _read_json(folder / "local.settings.json").get("Values") or {}
    return {name: str(value) for name, value in values.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8-sig")) if path.is_file() else {}
    except ValueError as error:
        raise HostError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise HostError(f"{path.name} must be a JSON object")
    return content


def free_port() -> int:
    """A port that nobody listens on now, for settings that must name it before the host does: NOTIFICATION_URL."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class FunctionsHost:
    """Runs one app while entered: ``async with FunctionsHost(folder) as host: … host.url …``.

    Settings are the process's environment, as for any function app: those of local.settings.json are added where the
    environment has none, *settings* win over both, and all are taken back at the end. With *key*, functions that are
    not anonymous and /admin want it as ``?code=`` or ``x-functions-key``; without, none does, as under ``func start``.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        app: func.FunctionApp | None = None,
        port: int = 0,
        key: str | None = None,
    ) -> None:
        """*folder* holds host.json and function_app.py; *app* is run in the place of the latter, if given."""
        self._folder = folder
        self._settings = {**read_settings(folder), **os.environ, **(settings or {})}
        self._app = app
        self._port = port
        self._key = key
        self._environment: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.url = ""
        self.triggers: list[Trigger] = []

    async def __aenter__(self) -> Self:
        self._environment = dict(os.environ)
        os.environ.update(self._settings)
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        host_json = read_host_json(self._folder, self._settings)
        extensions = host_json.get("extensions") or {}
        prefix = str((extensions.get("http") or {}).get("routePrefix", "api")).strip("/")
        try:
            queues = parse_options(extensions.get("queues") or {})
        except ValueError as error:
            raise HostError(f"host.json, extensions.queues: {error}") from error
        self.triggers = read_triggers(self._app or load_app(self._folder))
        listeners = [
            QueueListener(
                self._connection(trigger),
                trigger.binding["queueName"],
                queues,
                partial(self._run_message, trigger),
            )
            for trigger in self.triggers
            if trigger.kind == "queueTrigger"
        ]
        await self._serve(f"/{prefix}/" if prefix else "/")
        for listener in listeners:
            self._background(listener.listen(self._stopping))

    def _connection(self, trigger: Trigger) -> str:
        name = trigger.binding.get("connection") or "AzureWebJobsStorage"
        connection = self._settings.get("AzureWebJobs" + name) or self._settings.get(name)
        if not connection:
            raise HostError(f"{trigger.name}: the setting {name} must be a connection string, for example Azurite's")
        return connection

    async def _serve(self, root: str) -> None:
        site = web.Application(client_max_size=BODY_LIMIT)
        site.router.add_get("/admin/host/status", self._status)
        site.router.add_get("/admin/functions", self._list)
        site.router.add_post("/admin/functions/{name}", self._start_by_hand)
        site.router.add_route("*", "/{path:.*}", self._call)
        self._runner = web.AppRunner(site, access_log=None, handle_signals=False, shutdown_timeout=5)
        await self._runner.setup()
        listening = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await listening.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._routes = [
            ((root + trigger.route).lower(), trigger) for trigger in self.triggers if trigger.kind == "httpTrigger"
        ]
        for path, trigger in self._routes:
            log.info("%s: %s %s%s", trigger.name, trigger.binding.get("methods") or "every method", self.url, path)

    async def _stop(self) -> None:
        self._stopping.set()
        if hasattr(self, "_runner"):
            await self._runner.cleanup()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE + 1)
            for task in late:
                task.cancel()
        for name in self._settings.keys() - self._environment.keys():
            os.environ.pop(name, None)
        os.environ.update(self._environment)

    def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- functions

    async def _run(self, trigger: Trigger, argument: Any) -> Any:
        """Call the function; one line before and one after, as ``func`` writes them. Raises: what it raises."""
        invocation = uuid.uuid4()
        log.info("Executing 'Functions.%s' (Id=%s)", trigger.name, invocation)
        function, began, result = trigger.function.get_user_function(), time.monotonic(), "Failed"
        try:
            if inspect.iscoroutinefunction(function):
                answer = await function(**{trigger.binding["name"]: argument})
            else:
                answer = await asyncio.to_thread(function, **{trigger.binding["name"]: argument})
            wanted = func.HttpResponse if trigger.kind == "httpTrigger" else type(None)
            if not isinstance(answer, wanted):
                raise TypeError(f"{trigger.name} returned {type(answer).__name__} in place of {wanted.__name__}")
            result = "Succeeded"
            return answer
        finally:
            milliseconds = (time.monotonic() - began) * 1000
            log.info(
                "Executed 'Functions.%s' (%s, Id=%s, Duration=%.0fms)", trigger.name, result, invocation, milliseconds
            )

    async def _run_message(self, trigger: Trigger, text: str, properties: Mapping[str, Any]) -> bool:
        try:
            await self._run(trigger, build_message(text, **properties))
        except Exception:
            log.exception("%s failed", trigger.name)
            return False
        return True

    async def _run_timer(self, trigger: Trigger) -> None:
        try:
            await self._run(trigger, TimerRequest())
        except Exception:
            log.exception("%s failed", trigger.name)

    # -- HTTP

    def _is_trusted(self, request: web.Request) -> bool:
        return self._key in (None, request.query.get("code"), request.headers.get("x-functions-key"))

    async def _call(self, request: web.Request) -> web.Response:
        path = request.path.lower().rstrip("/")
        for route, trigger in self._routes:
            # The method is part of the route: a wrong one is 404, not 405.
            if route == path and trigger.takes(request.method):
                if trigger.wants_key and not self._is_trusted(request):
                    return web.Response(status=401)
                return await self._answer(trigger, request)
        return web.Response(status=200 if request.path == "/" else 404)

    async def _answer(self, trigger: Trigger, request: web.Request) -> web.Response:
        body = await request.read()
        if request.content_length is None and body:
            log.warning("A body without Content-Length reaches %s empty, as in the real host", trigger.name)
            body = b""
        query = {name: ",".join(filter(None, request.query.getall(name))) for name in request.query}
        try:
            response = await self._run(
                trigger,
                func.HttpRequest(
                    request.method,
                    str(request.url),
                    headers={name.lower(): ",".join(request.headers.getall(name)) for name in request.headers},
                    params={name: value for name, value in query.items() if value},
                    body=body,
                ),
            )
        except Exception:
            log.exception("%s failed", trigger.name)
            return web.Response(status=500)
        headers = dict(response.headers.items())
        if not any(name.lower() == "content-type" for name in headers):
            charset = f"; charset={response.charset}" if response.mimetype.startswith("text/") else ""
            headers["Content-Type"] = response.mimetype + charset
        return web.Response(status=response.status_code, headers=headers, body=response.get_body() or b"")

    async def _status(self, request: web.Request) -> web.Response:
        if not self._is_trusted(request):
            return web.Response(status=401)
        return web.json_response({"state": "Running", "version": "sandbox"})

    async def _list(self, request: web.Request) -> web.Response:
        if not self._is_trusted(request):
            return web.Response(status=401)
        return web.json_response(
            [{"name": trigger.name, "config": {"bindings": [trigger.binding]}} for trigger in self.triggers]
        )

    async def _start_by_hand(self, request: web.Request) -> web.Response:
        """``{"input": "…"}`` starts a timer, or a queue function with the input as its message, in the background."""
        if not self._is_trusted(request):
            return web.Response(status=401)
        trigger = next((each for each in self.triggers if each.name == request.match_info["name"]), None)
        if trigger is None:
            return web.Response(status=404)
        try:
            given = json.loads(await request.read())["input"]
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400)
        if trigger.kind == "timerTrigger":
            self._background(self._run_timer(trigger))
        elif trigger.kind == "queueTrigger":
            self._background(self._run_message(trigger, given if isinstance(given, str) else json.dumps(given), {}))
        else:
            return web.Response(status=400)
        return web.Response(status=202)


async def serve(folder: Path, port: int, key: str | None, with_stdin: bool) -> None:
    """Host the app of *folder* until a signal says stop; the first line printed is ``{"url": …, "functions": […]}``."""
    stop = StopSignal()
    if with_stdin:
        stop.also_when_stdin_ends()
    async with FunctionsHost(folder, port=port, key=key) as host:
        print(json.dumps({"url": host.url, "functions": [trigger.name for trigger in host.triggers]}), flush=True)
        await stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.host.functions_host", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--app", type=Path, default=Path(), metavar="DIR", help="folder of function_app.py")
    parser.add_argument("--port", type=int, default=7071, help="0 takes a free one, printed in the first line")
    parser.add_argument("--key", help="demand this function key, as in Azure")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end with the process that started this one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(arguments.app, arguments.port, arguments.key, arguments.until_stdin_ends))
    except (HostError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
