"""infra/scripts: what is packaged, and that nothing is changed without being shown. Azure's CLI is a stand-in here."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "infra" / "scripts"
PROGRAMS = ["dataverse_user", "grant_graph", "package", "vault"]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts as modules, for one test: their names are good in their own folder only."""
    monkeypatch.syspath_prepend(SCRIPTS)
    yield
    for name in ("az", *PROGRAMS):
        sys.modules.pop(name, None)


class Cli:
    """Stands in for `az`: answers what a test says, and remembers what it was asked and what lay in the file."""

    def __init__(self, answer: Callable[[str, str, Any], Any]) -> None:
        self.answer = answer
        self.calls: list[tuple[str, str, Any]] = []
        self.commands: list[list[str]] = []

    def run(self, command: list[str], **_: Any) -> SimpleNamespace:
        self.commands.append(command)
        words = dict(itertools.pairwise(command))
        body = json.loads(Path(words["--body"].removeprefix("@")).read_text("utf-8")) if "--body" in words else None
        call = (words.get("--method", command[1]), words.get("--url", " ".join(command[1:4])), body)
        self.calls.append(call)
        answer = self.answer(*call)
        return SimpleNamespace(returncode=0, stdout="" if answer is None else json.dumps(answer), stderr="")

    @property
    def writes(self) -> list[tuple[str, str, Any]]:
        return [call for call in self.calls if call[0] != "GET"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], tuple[ModuleType, Cli]]:
    def load(name: str, answer: Callable[..., Any]) -> tuple[ModuleType, Cli]:
        cli = Cli(answer)
        az = importlib.import_module("az")
        monkeypatch.setattr(az, "subprocess", SimpleNamespace(run=cli.run))
        monkeypatch.setattr(az, "shutil", SimpleNamespace(which=lambda _: "az"))
        return importlib.import_module(name), cli

    return load


