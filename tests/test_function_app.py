"""The table of triggers as the worker reads it, and each of them called as the worker calls it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest
from azure.storage.queue.aio import QueueClient

import function_app
from sync import triggers
from sync.errors import Misconfigured, Transient
from sync.graph.client_state import build_client_state
from sync.messages.changes import Change, LifecycleNotification, SweepRequest
from sync.messages.codec import build_change_message, build_lifecycle_message, build_sweep_message, parse_changes
from sync.sweep.rounds import LASTS
from sync.wiring.app import App
from tests.world.fakes import BEN, LedgerInMemory, QueuesInMemory
from tests.world.notifications import ANNA, KEY, change, lifecycle
from tests.world.nowhere import NOWHERE, UNREACHABLE
from tests.world.processes import in_a_process

ROOT = Path(__file__).resolve().parent.parent
CHANGES, LIFECYCLE, SWEEPS = "outlook-changes", "subscription-lifecycle", "sweeps"


# The table of triggers.

READ_TABLE = """
import inspect, typing
import function_app

result = {}
for function in function_app.app.get_functions():
    call = function.get_user_function()
    hints = {name: getattr(hint, "__qualname__", repr(hint)) for name, hint in typing.get_type_hints(call).items()}
    parameters = inspect.signature(call).parameters.values()
    result[function.get_function_name()] = {
        "bindings": [json.loads(binding) for binding in function.get_raw_bindings()],
        "parameters": [parameter.name for parameter in parameters],
        "plain": all(
            parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            for parameter in parameters
        ),
        "hints": hints,
        "async": inspect.iscoroutinefunction(call),
    }
"""


@pytest.fixture(scope="session")
def table() -> dict[str, Any]:
    """The functions by name, read in a process of its own: an app may be asked for them only once."""
    read: dict[str, Any] = in_a_process(READ_TABLE)
    return read


def trigger(table: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [binding for binding in table[name]["bindings"] if binding["direction"] == "IN"]
    return {key: value for key, value in found.items() if key != "direction"}


NAMES = [
    "notifications",
    "process_lifecycle",
    "process_outlook_change",
    "renew_subscriptions",
    "status",
    "status_page",
    "sweep",
    "sweep_mailbox",
]
HTTP = ["notifications", "status", "status_page"]


def test_there_are_eight_functions(table):
    assert sorted(table) == sorted(NAMES)


def test_graph_posts_to_one_route_with_a_function_key(table):
    assert trigger(table, "notifications") == {
        "type": "httpTrigger",
        "name": "req",
        "route": "notifications",
        "methods": ["POST"],
        "authLevel": "FUNCTION",
    }


@pytest.mark.parametrize(("name", "route"), [("status", "status"), ("status_page", "status/page")])
def test_people_look_at_a_route_with_a_function_key(table, name, route):
    assert trigger(table, name) == {
        "type": "httpTrigger",
        "name": "req",
        "route": route,
        "methods": ["GET"],
        "authLevel": "FUNCTION",
    }


@pytest.mark.parametrize(
    ("name", "queue"),
    [("process_outlook_change", CHANGES), ("process_lifecycle", LIFECYCLE), ("sweep_mailbox", SWEEPS)],
)
def test_each_queue_wakes_its_function(table, name, queue):
    assert trigger(table, name) == {
        "type": "queueTrigger",
        "name": "msg",
        "queueName": queue,
        "connection": "AzureWebJobsStorage",
    }


@pytest.mark.parametrize("name", ["renew_subscriptions", "sweep"])
def test_timers_run_by_their_schedule_and_not_at_each_start(table, name):
    found = trigger(table, name)
    assert found["type"] == "timerTrigger"
    assert len(found["schedule"].split()) == 6
    assert not found.get("runOnStartup")


def test_subscriptions_are_renewed_every_hour_at_an_odd_minute(table):
    second, minute, *others = trigger(table, "renew_subscriptions")["schedule"].split()
    assert (second, others) == ("0", ["*"] * 4)
    assert 0 < int(minute) < 60


def test_the_sweep_is_begun_in_the_small_hours_and_again_while_a_finished_one_still_counts(table):
    second, minute, hours, *others = trigger(table, "sweep")["schedule"].split()
    first, last = map(int, hours.split("-"))
    assert (second, others) == ("0", ["*"] * 3)
    assert 0 < int(minute) < 60
    assert 0 < first < last < 6
    assert timedelta(hours=last - first) < LASTS


# What the worker refuses empties the whole app: a parameter without a binding, even one with a default; a union or a
# name that is not there in an annotation; a parameter that is named unlike its trigger.
TYPES = {"httpTrigger": "HttpRequest", "queueTrigger": "QueueMessage", "timerTrigger": "TimerRequest"}


@pytest.mark.parametrize("name", NAMES)
def test_the_worker_accepts_the_signature_of(table, name):
    function, bound = table[name], trigger(table, name)
    assert function["parameters"] == [bound["name"]]
    assert function["plain"]
    returns = "HttpResponse" if bound["type"] == "httpTrigger" else "NoneType"
    assert function["hints"] == {bound["name"]: TYPES[bound["type"]], "return": returns}
    assert function["async"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_an_http_answer_goes_out_through_a_binding_of(table, name):
    out = [binding for binding in table[name]["bindings"] if binding["direction"] != "IN"]
    assert [binding["type"] for binding in out] == (["http"] if name in HTTP else [])


# What is imported when.

HEAVY = ["msgraph", "kiota_abstractions", "azure.identity", "azure.storage", "azure.core", "azure.data", "aiohttp"]
HEAVY += ["httpx", "requests", "pydantic", "tenacity", "jinja2", "opentelemetry"]

ANSWER = f"""
import asyncio
import azure.functions as func
import function_app
from sync import triggers
from sync.wiring.app import App

