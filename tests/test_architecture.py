"""Who imports whom in sync/, read with ``ast``: the tables are the architecture, and a new package needs a row."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT / "sync").with_suffix("").as_posix()
    for path in (ROOT / "sync").rglob("*.py")
    if not path.stem.startswith("__")
)
USES: dict[str, set[str]] = {
    "errors": set(),
    "ids": set(),
    "times": set(),
    "model": set(),
    "telemetry": set(),
    "settings": {"errors", "ids", "model"},
    "calls": {"errors"},
    "messages": {"errors", "ids", "telemetry"},
    "pairs": {"errors", "ids", "messages", "model"},
    "intake": {"errors", "messages", "pairs", "telemetry"},
    "sweep": {"errors", "ids", "messages", "model", "pairs", "telemetry"},
    "subscriptions": {"calls", "errors", "ids", "messages", "model", "telemetry"},
    "graph": {"calls", "errors", "ids", "messages", "model", "subscriptions", "telemetry", "times"},
    "dataverse": {"calls", "errors", "ids", "model", "pairs", "telemetry", "times"},
    "storage": {"errors", "ids", "intake", "messages", "model", "pairs", "subscriptions", "telemetry", "times"},
    "status": {"errors", "ids", "messages", "model", "pairs", "subscriptions", "telemetry", "times"},
    "doctor": {"dataverse", "errors", "graph", "messages", "model", "settings", "storage", "subscriptions"},
    "wiring": {
        "calls",
        "dataverse",
        "errors",
        "graph",
        "intake",
        "messages",
        "model",
        "pairs",
        "settings",
        "status",
        "storage",
    }
    | {"subscriptions", "sweep", "telemetry"},
    "triggers": {"errors", "graph", "intake", "messages", "status", "telemetry", "wiring"},
    "operate": {"dataverse", "doctor", "errors", "ids", "messages", "model", "pairs", "settings", "status", "storage"}
    | {"subscriptions", "sweep", "wiring"},
}
"""What of sync/ a package, or a file that stands by itself, may import; lazy imports count as any other."""

NEEDS = {
    "operate/commands": {"typer"},
    "operate/subscription_commands": {"typer"},
    "operate/sweep_commands": {"aiolimiter", "typer"},
    "operate/poison_commands": {"typer"},
    "operate/hold_commands": {"typer"},
    "operate/command_line": {"typer"},
    "operate/terminal": {"rich"},
    "operate/settings_reference": {"pydantic"},
    "operate/key_vault": {"azure.core", "azure.keyvault"},
    "wiring/clients": {"azure.core"},
    "storage/account": {"azure.core"},
    "graph/transport": {"azure.core", "httpx", "kiota_abstractions", "kiota_authentication_azure", "kiota_http"}
    | {"msgraph", "msgraph_core"},
    "graph/events": {"httpx", "kiota_abstractions", "msgraph"},
    "graph/subscriptions": {"msgraph"},
    "dataverse/transport": {"azure.core", "requests"},
    "settings/parts": {"pydantic"},
    "settings/values": {"pydantic"},
    "storage/queues": {"azure.core", "azure.storage"},
    "storage/tables": {"azure.core", "azure.data"},
    "storage/ledger_rows": {"pydantic"},
    "storage/poison": {"azure.core", "azure.storage"},
    "status/page": {"jinja2", "pydantic"},
    "calls/pace": {"aiolimiter"},
    "calls/credentials": {"azure.core", "azure.identity"},
    "calls/retries": {"tenacity"},
    "doctor/probes": {"httpx"},
    "telemetry/spans": {"opentelemetry"},
    "telemetry/export": {"azure.monitor", "opentelemetry"},
}
"""What of other packages a file may import: a client belongs to one edge, what is pure needs none, and neither tests
nor the sandbox are known here."""

PURE = [
    "errors",
    "ids",
    "times",
    "model",
    "calls/answers",
    "calls/bodies",
    "calls/links",
    "calls/shapes",
    "dataverse/parsing",
    "graph/client_state",
    "graph/notifications",
    "graph/parsing",
    "intake/coalescing",
    "messages/changes",
    "messages/codec",
    "operate/capacity",
    "operate/observed",
    "pairs/actions",
    "pairs/agreement",
    "pairs/decision",
    "pairs/following",
    "pairs/guards",
    "pairs/holding",
    "pairs/leftovers",
    "pairs/entry",
    "pairs/observing",
    "pairs/overrides",
    "pairs/pair",
    "pairs/remembering",
    "status/figures",
    "status/findings",
    "subscriptions/deployment",
    "subscriptions/outages",
    "subscriptions/planning",
    "subscriptions/result",
    "subscriptions/standing",
    "sweep/differences",
    "sweep/known",
    "sweep/settling",
    "telemetry/counters",
]
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


@cache
def imports(path: Path) -> frozenset[Import]:
    return frozenset(_imports(ast.parse(path.read_text("utf-8")), at_start=True))


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


def of_sync(name: str) -> frozenset[Import]:
    return imports(ROOT / "sync" / f"{name}.py")


def package_of(name: str) -> str:
    """The folder of a file of sync/, or the file itself where it stands in no folder."""
    return name.partition("/")[0]


def ours(found: frozenset[Import]) -> set[str]:
    return {item.module.split(".")[1] for item in found if item.package == "sync"}


def others(found: frozenset[Import]) -> set[str]:
    return {item.package for item in found if item.package.split(".")[0] not in {*sys.stdlib_module_names, "sync"}}


def neighbours(name: str) -> set[str]:
    """The files of its own folder that the file *name* imports."""
    package = package_of(name)
    modules = [item.module.split(".") for item in of_sync(name) if item.module.startswith(f"sync.{package}.")]
    return {f"{package}/{parts[2]}" for parts in modules} & set(FILES)


def test_every_package_has_a_row_and_every_row_a_package():
    assert set(USES) == {package_of(name) for name in FILES}


@pytest.mark.parametrize("package", USES)
def test_imported_of_sync_is_what_the_table_says_by(package):
    of_it = [name for name in FILES if package_of(name) == package]
    assert set().union(*(ours(of_sync(name)) for name in of_it)) - {package} == USES[package]


@pytest.mark.parametrize("name", FILES)
def test_imported_of_other_packages_is_what_the_table_says_by(name):
    assert others(of_sync(name)) == NEEDS.get(name, set())


def test_the_files_of_a_package_form_no_circle():
    assert len([*TopologicalSorter({name: neighbours(name) for name in FILES if "/" in name}).static_order()])


def test_only_triggers_and_commands_use_the_wiring():
    assert [package for package, used in USES.items() if "wiring" in used] == ["triggers", "operate"]


def test_what_only_operators_install_is_needed_for_commands_only():
    only_theirs = {"azure.keyvault", "rich", "typer"}
    assert {package_of(name) for name, needed in NEEDS.items() if needed & only_theirs} == {"operate"}


def test_nothing_in_azure_imports_what_operators_type():
    assert not [package for package, used in USES.items() if "operate" in used]


def test_the_command_line_imports_nothing_before_it_can_say_what_is_missing():
    at_start = {item for item in imports(ROOT / "sync" / "__main__.py") if item.at_start}
    assert not ours(at_start) | others(at_start)


def test_only_the_triggers_are_known_to_their_table():
    found = imports(ROOT / "function_app.py")
    assert ours(found) == {"triggers"}
    assert others(found) == {"azure.functions"}


@pytest.mark.parametrize("name", ["triggers", "wiring/app", "wiring/clients"])
def test_a_start_imports_nothing_but_the_standard_library_until_a_trigger_fires(name):
    at_start = {item for item in of_sync(name) if item.at_start}
    assert ours(at_start) <= {"wiring"}
    assert others(at_start) == set()


@pytest.mark.parametrize("path", sorted((ROOT / "sync").rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_entering_a_room_imports_nothing(path):
    assert [type(node) for node in ast.parse(path.read_text("utf-8")).body] == [ast.Expr]


@pytest.mark.parametrize("name", PURE)
def test_no_clock_no_environment_and_no_chance_is_in(name):
    outside = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "time"}
    assert not others(of_sync(name))
    assert not {item.package for item in of_sync(name)} & outside
    nodes = list(ast.walk(ast.parse((ROOT / "sync" / f"{name}.py").read_text("utf-8"))))
    assert not {node.attr for node in nodes if isinstance(node, ast.Attribute)} & {"now", "utcnow", "today", "uuid4"}
    assert not {node.id for node in nodes if isinstance(node, ast.Name)} & {"open", "input", "print"}


@pytest.mark.parametrize("name", [*FILES, "__init__", "__main__", "../function_app"])
def test_the_first_line_says_what_the_file_is_for(name):
    docstring = ast.get_docstring(ast.parse((ROOT / "sync" / f"{name}.py").read_text("utf-8")))
    assert docstring
    assert len(docstring.splitlines()[0]) > 30


# The tests themselves.

TESTS = sorted((ROOT / "tests").rglob("*.py"))
PATCHES = re.compile(r"\bmonkeypatch\.\w+\(|\bmock\b|\bpatch\(")
PATCHES_PER_100_TESTS = 5
"""No more than these. Where a value can be handed in, hand it in."""


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_imports_another_one(path):
    """What two of them need lives in tests/world."""
    modules = [item.module.split(".") for item in imports(path)]
    assert not [".".join(parts) for parts in modules if parts[0] == "tests" and any("test_" in part for part in parts)]


def test_what_can_be_handed_in_is_not_patched():
    texts = [path.read_text("utf-8") for path in TESTS if path.name != "test_architecture.py"]
    patches = sum(len(PATCHES.findall(text)) for text in texts)
    tests = sum(len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE)) for text in texts)
    assert 100 * patches / tests <= PATCHES_PER_100_TESTS, f"{patches} patches in {tests} tests"


def test_the_house_has_few_doors():
    entries = [path.name for path in (ROOT / "sync").iterdir() if not path.name.startswith("__")]
    assert len(entries) <= 20


@pytest.mark.parametrize("name", FILES)
def test_a_file_and_its_functions_fit_on_few_screens(name):
    text = (ROOT / "sync" / f"{name}.py").read_text("utf-8")
    assert len(text.splitlines()) <= 300
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > 40]
    assert not long