# All.


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_what_it_does(name):
    result = subprocess.run(
        [sys.executable, SCRIPTS / f"{name}.py", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "usage:" in result.stdout


@pytest.mark.parametrize("name", [*(f"{name}.py" for name in PROGRAMS if name != "package"), "scope-mailboxes.ps1"])
def test_it_says_that_it_was_not_run_for_real(name):
    text = " ".join((SCRIPTS / name).read_text("utf-8").split())
    assert "Not run against a real" in text


def test_without_the_azure_cli_it_says_what_to_install(monkeypatch):
    az = importlib.import_module("az")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match=r"The Azure CLI is needed"):
        az.az("account", "show")


def test_a_failure_of_the_azure_cli_ends_the_script_with_its_words(monkeypatch):
    az = importlib.import_module("az")
    failed = SimpleNamespace(returncode=1, stdout="", stderr="ERROR: Please run 'az login'\n")
    monkeypatch.setattr(az, "shutil", SimpleNamespace(which=lambda _: "az"))
    monkeypatch.setattr(az, "subprocess", SimpleNamespace(run=lambda *_, **__: failed))
    with pytest.raises(SystemExit, match="az login"):
        az.az("account", "show")


# vault.py

VAULT = ["--subscription", "S", "--resource-group", "G", "--vault", "V", "--app", "A"]


class Arm:
    """A vault and the app's references to it."""

    def __init__(self, **versions: str) -> None:
        self.versions = {name.replace("_", "-"): version for name, version in versions.items()}
        self.status = "Resolved"

    def __call__(self, method: str, url: str, body: Any) -> Any:
        if method == "PUT":
            self.versions["client-state-key"] = "new"
        if method == "deployment":
            self.versions["notification-url"] = "new"
        if "configreferences" in url and method == "GET":
            names = ("CLIENT_STATE_KEY", "NOTIFICATION_URL")
            return {"value": [{"name": name, "properties": {"status": self.status}} for name in names]}
        if method == "GET":
            uri = "https://v.vault.azure.net/secrets"
            rows = self.versions.items()
            return {"value": [{"name": n, "properties": {"secretUriWithVersion": f"{uri}/{n}/{v}"}} for n, v in rows]}
        return None


@pytest.mark.parametrize("secret", ["client-state-key", "notification-url"])
def test_a_secret_that_is_there_is_left_alone(secret, script, capsys):
    vault, cli = script("vault", Arm(client_state_key="one", notification_url="one"))
    assert vault.main([secret, *VAULT]) == 0
    assert cli.writes == []
    assert "version one: nothing to do" in capsys.readouterr().out


def test_the_key_is_random_long_enough_and_seen_by_nobody(script, capsys):
    vault, cli = script("vault", Arm())
    assert vault.main(["client-state-key", *VAULT]) == 0
    (put, refresh, restart) = cli.writes
    key = put[2]["properties"]["value"]
    assert len(key) >= 32
    assert "/vaults/V/secrets/client-state-key?" in put[1]
    assert "/sites/A/config/configreferences/appsettings/refresh?" in refresh[1]
    assert "/sites/A/restart?" in restart[1]
    out, err = capsys.readouterr()
    assert key not in out + err + str(cli.commands)


def test_the_file_that_held_the_key_is_gone(script):
    vault, cli = script("vault", Arm())
    vault.main(["client-state-key", *VAULT])
    files = [word[1:] for command in cli.commands for word in command if word.startswith("@")]
    assert files
    assert not [file for file in files if Path(file).exists()]


def test_another_version_is_written_only_if_asked_for(script, capsys):
    vault, cli = script("vault", Arm(client_state_key="one"))
    assert vault.main(["client-state-key", "--new", *VAULT]) == 0
    assert [call[0] for call in cli.writes] == ["PUT", "POST", "POST"]
    assert "version new" in capsys.readouterr().out


def test_the_function_key_stays_in_azure(script):
    vault, cli = script("vault", Arm())
    assert vault.main(["notification-url", *VAULT]) == 0
    (deployment,) = (command for command in cli.commands if "deployment" in command)
    assert {"appName=A", "vaultName=V", "keyName=default"} <= set(deployment)
    assert deployment[deployment.index("--query") + 1] == "properties.provisioningState"
    assert Path(deployment[deployment.index("--template-file") + 1]).is_file()


def test_the_url_can_get_another_function_key_while_the_former_is_still_good(script):
    vault, cli = script("vault", Arm(notification_url="one"))
    assert vault.main(["notification-url", "--new", "--key", "second", *VAULT]) == 0
    (deployment,) = (command for command in cli.commands if "deployment" in command)
    assert "keyName=second" in deployment
    text = vault.TEMPLATE.read_text("utf-8")
    assert "param keyName string = 'default'" in text
    assert "listKeys()[keyName]" in text


def test_a_dry_run_writes_nothing(script, capsys):
    vault, cli = script("vault", Arm())
    assert vault.main(["notification-url", "--dry-run", *VAULT]) == 0
    assert cli.writes == []
    assert "is to get a first version of notification-url" in capsys.readouterr().out


def test_a_reference_that_stays_unresolved_is_told(script, capsys, monkeypatch):
    arm = Arm()
    arm.status = "AccessToKeyVaultDenied"
    vault, _ = script("vault", arm)
    monkeypatch.setattr(vault, "PAUSE", 0)
    assert vault.main(["client-state-key", *VAULT]) == 1
    assert "CLIENT_STATE_KEY is AccessToKeyVaultDenied" in capsys.readouterr().err


def test_the_secrets_are_those_that_the_settings_point_to():
    vault = importlib.import_module("vault")
    text = (ROOT / "infra" / "modules" / "app.bicep").read_text("utf-8")
    for secret, setting in vault.SETTINGS.items():
        assert f"{setting}: '${{secrets}}/{secret})'" in text
    assert "name: 'notification-url'" in vault.TEMPLATE.read_text("utf-8")


# grant_graph.py

READ = {"id": "read", "value": "Calendars.Read", "allowedMemberTypes": ["Application"]}
WRITE = {"id": "write", "value": "Calendars.ReadWrite", "allowedMemberTypes": ["Application"]}
DELEGATED = {"id": "delegated", "value": "Calendars.Read", "allowedMemberTypes": ["User"]}


def graph(*granted: str) -> Callable[[str, str, Any], Any]:
    def answer(method: str, url: str, body: Any) -> Any:
        if method == "POST":
            return {}
        if "appRoleAssignments" in url:
            rows = [{"appRoleId": role, "resourceId": "graph"} for role in granted]
            return {"value": [*rows, {"appRoleId": "read", "resourceId": "another API"}]}
        return {"id": "graph", "appRoles": [DELEGATED, WRITE, READ]}

    return answer


def test_the_permission_is_shown_before_it_is_granted(script, capsys):
    grant, cli = script("grant_graph", graph())
    assert grant.main(["--principal-id", "P"]) == 0
    assert cli.writes == []
    assert "Calendars.Read is to be granted to P" in capsys.readouterr().out


def test_the_application_permission_is_granted_once(script):
    grant, cli = script("grant_graph", graph())
    grant.main(["--principal-id", "P", "--apply"])
    assert [call[2] for call in cli.writes] == [{"principalId": "P", "resourceId": "graph", "appRoleId": "read"}]
    grant, cli = script("grant_graph", graph("read"))
    grant.main(["--principal-id", "P", "--apply"])
    assert cli.writes == []


def test_more_than_is_needed_is_told(script, capsys):
    grant, _ = script("grant_graph", graph("read", "write"))
    grant.main(["--principal-id", "P"])
    assert "not needed by the app: Calendars.ReadWrite" in capsys.readouterr().out


# dataverse_user.py

CLIENT = "6f1c1b7e-0d6a-4d0a-9a53-1f2c5f0e7a11"
USER = ["--url", "https://contoso.crm4.dynamics.com/", "--client-id", CLIENT, "--role", "Booking sync"]


class Dataverse:
    def __init__(self, *, role: bool = True, user: bool = False, assigned: bool = False) -> None:
        self.role, self.user, self.assigned = role, user, assigned

    def __call__(self, method: str, url: str, body: Any) -> Any:
        path = url.removeprefix("https://contoso.crm4.dynamics.com/api/data/v9.2/")
        assert path != url
        if method == "POST":
            self.user |= path == "systemusers"
            self.assigned |= path.endswith("$ref")
            return None
        rows: dict[str, list[dict[str, str]]] = {
            "businessunits": [{"businessunitid": "unit"}],
            "roles": [{"roleid": "role"}] * self.role,
            "systemusers": [{"systemuserid": "user"}] * self.user,
            "systemusers(user)/systemuserroles_association": [{"roleid": "role"}] * self.assigned,
        }
        return {"value": rows[path.partition("?")[0]]}


def test_the_application_user_is_shown_before_it_is_made(script, capsys):
    user, cli = script("dataverse_user", Dataverse())
    assert user.main(USER) == 0
    assert cli.writes == []
    out = capsys.readouterr().out
    assert "is to be made" in out
    assert "is to be assigned" in out


def test_the_application_user_is_made_with_its_role_once(script):
    user, cli = script("dataverse_user", Dataverse())
    assert user.main([*USER, "--apply"]) == 0
    assert [(url.rpartition("v9.2/")[2], body) for _, url, body in cli.writes] == [
        ("systemusers", {"applicationid": CLIENT, "businessunitid@odata.bind": "/businessunits(unit)"}),
        (
            "systemusers(user)/systemuserroles_association/$ref",
            {"@odata.id": "https://contoso.crm4.dynamics.com/api/data/v9.2/roles(role)"},
        ),
    ]
    assert all("https://contoso.crm4.dynamics.com" in command for command in cli.commands)  # whose token
    user, cli = script("dataverse_user", Dataverse(user=True, assigned=True))
    assert user.main([*USER, "--apply"]) == 0
    assert cli.writes == []


def test_half_done_is_finished(script):
    user, cli = script("dataverse_user", Dataverse(user=True))
    user.main([*USER, "--apply"])
    assert len(cli.writes) == 1


def test_a_role_that_is_not_there_is_asked_for(script):
    user, _ = script("dataverse_user", Dataverse(role=False))
    with pytest.raises(SystemExit, match="There is no role 'Booking sync'"):
        user.main([*USER, "--apply"])


# package.py


@pytest.fixture
def package() -> ModuleType:
    return importlib.import_module("package")


def test_what_is_packaged_is_what_funcignore_leaves(package):
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout")

    def listed(*options: str) -> set[str]:
        command = ["git", "ls-files", "--cached", *options]
        return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())

    left = listed() - listed("--ignored", "--exclude-from=.funcignore") - {".funcignore"}
    assert {Path(name).parts[0] for name in left} == set(package.APP)


