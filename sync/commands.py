"""The operators' commands, ``python -m sync COMMAND``: arguments in, a handler called, its outcome shown.

What the commands do is done by the app's own parts, so that it is what its timers do. Typer and rich are for people at
a terminal; nothing that runs in Azure imports this file. Those that ask the ledger are in ledger_commands.py.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer
from aiolimiter import AsyncLimiter

from sync import ledger_commands, wiring
from sync.command_line import DONE, FAILED, REFUSED, AsJson, Commands, Verbose, app_parts, in_words, run
from sync.differences import Difference
from sync.errors import Misconfigured, OtherKey, SyncError
from sync.notifications import CHANGES, LIFECYCLE
from sync.poison import PoisonQueue, Replayed
from sync.rows import PLANNED, SubscriptionRow, difference_rows, parked_rows, subscription_rows
from sync.sweep import MAILBOXES_PER_SECOND, Sweeper
from sync.terminal import Terminal

COMPARED_AT_ONCE = 8

_WRONG_KEY = (
    "the app refuses notifications of any key but its own: take its settings (func azure functionapp"
    " fetch-app-settings NAME), or if it has this key already: subscriptions apply --new-key"
)

cli = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show the values of variables, secrets among them
    help="Look after booking-sync. Settings come from the environment, else from local.settings.json in this folder.",
)
subscriptions = typer.Typer(help="List the subscriptions of all mailboxes: their state and when they expire.")
cli.add_typer(subscriptions, name="subscriptions")
cli.add_typer(ledger_commands.commands)


class Queue(StrEnum):
    CHANGES = CHANGES
    LIFECYCLE = LIFECYCLE


OneQueue = Annotated[Queue | None, typer.Option("--queue", help="Of this queue only.")]


# --- subscriptions ---


@subscriptions.callback(invoke_without_command=True)
def list_subscriptions(context: typer.Context, as_json: AsJson = False, verbose: Verbose = False) -> None:
    if context.invoked_subcommand is None:
        run(lambda terminal: _show_plan(terminal, lambda row: True), as_json, verbose)


@subscriptions.command("plan")
def plan_subscriptions(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what `subscriptions apply` would do now, and do nothing."""
    run(lambda terminal: _show_plan(terminal, lambda row: row.state in PLANNED), as_json, verbose)


