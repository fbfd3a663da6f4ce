"""The sandbox's commands: ``python -m sandbox COMMAND``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from sandbox.server import Sandbox
from sandbox.signals import StopSignal

cli = typer.Typer(add_completion=False, no_args_is_help=True)


@cli.callback()
def sandbox() -> None:
    """A simulated Microsoft Graph and Dataverse, with people who act in them."""


@cli.command()
def serve(
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8080,
    seed: Annotated[int, typer.Option(help="The same seed gives the same ids.")] = 0,
) -> None:
    """Serve both services alone, with three technicians, until Ctrl-C."""
    asyncio.run(_serve(port, seed))


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