def test_an_app_is_copied_without_what_this_machine_compiled(package, tmp_path):
    package.copy_app(ROOT, tmp_path)
    assert not list(tmp_path.rglob("__pycache__"))
    assert {path.name for path in tmp_path.iterdir()} == {*package.APP, ".funcignore"}
    assert {"page.html", "page.css"} <= {path.name for path in (tmp_path / "sync" / "status").iterdir()}


def test_its_own_funcignore_lets_compiled_modules_through(package, tmp_path):
    package.copy_app(ROOT, tmp_path)
    lines = (tmp_path / ".funcignore").read_text("utf-8").splitlines()
    assert all(line.startswith("#") for line in lines)


def test_compiled_modules_are_valid_whatever_the_times_of_files(package, tmp_path):
    (tmp_path / "module.py").write_text("ANSWER = 42\n")
    package.compile_modules(tmp_path)
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    # Source: PEP 552: the second word of the header is 0b01 for a hash that nobody checks.
    assert compiled.read_bytes()[4:8] == (1).to_bytes(4, "little")


def test_what_the_app_imports_of_msgraph_is_compiled(package):
    imported = "sys, sync.graph.events, sync.graph.subscriptions"
    code = f"import {imported}; print(*(getattr(m, '__file__', '') for m in sys.modules.values()), sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [name for name in result.stdout.splitlines() if "msgraph" in name]
    assert files
    assert [name for name in files if package.UNUSED.search(name)] == []


@pytest.mark.parametrize(
    ("path", "is_compiled"),
    [
        ("msgraph/generated/users/item/events/events_request_builder.py", True),
        ("msgraph/generated/base_graph_service_client.py", True),
        ("msgraph/generated/models/subscription.py", True),
        ("msgraph/generated/models/subscription_collection_response.py", False),
        ("msgraph/generated/drives/drives_request_builder.py", False),
        ("msgraph\\generated\\drives\\drives_request_builder.py", False),
        ("msgraph_core/base_graph_request_adapter.py", True),
    ],
)
def test_of_msgraph_only_what_is_near_is_compiled(package, path, is_compiled):
    assert (package.UNUSED.search(path) is None) == is_compiled


def test_the_zip_holds_compiled_modules_too(package, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    package.copy_app(ROOT, app)
    package.compile_modules(app)
    with zipfile.ZipFile(package.write_zip(app, tmp_path / "app.zip")) as archive:
        names = archive.namelist()
    assert {"host.json", "function_app.py", "sync/pairs/decision.py"} <= set(names)
    assert [name for name in names if name.startswith("sync/pairs/__pycache__/decision.")]


def test_another_python_is_refused(package, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(SystemExit, match=r"Python 3\.13 is needed"):
        package.main([])