def answer(params, body=b""):
    request = func.HttpRequest("POST", "https://contoso.example/api/notifications", params=params, body=body)
    return asyncio.run(function_app.notifications(request)).status_code

def heavy():
    return [name for name in {HEAVY!r} if name in sys.modules]
"""


def test_the_handshake_imports_nothing_heavy():
    code = f"{ANSWER}\nstatus = answer({{'validationToken': 'token'}})\nresult = [status, heavy()]"
    assert in_a_process(code) == [200, []]


def test_an_acknowledgement_imports_pydantic_and_no_client_of_graph_or_dataverse():
    stand_in = f"""{ANSWER}
import os
from datetime import UTC, datetime
from sync.intake import coalescing
os.environ.update({{"AzureWebJobsStorage": "not asked", "CLIENT_STATE_KEY": {KEY!r}}})

class Queues:
    sent = []
    async def send(self, queue, messages, hidden=0, within=20):
        self.sent += messages
        return [None for _ in messages]

class Ledger:
    async def look(self, changes, within):
        return [coalescing.Notified(datetime.now(UTC)) for _ in changes]
    async def queued(self, change, due, settle, streak):
        pass

served = App(os.environ)
served.queues, served.ledger = Queues(), Ledger()
triggers._apps.append(served)
status = answer({{}}, {json.dumps({"value": [change(), lifecycle()]}).encode()!r})
result = [status, len(Queues.sent), heavy()]
"""
    assert in_a_process(stand_in) == [202, 2, ["pydantic"]]


def test_the_storage_client_brings_no_client_of_graph_or_dataverse():
    code = f"""{ANSWER}
import os
os.environ.update({{"AzureWebJobsStorage": {UNREACHABLE!r}, "CLIENT_STATE_KEY": {KEY!r}}})
status = answer({{}}, b'{{"value": []}}')
result = [status, [name for name in heavy() if name in ("msgraph", "kiota_abstractions", "httpx", "azure.identity")]]
"""
    assert in_a_process(code) == [202, []]


# The HTTP function.


class Called:
    """The functions, called as the worker calls them, of an app with whatever settings and parts a test makes."""

    def __init__(self) -> None:
        self.queues = QueuesInMemory()
        self.parts = App({})

    def configure(self, **settings: str) -> None:
        """Set settings; there are none before."""
        self.parts.environment = {**self.parts.environment, **settings}

    def use_queues_in_memory(self) -> None:
        """Storage is in memory."""
        self.configure(AzureWebJobsStorage="not asked", CLIENT_STATE_KEY=KEY)
        self.parts.queues, self.parts.ledger = self.queues, LedgerInMemory()  # type: ignore[assignment]

    async def post(self, body: bytes | str = b"", **query: str) -> func.HttpResponse:
        """Post to the notifications' route."""
        content = body.encode() if isinstance(body, str) else body
        url = "https://contoso.example/api/notifications"
        response = await function_app.notifications(func.HttpRequest("POST", url, params=query, body=content))
        assert isinstance(response, func.HttpResponse)
        return response


