"""The operators' commands, ``python -m sync COMMAND``: arguments in, a handler called, its outcome shown.

The app's own parts do the work of the commands, so that a command does the same as a timer. Typer and rich are for
people at a terminal; nothing that runs in Azure imports this file.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated
from uuid import UUID

import typer

from sync.operate import hold_commands, poison_commands, sweep_commands
from sync.operate.command_line import DONE, FAILED, REFUSED, AsJson, Commands, Verbose, in_words, run, with_secrets
from sync.operate.subscription_commands import subscriptions
from sync.operate.terminal import Terminal
from sync.wiring.app import App

cli = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show the values of variables, secrets among them
    help="Look after booking-sync. Settings come from the environment, else from local.settings.json in this folder.",
)
cli.add_typer(subscriptions, name="subscriptions")
for room in (sweep_commands, poison_commands, hold_commands):
    cli.add_typer(room.commands)


# --- how it does ---


@cli.command()
def status(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what the status page shows, from storage alone: mailboxes, queues, changes, holds, sweeps, calls.

    The exit status is 1 if something is in trouble; notices do not count.
    """
    run(_show_status, as_json, verbose)


async def _show_status(terminal: Terminal, app: App) -> int:
    from sync.status.findings import summary_lines
    from sync.status.page import build_json

    found = await app.status()
    troubled = [row for row in found.mailboxes.rows if row.reason] if found.mailboxes else []
    terminal.show(
        json.loads(build_json(found)), summary_lines(found), troubled, ("mailbox", "state", "expires", "reason")
    )
    return DONE if found.is_well else FAILED


@cli.command()
def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="The page docs/settings.md.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show all settings, their defaults, and what they are for; none of their values."""
    run(lambda terminal, app: _show_settings(terminal, markdown), as_json, verbose)


async def _show_settings(terminal: Terminal, markdown: bool) -> int:
    from sync.operate.settings_reference import setting_rows, settings_page

    if markdown:
        typer.echo(settings_page(), nl=False)
        return DONE
    rows = setting_rows()
    terminal.show({"settings": rows}, [f"settings: {len(rows)}"], rows, ("setting", "default", "what"))
    return DONE


@cli.command()
def capacity(
    mailboxes: Annotated[int, typer.Option(min=1, help="People with a subscription.")],
    changes_per_day: Annotated[int, typer.Option(min=0, help="In all their calendars, each counted once.")],
    bookings: Annotated[float, typer.Option(min=0, max=1, help="Share of the changes that are of bookings.")] = 0.2,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Predict calls, executions and storage transactions, and which limit is nearest, from what was measured."""
    run(lambda terminal, app: _predict(terminal, app, mailboxes, changes_per_day, bookings), as_json, verbose)


async def _predict(terminal: Terminal, app: App, mailboxes: int, changes: int, bookings: float) -> int:
    from sync.operate.capacity import build_document, build_lines, predict

    prediction = predict(mailboxes, changes, bookings)
    terminal.show(build_document(prediction), build_lines(prediction), prediction.totals, ("what", "day", "month"))
    return DONE


# --- before the app can work ---


@cli.command()
def doctor(
    outside: Annotated[
        UUID | None, typer.Option(help="Object id of a user whose mailbox must be out of reach.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Check everything that has to be so before the app can work, against the real services; change nothing.

    The exit status is 1 if a check failed; warnings do not count.
    """
    run(lambda terminal, app: _examine(terminal, app, str(outside) if outside else None), as_json, verbose)


async def _examine(terminal: Terminal, app: App, outside: str | None) -> int:
    from sync.dataverse.definitions import Definitions
    from sync.doctor.examining import examine
    from sync.doctor.findings import Instruments, State

    async def prepare() -> Instruments:
        await with_secrets(app)
        return Instruments(
            settings=app.settings,
            deployment=app.keeper.deployment,
            to_graph=app.to_graph,
            events=app.events,
            plan=app.keeper.plan,
            bookings=app.bookings,
            definitions=Definitions(app.customizing),
            queues=app.queues,
            memory=app.roster,
            ownership=app.ownership,
            now=app.now,
            outside=outside,
        )

    with terminal.progress("checks") as progress:
        results = await examine(prepare, progress)
    counts = Counter(str(result.state) for result in results)
    cures = [f"{result.state}: {result.check}: {result.cure}" for result in results if result.cure]
    terminal.show(
        {"counts": counts, "checks": results},
        [*cures, f"checks: {in_words(counts)}"],
        results,
        ("check", "state", "seen"),
    )
    return FAILED if counts[State.FAILED] else DONE


@cli.command()
def setup(
    solution: Annotated[str | None, typer.Option(help="Unique name of the solution for a new column.")] = None,
    language: Annotated[int, typer.Option(help="Of the column's label, an LCID; 1033 is English.")] = 1033,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make the event-id column and publish it, if it is not there yet; an existing one is never changed.

    Needs DATAVERSE_URL and EVENT_ID_COLUMN only, and somebody who may customize tables.
    """
    run(lambda terminal, app: _set_up(terminal, app, solution, language, yes), as_json, verbose)


async def _set_up(terminal: Terminal, app: App, solution: str | None, language: int, yes: bool) -> int:
    from sync.dataverse.bookings import DataverseBookings
    from sync.dataverse.definitions import Definitions
    from sync.operate.setup import Setup, Step

    transport, settings = app.customizing, app.environment_settings
    name = settings.event_id_column
    bookings = DataverseBookings(transport, name)
    setup = Setup(Definitions(transport), bookings, name, solution, language)
    steps = await setup.plan()
    is_new = Step.CREATE in steps
    into = solution if is_new else None
    plan = {"environment": settings.dataverse_url, "column": name, "solution": into, "steps": steps}
    unadded = (
        f"was there before, and is not added to {solution} by this: Power Apps, Solutions, {solution}, Add existing"
    )
    aside = [f"{name} {unadded}"] if solution and not is_new else []
    if not steps:
        terminal.show({**plan, "done": True}, [f"{name} is there and published: nothing to do", *aside])
        return DONE
    where = f"{settings.dataverse_url}, {name}" + (f", into the solution {into}" if into else "")
    terminal.tell([f"{where}:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))])
    if not (yes or terminal.agrees("Go ahead?")):
        terminal.show({**plan, "done": False}, ["nothing was changed; --yes goes ahead without asking"])
        return REFUSED
    await setup.carry_out(steps)
    terminal.show({**plan, "done": True}, [f"{name} is there and published", *aside])
    return DONE
