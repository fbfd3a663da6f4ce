from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from sandbox.host.child import Child, ChildFailed, watched
from tests.world.processes import is_alive


def python(code: str) -> Child:
    return Child("a child", [sys.executable, "-c", code])


def test_a_line_is_waited_for_and_its_groups_are_the_answer() -> None:
    with python("import time; print('port 4711', flush=True); time.sleep(60)") as child:
        assert child.wait_for(r"port (\d+)")[1] == "4711"
        assert child.wait_for(r"port (\d+)")[1] == "4711"  # also when it was printed before


def test_lines_are_handed_on_as_they_come() -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"]
    with Child("a child", command, on_line=lines.append) as child, pytest.raises(ChildFailed):
        child.wait_for("never")
    assert sorted(lines) == ["err", "out"]


def test_an_early_end_is_told_with_the_last_lines() -> None:
    with python("print('no such folder'); raise SystemExit(3)") as child:
        with pytest.raises(ChildFailed, match=r"a child ended with status 3:\n  no such folder"):
            child.wait_for("ready")
        assert child.status == 3


def test_a_child_that_never_gets_ready_is_not_waited_for_for_ever() -> None:
    with python("import time; time.sleep(60)") as child, pytest.raises(ChildFailed, match="not ready within"):
        child.wait_for("ready", seconds=0.3)
    assert child.status is not None


async def test_work_goes_on_while_the_child_is_alive_and_no_longer() -> None:
    with python("import sys; sys.stdin.read()") as child:
        assert await watched(asyncio.sleep(0, "done"), child) == "done"
    told = pytest.raises(ChildFailed, match=r"a child ended with status 4:\n  no memory")
    with python("print('no memory'); raise SystemExit(4)") as child, told:
        await watched(asyncio.sleep(60), child)


def test_stopping_ends_a_child_that_does_not_want_to() -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    child = python(stubborn)
    child.wait_for("up")
    child.stop(seconds=0.3)
    assert child.status is not None


def test_a_child_that_watches_its_stdin_ends_when_its_starter_is_killed() -> None:
    starter = (
        "import sys; sys.path.insert(0, '.'); from sandbox.host.child import Child; import time\n"
        "child = Child('c', [sys.executable, '-c', 'import sys; print(1, flush=True); sys.stdin.read()'])\n"
        "child.wait_for('1'); print(child.pid, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.stdout.close()
    assert not is_alive(pid)
