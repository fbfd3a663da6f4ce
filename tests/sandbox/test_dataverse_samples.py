"""The sample exchanges that came with the task, if they lie beside the checkout, replayed against the simulator."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from sandbox.calls import Calls
from sandbox.clock import Clock
from sandbox.columns import Column
from sandbox.dataverse import DataverseSwitches, build_app
from sandbox.dataverse_errors import THROTTLED_CONCURRENCY, THROTTLED_REQUESTS, THROTTLED_TIME
from sandbox.faults import Faults, middleware
from sandbox.tables import Row, Tables

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "dataverse"
OUT_OF_SCOPE = {"create-alternate-key", "delta-changes", "delta-initial"}
NAMES = sorted(
    path.stem
    for path in SAMPLES.glob("*.json")
    if path.stem not in OUT_OF_SCOPE and not path.stem.startswith("webhook-")
)

EVENT_ID = (
    "AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0ARIgP_58waM-Dx3A5idNoDCDBwb2Dc4_dsdc6lC1MXlPq2Ymk_yE9fz1WuvL4NUyv-"
    "D8FnyVVdBZdzst6iAxQa2H="
)
TWIN_ID = (
    "AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0AHLKuVngbEU3yv4iEDu7ow2VW{}edDWpWRuX51utu5Uz7f-j_t67s6-cpVi9nm0na-"
    "uJrBYNHGidNRifaH2EHuuWfD="
)
STATUSES = [
    ("0bef5d3c-fefb-490a-ac96-2bb3811e51bb", "Scheduled", 2, 690970000),
    ("0d31446d-4a50-4a00-a156-832d9a4dd635", "Traveling", 2, 690970001),
    ("1579da69-aaa4-4239-acf8-ae3f09da65a7", "In Progress", 2, 690970003),
    ("3d276a0e-b902-4108-adb3-453a7e0f3078", "On Break", 2, 690970002),
    ("f68945df-34a5-400c-ac32-5d2074a93457", "Completed", 2, 690970004),
    ("cdeec2c9-2352-4509-a285-7c07d92a2be4", "Canceled", 3, 690970005),
    ("2b6f0cc9-04e9-4d5d-a3a1-5f0f8b6f9d21", "Customer Canceled", 3, 690970005),
    ("5b6f0cc9-14e9-4d5d-a3a1-5f0f8b6f9d22", "Hard", 2, None),
]


@dataclass
class World:
    """The rows that the samples speak of."""

    tables: Tables
    switches: DataverseSwitches
    faults: Faults
    booking: Row


def build_world(clock: Clock) -> World:
    rng = random.Random(3)
    tables = Tables(clock, rng, seed_statuses=False)
    tables.add_column("bookableresourcebooking", Column("contoso_outlookeventkey", max_length=64))
    for id, name, status, field_service in STATUSES:
        tables.add_status(name, status, field_service, id=id)
    user = tables.add_user(
        id="4f3a2b1c-0d9e-4c8b-a7f6-1e2d3c4b5a69",
        object_id="7c1d9e52-3b64-4f0a-9d28-6a5b4c3d2e1f",
        name="Nina Nordlund",
    )
    resource = tables.add_resource(user, id="b8c0f1d2-5a6e-ee11-9ae7-000d3adc1a01")
    booking = None
    for id, day, event_id in (
        ("c5d7e9fa-6b1c-ef11-9f89-000d3adc2b02", 2, EVENT_ID),
        ("d1e2f3a4-6b1c-ef11-9f89-000d3adc2b03", 3, None),
        ("e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10", 4, TWIN_ID.format("")),
        ("e0a1b2c3-6b1c-4f11-9f89-000d3adc2b11", 5, TWIN_ID.format("").replace("VWedD", "VWEdD")),
    ):
        start, end = (datetime(2026, 3, day, hour, tzinfo=UTC) for hour in (8, 10))
        row = tables.add_booking(resource, start, end, tables.status("Scheduled"), event_id, id=id)
        booking = booking or row
    assert booking is not None
    return World(tables, DataverseSwitches(), Faults(rng), booking)


def has_version(version: int) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        world.booking.version = version

    return arrange


def is_gone(world: World) -> None:
    world.tables.delete(world.booking)


def has_unpublished_column(world: World) -> None:
    world.booking.table.columns["contoso_outlookeventid"].published = False


def has_no_column(world: World) -> None:
    del world.booking.table.columns["contoso_outlookeventid"]


def is_refused_by_a_plugin(world: World) -> None:
    world.switches.plugin_refuses = {"*": "Example Error Message."}


def is_no_member(world: World) -> None:
    world.switches.not_a_member = True


def may_not_write(world: World) -> None:
    world.switches.missing_privileges = {"prvWriteBookableResourceBooking"}


def has_twin_by_key(world: World) -> None:
    world.tables.add_key("bookableresourcebooking", "Outlook Event Key", "contoso_outlookeventkey")
    key = "b50e25feffb2dfdad262d7a1a2770f297056f0ea36ada10cb8d44eb6f356afe2"
    world.tables.update(world.tables.bookings()[1], {"contoso_outlookeventkey": key})


ARRANGE: dict[str, Callable[[World], object]] = {
    "create-column": has_no_column,
    "error-400-plugin": is_refused_by_a_plugin,
    "error-400-unknown-property": has_unpublished_column,
    "error-403-not-member": is_no_member,
    "error-403-privilege": may_not_write,
    "error-404-not-found": is_gone,
    "error-412-alternate-key": has_twin_by_key,
    "error-429-concurrent": lambda world: world.faults.order(THROTTLED_CONCURRENCY.fault()),
    "error-429-requests": lambda world: world.faults.order(THROTTLED_REQUESTS.fault()),
    "error-429-time": lambda world: world.faults.order(THROTTLED_TIME.fault()),
    "patch-cancel-ok": has_version(81361177),
    "patch-times-ok": has_version(81359849),
    "patch-times-return-representation": has_version(81359849),
}


def shape(value: Any) -> Any:
    """Keys and types; the order of a list's entries is left out, because no sample asks for one."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted((shape(inner) for inner in value), key=str)
    return type(value).__name__


@pytest.mark.skipif(not NAMES, reason="../shared/samples/dataverse is not beside this checkout")
@pytest.mark.parametrize("name", NAMES)
async def test_the_simulator_answers_like_the_sample(name, clock):
    sample = json.loads((SAMPLES / f"{name}.json").read_text("utf-8"))
    world = build_world(clock)
    ARRANGE.get(name, lambda world: None)(world)
    root = "/api/data/v9.2"
    app = web.Application(middlewares=[middleware("dataverse", root, Calls(), world.faults, clock)])
    app.add_subapp(root, build_app(world.tables, world.switches))
    request, expected = sample["request"], sample["response"]
    async with TestClient(TestServer(app)) as client:
        answer = await client.request(
            request["method"],
            URL(request["path"]),
            headers={**request["headers"], "Authorization": "Bearer dummy"},
            data=json.dumps(request["body"]) if "body" in request else None,
        )
        body = await answer.json() if await answer.read() else None
    assert (answer.status, shape(body)) == (expected["status"], shape(expected["body"]))
    assert expected["headers"].keys() <= answer.headers.keys()
