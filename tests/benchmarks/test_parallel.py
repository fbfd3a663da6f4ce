"""Counting on all cores: results come back by name, and nothing is left running however it ends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest

from benchmarks import calls, capacity, limits
from benchmarks.parallel import in_parallel
from benchmarks.work import ROOT
from tests.world.processes import children_of, is_alive

ONE_IS_KILLED = """
import time
from functools import partial
from benchmarks.parallel import in_parallel
if __name__ == "__main__":
    for each in in_parallel({1: partial(print, "begun", flush=True), 2: partial(time.sleep, 600)}):
        print("found", flush=True)
"""


def test_each_result_comes_under_its_name() -> None:
    assert dict(in_parallel({base: partial(int, "11", base) for base in (2, 8, 10)})) == {2: 3, 8: 9, 10: 11}


def test_an_error_is_raised_at_once_and_leaves_nobody_at_work() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        dict(in_parallel({"slow": partial(time.sleep, 600), "wrong": partial(int, "x")}))
    assert active_children() == []


@pytest.mark.skipif(sys.platform == "win32", reason="ends processes by signals, and looks at them by ps")
def test_who_is_killed_leaves_nobody_at_work(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ONE_IS_KILLED, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert {process.stdout.readline(), process.stdout.readline()} == {"begun\n", "found\n"}
        group = children_of(process.pid)
        assert group
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in group if is_alive(pid)] == []


def test_what_is_counted_can_be_sent_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (calls, capacity, limits):
        sent: list[object] = []

        def keep(tasks: dict[str, object], sent: list[object] = sent) -> list[object]:
            sent += tasks.values()
            raise InterruptedError

        monkeypatch.setattr(module, "in_parallel", keep)
        for quick in (True, False):
            with pytest.raises(InterruptedError):
                module.measure(quick, lambda share: None)
        assert sent
        assert len(pickle.dumps(sent)) > 0
