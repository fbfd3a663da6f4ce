"""Calls of the Azure CLI, whose sign-in is the only one these scripts use; answers are JSON, secrets go by file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def az(*arguments: str) -> Any:
    """What ``az`` answers, None if it is nothing; its own message and the end of the script if it fails."""
    program = shutil.which("az")
    if program is None:
        sys.exit("The Azure CLI is needed: https://learn.microsoft.com/cli/azure/install-azure-cli, then `az login`")
    command = [program, *arguments, "--only-show-errors", "--output", "json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if result.returncode:
        sys.exit(f"az {' '.join(arguments[:3])} failed: {result.stderr.strip()}")
    return json.loads(result.stdout) if result.stdout.strip() else None


def rest(method: str, url: str, body: Mapping[str, Any] | None = None, resource: str | None = None) -> Any:
    """One request with the token of ``az``; *resource* names whose token, where ``az`` cannot tell from *url*.

    The body goes through a file that only its owner may read: a command line can be seen by everybody on the machine.
    """
    arguments = ["rest", "--method", method, "--url", url]
    if resource:
        arguments += ["--resource", resource]
    if body is None:
        return az(*arguments)
    with tempfile.TemporaryDirectory() as folder:  # made with mode 0700
        path = Path(folder) / "body.json"
        path.write_text(json.dumps(body), encoding="utf-8")
        return az(*arguments, "--headers", "Content-Type=application/json", "--body", f"@{path}")


def option(parser: ArgumentParser, name: str, variable: str, what: str) -> None:
    """A required option that azd's environment fills in."""
    default = os.environ.get(variable)
    parser.add_argument(name, default=default, required=not default, help=f"{what} (default: {variable})")