@pytest.fixture
async def app() -> AsyncIterator[Called]:
    """An app without settings; what it builds is closed in the end."""
    called = Called()
    with triggers.serving(called.parts):
        yield called
    await called.parts.close()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(
            "Validation: Testing client application reachability for subscription Request-Id: "
            "0c2d4ac4-9f2e-4b5a-9d3c-0e3b4a5f6a7b",
            id="as documented",
        ),
        pytest.param("a b  c ", id="spaces"),
        pytest.param("a+b%20c%2B", id="what looks encoded"),
        pytest.param("a:b/c?d=e&f#g", id="what looks like a URL"),
        pytest.param("Prüfung: 検証 ✓", id="beyond ASCII"),
        pytest.param("<script>alert('x')</script>", id="HTML"),
        pytest.param('{"status": 500, "body": "{}"}', id="JSON"),
        pytest.param("line\r\nX-Header: y", id="several lines"),
        pytest.param("x" * 10_000, id="a long one"),
        pytest.param("", id="an empty one"),
    ],
)
async def test_the_handshake_returns_the_token_as_plain_text(app, token):
    response = await app.post(validationToken=token)
    assert response.status_code == 200
    assert response.get_body() == token.encode()
    assert (response.mimetype, response.charset) == ("text/plain", "utf-8")
    assert dict(response.headers) == {"X-Content-Type-Options": "nosniff"}


async def test_a_handshake_is_told_by_its_parameter_and_its_body_is_not_read(app):
    app.use_queues_in_memory()
    body = json.dumps({"value": [change()]})
    response = await app.post(body, validationToken="token")
    assert (response.status_code, response.get_body()) == (200, b"token")
    assert app.queues.sent == []


async def test_notifications_are_acknowledged_once_they_are_queued(app):
    app.use_queues_in_memory()
    response = await app.post(json.dumps({"value": [change(), None, lifecycle()]}))
    assert (response.status_code, response.get_body()) == (202, b"")
    assert sorted(queue for queue, _, _ in app.queues.sent) == [CHANGES, LIFECYCLE]
    assert [each.mailbox for each in parse_changes(app.queues.of(CHANGES)[0]).changes] == [ANNA]


async def test_a_forged_notification_is_acknowledged_like_any_other_and_not_queued(app):
    app.use_queues_in_memory()
    forged = change(clientState=build_client_state("a key that somebody else made up", ANNA))
    good, bad = await app.post(json.dumps({"value": [change()]})), await app.post(json.dumps({"value": [forged]}))
    assert (bad.status_code, bad.get_body(), bad.headers) == (good.status_code, good.get_body(), good.headers)
    assert len(app.queues.sent) == 1


@pytest.mark.parametrize(
    "body",
    ["", "hello", "[]", "null", '{"value": 7}', "[" * 100_000, " " * 10 * 1024 * 1024],
    ids=lambda body: body[:9],
)
async def test_a_body_that_is_no_collection_is_refused_without_repeating_it(app, body):
    app.use_queues_in_memory()
    response = await app.post(body)
    assert response.status_code == 400
    assert response.get_body() == b"not a collection of change notifications"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert app.queues.sent == []


async def test_graph_is_to_come_again_while_the_queue_refuses(app):
    app.use_queues_in_memory()
    app.queues.refuses = True
    response = await app.post(json.dumps({"value": [change()]}))
    assert (response.status_code, response.get_body()) == (503, b"")


async def test_graph_is_to_come_again_while_storage_cannot_be_reached(app):
    app.configure(AzureWebJobsStorage=UNREACHABLE, CLIENT_STATE_KEY=KEY)
    response = await app.post(json.dumps({"value": [change()]}))
    assert (response.status_code, response.get_body()) == (503, b"")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({}, ["AzureWebJobsStorage", "CLIENT_STATE_KEY"], id="nothing is set"),
        pytest.param({"AzureWebJobsStorage": "x"}, ["CLIENT_STATE_KEY"], id="the key is missing"),
        pytest.param(
            {"AzureWebJobsStorage": UNREACHABLE, "CLIENT_STATE_KEY": "planted"}, ["CLIENT_STATE_KEY"], id="a short key"
        ),
        pytest.param(
            {"AzureWebJobsStorage": "planted", "CLIENT_STATE_KEY": KEY},
            ["AzureWebJobsStorage"],
            id="the connection string is none",
        ),
        pytest.param(
            {"AzureWebJobsStorage__queueServiceUri": "https://", "CLIENT_STATE_KEY": KEY},
            ["AzureWebJobsStorage"],
            id="the storage's URL is none",
        ),
    ],
)
async def test_graph_is_to_come_again_and_the_log_says_what_to_set_while(app, settings, named, caplog):
    app.configure(**settings)
    response = await app.post(json.dumps({"value": [change()]}))
    assert (response.status_code, response.get_body()) == (503, b"")
    assert all(name in caplog.text for name in named)
    assert "planted" not in caplog.text
    assert KEY not in caplog.text


