"""The guided tour from end to end: a process of its own, real Azurite, real HTTP, the app as a child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from azure.storage.queue.aio import QueueServiceClient

from sandbox.host.app import choose_host
from sandbox.server import Sandbox
from sandbox.tour.judge import Judge, NotTrue
from sandbox.tour.story import Step, Story
from tests.world.processes import children_of, is_alive

ROOT = Path(__file__).resolve().parent.parent.parent.parent
STEPS = [
    "The app is told to look after its subscriptions",
    "Dora, the dispatcher, books Ana",
    "Ana, a technician, drags",
    "Ben deletes his event",
    "Cleo renames an ordinary meeting",
    "Ana copies her event",
    "before Outlook is told",
    "Outlook is told:",
    "into another calendar",
    "while Dataverse answers 429",
]


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m`` *command*, ended with the test."""
    run = [sys.executable, "-m", *command]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()  # where the test has not ended it


def tour(folder: Path, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """``python -m sandbox run`` with the app, under the sandbox's own host wherever the tests run."""
    log = str(folder / ".sandbox" / "app.log")
    return started("sandbox", "run", "--no-core-tools", "--log", log, "--set", "SETTLE_SECONDS=0", *options)


def stub_tour(folder: Path, *others: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """The tour with a stub in the place of the app, which never makes a step come true."""
    return started("tests.world.stub_tour", str(folder), *others)


def output_of(tour: AbstractContextManager[subprocess.Popen[str]]) -> tuple[int, str]:
    """Exit status and output, once it has ended by itself."""
    with tour as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, output


@pytest.mark.slow
def test_every_step_comes_true(tmp_path: Path) -> None:
    status, output = output_of(tour(tmp_path, "--once"))
    assert status == 0, output
    assert [step for step in STEPS if step not in output] == []
    assert "All 10 steps came true" in output


@pytest.mark.slow
def test_a_step_that_does_not_come_true_is_named_with_the_apps_reason(tmp_path: Path) -> None:
    wrong = ("--set", "EVENT_ID_COLUMN=contoso_nothing", "--patience", "4")
    status, output = output_of(tour(tmp_path, "--once", *wrong))
    assert status == 1, output
    told = output.partition("Dora, the dispatcher, books Ana")[2]
    assert "x this did not come true within 4 s" in told
    assert "expected: the booking is linked to its event; writes: 1" in told
    assert "Dataverse GET /bookableresourcebookings(B3) 400" in told
    assert "is EVENT_ID_COLUMN the column's logical name" in told  # the app's own last lines
    assert "Ana, a technician, drags" not in output


def test_a_step_that_does_not_come_true_is_named_with_what_was_seen(tmp_path: Path, storage: str) -> None:
    status, output = output_of(stub_tour(tmp_path, storage, "patience=0.2"))
    assert status == 1, output
    told = output.partition(STEPS[0])[2]
    assert "x this did not come true within 0.2 s" in told
    assert "expected: 3 mailboxes are subscribed" in told
    assert "seen: the app has not looked at Graph" in told
    assert "Executing 'Functions.stub'" in told  # the app's own last lines
    assert STEPS[1] not in output


@pytest.mark.slow
def test_an_app_that_only_observes_subscribes_and_is_not_waited_for(tmp_path: Path) -> None:
    status, output = output_of(tour(tmp_path, "--once", "--set", "SYNC_MODE=observe"))
    assert status == 0, output
    assert "3 mailboxes are subscribed" in output
    assert "The app only observes" in output
    assert "this did not come true" not in output


def test_an_app_that_does_not_start_ends_the_run_with_its_last_lines(tmp_path: Path, storage: str) -> None:
    status, output = output_of(stub_tour(tmp_path, storage, "STUB_ENDS=yes"))
    assert status == 1, output
    assert "error: the app ended with status 1:\n" in output
    assert "the stub was told to end" in output


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for one process alone")


@POSIX
@pytest.mark.parametrize(
    ("line", "signum"),
    [
        pytest.param("Starting Azurite", signal.SIGTERM, id="while Azurite starts"),
        pytest.param(STEPS[0], signal.SIGINT, id="in the middle"),
    ],
)
def test_it_can_be_stopped_at_any_moment_and_leaves_no_process(line: str, signum: int, tmp_path: Path) -> None:
    with stub_tour(tmp_path) as process:
        read_up_to(line, process)
        time.sleep(0.2)
        children = children_of(process.pid)
        process.send_signal(signum)
        rest = read_up_to(None, process)
    assert process.returncode == 130, rest
    assert "Stopping ..." in rest
    assert "Traceback" not in rest
    assert children
    assert [pid for pid in children if is_alive(pid)] == []


@POSIX
def test_an_app_that_dies_ends_the_run_with_its_last_lines(tmp_path: Path, storage: str) -> None:
    with stub_tour(tmp_path, storage) as process:
        read_up_to(STEPS[0], process)
        (app,) = children_of(process.pid)
        os.kill(app, signal.SIGKILL)
        rest = read_up_to(None, process)
    assert process.returncode == 1
    assert "error: the app ended with status -9:\n" in rest
    assert "Executing 'Functions.stub'" in rest


@POSIX
def test_nothing_is_left_behind_even_by_a_run_that_is_killed(tmp_path: Path) -> None:
    with stub_tour(tmp_path) as process:
        read_up_to(STEPS[0], process)
        children = children_of(process.pid)
        process.kill()
        read_up_to(None, process)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(is_alive(pid) for pid in children):
        time.sleep(0.1)
    assert len(children) == 2
    assert not [command for pid, command in children.items() if is_alive(pid)]


@POSIX
def test_every_step_comes_true_and_it_stays_up_to_be_played_with(tmp_path: Path) -> None:
    with tour(tmp_path) as process:
        output = read_up_to("Everything that can be done: curl ", process)
        assert [step for step in STEPS if step not in output] == []
        assert output.count("\n          + ") == len(STEPS)
        assert "All 10 steps came true" in output
        assert "processed outcome=moved" in (tmp_path / ".sandbox" / "app.log").read_text("utf-8")
        url = output.rpartition("curl ")[2].strip()
        outside = read_up_to("sync doctor --outside ", process).rpartition(" ")[2].strip()
        booking = read_up_to("sync explain ", process).rpartition(" ")[2].strip()
        request = urllib.request.Request(f"{url}/technician/move?event=E3&minutes=30", method="POST")
        urllib.request.urlopen(request).close()
        read_up_to("the app: processed outcome=moved booking=B3 mailbox=Ana event=E3", process)
        well = operate(tmp_path, "doctor", "--json", "--outside", outside)
        assert well.returncode == 0, well.stdout
        assert json.loads(well.stdout)["counts"] == {"ok": 22, "skipped": 1}
        why = operate(tmp_path, "explain", booking).stdout
        assert why.index("left: the booking was moved in Dynamics") < why.rindex("  moved\n")
        process.send_signal(signal.SIGINT)
        read_up_to(None, process)
    assert process.returncode == 0
    assert "error: there is no " in operate(tmp_path, "doctor").stderr


def test_no_step_that_takes_a_write_is_true_before_it() -> None:
    story = Story(Sandbox())
    steps = [story.subscribed(), *story.steps()]
    assert len(steps) == len(STEPS)
    assert [step.what for step in steps if step.writes and step.is_true()] == []


async def test_untouched_is_true_only_once_the_app_has_looked_and_is_done(storage: str) -> None:
    world, untouched = Sandbox(), Step("a meeting is renamed", "nothing is touched", lambda: True)
    async with (
        world,
        QueueServiceClient.from_connection_string(storage) as queues,
        aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as session,
    ):
        judge = Judge(world, queues, patience=0)
        judge.begin()
        with pytest.raises(NotTrue, match="seen: the app has not looked at Graph"):
            await judge.wait_for(untouched, lambda: None)
        async with session.get(f"{world.graph_url}/subscriptions"):
            await judge.wait_for(untouched, lambda: None)
        await (await queues.create_queue("outlook-changes-poison")).send_message("{}")
        with pytest.raises(NotTrue, match="1 in outlook-changes-poison"):
            await judge.wait_for(untouched, lambda: None)


def test_core_tools_run_the_app_where_they_are(tmp_path: Path) -> None:
    path = str(tmp_path)
    assert "there is no `func` on PATH" in choose_host(4711, path=path).name
    func = tmp_path / ("func.cmd" if sys.platform == "win32" else "func")
    func.touch(mode=0o755)
    assert [Path(part).name for part in choose_host(4711, path=path).command[:1]] == [func.name]
    assert choose_host(4711, path=path).command[1:] == ["start", "--port", "4711"]
    assert "sandbox.host.functions_host" in choose_host(4711, core_tools=False, path=path).command


def operate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An operators' command beside the tour that was started for *folder*."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sandbox", "sync", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def read_up_to(wanted: str | None, process: subprocess.Popen[str]) -> str:
    """Its output up to the line that holds *wanted*, or up to its end."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted is not None and wanted in line:
            return "".join(lines)
        assert "this did not come true" not in line, "".join([*lines, *process.stdout.readlines(5000)])
    assert wanted is None, "".join(lines)
    return "".join(lines)
