"""Who imports whom in sync/, read with ``ast``: the table below is the architecture, and a new file needs a row."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path.stem for path in (ROOT / "sync").glob("*.py") if not path.stem.startswith("__"))

# What of sync/ a file may import; lazy imports and those for type checkers count as any other.
USES = {
    "commands": {"capacity", "checks", "command_line", "dataverse", "definitions", "differences", "doctor", "errors"}
    | {"ledger_commands"}
    | {"notifications", "poison", "rows", "setup", "status", "status_page", "sweep", "terminal", "wiring"},
    "ledger_commands": {"breaker", "command_line", "dataverse", "explain", "holds", "report", "rows", "terminal"}
    | {"wiring"},
    "command_line": {"errors", "key_vault", "settings", "terminal", "wiring"},
    "key_vault": {"errors"},
    "explain": {"errors", "ledger", "model"},
    "capacity": {"roster", "sweep"},
    "doctor": {"checks", "errors"},
    "checks": {"dataverse", "definitions", "errors", "graph", "memory", "model", "notifications", "outside"}
    | {"roster", "settings", "storage"},
    "setup": {"dataverse", "definitions", "errors"},
    "definitions": {"dataverse", "errors"},
    "outside": {"errors"},
    "wiring": {"breaker", "counter_table", "counters", "counting", "dataverse", "differences", "errors", "exporting"}
    | {"graph", "handlers", "holds", "ledger_table", "loopback", "memory", "model", "notifications", "overview"}
    | {"pauses", "receiving", "roster", "roster_run", "settings", "standing", "status", "status_page", "storage"}
    | {"subscribing", "sweep", "tables", "telemetry"},
    "holds": {"errors", "ledger", "model", "notifications", "parking"},
    "receiving": {"counters", "errors", "ledger", "model", "notifications", "parking", "telemetry"},
    "handlers": {"decide", "errors", "ledger", "model", "notifications", "parking"},
    "overview": {"breaker", "counter_table", "counters", "errors", "ledger_table", "model", "notifications"}
    | {"standing", "status", "storage"},
    "status_page": {"status"},
    "status": {"breaker", "counters", "ledger", "model", "standing"},
    "counting": {"counter_table", "counters", "errors", "standing", "telemetry"},
    "counter_table": {"counters", "standing", "tables"},
    "standing": {"counters", "roster", "roster_run"},
    "exporting": {"telemetry"},
    "telemetry": {"counters", "model"},
    "counters": set(),
    "ledger_table": {"errors", "ledger", "model", "tables"},
    "breaker": {"marks", "tables"},
    "tables": {"errors", "telemetry"},
    "ledger": {"model"},
    "subscribing": {"differences", "errors", "marks", "model", "notifications", "parking", "roster", "roster_run"}
    | {"pacing", "steps"},
    "roster_run": {"errors", "model", "roster", "steps", "sweep"},
    "steps": {"errors", "marks", "model", "notifications", "pacing", "parking", "roster"},
    "sweep": {"differences", "errors", "ledger", "marks", "model", "notifications", "parking", "rounds"}
    | {"telemetry"},
    "differences": {"decide", "ledger", "model"},
    "rounds": {"marks"},
    "memory": {"errors", "roster", "rounds"},
    "marks": set(),
    "pacing": {"errors"},
    "graph": {"errors", "model", "notifications", "pauses", "retry", "roster", "telemetry"},
    "dataverse": {"errors", "model", "pauses", "retry", "telemetry"},
    "report": {"ledger", "model"},
    "pauses": {"errors", "retry"},
    "rows": {"differences", "holds", "model", "poison", "roster"},
    "poison": {"errors", "model", "notifications", "storage"},
    "settings": {"errors", "model"},
    "storage": {"errors", "telemetry"},
    "notifications": {"errors", "model"},
    "parking": {"errors", "telemetry"},
    "retry": {"errors"},
    "decide": {"model"},
    "roster": {"marks", "model"},
    "terminal": set(),
    "loopback": set(),
    "model": set(),
    "errors": set(),
}

# What of other packages a file may import: a client belongs to one edge, what is pure needs none, and neither tests
# nor the sandbox are known here.
NEEDS = {
    "commands": {"aiolimiter", "typer"},
    "ledger_commands": {"typer"},
    "command_line": {"typer"},
    "terminal": {"rich"},
    "key_vault": {"azure.core", "azure.keyvault"},
    "wiring": {"azure.core", "azure.identity"},
    "graph": {"azure.core", "httpx", "kiota_abstractions", "kiota_authentication_azure", "kiota_http", "msgraph"}
    | {"msgraph_core"},
    "dataverse": {"azure.core", "requests"},
    "settings": {"pydantic"},
    "storage": {"azure.core", "azure.storage"},
    "memory": {"azure.core", "azure.data"},
    "tables": {"azure.core", "azure.data"},
    "ledger_table": {"pydantic"},
    "status_page": {"jinja2", "pydantic"},
    "pacing": {"aiolimiter"},
    "loopback": {"azure.core"},
    "poison": {"azure.core", "azure.storage"},
    "retry": {"tenacity"},
    "outside": {"httpx"},
    "telemetry": {"opentelemetry"},
    "exporting": {"azure.monitor", "opentelemetry"},
}

COMMANDS = ["commands", "ledger_commands", "command_line"]
"""What operators type; nothing else may know the wiring, or what only they install."""

PURE = [
    "capacity",
    "counters",
    "decide",
    "differences",
    "errors",
    "ledger",
    "model",
    "notifications",
    "report",
    "roster",
    "rounds",
    "standing",
]
PURE += ["status"]
"""These touch neither the clock nor the environment nor chance; all of it is given to them."""


@dataclass(frozen=True)
class Import:
    module: str
    """Dotted; for ``from a import b`` it is ``a.b``, whatever b is."""
    at_start: bool
    """Whether it happens when the file is imported, not in a function or for type checkers only."""

    @property
    def package(self) -> str:
        """The part that is installed: one name, or two where Azure's packages share their first."""
        return ".".join(self.module.split(".")[: 2 if self.module.startswith("azure.") else 1])


