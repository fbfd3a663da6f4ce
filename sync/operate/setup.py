"""Does the work of ``python -m sync setup``: the event-id column, made and published if it is not there yet.

A column that is there is taken as it is, or refused with what a person has to do; none is ever changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from sync.dataverse.bookings import DataverseBookings
from sync.dataverse.definitions import Column, Definitions, why_unfit
from sync.errors import Misconfigured, Refused, Transient

# InvalidArgument; of all that is sent, the language alone is a person's to choose.
# Source: Dataverse, "Web service error codes".
_INVALID_ARGUMENT = "0x80040203"


class Step(StrEnum):
    """One step of the set-up."""

    CREATE = "create the column"
    PUBLISH = "publish the table bookableresourcebooking"


def plan_setup(name: str, column: Column | None, is_known: bool) -> tuple[Step, ...]:
    """The steps that are left, given the *column* as it is defined and whether queries know it. Empty: nothing.

    Raises: Misconfigured if there is a column that cannot hold event ids.
    """
    if column is None:
        return Step.CREATE, Step.PUBLISH
    trouble = why_unfit(column)
    if trouble is not None:
        longer = "make it longer in Power Apps, or " if column.max_length else ""
        raise Misconfigured(f"the column {name} {trouble}; {longer}choose another EVENT_ID_COLUMN")
    return () if is_known else (Step.PUBLISH,)


class Setup:
    """Sets up one environment and column; *solution* None is the default solution."""

    def __init__(
        self, definitions: Definitions, bookings: DataverseBookings, column: str, solution: str | None, language: int
    ) -> None:
        self._definitions = definitions
        self._bookings = bookings
        self._column = column
        self._solution = solution
        self._language = language

    async def plan(self) -> tuple[Step, ...]:
        """Raises: Misconfigured, Transient, Refused."""
        column = await self._definitions.column(self._column)
        is_known = column is not None and await self._bookings.knows_event_id_column()
        return plan_setup(self._column, column, is_known)

    async def carry_out(self, steps: tuple[Step, ...]) -> None:
        """Do the *steps*, each of which may be repeated after a crash, by planning again.

        Raises: Transient, Refused; Transient as well if queries do not know the column afterwards.
        """
        do: dict[Step, Callable[[], Awaitable[None]]] = {
            Step.CREATE: lambda: self._definitions.create_column(self._column, self._solution, self._language),
            Step.PUBLISH: self._definitions.publish,
        }
        try:
            for step in steps:
                await do[step]()
        except Refused as error:
            raise Refused(f"{error}: {self._question(str(error))}") from None
        if not await self._bookings.knows_event_id_column():
            raise Transient("the column was published, but queries do not know it yet: run this again in a minute")

    def _question(self, refusal: str) -> str:
        """Where a person has to look, as Dataverse's own words are not shown."""
        if _INVALID_ARGUMENT in refusal:
            return f"is {self._language} (--language) one of the environment's languages?"
        prefix = self._column.partition("_")[0]
        if self._solution is None:
            return f"may you customize tables, and has a publisher of the environment the prefix {prefix}?"
        return f"may you customize tables, is there a solution {self._solution}, and {prefix} its publisher's prefix?"
