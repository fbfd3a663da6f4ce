"""What is sent to Application Insights, and that trouble with it is nobody else's."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry import trace

from sync.telemetry import export as exporting
from sync.telemetry import spans as telemetry
from sync.wiring.app import App
from tests.world.notifications import KEY
from tests.world.nowhere import UNREACHABLE
from tests.world.processes import in_a_process
from tests.world.running import until

NOWHERE = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The exporter's own settings are made for the process."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


@pytest.fixture
async def insights() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A connection string to what takes everything, and what it has taken."""
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        items = json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        taken.extend(items)
        return web.json_response({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []})

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield f"InstrumentationKey=11111111-1111-4111-8111-111111111111;IngestionEndpoint=http://127.0.0.1:{port}/", taken
    await runner.cleanup()


async def test_spans_and_metrics_arrive_at_application_insights(
    insights: tuple[str, list[dict[str, Any]]],
) -> None:
    """By an app, whose close sends what is left."""
    connection_string, taken = insights
    app = App({"APPLICATIONINSIGHTS_CONNECTION_STRING": connection_string})
    with app.telemetry.span("receive", "server"):
        telemetry.measure(telemetry.CHANGES, outcome="moved")
    await app.close()
    await until(lambda: len(taken) >= 2)
    sent = {item["data"]["baseType"]: item for item in taken}
    assert sent["RequestData"]["data"]["baseData"]["name"] == "receive"
    [point] = sent["MetricData"]["data"]["baseData"]["metrics"]
    assert (point["name"], point["value"]) == (telemetry.CHANGES, 1)
    assert sent["MetricData"]["data"]["baseData"]["properties"]["outcome"] == "moved"
    assert not telemetry.is_on()


async def test_nothing_else_is_told_to_anybody(insights: tuple[str, list[dict[str, Any]]]) -> None:
    """Neither by the SDKs of Graph and Azure, whose spans hold URLs, nor by the exporter about itself."""
    connection_string, _ = insights
    end = exporting.start(connection_string)
    with trace.get_tracer("somebody else's").start_as_current_span("GET https://contoso.example/?secret") as span:
        assert not span.is_recording()
    assert all(os.environ[name] == "true" for name in exporting._QUIET)
    end()


def test_where_nobody_can_be_told_the_app_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    end = exporting.start("planted")
    for _ in range(2):
        with telemetry.span("receive"):
            pass
        telemetry.measure(telemetry.CHANGES, outcome="moved")
    end()
    told = [record for record in caplog.records if record.name == "sync.telemetry.export"]
    assert {record.getMessage().split(" error=")[0] for record in told} == {"telemetry is not sent"}
    assert len(told) <= 2, "one for spans, one for metrics"
    assert "planted" not in caplog.text


ACKNOWLEDGE = f"""
import asyncio, os
import azure.functions as func
import function_app
result = ["opentelemetry" in sys.modules]
os.environ.update({{"AzureWebJobsStorage": {UNREACHABLE!r}, "CLIENT_STATE_KEY": {KEY!r}}})
os.environ.update(OTHERS)
request = func.HttpRequest("POST", "https://contoso.example/api/notifications", params={{}}, body=b'{{"value": []}}')
result.append(asyncio.run(function_app.notifications(request)).status_code)
result += [name in sys.modules for name in ("opentelemetry", "opentelemetry.sdk", "azure.monitor")]
"""


def test_off_an_acknowledgement_imports_nothing_of_it() -> None:
    assert in_a_process(f"OTHERS = {{}}\n{ACKNOWLEDGE}") == [False, 202, False, False, False]


def test_on_an_acknowledgement_does_not_wait_for_the_exporters() -> None:
    on = f"OTHERS = {{'APPLICATIONINSIGHTS_CONNECTION_STRING': {NOWHERE!r}}}\n"
    assert in_a_process(f"{on}{ACKNOWLEDGE}") == [False, 202, True, True, False]


def test_the_sdk_is_known_to_one_file() -> None:
    files = Path(exporting.__file__).parent.parent.rglob("*.py")
    assert [path.name for path in files if "opentelemetry.sdk" in path.read_text("utf-8")] == ["export.py"]
