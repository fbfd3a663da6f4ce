"""The operators' commands for what the ledger remembers: what is held, why, and what would have been written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from sync.ids import guid_of
from sync.operate.command_line import DONE, FAILED, AsJson, Verbose, in_words, run, with_secrets
from sync.operate.explain import Bookings, Finder, build_document, build_lines
from sync.operate.observed import claimed, observed_rows
from sync.operate.rows import held_rows
from sync.operate.terminal import Terminal
from sync.pairs.holds import Answered, Chosen, Holds, Listed, choose
from sync.storage.breaker import EVERYBODY
from sync.wiring.app import App

commands = typer.Typer()

# --- what is held ---

HoldIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As `holds` lists them, or a part of one.")]
AllHeld = Annotated[bool, typer.Option("--all", help="All that are held, but not those that wait for Outlook.")]
OfMailbox = Annotated[UUID | None, typer.Option("--mailbox", help="Of this one only; its Entra object id.")]


@commands.command()
def holds(mailbox: OfMailbox = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List what is held for a person, what waits for Outlook to follow, and whether the breaker has tripped."""
    run(lambda terminal, app: _list_held(terminal, app, mailbox), as_json, verbose)


@commands.command()
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
        run(lambda terminal, app: _answer(terminal, app, "released", Holds.release, ids, mailbox), as_json, verbose)
    else:
        if ids or all_ or mailbox:
            raise typer.BadParameter("--breaker goes with nothing else")
        scope = _scope(breaker)
        run(lambda terminal, app: _reset(terminal, app, scope), as_json, verbose)


@commands.command()
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
    run(lambda terminal, app: _answer(terminal, app, "discarded", Holds.discard, ids, mailbox), as_json, verbose)


def _check_chosen(ids: list[str] | None, all_: bool, mailbox: UUID | None) -> None:
    if bool(ids) == all_:
        raise typer.BadParameter("either --all or at least one ID")
    if mailbox and not all_:
        raise typer.BadParameter("--mailbox goes with --all")


def _scope(text: str) -> str:
    try:
        return EVERYBODY if text.lower() == EVERYBODY else guid_of(text)
    except ValueError:
        raise typer.BadParameter(f"--breaker: {EVERYBODY}, or a mailbox's Entra object id") from None


async def _list_held(terminal: Terminal, app: App, mailbox: UUID | None) -> int:
    tripped = await app.breaker().tripped()
    listed = _of(mailbox, await app.holds.list())
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
    app: App,
    word: str,
    answer: Callable[[Holds, Sequence[Listed]], Awaitable[Answered]],
    ids: list[str] | None,
    mailbox: UUID | None,
) -> int:
    desk = app.holds
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


async def _reset(terminal: Terminal, app: App, scope: str) -> int:
    breaker = app.breaker()
    is_tripped = scope in {each.scope for each in await breaker.tripped()}
    if is_tripped:
        await breaker.reset(scope, datetime.now(UTC))
    said = "bookings are canceled again" if is_tripped else "the breaker has not tripped"
    terminal.show({"scope": scope, "reset": is_tripped}, [f"{scope}: {said}"])
    return DONE if is_tripped else FAILED


# --- what was decided ---


@commands.command()
def explain(
    booking_or_event: Annotated[str, typer.Argument(metavar="BOOKING_OR_EVENT", help="The id of either.")],
    mailbox: OfMailbox = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Tell why a booking is where it is: what was decided when, why, and on which values of both sides.

    The exit status is 1 if nothing is known of it.
    """
    run(lambda terminal, app: _explain(terminal, app, booking_or_event, mailbox), as_json, verbose)


async def _explain(terminal: Terminal, app: App, text: str, mailbox: UUID | None) -> int:
    async def bookings() -> Bookings:
        from sync.dataverse.bookings import DataverseBookings

        return DataverseBookings(app.customizing, app.environment_settings.event_id_column)

    with terminal.progress("ledger"):
        found = await Finder(app.ledger, bookings).find(text, str(mailbox) if mailbox else None)
    terminal.show(build_document(text, found), build_lines(text, found))
    return DONE if found.entries else FAILED


@commands.command()
def report(
    since: Annotated[float, typer.Option(metavar="HOURS", min=0, help="How far back.")] = 24,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show what would have been written with SYNC_MODE=sync, beside what happened in Dynamics since."""
    run(lambda terminal, app: _report(terminal, app, timedelta(hours=since)), as_json, verbose)


async def _report(terminal: Terminal, app: App, back: timedelta) -> int:
    await with_secrets(app)
    since, mode = app.now() - back, app.settings.sync_mode
    entries = await app.ledger.observed(since)
    rows = observed_rows(entries, await app.bookings.with_ids(claimed(entries)), since)
    counts = Counter(str(row.outcome) for row in rows)
    terminal.show(
        {"since": since, "mode": mode, "counts": counts, "changes": rows},
        [
            f"mode: {mode}; not written since {since:%Y-%m-%d %H:%M} (UTC): {len(rows)}"
            + (f"; {in_words(counts)}" if counts else "")
        ],
        rows,
        ("at", "booking", "would_be", "now", "outcome"),
    )
    return DONE