async def test_the_handshake_works_while_nothing_is_set(app):
    assert (await app.post(validationToken="token")).status_code == 200


async def test_no_line_of_the_log_repeats_a_client_state_or_a_subject(app, caplog):
    caplog.set_level(logging.DEBUG)
    app.use_queues_in_memory()
    secrets = [change(subject="planted"), change(clientState="planted"), change(resource="planted"), "planted"]
    assert (await app.post(json.dumps({"value": [*secrets, change(), lifecycle()]}))).status_code == 202
    assert (await app.post('{"value": "planted"}')).status_code == 400
    assert "planted" not in caplog.text
    assert build_client_state(KEY, ANNA) not in caplog.text
    assert "dropped count=1 reason='clientState missing or not ours'" in caplog.text


# The other functions.


@pytest.mark.parametrize(
    ("name", "queue"),
    [("process_outlook_change", CHANGES), ("process_lifecycle", LIFECYCLE), ("sweep_mailbox", SWEEPS)],
)
@pytest.mark.parametrize("body", [b"", b"hello", b"{}", b"\xff\xfe"], ids=repr)
async def test_a_malformed_message_is_parked_before_any_service_is_asked(app, name, queue, body):
    app.use_queues_in_memory()
    await getattr(function_app, name)(func.QueueMessage(body=body))
    assert [sent for sent, _, _ in app.queues.sent] == [f"{queue}-poison"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("process_outlook_change", build_change_message(Change(ANNA, "AAMk="))),
        ("process_lifecycle", build_lifecycle_message(LifecycleNotification(ANNA, BEN, "missed"))),
        ("sweep_mailbox", build_sweep_message(SweepRequest(ANNA))),
    ],
    ids=["process_outlook_change", "process_lifecycle", "sweep_mailbox"],
)
async def test_a_message_waits_while_settings_are_missing(app, name, message, caplog):
    app.use_queues_in_memory()
    await getattr(function_app, name)(func.QueueMessage(body=message.encode()))
    [(queue, _, hidden)] = app.queues.sent
    assert queue in (CHANGES, LIFECYCLE, SWEEPS)
    assert hidden >= 15
    for setting in ("DATAVERSE_URL", "EVENT_ID_COLUMN", "NOTIFICATION_URL"):
        assert f"{setting} is missing" in caplog.text


async def test_the_host_keeps_a_message_while_the_queue_refuses(app):
    app.use_queues_in_memory()
    app.queues.refuses = True
    with pytest.raises(Transient):
        await function_app.process_outlook_change(func.QueueMessage(body=b"hello"))


async def test_notifications_of_one_event_that_the_host_hands_over_at_once_are_one_message(app, storage):
    app.configure(AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY)
    for number in range(10):
        await app.post(json.dumps({"value": [change(resourceData={"id": "E1=", "@odata.etag": f'W/"{number}"'})]}))
    async with QueueClient.from_connection_string(storage, CHANGES) as queue:
        batches = [base64.b64decode(message.content) async for message in queue.receive_messages(max_messages=10)]
        assert len(batches) == 10
        await asyncio.gather(*(function_app.process_outlook_change(func.QueueMessage(body=batch)) for batch in batches))
        assert (await queue.get_queue_properties()).approximate_message_count == 11


async def test_a_second_deployment_on_the_same_storage_takes_nothing(app, storage):
    """A test system got production's connection string: what it is handed goes back, and nothing is parked."""
    app.configure(AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY, DATAVERSE_URL="https://contoso.crm4.dynamics.com")
    app.configure(NOTIFICATION_URL="https://sync.example/api/notifications?code=x")
    await app.parts.own_storage()
    await app.post(json.dumps({"value": [change()]}))
    async with QueueClient.from_connection_string(storage, CHANGES) as queue:
        message = await queue.receive_message()
        assert message is not None
        await queue.delete_message(message)
        text = base64.b64decode(message.content)

        test_system = App({**app.parts.environment, "NOTIFICATION_URL": "https://test.example/api/notifications"})
        with triggers.serving(test_system):
            await function_app.process_outlook_change(func.QueueMessage(body=text))
            assert (await app.post(json.dumps({"value": [change()]}))).status_code == 503
            with pytest.raises(Misconfigured, match="belongs to another deployment"):
                await function_app.renew_subscriptions(TimerRequest())
        await test_system.close()

        assert (await queue.get_queue_properties()).approximate_message_count == 1, "it went back"
    status = await app.parts.status()
    assert any("Two deployments share this storage account" in finding.text for finding in status.findings)


