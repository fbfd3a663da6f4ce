"""Does the simple steps of a plan: create, renew, retire or remove one subscription, and count it.

Replacing a subscription takes several writes, and stands in replacing.py. The order of steps stands in run.py.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from sync.errors import Duplicate, Misconfigured, NotFound, Refused, SyncError
from sync.model import Subscription
from sync.subscriptions import writes
from sync.subscriptions.planning import Plan
from sync.subscriptions.result import Handshakes, Result
from sync.subscriptions.writes import SWEEP_AFTER, Service, clock

log = logging.getLogger(__name__)

SWEEPS_PER_SECOND = 5
"""Sweeps of new subscriptions that begin in one second, as many as in a sweep of all mailboxes.

Too small, and a difference is found late; too large, and changes find Dataverse throttling.
"""


@dataclass
class Steps:
    """The steps of one run, each for one mailbox. Each counts in ``result`` what it did."""

    service: Service
    plan: Plan
    deadline: float
    """The end of the run, by ``clock``."""
    result: Result
    handshakes: Handshakes
    first_sweep_after: float = SWEEP_AFTER
    """Seconds from a creation to its sweep, for the first one."""
    adopted: dict[str, str | None] = field(default_factory=dict)
    """Mailboxes with a subscription that was there already when it was to be created."""

    async def create(self, mailbox: str) -> None:
        """Subscribe to *mailbox*. Adopt what another run has made meanwhile: the next run looks whether it is right.

        Raises: Refused if another deployment's subscription is in the way; and as ``writes.create`` does.
        """
        try:
            await writes.create(self.service, mailbox, self.deadline, self.sweep_after())
        except Duplicate as error:
            if mailbox in self.plan.elsewhere:
                raise of_another_deployment(error) from None
            self.adopt(mailbox, error.subscription_id)
        else:
            self.validated()
            self.result.created += 1

    async def renew(self, mailbox: str, current: Subscription) -> None:
        """Renew the *current* subscription, or create one if it is gone. Raises: as ``writes.renew`` and ``create``."""
        try:
            await writes.renew(self.service, current.id, self.deadline)
        except NotFound:
            if mailbox not in {leaver for leaver, _ in self.plan.remove}:
                await self.create(mailbox)
        else:
            self.validated()
            self.result.renewed += 1

    async def fall_back(self, mailbox: str, old: Subscription) -> None:
        """Renew *old*, which could not be replaced, if it would end soon and is still of use.

        Raises: Misconfigured.
        """
        if old.id not in self.plan.fall_back:
            return
        try:
            await writes.renew(self.service, old.id, self.deadline)
        except Misconfigured:
            raise
        except SyncError as error:
            log.warning("subscription not renewed mailbox=%s reason=%r", mailbox, str(error))
        else:
            self.validated()
            self.result.renewed += 1

    async def retire(self, mailbox: str, spare: Subscription) -> None:
        """Delete *spare*, beside which there is a better one. Raises: as ``writes.retire`` does."""
        await writes.retire(self.service, mailbox, spare, self.deadline, self.sweep_after())
        self.result.deleted += 1

    async def remove(self, subscription: Subscription) -> None:
        """Delete the subscription of a leaver. Raises: as ``writes.delete`` does."""
        await writes.delete(self.service, subscription.id, self.deadline)
        self.result.deleted += 1

    def adopt(self, mailbox: str, subscription_id: str | None) -> None:
        """Count the subscription that was there already; *subscription_id* is None if Graph did not name it."""
        log.info("subscription exists already mailbox=%s", mailbox)
        self.adopted[mailbox] = subscription_id
        self.result.adopted += 1

    def validated(self) -> None:
        """Note that a handshake has passed."""
        self.handshakes.passed(clock())

    def sweep_after(self) -> float:
        """Return the seconds until the next sweep. Sweeps of many new subscriptions are spread, five in a second."""
        written = self.result.created + self.result.replaced + self.result.deleted
        return self.first_sweep_after + written / SWEEPS_PER_SECOND


def of_another_deployment(error: Duplicate) -> Refused:
    """Build the error for a mailbox whose subscription another deployment has."""
    return Refused(f"another deployment of this app is subscribed: {error}")
