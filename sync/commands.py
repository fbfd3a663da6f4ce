"""The operators' commands, ``python -m sync COMMAND``: arguments in, a handler called, its outcome shown.

What the commands do is done by the app's own parts, so that it is what its timers do. Typer and rich are for people at
a terminal; nothing that runs in Azure imports this file.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from aiolimiter import AsyncLimiter
from typer.core import TyperGroup

from sync import wiring
from sync.breaker import EVERYBODY
from sync.differences import Difference
from sync.errors import Misconfigured, OtherKey, SyncError, Unagreed
from sync.explain import Bookings, Finder, build_document, build_lines
from sync.holds import Answered, Chosen, Holds, Listed, choose
from sync.notifications import CHANGES, LIFECYCLE
from sync.poison import PoisonQueue, Replayed
from sync.rows import PLANNED, SubscriptionRow, difference_rows, held_rows, parked_rows, subscription_rows
from sync.sweep import MAILBOXES_PER_SECOND, Sweeper
from sync.terminal import Terminal

LOCAL_SETTINGS = Path("local.settings.json")
COMPARED_AT_ONCE = 8

_WRONG_KEY = (
    "the app refuses notifications of any key but its own: take its settings (func azure functionapp"
    " fetch-app-settings NAME), or if it has this key already: subscriptions apply --new-key"
)

DONE, FAILED, REFUSED = 0, 1, 2
"""Exit statuses; a command line or settings that cannot be used count as refused."""

# Of all that is wrong with a command line; it is click's own, of which newer Typers bring a copy.
_UsageError: Any = typer.BadParameter.__base__


class _Commands(TyperGroup):
    """A command line that cannot be used is an error like any other: with --json it is in the document, too."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        self._as_json = "--json" in args
        with self._told():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with self._told():
            return super().invoke(ctx)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _UsageError as error:
            if not self._as_json:
                raise
            Terminal(as_json=True).fail(error.format_message())
            raise typer.Exit(REFUSED) from None


cli = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show the values of variables, secrets among them
    help="Look after booking-sync. Settings come from the environment, else from local.settings.json in this folder.",
)
subscriptions = typer.Typer(help="List the subscriptions of all mailboxes: their state and when they expire.")
cli.add_typer(subscriptions, name="subscriptions")


