"""Sample exchanges, if some lie beside the checkout, replayed: the simulator answers with the same status and shape."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from sandbox.calls import Calls
from sandbox.clock import Clock
from sandbox.dataverse.columns import Column
from sandbox.dataverse.errors import THROTTLED_CONCURRENCY, THROTTLED_REQUESTS, THROTTLED_TIME
from sandbox.dataverse.routes import DataverseSwitches, build_app
from sandbox.dataverse.tables import Row, Tables
from sandbox.faults import Faults, middleware

SAMPLES = Path(__file__).parents[4] / "shared" / "samples" / "dataverse"
OUT_OF_SCOPE = {"create-alternate-key", "delta-changes", "delta-initial"}
NAMES = sorted(
    path.stem
    for path in SAMPLES.glob("*.json")
    if path.stem not in OUT_OF_SCOPE and not path.stem.startswith("webhook-")
)


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows that a sample answers with."""
    body = json.loads((SAMPLES / f"{name}.json").read_text("utf-8"))["response"]["body"]
    return body.get("value", [body])


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
    for status in rows_of("bookingstatuses-list"):
        id, name, kind = status["bookingstatusid"], status["name"], status["status"]
        tables.add_status(name, kind, status["msdyn_fieldservicestatus"], id=id)
    (user,) = rows_of("systemuser-by-object-id")
    nina = tables.add_user(
        id=user["systemuserid"], object_id=user["azureactivedirectoryobjectid"], name="Nina Nordlund"
    )
    resource = tables.add_resource(nina, id=rows_of("bookableresource-by-user")[0]["bookableresourceid"])
    sampled = [*rows_of("booking-get-expand"), *rows_of("list-page-1"), *rows_of("booking-list-case-collision")]
    for id, row in {row["bookableresourcebookingid"]: row for row in reversed(sampled)}.items():
        start, end = (datetime.fromisoformat(row[name]) for name in ("starttime", "endtime"))
        tables.add_booking(resource, start, end, tables.status("Scheduled"), row.get("contoso_outlookeventid"), id=id)
    # One row more than a page of the paged sample.
    tables.add_booking(resource, start, end, tables.status("Scheduled"))
    booking = tables.get("bookableresourcebooking", rows_of("booking-get-expand")[0]["bookableresourcebookingid"])
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
    request = json.loads((SAMPLES / "error-412-alternate-key.json").read_text("utf-8"))["request"]
    other = next(row for row in world.tables.bookings() if row is not world.booking)
    world.tables.update(other, request["body"])


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
