"""OData queries as the Dataverse Web API reads them, strictly: query string in, predicates over rows out; no HTTP here.

What is not served is refused, never ignored. Sources: "Query data using the Web API" and its pages "Select columns",
"Join tables", "Filter rows", "Order rows", "Page results".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from sandbox.dataverse.columns import TEXTS, Column, Table
from sandbox.dataverse.tables import Refused, Row, Tables, same

MAX_EXPANDS = 15

Predicate = Callable[[Row], bool]
Value = Callable[[Row], Any]


@dataclass(frozen=True)
class Expand:
    lookup: Column
    query: Query


@dataclass(frozen=True)
class Order:
    value: Value
    descending: bool


@dataclass(frozen=True)
class Query:
    table: Table
    select: tuple[str, ...] = ()
    """Properties, as asked for; empty is all of them."""
    expand: tuple[Expand, ...] = ()
    filter: Predicate | None = None
    orderby: tuple[Order, ...] = ()
    top: int | None = None
    count: bool = False
    skiptoken: str | None = None

    def matching(self, rows: list[Row]) -> list[Row]:
        """The rows that pass, in order; without ``$orderby`` by id, so that nobody relies on creation order."""
        found = sorted((row for row in rows if self.filter is None or self.filter(row)), key=lambda row: row.id)
        for order in reversed(self.orderby):
            found.sort(key=lambda row: _sortable(order.value(row)), reverse=order.descending)
        return found


def refused(message: str) -> Refused:
    """0x80060888 is the code of every malformed query."""
    return Refused("0x80060888", message)


def parse_query(raw: str, table: Table, tables: Tables, *, single: bool = False) -> Query:
    """Read the query string *raw*, percent-encoded as it came; *single*: one row is addressed by its key.

    Refused: anything the Web API does not take, with the code and, where public, the message it uses.
    """
    options: dict[str, str] = {}
    for pair in filter(None, raw.split("&")):
        # An unencoded "+" is a space ("Filter rows", URL encode special characters).
        name, _, value = (unquote_plus(part) for part in pair.partition("="))
        if name in options:
            raise refused(f"Query option '{name}' was specified more than once, but it must be specified at most once.")
        # Names without $ are the caller's own, such as ?tag=, which plug-ins see.
        if name.startswith("$"):
            options[name] = value
    query = _query(options, table, tables, ["$select", "$expand"] if single else LIST_OPTIONS)
    if _expands(query) > MAX_EXPANDS:
        raise refused(f"The number of $expand options exceeded the limit of {MAX_EXPANDS}.")
    return query


LIST_OPTIONS = ["$select", "$expand", "$filter", "$orderby", "$top", "$count", "$skiptoken"]


def _query(options: dict[str, str], table: Table, tables: Tables, allowed: list[str]) -> Query:
    for name in options:
        if name == "$skip":
            raise refused("Skip Clause is not supported in CRM")
        if name not in allowed:
            raise refused(f"The query parameter {name} is not supported")
    top, count = options.get("$top"), options.get("$count", "false")
    if top is not None and not (top.isascii() and top.isdigit() and int(top)):
        raise refused(f"Invalid value '{top}' for $top query option found. The $top query option requires an integer.")
    if count not in ("true", "false"):
        raise refused(f"Invalid value '{count}' for $count query option found. Valid values are 'true' and 'false'.")
    return Query(
        table,
        select=tuple(_property(table, name.strip()).property for name in _split(options.get("$select", ""), ",")),
        expand=tuple(_expand(item.strip(), table, tables) for item in _split(options.get("$expand", ""), ",")),
        filter=Filter(options["$filter"], table, tables).parse() if "$filter" in options else None,
        orderby=tuple(_order(item, table, tables) for item in _split(options.get("$orderby", ""), ",")),
        top=int(top) if top else None,
        count=count == "true",
        skiptoken=options.get("$skiptoken"),
    )


def _expand(item: str, table: Table, tables: Tables) -> Expand:
    match = re.fullmatch(r"(\w+)(?:\((.+)\))?", item, re.DOTALL)
    if match is None:
        raise refused(f"Syntax error in $expand at '{item}'.")
    navigation, inner = match.groups()
    lookup = _navigation(table, navigation)
    options: dict[str, str] = {}
    for option in _split(inner or "", ";"):
        name, equals, value = option.strip().partition("=")
        if not equals or name in options:
            raise refused(f"Syntax error in $expand of '{navigation}' at '{option}'.")
        options[name] = value
    # $filter, $orderby and $top belong to expanded collections ("Join tables"); these all lead to one row.
    return Expand(lookup, _query(options, tables.schema[lookup.target or ""], tables, ["$select", "$expand"]))


def _expands(query: Query) -> int:
    return sum(1 + _expands(item.query) for item in query.expand)


def _order(item: str, table: Table, tables: Tables) -> Order:
    path, _, direction = item.strip().partition(" ")
    if direction not in ("", "asc", "desc"):
        raise refused(f"Syntax error in $orderby at '{item}'.")
    _, value = _path(path.split("/"), table, tables)
    return Order(value, direction == "desc")


def _sortable(value: Any) -> tuple[bool, Any]:
    """Null sorts first; text without regard to case."""
    return value is not None, value.casefold() if isinstance(value, str) else value


def _split(text: str, separator: str) -> list[str]:
    """Cut at *separator* outside parentheses and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for place, character in enumerate(text):
        if character == "'":
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif not quoted and not depth and character == separator:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]] if text else []


