"""The local host with tiny apps, real HTTP and a real queue."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import azure.functions as func
import pytest
from azure.storage.queue import QueueClient, TextBase64EncodePolicy

from sandbox.host import queues
from sandbox.host.child import Child
from sandbox.host.functions_host import FunctionsHost, HostError, free_port, load_app, read_host_json
from sandbox.host.queues import parse_options, parse_time_span
from tests.world.environment import Environment

APP = """
import json
import azure.functions as func
import threading, helper_of_the_test

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
seen = helper_of_the_test.seen

@app.route(route="echo", methods=["POST", "GET"])
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    if req.params.get("fail"):
        raise RuntimeError("on request")
    answer = {"method": req.method, "params": dict(req.params), "headers": dict(req.headers),
              "body": req.get_body().decode(), "url": req.url}
    return func.HttpResponse(json.dumps(answer), status_code=202, mimetype="application/json",
                             headers={"X-Content-Type-Options": "nosniff"})

@app.route(auth_level=func.AuthLevel.ANONYMOUS)
def open(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(threading.current_thread().name)

@app.route(route="nothing")
async def nothing(req: func.HttpRequest):
    return None

@app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
async def work(message: func.QueueMessage) -> None:
    text = message.get_body().decode()
    seen.append((message.id, text, message.dequeue_count))
    if "fail" in text:
        raise ValueError("on request")

@app.timer_trigger(arg_name="timer", schedule="0 0 * * * *")
async def tick(timer: func.TimerRequest) -> None:
    seen.append(("tick", timer.past_due))
"""
HOST_JSON = {
    "version": "2.0",
    "extensions": {"queues": {"batchSize": 4, "newBatchThreshold": 2, "maxDequeueCount": 3}},
}
QUICK = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.1"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "helper_of_the_test.py").write_text("seen = []\n")
    (tmp_path / "host.json").write_text(json.dumps(HOST_JSON))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "helper_of_the_test", raising=False)
    return tmp_path


@pytest.fixture
def settings(storage: str) -> dict[str, str]:
    return {"AzureWebJobsStorage": storage, **QUICK}


def seen() -> list[Any]:
    return sys.modules["helper_of_the_test"].seen  # type: ignore[no-any-return]


async def eventually(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not fact():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.02)


async def ask(url: str, method: str = "GET", **options: Any) -> tuple[int, bytes, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        return response.status, await response.read(), dict(response.headers)


# -- HTTP


async def test_a_request_reaches_the_function_as_the_real_host_hands_it_over(
    folder: Path, settings: dict[str, str]
) -> None:
    async with FunctionsHost(folder, settings) as host:
        url = f"{host.url}/API/Echo?a=1&a=2&empty=&b=x%20y"
        status, body, headers = await ask(url, "POST", data=b"text", headers=[("X-One", "a"), ("X-One", "b")])
    answer = json.loads(body)
    assert status == 202
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (answer["method"], answer["body"]) == ("POST", "text")
    assert answer["params"] == {"a": "1,2", "b": "x y"}
    assert answer["headers"]["x-one"] == "a,b"


async def test_a_body_without_content_length_arrives_empty(folder: Path, settings: dict[str, str]) -> None:
    async def chunks() -> Any:
        yield b"never seen"

    async with FunctionsHost(folder, settings) as host:
        _, body, _ = await ask(f"{host.url}/api/echo", "POST", data=chunks())
    assert json.loads(body)["body"] == ""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("DELETE", "/api/echo", 404, id="a wrong method is not found"),
        pytest.param("GET", "/echo", 404, id="the prefix belongs to the route"),
        pytest.param("GET", "/api/nobody", 404, id="an unknown route is not found"),
        pytest.param("GET", "/api/echo?fail=1", 500, id="a function that raises is 500"),
        pytest.param("GET", "/api/nothing", 500, id="a function without an answer is 500"),
        pytest.param("PUT", "/api/open", 200, id="without methods every method fits, and the name is the route"),
        pytest.param("GET", "/admin/host/status", 200, id="the host tells that it runs"),
    ],
)
async def test_answers(folder: Path, settings: dict[str, str], method: str, path: str, status: int) -> None:
    async with FunctionsHost(folder, settings) as host:
        answered, body, _ = await ask(host.url + path, method)
    assert answered == status
    assert status == 200 or body == b""


async def test_a_plain_function_runs_in_a_thread(folder: Path, settings: dict[str, str]) -> None:
    async with FunctionsHost(folder, settings) as host:
        _, body, headers = await ask(f"{host.url}/api/open")
    assert body != b"MainThread"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_key_is_asked_for_only_if_one_is_given(folder: Path, settings: dict[str, str]) -> None:
    async with FunctionsHost(folder, settings, key="secret") as host:
        assert (await ask(f"{host.url}/api/echo"))[0] == 401
        assert (await ask(f"{host.url}/api/echo?code=secret"))[0] == 202
        assert (await ask(f"{host.url}/api/echo", headers={"x-functions-key": "secret"}))[0] == 202
        assert (await ask(f"{host.url}/api/open"))[0] == 200
        assert (await ask(f"{host.url}/admin/functions"))[0] == 401


async def test_the_route_prefix_of_host_json_counts(folder: Path, settings: dict[str, str]) -> None:
    (folder / "host.json").write_text('{"extensions": {"http": {"routePrefix": ""}}}')
    async with FunctionsHost(folder, settings) as host:
        assert (await ask(f"{host.url}/open"))[0] == 200


# -- on demand


async def test_a_timer_runs_on_demand(folder: Path, settings: dict[str, str]) -> None:
    async with FunctionsHost(folder, settings) as host:
        assert (await ask(f"{host.url}/admin/functions/tick", "POST", json={"input": ""}))[0] == 202
        await eventually(lambda: seen() == [("tick", False)])


async def test_a_queue_function_runs_on_demand_with_the_input_as_its_message(
    folder: Path, settings: dict[str, str]
) -> None:
    async with FunctionsHost(folder, settings) as host:
        assert (await ask(f"{host.url}/admin/functions/work", "POST", json={"input": "hello"}))[0] == 202
        await eventually(lambda: [text for _, text, _ in seen()] == ["hello"])


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [("nobody", b'{"input": ""}', 404), ("tick", b"", 400), ("tick", b"[]", 400), ("echo", b'{"input": ""}', 400)],
)
async def test_what_cannot_run_on_demand_is_refused(
    folder: Path, settings: dict[str, str], name: str, body: bytes, status: int
) -> None:
    async with FunctionsHost(folder, settings) as host:
        assert (await ask(f"{host.url}/admin/functions/{name}", "POST", data=body))[0] == status


async def test_the_functions_are_listed(folder: Path, settings: dict[str, str]) -> None:
    async with FunctionsHost(folder, settings) as host:
        _, body, _ = await ask(f"{host.url}/admin/functions")
    assert [function["name"] for function in json.loads(body)] == ["echo", "open", "nothing", "work", "tick"]


# -- queue


@pytest.fixture
def queue(storage: str) -> QueueClient:
    queue = QueueClient.from_connection_string(storage, "work", message_encode_policy=TextBase64EncodePolicy())
    queue.create_queue()
    return queue


def poisoned(storage: str) -> list[str]:
    queue = QueueClient.from_connection_string(storage, "work-poison")
    try:
        return [message.content for message in queue.peek_messages(32)]
    except Exception:
        return []


async def test_messages_are_run_and_deleted(folder: Path, settings: dict[str, str], queue: QueueClient) -> None:
    for number in range(10):
        queue.send_message(f"message {number}")
    async with FunctionsHost(folder, settings):
        await eventually(lambda: len(seen()) == 10)
    assert sorted(text for _, text, _ in seen()) == [f"message {number}" for number in range(10)]
    assert queue.get_queue_properties().approximate_message_count == 0


async def test_a_message_that_fails_comes_back_and_ends_in_the_poison_queue(
    folder: Path, settings: dict[str, str], queue: QueueClient, storage: str
) -> None:
    queue.send_message("fail")
    async with FunctionsHost(folder, settings):
        await eventually(lambda: poisoned(storage))
    assert [count for _, _, count in seen()] == [1, 2, 3]
    assert [base64.b64decode(content) for content in poisoned(storage)] == [b"fail"]
    assert queue.get_queue_properties().approximate_message_count == 0


async def test_a_failed_message_stays_hidden_for_the_visibility_timeout(
    folder: Path, settings: dict[str, str], queue: QueueClient
) -> None:
    queue.send_message("fail")
    waiting = {"AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:05:00"}
    async with FunctionsHost(folder, settings | waiting):
        await eventually(seen)
        await asyncio.sleep(0.5)
    assert len(seen()) == 1
    assert queue.get_queue_properties().approximate_message_count == 1


async def test_what_is_not_base64_goes_to_the_poison_queue_as_it_is_and_is_never_run(
    folder: Path, settings: dict[str, str], queue: QueueClient, storage: str
) -> None:
    QueueClient.from_connection_string(storage, "work").send_message("not base64!")
    async with FunctionsHost(folder, settings):
        await eventually(lambda: poisoned(storage))
    assert poisoned(storage) == ["not base64!"]
    assert seen() == []


async def test_properties_of_a_json_message_replace_its_own(
    folder: Path, settings: dict[str, str], queue: QueueClient
) -> None:
    queue.send_message('{"ID": "mine", "dequeuecount": 7, "other": 1}')
    async with FunctionsHost(folder, settings):
        await eventually(seen)
    assert seen() == [("mine", '{"ID": "mine", "dequeuecount": 7, "other": 1}', 7)]


async def test_a_queue_that_is_not_there_yet_is_waited_for(
    folder: Path, settings: dict[str, str], storage: str
) -> None:
    async with FunctionsHost(folder, settings):
        await asyncio.sleep(0.3)
        late = QueueClient.from_connection_string(storage, "work", message_encode_policy=TextBase64EncodePolicy())
        late.create_queue()
        late.send_message("late")
        await eventually(seen)


async def test_a_running_function_ends_before_the_host_does(
    tmp_path: Path, settings: dict[str, str], queue: QueueClient
) -> None:
    app, done = func.FunctionApp(), []

    @app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
    async def work(message: func.QueueMessage) -> None:
        done.append("began")
        await asyncio.sleep(0.5)
        done.append("ended")

    queue.send_message("x")
    async with FunctionsHost(tmp_path, settings, app=app):
        await eventually(lambda: done)
    assert done == ["began", "ended"]
    assert queue.get_queue_properties().approximate_message_count == 0


async def test_a_message_stays_hidden_for_as_long_as_its_function_runs(
    tmp_path: Path, settings: dict[str, str], queue: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "INVISIBLE", 2)
    app, runs = func.FunctionApp(), []

    @app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
    async def work(message: func.QueueMessage) -> None:
        runs.append("began")
        await asyncio.sleep(3.5)
        runs.append("ended")

    queue.send_message("x")
    async with FunctionsHost(tmp_path, settings, app=app):
        await eventually(lambda: "ended" in runs)
    assert runs == ["began", "ended"]
    assert queue.get_queue_properties().approximate_message_count == 0


# -- settings and refusals


async def test_settings_are_the_environment_while_the_host_runs(tmp_path: Path) -> None:
    values = {"FROM_FILE": "file", "FROM_ENVIRONMENT": "file", "GIVEN": "file"}
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": values}))
    with Environment() as environment:
        environment.set(FROM_ENVIRONMENT="environment", GIVEN="environment")
        before = dict(os.environ)
        async with FunctionsHost(tmp_path, {"GIVEN": "given"}, app=func.FunctionApp()):
            assert [os.environ[name] for name in values] == ["file", "environment", "given"]
        assert dict(os.environ) == before


async def test_one_app_can_be_hosted_again(tmp_path: Path) -> None:
    app = func.FunctionApp()

    @app.route(route="a")
    async def a(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("")

    for _ in range(2):
        async with FunctionsHost(tmp_path, app=app) as host:
            assert (await ask(f"{host.url}/api/a"))[0] == 200


Refusal = Callable[[func.FunctionApp], Any]


def refused_parameter(app: func.FunctionApp) -> None:
    @app.route(route="a")
    async def a(req: func.HttpRequest, clock: object = None) -> func.HttpResponse: ...  # type: ignore[empty-body]


def refused_output(app: func.FunctionApp) -> None:
    @app.route(route="a")
    @app.queue_output(arg_name="out", queue_name="q", connection="AzureWebJobsStorage")
    async def a(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse: ...  # type: ignore[empty-body]


def refused_trigger(app: func.FunctionApp) -> None:
    @app.blob_trigger(arg_name="blob", path="a/b", connection="AzureWebJobsStorage")
    async def a(blob: func.InputStream) -> None: ...


def refused_storage(app: func.FunctionApp) -> None:
    @app.queue_trigger(arg_name="message", queue_name="q", connection="NoSuchSetting")
    async def a(message: func.QueueMessage) -> None: ...


@pytest.mark.parametrize(
    ("define", "says"),
    [
        pytest.param(refused_parameter, "parameters", id="a parameter without a binding, as the worker"),
        pytest.param(refused_output, "queue", id="output bindings are left out"),
        pytest.param(refused_trigger, "blobTrigger", id="other triggers are left out"),
        pytest.param(refused_storage, "NoSuchSetting", id="a connection that is not set"),
    ],
)
async def test_what_cannot_be_hosted_is_refused_at_the_start(tmp_path: Path, define: Refusal, says: str) -> None:
    app = func.FunctionApp()
    define(app)
    with pytest.raises(HostError, match=says):
        await FunctionsHost(tmp_path, app=app).__aenter__()


def test_a_folder_without_an_app_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no function_app\.py"):
        load_app(tmp_path)


def test_host_json_is_overridden_by_settings(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text(json.dumps(HOST_JSON))
    read = read_host_json(tmp_path, {"AzureFunctionsJobHost__extensions__queues__batchSize": "1", "OTHER": "2"})
    assert read["extensions"]["queues"] == {"batchSize": "1", "newBatchThreshold": 2, "maxDequeueCount": 3}


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:30", 30), ("01:02:03.5", 3723.5), ("7.00:00:00", 604800), ("00:00:00.100", 0.1)]
)
def test_time_spans(text: str, seconds: float) -> None:
    assert parse_time_span(text) == seconds


@pytest.mark.parametrize(
    "section",
    [{"batchSize": 33}, {"maxDequeueCount": 0}, {"visibilityTimeout": "30"}, {"maxPollingInterval": "00:00:00"}],
)
def test_queue_options_that_stop_the_real_host_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_options(section)


# -- where it listens


async def test_a_port_that_was_named_before_is_taken(tmp_path: Path) -> None:
    port = free_port()
    async with FunctionsHost(tmp_path, app=func.FunctionApp(), port=port) as host:
        assert host.url == f"http://127.0.0.1:{port}"


async def test_as_a_process_it_names_its_url_first_and_ends_on_a_signal(folder: Path, settings: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sandbox.host.functions_host", "--app", folder, "--port", "0"]
    with Child("the host", command, env={**os.environ, **settings}) as child:
        line = await asyncio.to_thread(child.wait_for, r'^\{"url"')
        url = json.loads(line.string)["url"]
        assert (await ask(f"{url}/api/open"))[0] == 200
        await asyncio.to_thread(child.stop)
        assert child.status == 0
