"""Develop booking-sync: `python3 dev.py run`, `test`, `bench` or `lint`; standard library only, nothing to install.

It makes sure of the virtual environment `.venv` and of Azurite in `node_modules`, both exactly as locked, and hands
over to them. What there is to run and test is not known here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements-dev.lock"
OLDEST_PYTHON = (3, 11)
OLDEST_NODE = 20
SPINNER = "-\\|/"
CHECKED = ["sync", "sandbox", "benchmarks", "function_app.py", "dev.py"]
WORKERS = os.cpu_count() or 1  # of the tests; each imports and collects everything, which takes five seconds
HANDED_OVER = {
    "run": ["sandbox", "run"],
    "test": ["pytest", "-n", str(WORKERS), "--dist", "worksteal"],
    "bench": ["benchmarks"],
}
"""Commands that need all that is installed, and the module that each of them is, with its first arguments."""

USAGE = """usage: python3 dev.py COMMAND [ARGUMENT ...]

  run [--once]    bring everything up, show the guided tour, stay up; --once ends after the tour
  test [...]      run the quick tests, on all cores; arguments go to pytest: -m slow runs the exhaustive ones
  bench [--quick] measure what the app spends; --quick takes two minutes, --page also writes docs/performance.md
  lint            ruff check, ruff format --check, mypy --strict
  lock            refresh requirements.lock and requirements-dev.lock
"""


def main(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command not in (*HANDED_OVER, "lint", "lock"):
        print(USAGE, end="")
        return 0 if command in ("help", "-h", "--help") else 2
    check_python()
    if command in HANDED_OVER:
        npm = check_node()
        install_packages()
        install_azurite(npm)
        module, *first = HANDED_OVER[command]
        return hand_over(module, [*first, *rest])
    install_packages()
    return lint() if command == "lint" else lock()


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> None:
    """End with a message if *version* of Python is too old."""
    if version < OLDEST_PYTHON:
        wanted, found = (".".join(map(str, each[:2])) for each in (OLDEST_PYTHON, version))
        sys.exit(
            f"Python {wanted} or newer is needed, this is {found}: call a newer one, https://www.python.org/downloads"
        )


def check_node(oldest: int = OLDEST_NODE, path: str | None = None) -> str:
    """Return where npm is, beside a Node that is new enough; *path* stands for PATH.

    Without a Node it ends with a message.
    """
    node, npm = (shutil.which(name, path=path) for name in ("node", "npm"))
    cure = f"install Node {oldest} or newer, https://nodejs.org"
    if node is None or npm is None:
        sys.exit(f"Node is needed for Azurite, the storage emulator, and there is no `node` and `npm`: {cure}")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < oldest:
        sys.exit(f"Node {version} is too old for Azurite, the storage emulator: {cure}")
    return npm


def install_packages(
    root: Path = ROOT, run: Callable[[str, list[str | Path]], None] | None = None, version: str = sys.version
) -> None:
    """Build `.venv` below *root* anew if it is not the one that the lock and this *version* of Python give."""
    run, venv, lock = run or step, root / VENV.relative_to(ROOT), root / LOCK.name
    stamp, wanted = venv / "installed", f"{version}\n{sys.base_prefix}\n{fingerprint(lock)}"
    if is_stamped(stamp, wanted):
        return
    run("Creating .venv", [sys.executable, "-m", "venv", "--clear", venv])
    # Not compiled: most of it, msgraph-sdk's 19,000 modules, is never imported, the rest is compiled when it is.
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--require-hashes"]
    python = root / PYTHON.relative_to(ROOT)
    run("Installing Python packages into .venv", [python, "-m", "pip", "install", *options, "-r", lock])
    stamp.write_text(wanted, encoding="utf-8")


def install_azurite(npm: str, root: Path = ROOT, run: Callable[[str, list[str | Path]], None] | None = None) -> None:
    """Have *npm* install Azurite below *root*, unless that is done as locked."""
    run = run or step
    stamp, wanted = root / "node_modules" / ".installed", fingerprint(root / "package-lock.json")
    if is_stamped(stamp, wanted):
        return
    run("Installing Azurite into node_modules", [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"])
    stamp.write_text(wanted, encoding="utf-8")


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_stamped(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def step(title: str, command: list[str | Path]) -> None:
    """Run *command* out of sight with its time on the screen; what it printed is shown only if it fails."""
    began, live = time.monotonic(), sys.stdout.isatty()
    if not live:
        print(f"{title} ...", flush=True)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                seconds = time.monotonic() - began
                if live:
                    print(f"\r{SPINNER[int(seconds * 5) % 4]} {title} ... {seconds:.0f} s", end="", flush=True)
                time.sleep(0.1)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        took = f"{time.monotonic() - began:.0f} s"
        if process.returncode:
            output.seek(0)
            print(f"\n{output.read().decode(errors='replace')}", file=sys.stderr)
            sys.exit(f"{title} failed after {took}; the command was: {' '.join(map(str, command))}")
        print(f"\r+ {title} ({took})    " if live else f"{title}: done in {took}", flush=True)


def lint() -> int:
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "--strict", *CHECKED])
    statuses = []
    for check in checks:
        print(f"$ {' '.join(check)}", flush=True)
        statuses.append(subprocess.run([PYTHON, "-m", *check], cwd=ROOT, check=False).returncode)
    return max(statuses)


def lock() -> int:
    """Resolve the newest versions that the requirements allow, for every platform and Python; no registry is named."""
    step("Installing uv into .venv", [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"])
    resolve: list[str | Path] = [
        PYTHON,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--upgrade",
        "--generate-hashes",
    ]
    resolve += ["--python-version", ".".join(map(str, OLDEST_PYTHON)), "--no-header", "--no-annotate"]
    step("Resolving requirements-dev.lock", [*resolve, "requirements-dev.txt", "-o", LOCK.name])
    step("Resolving requirements.lock", [*resolve, "-c", LOCK.name, "requirements.txt", "-o", "requirements.lock"])
    return 0


def hand_over(module: str, arguments: list[str]) -> int:
    """Become *module* in `.venv`, so that signals and the exit status are its own; on Windows, wait for it instead."""
    os.chdir(ROOT)
    # As images of containers set it; then each of the many processes that are started would compile the app anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(PYTHON), "-m", module, *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(PYTHON, command)  # noqa: S606
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child as well, which ends in its own way
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that what `step` runs is ended, too
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