def _also_from_above(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> bool:
    """An option's value; given to `subscriptions`, it holds for the subcommand, too."""
    return bool(context.meta.setdefault(f"sync.{parameter.name}", value) or value)


AsJson = Annotated[
    bool, typer.Option("--json", callback=_also_from_above, help="One JSON document on stdout, nothing else.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_also_from_above, help="Show the app's log, on stderr.")
]


class Queue(StrEnum):
    CHANGES = CHANGES
    LIFECYCLE = LIFECYCLE


OneQueue = Annotated[Queue | None, typer.Option("--queue", help="Of this queue only.")]


# --- subscriptions ---


@subscriptions.callback(invoke_without_command=True)
def list_subscriptions(context: typer.Context, as_json: AsJson = False, verbose: Verbose = False) -> None:
    if context.invoked_subcommand is None:
        _run(lambda terminal: _show_plan(terminal, lambda row: True), as_json, verbose)


@subscriptions.command("plan")
def plan_subscriptions(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what `subscriptions apply` would do now, and do nothing."""
    _run(lambda terminal: _show_plan(terminal, lambda row: row.state in PLANNED), as_json, verbose)


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
    _run(lambda terminal: _apply(terminal, leavers, new_key), as_json, verbose)


async def _show_plan(terminal: Terminal, is_shown: Callable[[SubscriptionRow], bool]) -> int:
    keeper = (await wiring.parts()).keeper
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
            f"mailboxes wanted: {plan.wanted}; {_listed(counts)}",
            *([f"refused without --leavers: {plan.refusal}"] if plan.refusal else []),
            *([f"refused without --new-key: {plan.other_key}"] if plan.other_key else []),
        ],
        shown,
        ("mailbox", "state", "expires", "expires_in", "next_try", "reason"),
    )
    return DONE


async def _apply(terminal: Terminal, leavers: bool, new_key: bool) -> int:
    parts = await wiring.parts()
    with terminal.progress("subscriptions") as progress:
        parts.keeper.progress = progress
        try:
            report = await parts.keeper.apply(leavers_agreed=leavers, new_key_agreed=new_key)
        except OtherKey as error:
            raise OtherKey(f"{error}; {_WRONG_KEY}") from None
    done = {name: getattr(report, name) for name in ("created", "adopted", "replaced", "renewed", "deleted")}
    failed = [{"mailbox": mailbox, "reason": reason} for mailbox, reason in sorted(report.failed.items())]
    lines = [
        f"mailboxes wanted: {report.wanted}; {_listed({**done, 'failed': len(failed)})}",
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

    Each difference of one mailbox is queued as a change. Without --mailbox, sweeps of all mailboxes are queued.
    """
    _run(lambda terminal: _sweep(terminal, str(mailbox) if mailbox else None, dry_run), as_json, verbose)


async def _sweep(terminal: Terminal, mailbox: str | None, dry_run: bool) -> int:
    sweeper = (await wiring.parts()).sweeper
    if mailbox is None:
        return await (_compare_all(terminal, sweeper) if dry_run else _sweep_all(terminal, sweeper))
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
    _run(lambda terminal: _list_parked(terminal, queue), as_json, verbose)


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
    _run(lambda terminal: _replay(terminal, queue, wanted), as_json, verbose)


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


# --- the ledger ---

HoldIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `holds` lists them, or a part of one.")]
AllHeld = Annotated[bool, typer.Option("--all", help="All that are held, but not those that wait for Outlook.")]
OfMailbox = Annotated[UUID | None, typer.Option("--mailbox", help="Of this one only; its Entra object id.")]


@cli.command()
def holds(mailbox: OfMailbox = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List what is held for a person, what waits for Outlook to follow, and whether the breaker has tripped."""
    _run(lambda terminal: _list_held(terminal, mailbox), as_json, verbose)


@cli.command()
def release(
    ids: HoldIds = None,
    all_: AllHeld = False,
    mailbox: OfMailbox = None,
    breaker: Annotated[
        str | None,
        typer.Option(metavar="SCOPE", help="Let bookings be canceled again: a mailbox, or `all`. Releases no hold."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Have done what the held events ask: each is looked at again by the app, and its booking written.

    A word counts for the event as it was when it was held. The exit status is 1 if an ID is not held, or if one was
    refused.
    """
    if breaker is None:
        _check_chosen(ids, all_, mailbox)
        _run(lambda terminal: _answer(terminal, "released", Holds.release, ids, mailbox), as_json, verbose)
    else:
        if ids or all_ or mailbox:
            raise typer.BadParameter("--breaker goes with nothing else")
        scope = _scope(breaker)
        _run(lambda terminal: _reset(terminal, scope), as_json, verbose)


@cli.command()
def discard(
    ids: HoldIds = None,
    all_: AllHeld = False,
    mailbox: OfMailbox = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Leave the bookings of held events as they are, for good or until the event changes again.

    The exit status is 1 if an ID is not held, or if one was refused.
    """
    _check_chosen(ids, all_, mailbox)
    _run(lambda terminal: _answer(terminal, "discarded", Holds.discard, ids, mailbox), as_json, verbose)


def _check_chosen(ids: list[str] | None, all_: bool, mailbox: UUID | None) -> None:
    if bool(ids) == all_:
        raise typer.BadParameter("either --all or at least one ID")
    if mailbox and not all_:
        raise typer.BadParameter("--mailbox goes with --all")


def _scope(text: str) -> str:
    try:
        return EVERYBODY if text.lower() == EVERYBODY else str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"--breaker: {EVERYBODY}, or a mailbox's Entra object id") from None


async def _list_held(terminal: Terminal, mailbox: UUID | None) -> int:
    tripped = await wiring.breaker().tripped()
    listed = _of(mailbox, await wiring.holds().list())
    rows = held_rows(listed)
    waiting = sum(each.held.is_waiting for each in listed)
    terminal.show(
        {"breaker": tripped, "held": len(rows) - waiting, "waiting": waiting, "holds": rows},
        [
            f"held: {len(rows) - waiting}; waiting for Outlook: {waiting}",
            *(
                f"breaker: tripped for {each.scope} at {each.at:%Y-%m-%d %H:%M} (UTC), {each.count} within an hour; "
                f"nothing is canceled there until you say: release --breaker {each.scope}"
                for each in tripped
            ),
        ],
        rows,
        ("id", "state", "since", "if_released", "mailbox", "reason"),
    )
    return DONE


async def _answer(
    terminal: Terminal,
    word: str,
    answer: Callable[[Holds, Sequence[Listed]], Awaitable[Answered]],
    ids: list[str] | None,
    mailbox: UUID | None,
) -> int:
    desk = wiring.holds()
    listed = await desk.list()
    all_ = [each for each in _of(mailbox, listed) if not each.held.is_waiting]
    chosen = choose(listed, ids) if ids else Chosen(all_)
    with terminal.progress("holds") as progress:
        desk.progress = progress
        answered = await answer(desk, chosen.found)
    refused = [{"id": each.id, "reason": reason} for each, reason in answered.refused]
    terminal.show(
        {
            word: held_rows(answered.done),
            "refused": refused,
            "missing": chosen.missing,
            "ambiguous": chosen.ambiguous,
        },
        [
            f"{word}: {len(answered.done)}",
            *(f"refused: {each['id']}: {each['reason']}" for each in refused),
            *(f"not held: {each}" for each in chosen.missing),
            *(f"fits several: {each}" for each in chosen.ambiguous),
        ],
    )
    return FAILED if refused or chosen.missing or chosen.ambiguous else DONE


def _of(mailbox: UUID | None, listed: Sequence[Listed]) -> list[Listed]:
    return [each for each in listed if mailbox is None or each.entry.mailbox == str(mailbox)]


async def _reset(terminal: Terminal, scope: str) -> int:
    breaker = wiring.breaker()
    is_tripped = scope in {each.scope for each in await breaker.tripped()}
    if is_tripped:
        await breaker.reset(scope, datetime.now(UTC))
    said = "bookings are canceled again" if is_tripped else "the breaker has not tripped"
    terminal.show({"scope": scope, "reset": is_tripped}, [f"{scope}: {said}"])
    return DONE if is_tripped else FAILED


@cli.command()
def explain(
    booking_or_event: Annotated[str, typer.Argument(metavar="BOOKING_OR_EVENT", help="The id of either.")],
    mailbox: OfMailbox = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Tell why a booking is where it is: what was decided when, why, and on which values of both sides.

    The exit status is 1 if nothing is known of it.
    """
    _run(lambda terminal: _explain(terminal, booking_or_event, mailbox), as_json, verbose)


async def _explain(terminal: Terminal, text: str, mailbox: UUID | None) -> int:
    async def bookings() -> Bookings:
        from sync.dataverse import DataverseBookings

        return DataverseBookings(await wiring.dataverse(), wiring.environment().event_id_column)

    with terminal.progress("ledger"):
        found = await Finder(wiring.ledger(), bookings).find(text, str(mailbox) if mailbox else None)
    terminal.show(build_document(text, found), build_lines(text, found))
    return DONE if found.entries else FAILED


# --- how it does ---


@cli.command()
def status(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what the status page shows, from storage alone: mailboxes, queues, changes, holds, sweeps, calls.

    The exit status is 1 if something is in trouble; notices do not count.
    """
    _run(_show_status, as_json, verbose)


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
    _run(lambda terminal: _predict(terminal, mailboxes, changes_per_day, bookings), as_json, verbose)


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
    _run(lambda terminal: _examine(terminal, str(outside) if outside else None), as_json, verbose)


async def _examine(terminal: Terminal, outside: str | None) -> int:
    from sync.definitions import Definitions
    from sync.doctor import Instruments, State, examine

    async def prepare() -> Instruments:
        parts = await wiring.parts()
        at, keeper, definitions = parts.looked_at, parts.keeper, Definitions(await wiring.dataverse())
        return Instruments(
            *(at.settings, keeper.deployment, at.to_graph, at.events, at.subscriptions, at.bookings, definitions),
            *(parts.queues, at.memory, keeper.now, outside),
        )

    with terminal.progress("checks") as progress:
        results = await examine(prepare, progress)
    counts = Counter(str(result.state) for result in results)
    cures = [f"{result.state}: {result.check}: {result.cure}" for result in results if result.cure]
    terminal.show(
        {"counts": counts, "checks": results},
        [*cures, f"checks: {_listed(counts)}"],
        results,
        ("check", "state", "seen"),
    )
    return FAILED if counts[State.FAILED] else DONE


@cli.command()
def setup(
    solution: Annotated[str | None, typer.Option(help="Unique name of the solution that the column goes into.")] = None,
    language: Annotated[int, typer.Option(help="Of the column's label, an LCID; 1033 is English.")] = 1033,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make the event-id column and publish it, if it is not there yet; an existing one is never changed.

    Needs DATAVERSE_URL and EVENT_ID_COLUMN only, and somebody who may customize tables.
    """
    _run(lambda terminal: _set_up(terminal, solution, language, yes), as_json, verbose)


async def _set_up(terminal: Terminal, solution: str | None, language: int, yes: bool) -> int:
    from sync.dataverse import DataverseBookings
    from sync.definitions import Definitions
    from sync.setup import Setup

    transport, settings = await wiring.dataverse(), wiring.environment()
    name = settings.event_id_column
    bookings = DataverseBookings(transport, name)
    setup = Setup(Definitions(transport), bookings, name, solution, language)
    steps = await setup.plan()
    plan = {"environment": settings.dataverse_url, "column": name, "solution": solution, "steps": steps}
    if not steps:
        terminal.show({**plan, "done": True}, [f"{name} is there and published: nothing to do"])
        return DONE
    into = f", into the solution {solution}" if solution else ""
    terminal.tell(
        [f"{settings.dataverse_url}, {name}{into}:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]
    )
    if not (yes or terminal.agrees("Go ahead?")):
        terminal.show({**plan, "done": False}, ["nothing was changed; --yes goes ahead without asking"])
        return REFUSED
    await setup.carry_out(steps)
    terminal.show({**plan, "done": True}, [f"{name} is there and published"])
    return DONE


# --- what all commands have in common ---


def _run(work: Callable[[Terminal], Awaitable[int]], as_json: bool, verbose: bool) -> None:
    """Do *work* and end with its exit status.

    Raises: typer.Exit.
    """
    terminal = Terminal(as_json, verbose)
    try:
        take_local_settings(LOCAL_SETTINGS, os.environ)
        status = asyncio.run(_closed(work(terminal)))
    except (Misconfigured, Unagreed) as error:
        terminal.fail(str(error))
        status = REFUSED
    except SyncError as error:
        terminal.fail(str(error))
        status = FAILED
    raise typer.Exit(status)


async def _closed(work: Awaitable[int]) -> int:
    try:
        return await work
    finally:
        await wiring.close()


def take_local_settings(path: Path, environment: MutableMapping[str, str]) -> None:
    """Add the Values of the file to *environment* where it has none of that name, as `func` does.

    Source: Azure Functions, "Code and test Azure Functions locally", local settings file.
    Raises: Misconfigured if it is there and cannot be read.
    """
    if not path.is_file():
        return
    try:
        content: Any = json.loads(path.read_text("utf-8-sig"))
        values = dict(content.get("Values") or {})
    except (OSError, ValueError, TypeError, AttributeError):
        raise Misconfigured(f"{path} is not a JSON object with the settings as its Values") from None
    if content.get("IsEncrypted"):
        raise Misconfigured(f"{path} is encrypted: func settings decrypt")
    for name, value in values.items():
        environment.setdefault(name, str(value))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "no subscription"
