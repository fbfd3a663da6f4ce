"""Builds what is deployed: the app with its packages for Azure, compiled, in build/app; --zip adds build/app.zip.

Needs CPython 3.13, the version that Azure runs, because compiled modules are good for one version only; the packages
are those for Linux on x86-64, wherever this runs. Nothing is asked of Azure.

Why not the remote build: it may take 60 seconds, resolves anew what is locked here, and its compiled modules carry the
times of files, which a zip keeps to two seconds only. Here they carry none ("unchecked-hash"; Python, "Cached bytecode
invalidation"), so that a read-only package never compiles on a cold start.
"""

from __future__ import annotations

import argparse
import compileall
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
PACKAGES = Path(".python_packages/lib/site-packages")
PYTHON = (3, 13)

APP = ("function_app.py", "host.json", "requirements.txt", "sync")
"""What of this repository is deployed; .funcignore leaves the same for those who publish the folder as it is."""

_SEP = r"[\\/]"  # compileall shows paths as the platform writes them
UNUSED = re.compile(
    rf"msgraph{_SEP}generated{_SEP}"
    rf"(?!(users|subscriptions){_SEP}|models{_SEP}(entity|subscription)\.py$|[^\\/]*\.py$)"
)
"""Modules that are not compiled: msgraph-sdk's for parts of Graph that the app never calls, four fifths of all files.
They stay importable from their source."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zip", action="store_true", help="also write build/app.zip, to deploy without azd")
    given = parser.parse_args(arguments)
    if sys.version_info[:2] != PYTHON or sys.implementation.name != "cpython":
        sys.exit(f"Python 3.13 is needed, this is {sys.version.split()[0]}: python3.13 {Path(__file__).name}")

    target = BUILD / "app"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    began = time.monotonic()
    copy_app(ROOT, target)
    install(target / PACKAGES)
    installed = time.monotonic()
    compile_modules(target)
    compiled = time.monotonic()
    files = [path for path in target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{target.relative_to(ROOT)}: {len(files):,} files, {size / 1e6:.0f} MB", end=" ")
    print(f"(packages {installed - began:.0f} s, compiled in {compiled - installed:.0f} s)")
    if given.zip:
        path = write_zip(target, BUILD / "app.zip")
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.0f} MB")
    return 0


def copy_app(source: Path, target: Path) -> None:
    for name in APP:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, target / name)
    # azd and Core Tools leave __pycache__ out if there is no such file, or if it is the repository's.
    (target / ".funcignore").write_text("# Everything here is to be deployed.\n", encoding="utf-8")


def install(target: Path) -> None:
    """The locked packages, as wheels for the platform of Azure Functions."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(target), "--require-hashes", "-r", str(ROOT / "requirements.lock"), "--no-compile"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", ".".join(map(str, PYTHON))]
    for platform in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
        command += ["--platform", platform]
    subprocess.run(command, check=True)  # noqa: S603
    # Scripts of packages, made for this machine.
    shutil.rmtree(target / "bin", ignore_errors=True)


def compile_modules(target: Path) -> None:
    """Compile what the app may import, all at once. A package's test data that is no Python is left as it is."""
    compileall.compile_dir(
        target,
        quiet=2,
        rx=UNUSED,
        workers=0,
        maxlevels=100,
        stripdir=str(target),
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


def write_zip(source: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _files(source):
            archive.write(file, file.relative_to(source))
    return path


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".funcignore")


if __name__ == "__main__":
    sys.exit(main())
