"""The sandbox's commands: ``python -m sandbox COMMAND``."""

# ruff: noqa: E402 - the signal comes first

from __future__ import annotations

import signal

# Until something runs that has to be ended in order, Ctrl-C just ends the process, without a traceback of imports.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sandbox.host.app import choose_host
from sandbox.host.signals import StopSignal
from sandbox.server import Sandbox
from sandbox.tour.tour import SETTINGS, Options
from sandbox.tour.tour import run as run_tour

cli = typer.Typer(add_completion=False, no_args_is_help=True)


@cli.callback()
def sandbox() -> None:
    """A simulated Microsoft Graph and Dataverse, with people who act in them."""


@cli.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="End after the tour, with its exit status.")] = False,
    port: Annotated[int, typer.Option(help="Of the simulated services; 0 takes a free one.")] = 0,
    core_tools: Annotated[bool, typer.Option(help="Run the app by `func start` if that is on PATH.")] = True,
    patience: Annotated[float, typer.Option(help="Seconds that a step may take.")] = Options.patience,
    log: Annotated[Path, typer.Option(help="Where the app's output goes.")] = Options.log,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the app in the place of the tour's."),
    ] = None,
) -> None:
    """Bring up storage, both services and the app, show the guided tour, stay up until Ctrl-C."""
    pairs = [text.partition("=") for text in overrides or ()]
    settings = tuple((name, value) for name, _, value in pairs)
    choose = partial(choose_host, core_tools=core_tools)
    raise typer.Exit(asyncio.run(run_tour(Options(once, port, choose, patience, log, settings))))


@cli.command()
def serve(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8080,
    seed: Annotated[int, typer.Option(help="The same seed gives the same ids.")] = 0,
) -> None:
    """Serve both services alone, with three technicians, until Ctrl-C."""
    asyncio.run(_serve(port, seed))


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def sync(context: typer.Context) -> None:
    """An operators' command, `python -m sync ...`, in the world that `run` keeps up."""
    path = Options.log.parent / SETTINGS
    if not path.is_file():
        sys.exit(f"error: there is no {path}: it is there while `python3 dev.py run` keeps its world up")
    command = [sys.executable, "-m", "sync", *context.args]
    settings = json.loads(path.read_text("utf-8"))
    raise typer.Exit(subprocess.run(command, env={**os.environ, **settings}, check=False).returncode)  # noqa: S603


async def _serve(port: int, seed: int) -> None:
    stop = StopSignal()
    async with Sandbox(seed, port=port) as world:
        for name in ("Ana", "Ben", "Cleo"):
            world.people.hire(name)
        for name, value in world.settings.items():
            print(f"{name}={value}", flush=True)
        print(f"What can be done here: curl {world.url}/sandbox", flush=True)
        await stop.wait()


if __name__ == "__main__":
    cli()