@subscriptions.command("apply")
def apply_subscriptions(
    leavers: Annotated[
        bool, typer.Option("--leavers", help="Also if many mailboxes are not wanted any more and lose theirs.")
    ] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Also if most subscriptions were made with another CLIENT_STATE_KEY.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Create, renew, replace and delete subscriptions now, as the timer does each hour.

    The exit status is 1 if a mailbox failed or was left for the next run, 2 if it takes your word: without --leavers
    nothing is deleted or replaced then, without --new-key nothing is done at all.
    """
    run(lambda terminal: _apply(terminal, leavers, new_key), as_json, verbose)


async def _show_plan(terminal: Terminal, is_shown: Callable[[SubscriptionRow], bool]) -> int:
    keeper = (await app_parts()).keeper
    plan = await keeper.plan()
    rows = subscription_rows(plan, keeper.deployment, keeper.now())
    shown, counts = [row for row in rows if is_shown(row)], Counter(str(row.state) for row in rows)
    terminal.show(
        {
            "wanted": plan.wanted,
            "counts": counts,
            "refusal": plan.refusal,
            "other_key": plan.other_key,
            "subscriptions": shown,
        },
        [
            f"mailboxes wanted: {plan.wanted}; {in_words(counts)}",
            *([f"refused without --leavers: {plan.refusal}"] if plan.refusal else []),
            *([f"refused without --new-key: {plan.other_key}"] if plan.other_key else []),
        ],
        shown,
        ("mailbox", "state", "expires", "expires_in", "next_try", "reason"),
    )
    return DONE


async def _apply(terminal: Terminal, leavers: bool, new_key: bool) -> int:
    parts = await app_parts()
    with terminal.progress("subscriptions") as progress:
        parts.keeper.progress = progress
        try:
            report = await parts.keeper.apply(leavers_agreed=leavers, new_key_agreed=new_key)
        except OtherKey as error:
            raise OtherKey(f"{error}; {_WRONG_KEY}") from None
    done = {name: getattr(report, name) for name in ("created", "adopted", "replaced", "renewed", "deleted")}
    failed = [{"mailbox": mailbox, "reason": reason} for mailbox, reason in sorted(report.failed.items())]
    lines = [
        f"mailboxes wanted: {report.wanted}; {in_words({**done, 'failed': len(failed)})}",
        *(f"failed: {each['mailbox']}: {each['reason']}" for each in failed),
        *([f"not begun in time: {report.left}; run this again"] if report.left else []),
        *([f"the app was away; sweeps queued: {report.queued_sweeps}"] if report.was_away else []),
    ]
    terminal.show(
        {
            "wanted": report.wanted,
            **done,
            "failed": failed,
            "left": report.left,
            "queued_sweeps": report.queued_sweeps,
            "refusal": report.refusal,
        },
        lines,
    )
    if report.refusal is not None:
        terminal.complain(f"roster: {report.refusal}: subscriptions apply --leavers")
        return REFUSED
    return FAILED if report.failed or report.left else DONE


# --- sweep ---


@cli.command()
def sweep(
    mailbox: Annotated[UUID | None, typer.Option(help="Compare this one now; its Entra object id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences, queue nothing.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Find what change notifications did not bring: events and bookings that are not in step.

    Each difference of one mailbox is queued as a change; one that the app does not look after is refused. Without
    --mailbox, sweeps of all mailboxes are queued.
    """
    run(lambda terminal: _sweep(terminal, str(mailbox) if mailbox else None, dry_run), as_json, verbose)


async def _sweep(terminal: Terminal, mailbox: str | None, dry_run: bool) -> int:
    sweeper = (await app_parts()).sweeper
    if mailbox is None:
        return await (_compare_all(terminal, sweeper) if dry_run else _sweep_all(terminal, sweeper))
    if mailbox not in await sweeper.wanted():
        terminal.fail(f"{mailbox} is no active user among the bookable resources, or not in MAILBOXES")
        return REFUSED
    differences = await (sweeper.compare(mailbox) if dry_run else sweeper.sweep(mailbox))
    _show_differences(terminal, 1, differences, {}, queued=not dry_run)
    return DONE


async def _sweep_all(terminal: Terminal, sweeper: Sweeper) -> int:
    count = await sweeper.sweep_all()
    terminal.show({"queued_sweeps": count}, [f"sweeps queued: {count}"])
    return DONE


async def _compare_all(terminal: Terminal, sweeper: Sweeper) -> int:
    mailboxes = await sweeper.wanted()
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


# --- poison queues ---


@cli.command()
def poison(queue: OneQueue = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List the messages in the poison queues, with the reason why they could not be processed."""
    run(lambda terminal: _list_parked(terminal, queue), as_json, verbose)


@cli.command()
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
    run(lambda terminal: _replay(terminal, queue, wanted), as_json, verbose)


def _chosen(queue: Queue | None) -> list[PoisonQueue]:
    return [PoisonQueue(each.value, wiring.queues()) for each in ([queue] if queue else Queue)]


async def _list_parked(terminal: Terminal, queue: Queue | None) -> int:
    rows = parked_rows([parked for each in _chosen(queue) for parked in await each.list()])
    terminal.show(
        {"messages": rows},
        [f"messages parked: {len(rows)}"],
        rows,
        ("id", "at", "queue", "mailbox", "reason"),
    )
    return DONE


async def _replay(terminal: Terminal, queue: Queue | None, ids: frozenset[str] | None) -> int:
    result = Replayed()
    for each in _chosen(queue):
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


# --- how it does ---


@cli.command()
def status(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what the status page shows, from storage alone: mailboxes, queues, changes, holds, sweeps, calls.

    The exit status is 1 if something is in trouble; notices do not count.
    """
    run(_show_status, as_json, verbose)


async def _show_status(terminal: Terminal) -> int:
    from sync.status import summary_lines
    from sync.status_page import build_json

    found = await wiring.read_status()
    troubled = [row for row in found.mailboxes.rows if row.reason] if found.mailboxes else []
    terminal.show(
        json.loads(build_json(found)), summary_lines(found), troubled, ("mailbox", "state", "expires", "reason")
    )
    return DONE if found.is_well else FAILED


@cli.command()
def capacity(
    mailboxes: Annotated[int, typer.Option(min=1, help="People with a subscription.")],
    changes_per_day: Annotated[int, typer.Option(min=0, help="In all their calendars, each counted once.")],
    bookings: Annotated[float, typer.Option(min=0, max=1, help="Share of the changes that are of bookings.")] = 0.2,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Predict calls, executions and storage transactions, and which limit is nearest, from what was measured."""
    run(lambda terminal: _predict(terminal, mailboxes, changes_per_day, bookings), as_json, verbose)


async def _predict(terminal: Terminal, mailboxes: int, changes: int, bookings: float) -> int:
    from sync.capacity import build_document, build_lines, predict

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
    run(lambda terminal: _examine(terminal, str(outside) if outside else None), as_json, verbose)


async def _examine(terminal: Terminal, outside: str | None) -> int:
    from sync.checks import Instruments, State
    from sync.definitions import Definitions
    from sync.doctor import examine

    async def prepare() -> Instruments:
        parts = await app_parts()
        at, keeper, definitions = parts.looked_at, parts.keeper, Definitions(await wiring.dataverse())
        return Instruments(
            *(at.settings, keeper.deployment, at.to_graph, at.events, keeper.plan, at.bookings, definitions),
            *(parts.queues, at.memory, keeper.now, outside),
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
    run(lambda terminal: _set_up(terminal, solution, language, yes), as_json, verbose)


async def _set_up(terminal: Terminal, solution: str | None, language: int, yes: bool) -> int:
    from sync.dataverse import DataverseBookings
    from sync.definitions import Definitions
    from sync.setup import Setup, Step

    transport, settings = await wiring.dataverse(), wiring.environment()
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
