"""`python -m sync sweep`: compare or sweep one mailbox or all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated
from uuid import UUID

import typer
from aiolimiter import AsyncLimiter

from sync.errors import Misconfigured, SyncError
from sync.operate.command_line import DONE, FAILED, REFUSED, AsJson, Verbose, run, with_secrets
from sync.operate.rows import difference_rows
from sync.operate.terminal import Terminal
from sync.sweep.differences import Difference
from sync.sweep.rounds import MAILBOXES_PER_SECOND, Rounds
from sync.sweep.sweeper import Sweeper
from sync.wiring.app import App

COMPARED_AT_ONCE = 8

commands = typer.Typer()


# --- sweep ---


@commands.command()
def sweep(
    mailbox: Annotated[UUID | None, typer.Option(help="Compare this one now; its Entra object id.")] = None,
    after_gap: Annotated[
        bool, typer.Option("--after-gap", help="Notifications were lost: a missing event counts as deleted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences, queue nothing.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Find what change notifications did not bring: events and bookings that are not in step.

    Each difference of one mailbox is queued as a change; one that the app does not look after is refused. Without
    --mailbox, sweeps of all mailboxes are queued.

    An event that is not there, though Graph notified of no deletion, is held for a person. With --after-gap, its
    booking is canceled, if nobody has edited that since the event was seen.
    """
    one = str(mailbox) if mailbox else None
    run(lambda terminal, app: _sweep(terminal, app, one, dry_run, after_gap), as_json, verbose)


async def _sweep(terminal: Terminal, app: App, mailbox: str | None, dry_run: bool, after_gap: bool) -> int:
    await with_secrets(app)
    sweeper, rounds = app.sweeper, app.rounds
    if mailbox is None:
        return await (_compare_all(terminal, sweeper, rounds) if dry_run else _sweep_all(terminal, rounds, after_gap))
    if mailbox not in await rounds.wanted():
        terminal.fail(f"{mailbox} is no active user among the bookable resources, or not in MAILBOXES")
        return REFUSED
    differences = await (sweeper.compare(mailbox) if dry_run else sweeper.sweep(mailbox, after_gap))
    _show_differences(terminal, 1, differences, {}, queued=not dry_run)
    return DONE


async def _sweep_all(terminal: Terminal, rounds: Rounds, after_gap: bool) -> int:
    count = await rounds.ask_all(after_gap=after_gap)
    terminal.show({"queued_sweeps": count}, [f"sweeps queued: {count}"])
    return DONE


async def _compare_all(terminal: Terminal, sweeper: Sweeper, rounds: Rounds) -> int:
    mailboxes = await rounds.wanted()
    with terminal.progress("mailboxes") as progress:
        differences, failed = await _compare(sweeper, mailboxes, progress)
    _show_differences(terminal, len(mailboxes) - len(failed), differences, failed, queued=False)
    return FAILED if failed else DONE


async def _compare(
    sweeper: Sweeper, mailboxes: Sequence[str], progress: Callable[[int, int], None]
) -> tuple[list[Difference], dict[str, str]]:
    """The differences of all *mailboxes*, the most imminent first, and why some could not be compared."""
    pace, turns = AsyncLimiter(MAILBOXES_PER_SECOND, 1), asyncio.Semaphore(COMPARED_AT_ONCE)
    found: list[Difference] = []
    failed: dict[str, str] = {}
    done = 0

    async def compare(mailbox: str) -> None:
        nonlocal done
        async with turns, pace:
            try:
                found.extend(await sweeper.compare(mailbox))
            except Misconfigured:
                raise  # nobody's own trouble: it would be that of all
            except SyncError as error:
                failed[mailbox] = str(error)
        done += 1
        progress(done, len(mailboxes))

    await asyncio.gather(*map(compare, mailboxes))
    now = sweeper.now()
    return sorted(found, key=lambda difference: abs(difference.start - now)), failed


def _show_differences(
    terminal: Terminal, compared: int, differences: Sequence[Difference], failed: dict[str, str], queued: bool
) -> None:
    rows = difference_rows(differences)
    reasons = [{"mailbox": mailbox, "reason": reason} for mailbox, reason in sorted(failed.items())]
    held = sum(each.is_held for each in differences)
    lines = [
        f"mailboxes compared: {compared}"
        + (f", failed: {len(failed)}" if failed else "")
        + f"; differences: {len(rows) - held}, {'queued' if queued else 'not queued'}"
        + (f"; held: {held}" if held else ""),
        *(f"failed: {each['mailbox']}: {each['reason']}" for each in reasons),
    ]
    terminal.show(
        {"mailboxes": compared, "differences": rows, "queued": queued, "failed": reasons},
        lines,
        rows,
        ("mailbox", "start", "reason", "event"),
    )