def imports(path: Path) -> set[Import]:
    return set(_imports(ast.parse(path.read_text("utf-8")), at_start=True))


def _imports(node: ast.AST, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (Import(name.name, at_start) for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, "imports are absolute here"
                yield from (Import(f"{module}.{name.name}", at_start) for name in names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imports(child, at_start=False)
            case _:
                yield from _imports(child, at_start)


def of_sync(name: str) -> set[Import]:
    return imports(ROOT / "sync" / f"{name}.py")


def ours(found: set[Import]) -> set[str]:
    return {item.module.split(".")[1] for item in found if item.package == "sync"}


def others(found: set[Import]) -> set[str]:
    return {item.package for item in found if item.package.split(".")[0] not in {*sys.stdlib_module_names, "sync"}}


def test_every_file_has_a_row_and_every_row_a_file():
    assert sorted(USES) == FILES


@pytest.mark.parametrize("name", FILES)
def test_imported_of_sync_is_what_the_table_says_by(name):
    assert ours(of_sync(name)) == USES[name]


@pytest.mark.parametrize("name", FILES)
def test_imported_of_other_packages_is_what_the_table_says_by(name):
    assert others(of_sync(name)) == NEEDS.get(name, set())


def test_nothing_points_back_up():
    assert list(TopologicalSorter(USES).static_order())[-1] == "commands"


def test_nothing_but_the_commands_uses_the_wiring():
    assert [name for name, used in USES.items() if "wiring" in used] == COMMANDS


def test_what_only_operators_install_is_needed_for_commands_only():
    only_theirs = {"azure.keyvault", "rich", "typer"}
    assert {name for name, needed in NEEDS.items() if needed & only_theirs} == {*COMMANDS, "key_vault", "terminal"}
    assert [name for name, used in USES.items() if "terminal" in used] == COMMANDS
    assert [name for name, used in USES.items() if "key_vault" in used] == ["command_line"]


def test_the_command_line_imports_nothing_before_it_can_say_what_is_missing():
    at_start = {item for item in imports(ROOT / "sync" / "__main__.py") if item.at_start}
    assert not ours(at_start) | others(at_start)


def test_only_the_wiring_is_known_to_the_table_of_triggers():
    found = imports(ROOT / "function_app.py")
    assert ours(found) == {"wiring"}
    assert others(found) == {"azure.functions"}


def test_the_wiring_imports_nothing_but_the_standard_library_until_it_is_asked():
    at_start = {item for item in of_sync("wiring") if item.at_start}
    assert ours(at_start) == set()
    assert others(at_start) == set()


def test_importing_sync_imports_nothing_else():
    assert imports(ROOT / "sync" / "__init__.py") == set()


@pytest.mark.parametrize("name", PURE)
def test_no_clock_no_environment_and_no_chance_is_in(name):
    outside = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "time", "uuid"}
    assert not others(of_sync(name))
    assert not {item.package for item in of_sync(name)} & outside
    nodes = list(ast.walk(ast.parse((ROOT / "sync" / f"{name}.py").read_text("utf-8"))))
    assert not {node.attr for node in nodes if isinstance(node, ast.Attribute)} & {"now", "utcnow", "today"}
    assert not {node.id for node in nodes if isinstance(node, ast.Name)} & {"open", "input", "print"}


@pytest.mark.parametrize("name", [*FILES, "__init__", "__main__", "../function_app"])
def test_the_first_line_says_what_the_file_is_for(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "sync" / f"{name}.py").read_text("utf-8")))
    assert docstring
    assert len(docstring.splitlines()[0]) > 30


@pytest.mark.parametrize("name", FILES)
def test_there_are_tests_of(name):
    assert (ROOT / "tests" / f"test_{name}.py").is_file()
