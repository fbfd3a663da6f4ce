"""`python -m sync poison` and `replay`: what is parked, and putting it back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, SWEEPS
from sync.operate.command_line import DONE, FAILED, REFUSED, AsJson, Verbose, run, with_secrets
from sync.operate.rows import parked_rows
from sync.operate.terminal import Terminal
from sync.storage.poison import PoisonQueue, Replayed
from sync.wiring.app import App

commands = typer.Typer()


class Queue(StrEnum):
    """The queues that have a poison queue."""

    OUTLOOK_CHANGES = OUTLOOK_CHANGES
    LIFECYCLE = LIFECYCLE
    SWEEPS = SWEEPS


@commands.command()
def take_over(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Make this deployment the owner of the storage account, where the app moved to another URL or environment.

    A deployment that still works with the account is refused from then on, within a minute.
    """
    run(_take_over, as_json, verbose)


async def _take_over(terminal: Terminal, app: App) -> int:
    await with_secrets(app)
    if not app.ownership.name:
        terminal.fail("DATAVERSE_URL and NOTIFICATION_URL tell which deployment this is; one of them is not set")
        return REFUSED
    before = await app.ownership.take_over()
    was = before.name if before is not None else None
    terminal.show(
        {"owner": app.ownership.name, "was": was}, [f"owner: {app.ownership.name}", f"was: {was or 'nobody'}"]
    )
    return DONE


OneQueue = Annotated[Queue | None, typer.Option("--queue", help="Of this queue only.")]


# --- poison queues ---


@commands.command()
def poison(queue: OneQueue = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List the messages in the poison queues, with the reason why they could not be processed."""
    run(lambda terminal, app: _list_parked(terminal, app, queue), as_json, verbose)


@commands.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `poison` lists them.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are not malformed.")] = False,
    queue: OneQueue = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put messages of the poison queues back on their queues, to be tried as if for the first time.

    Malformed ones stay where they are. The exit status is 1 if a message was malformed or is not there.
    """
    if bool(ids) == all_:
        raise typer.BadParameter("either --all or at least one ID")
    wanted = None if all_ else frozenset(each.lower() for each in ids or ())
    run(lambda terminal, app: _replay(terminal, app, queue, wanted), as_json, verbose)


def _chosen(app: App, queue: Queue | None) -> list[PoisonQueue]:
    return [PoisonQueue(each.value, app.queues) for each in ([queue] if queue else Queue)]


async def _list_parked(terminal: Terminal, app: App, queue: Queue | None) -> int:
    rows = parked_rows([parked for each in _chosen(app, queue) for parked in await each.list()])
    terminal.show(
        {"messages": rows},
        [f"messages parked: {len(rows)}"],
        rows,
        ("id", "at", "queue", "mailbox", "reason"),
    )
    return DONE


async def _replay(terminal: Terminal, app: App, queue: Queue | None, ids: frozenset[str] | None) -> int:
    result = Replayed()
    for each in _chosen(app, queue):
        with terminal.progress(each.queue) as progress:
            replayed = await each.replay(ids, progress)
        result.done += replayed.done
        result.refused += replayed.refused
    missing = sorted((ids or frozenset()) - {parked.id.lower() for parked in (*result.done, *result.refused)})
    lines = [
        f"messages replayed: {len(result.done)}",
        *(f"refused: {parked.id}: {parked.reason}" for parked in result.refused),
        *(f"not there: {each}" for each in missing),
    ]
    terminal.show(
        {"replayed": parked_rows(result.done), "refused": parked_rows(result.refused), "missing": missing}, lines
    )
    return FAILED if result.refused or missing else DONE