async def test_a_message_is_put_back_by_the_app_and_not_given_up_by_the_host_while_tables_cannot_be_reached(app):
    app.use_queues_in_memory()
    app.configure(AzureWebJobsStorage=NOWHERE, DATAVERSE_URL="https://contoso.crm4.dynamics.com")
    app.configure(NOTIFICATION_URL="https://sync.example/api/notifications?code=x")
    app.parts.ledger.is_down = True
    await function_app.process_outlook_change(
        func.QueueMessage(body=build_change_message(Change(ANNA, "AAMk=")).encode())
    )
    [(queue, _, hidden)] = app.queues.sent
    assert (queue, hidden > 0) == (CHANGES, True)


class Idle:
    """Counts nothing."""

    async def purge(self) -> None:
        """There is nothing."""


async def test_the_timers_call_their_handlers(app):
    called: list[str] = []

    class Part:
        async def keep(self) -> None:
            called.append("keep")

        async def ask_nightly(self) -> None:
            called.append("ask_nightly")

    app.use_queues_in_memory()
    app.parts.keeper = app.parts.rounds = Part()  # type: ignore[assignment]
    app.parts.counting = Idle()  # type: ignore[assignment]
    await function_app.renew_subscriptions(TimerRequest())
    await function_app.sweep(TimerRequest())
    assert called == ["keep", "ask_nightly"]


# The status.


def asked(path: str) -> func.HttpRequest:
    return func.HttpRequest("GET", f"https://contoso.example/api/{path}", params={}, body=b"")


@pytest.mark.parametrize(
    ("name", "kind", "begins"), [("status", "application/json", b'{"at":'), ("status_page", "text/html", b"<!doctype")]
)
async def test_the_status_is_shown_and_nobody_keeps_it(app, storage, name, kind, begins):
    app.configure(AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY)
    response = await getattr(function_app, name)(asked(name))
    assert (response.status_code, response.mimetype) == (200, kind)
    assert response.get_body().lstrip().startswith(begins)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_status_has_what_was_counted_a_moment_ago(app, storage):
    app.configure(AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY)
    assert (await app.post(json.dumps({"value": [change(), None]}))).status_code == 202
    await function_app.process_outlook_change(func.QueueMessage(body=b"no JSON"))
    document = json.loads((await function_app.status(asked("status"))).get_body())
    assert document["notifications"] == {"dropped": 1, "received": 1}
    assert document["outcomes"] == {"parked": 1}
    assert [each["parked"] for each in document["queues"]] == [1, 0, 0]


@pytest.mark.parametrize("name", ["status", "status_page"])
async def test_without_settings_the_status_says_where_to_look(app, name, caplog):
    response = await getattr(function_app, name)(asked(name))
    assert response.status_code == 503
    assert "AzureWebJobsStorage" in caplog.text


async def test_an_acknowledgement_does_not_wait_for_the_counts(app, storage):
    app.configure(AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY)
    stored = []

    class Counters:
        async def put(self, *_: object) -> None:
            stored.append(1)

        async def close(self) -> None:
            """Nothing is open."""

    app.parts.counters = Counters()  # type: ignore[assignment]
    assert (await app.post(json.dumps({"value": [change()]}))).status_code == 202
    assert stored == []
    await app.parts.counting.flush()
    assert stored == [1]


async def test_a_run_of_the_roster_that_fails_is_shown_and_fails(app, storage):
    app.configure(AzureWebJobsStorage=storage, CLIENT_STATE_KEY=KEY)

    class Keeper:
        async def keep(self) -> None:
            raise Transient("graph 503")

    app.parts.keeper = Keeper()  # type: ignore[assignment]
    with pytest.raises(Transient):
        await function_app.renew_subscriptions(TimerRequest())
    document = json.loads((await function_app.status(asked("status"))).get_body())
    assert document["roster_failure"][1] == "graph 503"
