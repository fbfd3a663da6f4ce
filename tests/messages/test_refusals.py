"""What refuses the app for a while loses no change: the app follows afterwards, by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandbox.faults import Fault
from sandbox.graph.errors import error as graph_error
from sync.messages.codec import OUTLOOK_CHANGES
from tests.world.app import HOUR, App, is_in_step
from tests.world.sweeping import hire, pairs_of

MINUTES = timedelta(minutes=1)


async def wait(app: App, minutes: int) -> None:
    for _ in range(minutes):
        app.sandbox.clock.move(MINUTES)
        await app.work()


def refusal(code: str | None) -> Any:
    return "<html><body>Forbidden</body></html>" if code is None else {"error": {"code": code, "message": "x"}}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "ErrorAccessDenied"),
        (404, "ErrorInvalidUser"),
        (404, "MailboxNotEnabledForRESTAPI"),
        (404, "ErrorNonExistentMailbox"),
    ],
)
async def test_a_mailbox_that_refuses_one_read_loses_no_change(app: App, status: int, code: str) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.faults.order(graph_error(status, code, "x").fault(path="/events/", times=1))
    ana.move(event, HOUR)
    await wait(app, 3)
    assert is_in_step(app.sandbox, booking, event)


async def test_a_mailbox_that_refuses_for_hours_is_swept_as_soon_as_it_answers(app: App) -> None:
    (ana,) = hire(app, "Ana")
    (moved, event), (deleted, gone) = await pairs_of(app, ana, 2)
    ana.mailbox.state = "denied"
    ana.move(event, HOUR)
    ana.delete(gone)
    await wait(app, 150)
    assert app.inbox.of(OUTLOOK_CHANGES) == [], "the changes were given up after an hour"
    assert app.inbox.parked == []
    assert not is_in_step(app.sandbox, moved, event)
    ana.mailbox.state = "ok"
    await wait(app, 75)
    assert is_in_step(app.sandbox, moved, event)
    assert is_in_step(app.sandbox, deleted, gone)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(403, "0x80095ffe", id="an IP firewall"),
        pytest.param(403, "0x80095ffc", id="application access control"),
        pytest.param(403, "0x80072560", id="an application user that was removed"),
        pytest.param(403, "0x80040220", id="a role that lost a privilege"),
        pytest.param(403, None, id="administration mode"),
        pytest.param(302, None, id="a redirection to a login page"),
        pytest.param(404, "0x8006088a", id="a wrong path"),
    ],
)
async def test_an_environment_that_is_closed_for_hours_parks_nothing(app: App, status: int, code: str | None) -> None:
    (ana,) = hire(app, "Ana")
    pairs = await pairs_of(app, ana, 3)
    closed = app.sandbox.faults.order(Fault("dataverse", status=status, body=refusal(code), times=None))
    for _, event in pairs:
        ana.move(event, HOUR)
    await wait(app, 180)
    assert app.inbox.parked == []
    app.sandbox.faults.cancel(closed)
    await wait(app, 75 if code == "0x80040220" else 5)
    assert all(is_in_step(app.sandbox, *pair) for pair in pairs)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, {"error": {"code": "BadRequest", "message": "Invalid version: v1.00"}}, id="a wrong version"),
        pytest.param(403, "<html>Blocked by policy</html>", id="a proxy"),
        pytest.param(407, "", id="a proxy that wants a password"),
    ],
)
async def test_a_graph_that_cannot_be_reached_the_right_way_parks_nothing(app: App, status: int, body: Any) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    closed = app.sandbox.faults.order(Fault("graph", path="/events", status=status, body=body, times=None))
    ana.move(event, HOUR)
    await wait(app, 60)
    assert app.inbox.parked == []
    app.sandbox.faults.cancel(closed)
    await wait(app, 5)
    assert is_in_step(app.sandbox, booking, event)


async def test_a_plug_in_that_refuses_one_write_keeps_nobody_else_from_following(app: App) -> None:
    (ana,) = hire(app, "Ana")
    (refused, one), (booking, other) = await pairs_of(app, ana, 2)
    answer = Fault("dataverse", method="PATCH", path=refused.id, status=400, body=refusal("0x80040265"), times=None)
    app.sandbox.faults.order(answer)
    ana.move(one, HOUR)
    ana.move(other, HOUR)
    await wait(app, 5)
    assert is_in_step(app.sandbox, booking, other)
    assert len(app.inbox.parked) == 1
