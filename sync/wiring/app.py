"""The app: what takes messages and keeps subscriptions, built from the clients. No rule and no trigger stand here.

Like clients.py it imports nothing heavy at the top.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from sync.wiring.clients import Clients, utc_now

if TYPE_CHECKING:
    from sync.messages.changes import Batch, Change, LifecycleNotification, SweepRequest
    from sync.messages.taking import ChangeTaker
    from sync.pairs.actions import Done
    from sync.pairs.processing import Processor
    from sync.status.findings import Status
    from sync.subscriptions.keeper import Keeper
    from sync.subscriptions.lifecycle import LifecycleTaker
    from sync.subscriptions.planning import Plan
    from sync.subscriptions.result import Result
    from sync.sweep.rounds import Rounds
    from sync.sweep.sweeper import Sweeper
    from sync.sweep.taking import SweepTaker


log = logging.getLogger(__name__)


class App(Clients):
    """The app's parts, each built when it is asked for first."""

    def __init__(self, environment: Mapping[str, str], now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(environment, now)
        self._turn_to_spread = asyncio.Lock()

    @cached_property
    def processor(self) -> Processor:
        """Brings one pair in step."""
        from sync.pairs.processing import Processor

        settings = self.settings
        breaker = self.breaker(settings.cancellations_per_mailbox, settings.cancellations_in_all)
        return Processor(
            self.events, self.bookings, self.ledger, breaker, self.now, settings.conflict_policy, settings.sync_mode
        )

    @cached_property
    def changes(self) -> ChangeTaker:
        """Takes the messages of ``outlook-changes``."""
        from sync.messages.taking import ChangeTaker

        return ChangeTaker(self._process, self._spread, self.queues, self._let_in)

    async def _process(self, change: Change) -> Done:
        from sync.errors import ShutOut
        from sync.pairs.actions import Done

        self.telemetry.annotate(mailbox=change.mailbox, event=change.event_id, attempt=change.attempt)
        try:
            done = Done.of(await self.processor.process(change))
        except ShutOut as error:
            await self.counting.shut_out(str(error))
            raise
        self.telemetry.annotate(booking=done.booking_id)
        return done

    async def _let_in(self, mailbox: str) -> None:
        await self.door.let_in(mailbox)

    async def _spread(self, batch: Batch) -> None:
        from sync.intake.spreading import spread

        # The host hands over several at once; side by side none would see what the others queue of the same event.
        async with self._turn_to_spread:
            counts = await spread(batch, self.queues, self.ledger, self.acknowledge_settings.settle_seconds)
        self.counting.count(counts)

    async def wanted(self) -> Sequence[str]:
        """The mailboxes that are to be kept in step: those of bookable resources, or the pilot's among them."""
        await self.door.wait_for_dataverse()  # a backlog of changes may leave it open for moments only
        mailboxes, pilot = await self.bookings.resources.mailboxes(), self.settings.mailboxes
        return [mailbox for mailbox in mailboxes if not pilot or mailbox in pilot]

    @cached_property
    def sweeper(self) -> Sweeper:
        """Compares both lists of one mailbox."""
        from sync.sweep.sweeper import Sweeper

        return Sweeper(self.events, self.bookings, self.queues, self.ledger, self.now)

    @cached_property
    def rounds(self) -> Rounds:
        """Asks for the sweeps of all mailboxes."""
        from sync.sweep.rounds import Rounds

        return Rounds(self.wanted, self.bookings.resources, self.queues, self.ledger, self.roster, self.now)

    @cached_property
    def sweeps(self) -> SweepTaker:
        """Takes the messages of ``sweeps``."""
        from sync.sweep.taking import SweepTaker

        return SweepTaker(self._sweep, self._looks_after, self.queues)

    async def _sweep(self, request: SweepRequest) -> None:
        differences = await self.sweeper.sweep_in_turn(request)
        if differences is not None:
            self.counting.swept(request.mailbox, len(differences))

    async def _looks_after(self, mailbox: str) -> bool:
        self.telemetry.annotate(mailbox=mailbox)
        return await self.keeper.roster.looks_after(mailbox)

    @cached_property
    def keeper(self) -> Keeper:
        """Keeps one subscription for each wanted mailbox."""
        from sync.graph.subscriptions import GraphSubscriptions
        from sync.subscriptions.deployment import Deployment
        from sync.subscriptions.keeper import Keeper

        settings = self.settings
        deployment = Deployment.of(
            settings.notification_url.get_secret_value(),
            settings.keys[0],
            settings.dataverse_url,
            settings.event_id_column,
            previous_keys=settings.keys[1:],
        )
        subscriptions = GraphSubscriptions(self.to_graph, deployment.url, settings.keys[0])
        return Keeper(self.wanted, subscriptions, deployment, self.roster, self.rounds, self.now, note=self._note)

    async def _note(self, plan: Plan, result: Result, lives_until: datetime) -> None:
        from sync.subscriptions.standing import counts_after, standings_after
        from sync.telemetry.spans import SUBSCRIPTIONS

        self.telemetry.measure_each(SUBSCRIPTIONS, "state", counts_after(plan, result))
        await self.counting.roster_kept([*standings_after(plan, result, lives_until)])

    @cached_property
    def lifecycle(self) -> LifecycleTaker:
        """Takes the messages of ``subscription-lifecycle``."""
        from sync.subscriptions.lifecycle import LifecycleTaker

        return LifecycleTaker(self._follow, self.queues)

    async def _follow(self, notification: LifecycleNotification) -> None:
        about = {"mailbox": notification.mailbox, "lifecycle": notification.event, "attempt": notification.attempt}
        self.telemetry.annotate(**about)
        await self.keeper.lifecycle.follow(notification)

    async def own_storage(self) -> None:
        """Return if no other deployment works with the storage account.

        Raises: Misconfigured if one does, Transient.
        """
        if self.name:
            await self.ownership.check()

    async def is_left(self, queue: str, text: str) -> bool:
        """Whether a message is not this deployment's to take; it goes back as it is then, for whom it is for.

        If the owner cannot be asked for now, what was known last counts: the host would give up a message sooner than
        the app does. Raises: Transient if the queue cannot be reached.
        """
        from sync.errors import Misconfigured, Transient
        from sync.storage.owner import tag_of

        if not self.name and not tag_of(text):
            return False
        reason = "a message of another deployment, which uses the same storage account"
        try:
            await self.own_storage()
        except Misconfigured as error:
            reason = str(error)
        except Transient as error:
            log.warning("whose the storage is cannot be asked reason=%r", str(error))
        if self.name and not self.ownership.refusal and self.ownership.is_own(text):
            return False
        log.error("not taken queue=%s reason=%r", queue, reason)
        await self.queues.pass_on(queue, text)
        return True

    # --- what people are shown ---

    async def status(self) -> Status:
        """The status, from storage alone, with what this process has counted so far."""
        from sync.settings.parts import ModeSettings, parse_settings
        from sync.status.reading import Overview

        mode = parse_settings(ModeSettings, self.environment).sync_mode
        await self.counting.flush()
        return await Overview(
            self.counters, self.ledger, self.breaker(), self.queues, self.now, self.ownership, mode
        ).read()

    async def tell_left(self) -> None:
        """Measure how much is held, waiting and parked."""
        from sync.status.left import tell_left

        await tell_left(self.queues, self.ledger, self.now())
