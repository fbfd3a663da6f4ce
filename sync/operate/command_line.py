"""The common part of all commands: options and exit statuses, the settings they take, errors in one line.

No single command is known here.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sync.errors import Misconfigured, SyncError, Unagreed
from sync.operate.terminal import Terminal
from sync.wiring.app import App

LOCAL_SETTINGS = Path("local.settings.json")

DONE, FAILED, REFUSED = 0, 1, 2
"""Exit statuses; a command line or settings that cannot be used count as refused."""

# The error of a wrong command line is click's own, of which newer Typers bring a copy.
_UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """A command line that cannot be used is an error like any other: with --json it is in the document, too."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the command line; an error of it goes to stdout as JSON if --json is given."""
        self._as_json = "--json" in args
        with self._told():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of its arguments is told likewise."""
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


def _also_from_above(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> bool:
    """An option's value; given to `subscriptions`, it holds for the subcommand, too."""
    return bool(context.meta.setdefault(f"sync.{parameter.name}", value) or value)


AsJson = Annotated[
    bool, typer.Option("--json", callback=_also_from_above, help="One JSON document on stdout, nothing else.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_also_from_above, help="Show the app's log, on stderr.")
]


Work = Callable[[Terminal, App], Awaitable[int]]
"""A command's work; it returns the exit status."""


def run(work: Work, as_json: bool, verbose: bool) -> None:
    """Do *work* with the app of this environment, and end with its exit status.

    Raises: typer.Exit.
    """
    terminal = Terminal(as_json, verbose)
    try:
        take_local_settings(LOCAL_SETTINGS, os.environ)
        status = asyncio.run(_closed(work, terminal))
    except (Misconfigured, Unagreed) as error:
        terminal.fail(str(error))
        status = REFUSED
    except SyncError as error:
        terminal.fail(str(error))
        status = FAILED
    raise typer.Exit(status)


async def _closed(work: Work, terminal: Terminal) -> int:
    app = App(os.environ)
    try:
        return await work(terminal, app)
    finally:
        await app.close()


def take_local_settings(path: Path, environment: MutableMapping[str, str]) -> None:
    """Add the Values of the file to *environment* where it has none of that name, as `func` does.

    Source: Azure Functions, "Code and test Azure Functions locally", local settings file.
    Raises: Misconfigured if it is there and cannot be read.
    """
    if not path.is_file():
        return
    try:
        content: Any = json.loads(_text_of(path))
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}: {error.msg}"
        raise Misconfigured(f"{path} is no JSON, {where}; comments and trailing commas are none") from None
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} cannot be read ({type(error).__name__}): save it as UTF-8") from None
    values = content.get("Values") if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise Misconfigured(f"{path} is not a JSON object with the settings as its Values, an object too")
    if content.get("IsEncrypted"):
        raise Misconfigured(f"{path} is encrypted: func settings decrypt")
    for name, value in values.items():
        if value is not None:
            environment.setdefault(name, str(value))


def _text_of(path: Path) -> str:
    """The file's text. PowerShell's ``>`` writes UTF-16, with a byte order mark; others begin UTF-8 with one."""
    raw = path.read_bytes()
    return raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


async def with_secrets(app: App) -> App:
    """*app*, once its settings hold the secrets that they refer to: it talks to Graph and Dataverse as in Azure.

    Raises: Misconfigured, also if a setting's secret cannot be read; Transient.
    """
    await take_secrets(os.environ, app.identity)
    return app


async def take_secrets(environment: MutableMapping[str, str], identity: Callable[[], Any]) -> None:
    """Put the secrets in the place of the Key Vault references that *environment* holds for the app's settings.

    In Azure the platform does it, and here `func start` would. As storage needs no secret, what asks storage alone
    does not come here, and works without a right to read any.

    Raises: Misconfigured, naming the setting; Transient.
    """
    from sync.settings.parts import Settings
    from sync.settings.values import is_vault_reference

    names = [str(field.alias) for field in Settings.model_fields.values()]
    references = {name: environment[name] for name in names if is_vault_reference(environment.get(name, ""))}
    if references:
        from sync.operate.key_vault import read_secrets

        async with identity() as signed_in:
            environment.update(await read_secrets(references, signed_in))


def in_words(counts: Mapping[str, int]) -> str:
    """Counts as one text, such as `renew: 3, keep: 40`."""
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "no subscription"