def _property(table: Table, name: str) -> Column:
    column = table.column(name)
    if column is None:
        raise refused(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table.name}'.")
    return column


def _navigation(table: Table, name: str) -> Column:
    """Navigation properties are found in their exact case only."""
    lookup = table.lookup(name)
    if lookup is None:
        raise refused(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table.name}'.")
    return lookup


def _path(names: list[str], table: Table, tables: Tables) -> tuple[Column, Value]:
    """``Resource/UserId/azureactivedirectoryobjectid``: the column at its end, and its value seen from a row."""
    if len(names) == 1:
        column = _property(table, names[0])
        return column, lambda row: row.values[column.property]
    lookup = _navigation(table, names[0])
    column, inner = _path(names[1:], tables.schema[lookup.target or ""], tables)

    def value(row: Row) -> Any:
        target = tables.follow(row, lookup)
        return None if target is None else inner(target)

    return column, value


# -- $filter

TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<guid>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}) (?![\w-])
    | (?P<date>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d))?) (?![\w:-])
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"[^"]*")
    | (?P<number>-?\d+) (?![\w.])
    | (?P<name>[A-Za-z_][\w.]*)
    | (?P<mark>[()\[\],=/])""",
    re.VERBOSE,
)
FUNCTIONS: dict[str, str] = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": same,
    "ne": lambda left, right: not same(left, right),
    "gt": lambda left, right: left > right,
    "ge": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "le": lambda left, right: left <= right,
}
LITERAL_TYPES = {"guid": "Edm.Guid", "date": "Edm.DateTimeOffset", "string": "Edm.String", "number": "Edm.Int32"}
COLUMN_TYPES = {
    "guid": "Edm.Guid",
    "lookup": "Edm.Guid",
    "string": "Edm.String",
    "memo": "Edm.String",
    "integer": "Edm.Int32",
    "choice": "Edm.Int32",
    "long": "Edm.Int64",
    "boolean": "Edm.Boolean",
    "date": "Edm.DateTimeOffset",
}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str


class Filter:
    """One ``$filter``: recursive descent, ``or`` binds weaker than ``and``, ``and`` weaker than ``not``."""

    def __init__(self, text: str, table: Table, tables: Tables) -> None:
        self._text, self._table, self._tables = text, table, tables
        self._tokens = [token for token in self._tokenize() if token.kind != "space"]
        self._at = 0

    def parse(self) -> Predicate:
        predicate = self._or()
        if self._next.kind != "end":
            raise self._syntax_error()
        return predicate

    def _tokenize(self) -> Iterator[Token]:
        place = 0
        while place < len(self._text):
            match = TOKEN.match(self._text, place)
            if match is None or match.lastgroup is None:
                raise refused(f"Syntax error: character '{self._text[place]}' is not valid at {place} in the filter.")
            yield Token(match.lastgroup, match.group(match.lastgroup))
            place = match.end()

    @property
    def _next(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("end", "")

    def _take(self, text: str) -> bool:
        """Operators are lower case; ``EQ`` is a syntax error."""
        found = self._next.kind in ("name", "mark") and self._next.text == text
        self._at += found
        return found

    def _need(self, *kinds: str) -> Token:
        token = self._next
        if token.kind not in kinds and token.text not in kinds:
            raise self._syntax_error()
        self._at += 1
        return token

    def _syntax_error(self) -> Refused:
        return refused(f"Syntax error near '{self._next.text}' in '{self._text}'.")

    def _or(self) -> Predicate:
        choices = [self._and()]
        while self._take("or"):
            choices.append(self._and())
        return lambda row: any(choice(row) for choice in choices)

    def _and(self) -> Predicate:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return lambda row: all(part(row) for part in parts)

    def _not(self) -> Predicate:
        if self._take("not"):
            negated = self._not()
            return lambda row: not negated(row)
        if self._take("("):
            inner = self._or()
            self._need(")")
            return inner
        if self._next.text in FUNCTIONS:
            return self._like()
        if self._take("Microsoft.Dynamics.CRM.In"):
            return self._in()
        return self._comparison()

    def _column(self) -> tuple[Column, Value]:
        names = [self._need("name").text]
        while self._take("/"):
            names.append(self._need("name").text)
        return _path(names, self._table, self._tables)

    def _comparison(self) -> Predicate:
        column, value = self._column()
        operator = self._need("name").text
        compare = COMPARISONS.get(operator)
        if compare is None:
            raise self._syntax_error()
        wanted = self._literal(column)
        if operator in ("eq", "ne"):
            return lambda row: compare(value(row), wanted)
        return lambda row: value(row) is not None and wanted is not None and compare(value(row), wanted)

    def _literal(self, column: Column) -> Any:
        token = self._need("guid", "date", "string", "number", "name")
        if token.text == "null":
            return None
        match column.kind, token.kind:
            case "boolean", "name" if token.text in ("true", "false"):
                return token.text == "true"
            case "guid" | "lookup", "guid":
                return token.text.lower()
            # Quotes around the id of a lookup or key are tolerated ("Filter rows", lookup columns).
            case "guid" | "lookup", "string" if re.fullmatch(r"'[0-9a-fA-F-]{36}'", token.text):
                return token.text.strip("'").lower()
            case "string" | "memo", "string":
                return _text(token)
            case "integer" | "choice" | "long", "number":
                return int(token.text)
            case "date", "date":
                return datetime.fromisoformat(token.text if "T" in token.text else f"{token.text}T00:00:00Z")
        raise refused(
            "A binary operator with incompatible types was detected. Found operand types "
            f"'{COLUMN_TYPES[column.kind]}' and '{LITERAL_TYPES.get(token.kind, token.text)}'."
        )

    def _like(self) -> Predicate:
        function = self._need("name").text
        self._need("(")
        column, value = self._column()
        self._need(",")
        wanted = _text(self._need("string"))
        self._need(")")
        if column.kind not in TEXTS:
            raise refused(f"No function signature for the function with name '{function}' matches the arguments.")
        pattern = _like_pattern(FUNCTIONS[function].format(wanted))
        return lambda row: value(row) is not None and pattern.fullmatch(value(row)) is not None

    def _in(self) -> Predicate:
        """``Microsoft.Dynamics.CRM.In(PropertyName='starttime',PropertyValues=['…','…'])``."""
        for text in ("(", "PropertyName", "="):
            self._need(text)
        name = _text(self._need("string"))
        # It knows the columns' logical names only: 'resource', not '_resource_value'.
        column = next((column for column in self._table.published() if column.name == name), None)
        if column is None:
            entity = self._table.schema_name
            raise Refused("0x80041103", f"'{entity}' entity doesn't contain attribute with Name = '{name}'")
        for text in (",", "PropertyValues", "=", "["):
            self._need(text)
        wanted = [_text(self._need("string", "quoted"))]
        while self._take(","):
            wanted.append(_text(self._need("string", "quoted")))
        self._need("]")
        self._need(")")
        return lambda row: any(same(str(row.values[column.property]), text) for text in wanted)


def _text(token: Token) -> str:
    return token.text[1:-1].replace("''", "'")


def _like_pattern(pattern: str) -> re.Pattern[str]:
    """``%``, ``_`` and ``[…]`` are wildcards in contains, startswith and endswith ("Filter rows", wildcards)."""
    pieces = re.split(r"(%|_|\[[^]]+\])", pattern)
    wild = {"%": ".*", "_": "."}
    regex = "".join(
        wild.get(piece, piece if re.fullmatch(r"\[[^]]+\]", piece) else re.escape(piece)) for piece in pieces
    )
    return re.compile(regex, re.IGNORECASE | re.DOTALL)
