"""`python -m sync subscriptions`: list, plan, apply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import typer

from sync.errors import OtherKey
from sync.operate.command_line import DONE, FAILED, REFUSED, AsJson, Verbose, in_words, run, with_secrets
from sync.operate.rows import PLANNED, SubscriptionRow, subscription_rows
from sync.operate.terminal import Terminal
from sync.wiring.app import App

_WRONG_KEY = (
    "the app refuses notifications of any key but its own: take its settings (func azure functionapp"
    " fetch-app-settings NAME), or if it has this key already: subscriptions apply --new-key"
)
subscriptions = typer.Typer(help="List the subscriptions of all mailboxes: their state and when they expire.")


# --- subscriptions ---


@subscriptions.callback(invoke_without_command=True)
def list_subscriptions(context: typer.Context, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List the subscriptions of all mailboxes: their state and when they expire."""
    if context.invoked_subcommand is None:
        run(lambda terminal, app: _show_plan(terminal, app, lambda row: True), as_json, verbose)


@subscriptions.command("plan")
def plan_subscriptions(as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show what `subscriptions apply` would do now, and do nothing."""
    run(lambda terminal, app: _show_plan(terminal, app, lambda row: row.state in PLANNED), as_json, verbose)


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
    run(lambda terminal, app: _apply(terminal, app, leavers, new_key), as_json, verbose)


async def _show_plan(terminal: Terminal, app: App, is_shown: Callable[[SubscriptionRow], bool]) -> int:
    keeper = (await with_secrets(app)).keeper
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


async def _apply(terminal: Terminal, app: App, leavers: bool, new_key: bool) -> int:
    parts = await with_secrets(app)
    with terminal.progress("subscriptions") as progress:
        parts.keeper.progress = progress
        try:
            result = await parts.keeper.apply(leavers_agreed=leavers, new_key_agreed=new_key)
        except OtherKey as error:
            raise OtherKey(f"{error}; {_WRONG_KEY}") from None
    done = {name: getattr(result, name) for name in ("created", "adopted", "replaced", "renewed", "deleted")}
    failed = [{"mailbox": mailbox, "reason": reason} for mailbox, reason in sorted(result.failed.items())]
    lines = [
        f"mailboxes wanted: {result.wanted}; {in_words({**done, 'failed': len(failed)})}",
        *(f"failed: {each['mailbox']}: {each['reason']}" for each in failed),
        *([f"not begun in time: {result.not_begun}; run this again"] if result.not_begun else []),
        *([f"the app was away; sweeps queued: {result.queued_sweeps}"] if result.was_away else []),
    ]
    terminal.show(
        {
            "wanted": result.wanted,
            **done,
            "failed": failed,
            "left": result.not_begun,
            "queued_sweeps": result.queued_sweeps,
            "refusal": result.refusal,
        },
        lines,
    )
    if result.refusal is not None:
        terminal.complain(f"roster: {result.refusal}: subscriptions apply --leavers")
        return REFUSED
    return FAILED if result.failed or result.not_begun else DONE
