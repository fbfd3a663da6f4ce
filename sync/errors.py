"""The errors, named by what happens next: classes only.

``calls/answers.py`` says which answer means which error. No status number and no text of a service belongs here.
"""

from __future__ import annotations


class SyncError(Exception):
    """Any of the below; its text carries ids, statuses and codes, never content or secrets."""

    is_undone = False
    """Whether the service certainly did nothing, as it refused or was not asked; False where that is not known."""


class Malformed(SyncError):
    """Not the shape the service documents: 400 to a caller, the poison queue for a message."""


class NotOurs(Malformed):
    """An event that cannot be read, and that carries no extension of the app: it is left alone."""


class Forged(SyncError):
    """The clientState is not ours: dropped and counted, the sender learns nothing."""


class Misconfigured(SyncError):
    """A setting is missing or does not fit the environment; the text names each one."""


class Transient(SyncError):
    """Worth another try later; ``retry_after`` is the service's word in seconds, None if it gave none."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Incomplete(Transient):
    """A success without what was asked for: it says nothing of the item, so it is no answer."""


class Stale(Transient):
    """The row changed since it was read: read again, decide again."""


class NoAnswer(Transient):
    """No answer of the service's own came in time, or the line was cut: it may still carry out what it was asked."""


class NotWritten(SyncError):
    """The service refused a write, so that certainly nothing was written; *reason* says why, and what happens next."""

    def __init__(self, reason: SyncError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Throttled(Transient):
    """The service wants no call of this kind for a while. This does not count as an attempt."""


class Paused(Transient):
    """There is no time left to send this; it was not sent."""


class Refused(SyncError):
    """Another try gives the same answer: a person has to look."""


class Mendable(Refused):
    """A person can change that from outside, and the same try passes then: it is put back rather than parked."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class NotPermitted(Mendable):
    """A privilege is missing, for a row or for a whole table."""


class ShutOut(Mendable):
    """The service refuses the app as a whole, whatever it asks for; the text has the cure. It counts as no attempt.

    Examples: an IP firewall, an environment in administration mode, a proxy in between.
    """


class NotFound(Refused):
    """The item asked for is not there. The edges turn it into None."""


class Unagreed(Refused):
    """A person has to agree first; nothing has been changed."""


class OtherKey(Unagreed):
    """The present subscriptions were made with another CLIENT_STATE_KEY; perhaps the given one is wrong."""


class Duplicate(Refused):
    """The subscription exists already; ``subscription_id`` is the id that Graph names, None if it names none."""

    def __init__(self, text: str, subscription_id: str | None = None) -> None:
        super().__init__(text)
        self.subscription_id = subscription_id


class LifetimeRefused(Refused):
    """A subscription was to live longer than the service allows; ``minutes`` is what it allows."""

    def __init__(self, text: str, minutes: int) -> None:
        super().__init__(text)
        self.minutes = minutes


class Unvalidated(Refused):
    """The app's own endpoint did not pass Graph's validation. No mailbox is in trouble, and the next try may pass."""


class UnknownColumn(Refused):
    """A query names a column or navigation property that the table does not have."""


class InvalidId(Refused):
    """No item can have this id: it was damaged or made up."""


class Withdrawn(Refused):
    """An item that can no longer be read or deleted; another call has to tell whether it is gone."""


class MailboxUnavailable(Refused):
    """The mailbox is gone, disabled or out of our reach, which says nothing about its events."""


class Full(MailboxUnavailable):
    """The mailbox has as many subscriptions as it may, those of all applications counted."""


class AccessDenied(MailboxUnavailable):
    """The mailbox is there, and the app may not read it."""
