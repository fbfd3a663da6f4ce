"""The guided tour: brings up storage, both services and the app, shows that the app does its job, then lets you play.

The acts of people stay out: ``story.py`` tells them. Whether a step came true is judged in ``judge.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from azure.storage.queue.aio import QueueServiceClient

from sandbox.host.app import FunctionsApp, Host, app_settings, choose_host
from sandbox.host.azurite import Azurite, AzuriteMissing
from sandbox.host.child import ChildFailed, Watchable, watched
from sandbox.host.functions_host import free_port
from sandbox.host.signals import StopSignal
from sandbox.server import Sandbox
from sandbox.tour.judge import Judge, NotTrue, describe, name_ids
from sandbox.tour.story import Step, Story
from sandbox.tour.timeline import Timeline

STOPPED = 130
"""Exit status after Ctrl-C before the tour was over, as of a shell."""
PAUSE = 1.0
"""Seconds between two steps, where a person is watching."""
WORTH_TELLING = re.compile(r"(processed outcome=.*|put back .*|parked .*|notifications (?:dropped|refused) .*)")
"""Lines of the app's log about a change."""


@dataclass(frozen=True)
class Options:
    """How the tour is taken: all that the command line of ``python -m sandbox run`` says, and what tests hand in."""

    once: bool = False
    """End after the tour."""
    port: int = 0
    """The simulated services listen at it; 0 takes a free one."""
    choose: Callable[[int], Host] = choose_host
    """Gives the host that runs the app at this port."""
    patience: float = 15.0
    """Seconds that a step may take."""
    log: Path = Path(".sandbox") / "app.log"
    overrides: tuple[tuple[str, str], ...] = ()
    """Settings of the app in the place of the tour's, to see what goes wrong."""
    storage: str = ""
    """A connection string of storage that is up already; without one, the tour starts Azurite."""


SETTINGS = "settings.json"
"""Beside the log while the world is up: the app's settings, for the operators' commands."""


