"""Reads Bicep files for tests: what they declare, and what a compiler would complain about first. No Bicep is needed.

Parsing is tree-sitter's; a type or property that Azure does not know, or a value of the wrong type, is seen by the
real compiler and by Azure alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))

# Namespaces and what the language itself provides without a declaration.
_GIVEN = {"az", "sys"}

Value = Any
"""dict, list, str, int or bool as written; anything that has to be evaluated is a ``Code``."""


class Code(str):
    """The source of an expression."""


@dataclass(frozen=True)
class Resource:
    symbol: str
    type: str
    version: str | None
    """None for a nested resource, which takes its parent's."""
    is_existing: bool
    body: dict[str, Value]
    node: Node


@dataclass(frozen=True)
class Module:
    symbol: str
    path: str
    given: frozenset[str]


class Bicep:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text("utf-8")
        self.root = _PARSER.parse(self.text.encode()).root_node

    @property
    def errors(self) -> list[str]:
        broken = (node for node in walk(self.root) if node.is_error or node.is_missing)
        return [f"line {node.start_point.row + 1}: {text(node)[:60]}" for node in broken]

    @cached_property
    def params(self) -> dict[str, Value]:
        """Name → default; a parameter without one is required and has ``...``."""
        found = {}
        for node in self._of("parameter_declaration"):
            name, _, *default = node.named_children
            found[text(name)] = value(default[0]) if default else ...
        return found

    @cached_property
    def variables(self) -> dict[str, Value]:
        return {
            text(node.named_children[0]): value(node.named_children[1]) for node in self._of("variable_declaration")
        }

    @cached_property
    def outputs(self) -> dict[str, str]:
        return {text(node.named_children[0]): text(node.named_children[-1]) for node in self._of("output_declaration")}

    @cached_property
    def modules(self) -> list[Module]:
        found = []
        for node in self._of("module_declaration"):
            symbol, path, *_, body = node.named_children
            found.append(Module(text(symbol), str(value(path)), frozenset(value(body)["params"])))
        return found

    @cached_property
    def resources(self) -> list[Resource]:
        found = []
        for node in self._of("resource_declaration"):
            symbol, kind, *_, body = node.named_children
            type_, _, version = str(value(kind)).partition("@")
            is_existing = any(child.type == "existing" or text(child) == "existing" for child in node.children)
            objects = (inner for inner in walk(body) if inner.type == "object")
            found.append(Resource(text(symbol), type_, version or None, is_existing, value(next(objects)), node))
        return found

    def resource(self, type_: str) -> Resource:
        (found,) = (one for one in self.resources if one.type == type_ and not one.is_existing)
        return found

    @cached_property
    def declared(self) -> set[str]:
        return {text(name) for name in self._declaring()}

    @cached_property
    def used(self) -> set[str]:
        """Identifiers in places where a value is meant."""
        passed_over = {name.id for name in self._declaring()}
        for node in walk(self.root):
            match node.type:
                case "object_property" if node.named_children and node.named_children[0].type == "identifier":
                    passed_over.add(node.named_children[0].id)
                case "call_expression" if (function := node.child_by_field_name("function")) is not None:
                    passed_over.add(function.id)
                case "resource_expression" if (nested := node.child_by_field_name("resource")) is not None:
                    passed_over.add(nested.id)
                case "type" | "target_scope_assignment" | "decorators":
                    passed_over |= {inner.id for inner in walk(node)}
        names = {text(node) for node in walk(self.root) if node.type == "identifier" and node.id not in passed_over}
        return names - _GIVEN

    def _declaring(self) -> Iterator[Node]:
        """The identifiers that declare a name, those of loops and lambdas included."""
        for node in walk(self.root):
            match node.type:
                case "parameter_declaration" | "variable_declaration" | "output_declaration" | "lambda_expression":
                    yield node.named_children[0]
                case "resource_declaration" | "module_declaration":
                    yield node.named_children[0]
                case "for_statement" if (name := node.child_by_field_name("initializer")) is not None:
                    yield name

    def _of(self, type_: str) -> Iterator[Node]:
        return (node for node in walk(self.root) if node.type == type_)


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def text(node: Node) -> str:
    return node.text.decode() if node.text is not None else ""


def value(node: Node) -> Value:
    match node.type:
        case "object":
            return dict(_properties(node))
        case "array":
            return [value(child) for child in node.named_children if child.type != "comment"]
        case "string" if any(child.type == "interpolation" for child in node.children):
            return Code(text(node))
        case "string":
            return re.sub(r"^'''|'''$|^'|'$", "", text(node))
        case "number":
            return int(text(node))
        case "boolean":
            return text(node) == "true"
        case _:
            return Code(text(node))


def _properties(node: Node) -> Iterator[tuple[str, Value]]:
    for child in node.named_children:
        if child.type == "object_property" and len(child.named_children) == 2:  # else a nested resource
            name, content = child.named_children
            yield str(value(name)), value(content)
