"""Other processes of this machine, as a test starts them and looks at them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


def children_of(pid: int) -> dict[int, str]:
    """Process ids and commands."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    processes = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return {int(process): command for process, parent, command in processes if int(parent) == pid}


def is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        listed = subprocess.run(["tasklist", "/FI", f"PID eq {pid}"], capture_output=True, text=True, check=True)
        return str(pid) in listed.stdout
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1] not in ("", "Z")  # a zombie has ended


def in_a_process(code: str) -> Any:
    """What *code* leaves in ``result``, in a process that has imported nothing yet and knows no settings."""
    known = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}\njson.dump(result, sys.stdout)"],
        cwd=ROOT,
        env={**known, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