async def run(options: Options) -> int:
    """The exit status: 0 if every step came true."""
    stop = StopSignal()
    tour = Tour(options, Timeline())
    touring, stopped = asyncio.create_task(tour.take()), asyncio.create_task(stop.wait())
    await asyncio.wait([touring, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not touring.done():
        tour.timeline.say("\nStopping ...")
    touring.cancel()
    stopped.cancel()
    try:
        await touring
    except asyncio.CancelledError:
        return STOPPED if tour.status is None else tour.status
    except (AzuriteMissing, ChildFailed, OSError) as trouble:
        tour.timeline.say(f"error: {trouble}", "bold red")
        return 1
    return 1 if tour.status is None else tour.status


class Tour:
    """``status`` is the exit status, None until the last step is over."""

    def __init__(self, options: Options, timeline: Timeline) -> None:
        self.timeline = timeline
        self.status: int | None = None
        self._options = options
        self._observes = ("SYNC_MODE", "observe") in options.overrides
        self._playing = False

    async def take(self) -> None:
        """Raises: AzuriteMissing, ChildFailed, OSError for a port that is taken."""
        options, timeline = self._options, self.timeline
        port = free_port()
        host = options.choose(port)
        async with AsyncExitStack() as running:
            storage, needed = options.storage, list[Watchable]()
            if not storage:
                with timeline.starting("Azurite, the storage emulator"):
                    azurite = await running.enter_async_context(Azurite())
                storage, needed = azurite.connection_string, [azurite]
            world = Sandbox(port=options.port)
            story = Story(world)
            with timeline.starting("the simulated Graph and Dataverse"):
                await running.enter_async_context(world)
            settings = {**app_settings(world, storage, port), **dict(options.overrides)}
            loop = asyncio.get_running_loop()
            app = FunctionsApp(
                host, port, settings, options.log, lambda line: _call_soon(loop, self._overhear, world, line)
            )
            with timeline.starting(f"the app under {host.name}"):
                await watched(running.enter_async_context(app), *needed)
            timeline.say(f"  its log: {options.log}")
            running.enter_context(_told(options.log.parent / SETTINGS, settings))
            await watched(self._show(world, story, app, storage), app, *needed)

    async def _show(self, world: Sandbox, story: Story, app: FunctionsApp, storage: str) -> None:
        async with QueueServiceClient.from_connection_string(storage, retry_total=0) as queues:
            self.status = await self._tell(Judge(world, queues, self._options.patience), story, app)
        if not self._options.once:
            self._invite(world, story, app)
            self._playing = True
            world.calls.listeners.append(lambda call: self.timeline.at(f"  {describe(world, call)}", "dim"))
            await asyncio.Event().wait()

    async def _tell(self, judge: Judge, story: Story, app: FunctionsApp) -> int:
        """All steps, or until one is not true: each builds on those before."""
        timeline, came_true = self.timeline, 0
        began = time.monotonic()
        timeline.say()
        try:
            judge.begin()
            await app.run_timer("renew_subscriptions")
            await self._follow(judge, story.subscribed())
            came_true += 1
            if self._observes:
                timeline.say("\nThe app only observes, and the other steps wait for what it would write.", "bold green")
                return 0
            judge.begin()
            for step in story.steps():
                await self._follow(judge, step)
                came_true += 1
                if timeline.is_live and not self._options.once:
                    await asyncio.sleep(PAUSE)
                judge.begin()
        except (NotTrue, aiohttp.ClientError) as trouble:
            timeline.outcome(False, str(trouble).partition("\n")[0], str(trouble).partition("\n")[2])
            timeline.say(f"\nThe tour ends here. The last lines of {self._options.log}:")
            timeline.say(_last_lines(self._options.log), "dim")
            return 1
        timeline.say(f"\nAll {came_true} steps came true, in {time.monotonic() - began:.0f} s.", "bold green")
        return 0

    async def _follow(self, judge: Judge, step: Step) -> None:
        """Raises: NotTrue."""
        self.timeline.at(step.what)
        with self.timeline.waiting("the app ...") as update:
            await judge.wait_for(step, lambda: update(f"the app: {judge.calls} ..."))
        self.timeline.outcome(True, step.then, f"{judge.calls} in {judge.seconds:.1f} s")

    def _invite(self, world: Sandbox, story: Story, app: FunctionsApp) -> None:
        say = self.timeline.say
        say(f"\n{world.overview.table()}")
        python = os.path.relpath(sys.executable)
        if self._observes:
            say("Now it is your turn; what the app would do about it is told by the second:")
            say(f'  curl -X POST "{world.url}/sandbox/dispatcher/book?technician=Ben"')
            say(f"  {python} -m sandbox sync report")
        elif self.status == 0:
            event = world.overview.events.of(story.anas_event.immutable_id)
            acts = f"technician/move?event={event}&minutes=30", f"technician/delete?event={event}"
            say("Now it is your turn; what the app does about it is shown here:")
            for act in (*acts, "dispatcher/book?technician=Ben"):
                say(f'  curl -X POST "{world.url}/sandbox/{act}"')
        say(f"Everything that can be done: curl {world.url}/sandbox")
        say(f"How the app does: {app.url}/api/status/page")
        say("What operators see, or with another command of docs/commands.md:")
        say(f"  {python} -m sandbox sync doctor --outside {story.stranger.id}")
        if self.status == 0 and not self._observes:
            say(f"Why a booking is where it is: {python} -m sandbox sync explain {story.anas_booking.id}")
        say("Ctrl-C ends it.\n")

    def _overhear(self, world: Sandbox, line: str) -> None:
        """Show what the app logs about a change, while a person plays."""
        said = WORTH_TELLING.search(line) if self._playing else None
        if said is not None:
            self.timeline.at(f"  the app: {name_ids(world, said[1])}")


@contextmanager
def _told(path: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """The *settings* are in a file while this is entered; none of them is a secret of anybody's."""
    path.write_text(json.dumps(dict(settings), indent=2), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _call_soon(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *arguments: object) -> None:
    """From another thread; nothing once the loop is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *arguments)


def _last_lines(path: Path, count: int = 12) -> str:
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    return "\n".join(f"  {line}" for line in lines[-count:])
