"""The rows of the simulated Dataverse and the rules every write obeys, whoever writes; no HTTP, no OData here."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sandbox.clock import Clock
from sandbox.dataverse.columns import REASONS_OF_STATE, TEXTS, AlternateKey, Column, Table, four_tables

DURATION_MAX = 2_147_483_647


class Refused(Exception):
    """The platform does not do what it was asked; *code* is Dataverse's own, the HTTP status belongs to it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(eq=False)
class Row:
    """One row as it is now: it changes with every write. A lookup's value is the id under ``_name_value``."""

    table: Table
    id: str
    version: int
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'

    def __getitem__(self, column: str) -> Any:
        return self.values[column]


@dataclass(frozen=True)
class Change:
    """One write that happened. ``before`` and ``after`` hold the columns it named, also those that kept their value."""

    at: datetime
    by: str
    """The systemuserid of who wrote."""
    kind: Literal["create", "update", "delete"]
    table: str
    id: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def columns(self) -> set[str]:
        return set(self.before) | set(self.after)


class Tables:
    """Users, bookable resources, booking statuses and bookings, with the usual statuses in place."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        field_service: bool = True,
        event_id_column: str | None = "contoso_outlookeventid",
        seed_statuses: bool = True,
    ) -> None:
        self.clock = clock
        self._rng = rng
        self.field_service = field_service
        self.schema = four_tables(field_service)
        for table in self.schema.values():
            table.metadata_id = self.new_id()
            for column in table.columns.values():
                column.metadata_id = self.new_id()
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in self.schema}
        self._version = 81_000_000
        self.history: list[Change] = []
        self.event_id_column = event_id_column
        if event_id_column:
            self.add_column("bookableresourcebooking", Column(event_id_column, max_length=1024))
        # SYSTEM owns and writes what nobody else does; the app user is who the Web API's callers are.
        self._system_id = self.new_id()
        self.system = self.add_user(name="SYSTEM", id=self._system_id, accessmode=3)
        self.app_user = self.add_user(name="# booking-sync", applicationid=self.new_id(), accessmode=4)
        if seed_statuses:
            self._seed_statuses()

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    # -- the four tables, in the words of people and tests

    def add_user(
        self,
        *,
        object_id: str | None = None,
        name: str = "A. User",
        disabled: bool = False,
        id: str | None = None,
        **columns: Any,
    ) -> Row:
        address = f"{re.sub('[^a-z]+', '.', name.lower()).strip('.')}@contoso.com"
        return self.create(
            "systemuser",
            {
                "azureactivedirectoryobjectid": object_id or self.new_id(),
                "fullname": name,
                "domainname": address,
                "internalemailaddress": address,
                "isdisabled": disabled,
                "accessmode": 0,
                **columns,
            },
            id=id,
        )

    def add_resource(
        self, user: Row | None = None, *, name: str | None = None, type: int = 3, id: str | None = None, **columns: Any
    ) -> Row:
        """A bookable resource; type 3 is a user's. Nothing forbids several resources of one user, or one of none."""
        return self.create(
            "bookableresource",
            {
                "name": name or (user["fullname"] if user else "Resource"),
                "resourcetype": type,
                "_userid_value": user.id if user else None,
                **columns,
            },
            id=id,
        )

    def add_status(
        self, name: str, status: int, field_service: int | None = None, *, id: str | None = None, **columns: Any
    ) -> Row:
        """*status* 1 Proposed, 2 Committed, 3 Canceled; *field_service* is left out where Field Service is absent."""
        values = {"name": name, "status": status, **columns}
        if self.field_service:
            values["msdyn_fieldservicestatus"] = field_service
        return self.create("bookingstatus", values, id=id)

    def add_booking(
        self,
        resource: Row,
        start: datetime,
        end: datetime,
        status: Row | None = None,
        event_id: str | None = None,
        *,
        id: str | None = None,
        by: str | None = None,
        **columns: Any,
    ) -> Row:
        """A booking, committed ("Scheduled", "Hard") if *status* does not say otherwise."""
        values: dict[str, Any] = {
            "name": "Booking",
            "starttime": start,
            "endtime": end,
            "_resource_value": resource.id,
            "_bookingstatus_value": (status or self.status("Scheduled" if self.field_service else "Hard")).id,
            **columns,
        }
        if event_id is not None and self.event_id_column:
            values[self.event_id_column] = event_id
        return self.create("bookableresourcebooking", values, id=id, by=by)

    def status(self, name: str) -> Row:
        return next(row for row in self.rows("bookingstatus") if row["name"] == name)

    def bookings(self) -> list[Row]:
        return self.rows("bookableresourcebooking")

    def _seed_statuses(self) -> None:
        if not self.field_service:
            for name, status in (("Proposed", 1), ("Hard", 2), ("Canceled", 3)):
                self.add_status(name, status)
            return
        for name, status, field_service in (
            ("Scheduled", 2, 690970000),
            ("Traveling", 2, 690970001),
            ("On Break", 2, 690970002),
            ("In Progress", 2, 690970003),
            ("Completed", 2, 690970004),
            ("Canceled", 3, 690970005),
        ):
            self.add_status(name, status, field_service)

    # -- any table

    def rows(self, table: str) -> list[Row]:
        """Oldest first."""
        return list(self._rows[table].values())

    def get(self, table: str, id: str) -> Row | None:
        return self._rows[table].get(id.lower())

    def find(self, table: str, column: str, value: Any) -> Row | None:
        """The row with this value; strings compare as in every filter, without regard to case."""
        return next((row for row in self.rows(table) if same(row.values[column], value)), None)

    def follow(self, row: Row, lookup: Column) -> Row | None:
        id, target = row.values[lookup.property], lookup.target
        return self.get(target, id) if id and target else None

    def create(
        self,
        table: str,
        values: Mapping[str, Any],
        *,
        id: str | None = None,
        by: str | None = None,
        needs_required: bool = True,
    ) -> Row:
        """Refused: a required column is missing, a value does not fit, the id exists already."""
        definition = self.schema[table]
        id = (id or self.new_id()).lower()
        if id in self._rows[table]:
            raise Refused("0x80040237", "A record with matching key values already exists.")
        by = by or self._system_id
        complete = dict.fromkeys(definition.columns) | dict(values)
        _complete(definition, complete, by)
        for column in definition.columns.values():
            if needs_required and column.required and complete[column.property] is None:
                raise _null(column)
        self._check(definition, None, {name: value for name, value in complete.items() if value is not None})
        row = Row(definition, id, 0, complete)
        row.values[definition.key] = id
        if table == "systemuser":
            row.values["ownerid"] = id
        row.values["createdon"], row.values["_createdby_value"] = self._second(), by
        self._rows[table][id] = row
        self._stamp(row, by)
        self._remember("create", row, by, {}, {name: value for name, value in row.values.items() if value is not None})
        return row

    def update(self, row: Row, values: Mapping[str, Any], *, by: str | None = None) -> Row:
        """Write *values*, keyed by property; every write raises the etag, also one that changes nothing.

        Refused: a value does not fit, or null where the column is required.
        """
        values = dict(values)
        by = by or self._system_id
        _fit_state(row, values)
        self._check(row.table, row, values)
        before = {name: row.values[name] for name in values}
        row.values.update(values)
        self._stamp(row, by)
        self._remember("update", row, by, before, values)
        return row

    def link(self, booking: Row, event_id: str) -> None:
        """*booking* as the app leaves it behind when it has found its event. There has to be a column for that."""
        self.update(booking, {str(self.event_id_column): event_id}, by=self.app_user.id)

    def delete(self, row: Row, *, by: str | None = None) -> None:
        """Refused: another row points at it."""
        for table in self.schema.values():
            for lookup in table.lookups():
                if lookup.target != row.table.name or lookup.read_only or lookup.name == "ownerid":
                    continue
                if any(other.values[lookup.property] == row.id for other in self.rows(table.name)):
                    raise Refused(
                        "0x80040227",
                        "The object you tried to delete is associated with another object and cannot be deleted.",
                    )
        del self._rows[row.table.name][row.id]
        self._version += 1
        self._remember("delete", row, by or self._system_id, dict(row.values), {})

    def writes_to(self, row: Row) -> list[Change]:
        return [change for change in self.history if change.id == row.id]

    # -- customizing

    def add_column(self, table: str, column: Column) -> Column:
        """A new text column; existing rows hold null there."""
        column.metadata_id = self.new_id()
        column.schema_name = column.schema_name or column.name
        self.schema[table].add([column])
        for row in self.rows(table):
            row.values[column.property] = None
        return column

    def add_key(self, table: str, name: str, column: str) -> None:
        self.schema[table].alternate_keys.append(AlternateKey(name, column))

    def publish(self, tables: Iterable[str] | None = None) -> None:
        """What was customized of *tables*, or of all."""
        for name in self.schema if tables is None else tables:
            for column in self.schema[name].columns.values():
                column.published = True

    # -- the rules

    def _check(self, table: Table, row: Row | None, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            column = table.columns[name]
            if value is None:
                # Source: "Update and delete table rows", a SystemRequired column cannot be set to null.
                if column.required:
                    raise _null(column)
                continue
            _check_value(table, column, value)
            if column.kind == "lookup" and column.target and self.get(column.target, value) is None:
                raise does_not_exist(column.target, value)
        for key in table.alternate_keys:
            value = values.get(key.column)
            twin = self.find(table.name, key.column, value) if value is not None else None
            if twin is not None and twin is not row:
                raise Refused(
                    "0x80060892",
                    f"Entity Key {key.name} violated. A record with the same value for {key.name} already exists. "
                    "A duplicate record cannot be created. Select one or more unique values and try again.",
                )

    def _stamp(self, row: Row, by: str) -> None:
        self._version += 1
        row.version = self._version
        row.values["versionnumber"] = row.version
        row.values["modifiedon"], row.values["_modifiedby_value"] = self._second(), by

    def _second(self) -> datetime:
        return self.clock.now().replace(microsecond=0)

    def _remember(
        self,
        kind: Literal["create", "update", "delete"],
        row: Row,
        by: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> None:
        self.history.append(Change(self.clock.now(), by, kind, row.table.name, row.id, before, after))


def same(left: Any, right: Any) -> bool:
    """Equal as a filter sees it: "All filters using string values are case insensitive" ("Filter rows")."""
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    return bool(left == right)


def minutes(start: datetime, end: datetime) -> int:
    return (end - start) // timedelta(minutes=1)


def does_not_exist(table: str, id: str) -> Refused:
    return Refused("0x80040217", f"Entity '{table}' With Id = {id} Does Not Exist")


def _null(column: Column) -> Refused:
    return Refused("0x80040203", f"Attribute: {column.name} cannot be set to NULL")


def _complete(table: Table, values: dict[str, Any], by: str) -> None:
    """Fill in what the platform fills in on create."""
    if "_ownerid_value" in values:
        values["_ownerid_value"] = values["_ownerid_value"] or by
        values["statecode"] = values["statecode"] or 0
        values["statuscode"] = REASONS_OF_STATE[values["statecode"]]
    if table.name == "bookableresourcebooking":
        values["bookingtype"] = values["bookingtype"] or 1
        # Microsoft's import guide for bookings leaves the duration out, although it is required: the server fills it.
        if values["duration"] is None and values["starttime"] and values["endtime"]:
            values["duration"] = max(0, minutes(values["starttime"], values["endtime"]))


def _fit_state(row: Row, values: dict[str, Any]) -> None:
    """``statecode`` alone picks its first status reason; a pair that does not fit is refused."""
    if "statecode" in values and "statuscode" not in values:
        values["statuscode"] = REASONS_OF_STATE.get(values["statecode"])
    if "statuscode" not in values:
        return
    state = values.get("statecode", row.values["statecode"])
    if REASONS_OF_STATE.get(state) != values["statuscode"]:
        raise Refused(
            "0x80048408",
            f"{values['statuscode']} is not a valid status code for state code {state} on {row.table.name}.",
        )


def _check_value(table: Table, column: Column, value: Any) -> None:
    where = f"'{column.name}' attribute of the '{table.name}' entity"
    if column.kind in TEXTS and column.max_length is not None and _utf16(value) > column.max_length:
        raise Refused(
            "0x80044331",
            f"A validation error occurred. The length of the {where} exceeded the maximum allowed length of "
            f"'{column.max_length}'.",
        )
    if column.kind == "choice" and column.choices is not None and value not in column.choices:
        accepted = ",".join(map(str, column.choices))
        raise Refused(
            "0x8004431a",
            f"A validation error occurred. The value {value} of '{column.name}' on record of type '{table.name}' "
            f"is outside the valid range. Accepted Values: {accepted}",
        )
    if column.name == "duration" and not 0 <= value <= DURATION_MAX:
        raise Refused(
            "0x80040203",
            f"A validation error occurred. The value of 'duration' on record of type '{table.name}' is outside "
            "the valid range.",
        )
    # Source: "Behavior and format of the date and time column": nothing before 1753.
    if column.kind == "date" and value < datetime(1753, 1, 1, tzinfo=UTC):
        raise Refused("0x80040239", "Date is less than the minimum value supported by CrmDateTime.")


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
