"""How long a new instance takes until its first thing is done, beside an app that does nothing; each in a new process.

With byte-compiled packages and without: a package that is mounted read-only can never write them, and compiles all
that it imports each time. Python itself starts before the clock does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.report import Bound, Progress, Row, at_most
from benchmarks.services import Order, Services, world
from benchmarks.work import ROOT, read_work

CLOCK = "import time; begun = time.perf_counter()\n"
STOP = "\nprint((time.perf_counter() - begun) * 1000)"

BARE = """
import azure.functions as func
app = func.FunctionApp()
@app.route("notifications", methods=["POST"])
async def notifications(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.params["validationToken"])
"""
HANDSHAKE = """
import asyncio
request = func.HttpRequest("POST", "/api/notifications", params={"validationToken": "token"}, body=b"")
answer = asyncio.run(notifications(request))
assert answer.get_body() == b"token"
"""
IMPORT = "import function_app\n"
OURS_HANDSHAKE = "import azure.functions as func\nfrom function_app import notifications\n" + HANDSHAKE
QUEUE_CLIENT = "import azure.functions, azure.storage.queue.aio\n"
FIRST_CHANGE = """
import asyncio, logging, os
logging.disable(logging.CRITICAL)
from azure.functions.queue import QueueMessage
from function_app import process_outlook_change
from sync import triggers
async def process():
    await process_outlook_change(QueueMessage(body=os.environ["CHANGE"]))
    print((time.perf_counter() - begun) * 1000)
    await triggers.app().close()
asyncio.run(process())
"""

CASES = {
    "import": (IMPORT, "azure.functions and queue client", QUEUE_CLIENT),
    "first handshake answered": (OURS_HANDSHAKE, "azure.functions alone", BARE + HANDSHAKE),
    "first change processed": (FIRST_CHANGE, "azure.functions and queue client", QUEUE_CLIENT),
}
PROMISED: Mapping[str, Bound] = {"import": at_most(1.3)}
MODULES = 12
"""The packages that take longest."""


def measure(quick: bool, progress: Progress) -> list[Row]:
    repeats = 1 if quick else 7
    with world(Order(mailboxes=1, in_step=1)) as found, TemporaryDirectory() as folder:
        settings = _settings(found)
        caches = _caches(Path(folder), settings)
        if quick:
            del caches["not compiled"]
        taken: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
        for turn in range(repeats):
            for state, cache in caches.items():
                for case, (ours, _, bare) in CASES.items():
                    for place, code in enumerate((ours, bare)):
                        taken[state, case, place].append(_run(code, settings, cache))
            progress((turn + 1) / repeats)
        modules = _by_package(settings, caches["compiled"])

    def row(state: str, case: str, beside: str) -> Row:
        ours, theirs = (median(taken[state, case, place]) for place in (0, 1))
        promised = {beside: PROMISED[case]} if case in PROMISED else {}
        return Row("Cold start", f"{case}, {state}", "ms, median", ours, {beside: theirs}, promised=promised)

    return [
        *(row(state, case, beside) for state in caches for case, (_, beside, _) in CASES.items()),
        *(Row("Cold start: first change, by package", name, "ms", ms) for name, ms in modules.items()),
    ]


def _caches(folder: Path, settings: Mapping[str, str]) -> dict[str, Path]:
    """Folders of compiled files: of all that is imported, and of Python's own library alone."""
    everything, pythons = folder / "everything", folder / "pythons"
    for ours, _, bare in CASES.values():
        for code in (ours, bare):
            _run(code, settings, everything, writes=True)
    shutil.copytree(everything, pythons)
    for packages in {Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib")), ROOT}:
        shutil.rmtree(pythons / packages.relative_to(packages.anchor), ignore_errors=True)
    return {"compiled": everything, "not compiled": pythons}


def _settings(found: Services) -> dict[str, str]:
    [work] = [*read_work(found.work)]
    change = json.dumps({"mailbox": work.mailbox, "event": work.event})
    return {**found.settings, "CHANGE": change}


def _run(code: str, settings: Mapping[str, str], cache: Path, writes: bool = False) -> float:
    """Milliseconds that *code* takes in a new process."""
    if code is not FIRST_CHANGE:
        code += STOP
    return float(_python(["-c", CLOCK + code], settings, cache, writes).stdout.split()[0])


def _python(
    arguments: list[str], settings: Mapping[str, str], cache: Path, writes: bool = False
) -> subprocess.CompletedProcess[str]:
    compiled = {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": "" if writes else "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **settings, **compiled},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def _by_package(settings: Mapping[str, str], cache: Path) -> dict[str, float]:
    """Milliseconds that the imports of each package took by themselves, the longest first."""
    said = _python(["-X", "importtime", "-c", CLOCK + FIRST_CHANGE], settings, cache).stderr
    spent: defaultdict[str, float] = defaultdict(float)
    for microseconds, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", said):
        spent[_package(module)] += int(microseconds) / 1_000
    return dict(sorted(spent.items(), key=lambda item: -item[1])[:MODULES])


def _package(module: str) -> str:
    first = module.partition(".")[0]
    if first in sys.stdlib_module_names or first.startswith("_"):
        return "the standard library"
    return ".".join(module.split(".")[: 3 if module.startswith("azure.") else 1])
