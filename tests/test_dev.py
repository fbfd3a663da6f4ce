"""dev.py's own decisions: what it asks for, what it installs when, and how it hands over."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dev


class Steps(list[str]):
    """The titles of what would have been run, in a folder where nothing is installed yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "requirements-dev.lock").write_text("a==1\n")
        (root / "package-lock.json").write_text("{}")

    def take(self, title: str, command: list[str | Path]) -> None:
        self.append(title)
        (self.root / ".venv").mkdir(exist_ok=True)
        (self.root / "node_modules").mkdir(exist_ok=True)


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def test_packages_are_installed_once_and_again_when_the_lock_changes(steps: Steps) -> None:
    dev.install_packages(steps.root, steps.take)
    dev.install_packages(steps.root, steps.take)
    assert steps == ["Creating .venv", "Installing Python packages into .venv"]
    (steps.root / "requirements-dev.lock").write_text("a==2\n")
    dev.install_packages(steps.root, steps.take)
    assert len(steps) == 4


def test_another_python_gets_a_new_environment(steps: Steps) -> None:
    dev.install_packages(steps.root, steps.take)
    dev.install_packages(steps.root, steps.take, version="3.99.0")
    assert len(steps) == 4


def test_azurite_is_installed_once_and_again_when_its_lock_changes(steps: Steps) -> None:
    dev.install_azurite("npm", steps.root, steps.take)
    dev.install_azurite("npm", steps.root, steps.take)
    assert steps == ["Installing Azurite into node_modules"]
    (steps.root / "package-lock.json").write_text('{"other": 1}')
    dev.install_azurite("npm", steps.root, steps.take)
    assert len(steps) == 2


def test_an_interrupted_installation_is_begun_again(steps: Steps) -> None:
    def interrupted(title: str, command: list[str | Path]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dev.install_packages(steps.root, interrupted)
    dev.install_packages(steps.root, steps.take)
    assert len(steps) == 2


def test_an_older_python_is_told_which_one_is_needed() -> None:
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed, this is 3\.9"):
        dev.check_python((3, 9, 1))


def test_an_older_python_can_read_the_file_that_tells_it() -> None:
    ast.parse(Path(dev.__file__).read_text("utf-8"), feature_version=(3, 7))


def test_a_missing_node_is_named_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="install Node 20 or newer"):
        dev.check_node(path=str(tmp_path))


def test_an_old_node_is_named_with_its_cure() -> None:
    with pytest.raises(SystemExit, match="too old for Azurite"):
        dev.check_node(oldest=999)


def test_a_step_that_works_shows_only_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    dev.step("Greeting", [sys.executable, "-c", "print('hello')"])
    assert re.fullmatch(r"Greeting \.\.\.\nGreeting: done in \d+ s\n", capsys.readouterr().out)


def test_a_step_that_fails_shows_what_it_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="Greeting failed"):
        dev.step("Greeting", [sys.executable, "-c", "print('no network'); raise SystemExit(1)"])
    assert "no network" in capsys.readouterr().err


def hand_over(statement: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """To a module that runs the statement once."""
    arguments = ["-n1", "-r1", statement]
    code = f"import dev, sys; dev.PYTHON = sys.executable; sys.exit(dev.hand_over('timeit', {arguments}))"
    command, env = [sys.executable, "-c", code], {**os.environ, **environment}
    return subprocess.run(command, cwd=dev.ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("statement", "status"), [("pass", 0), ("import os; os._exit(7)", 7)])
def test_the_exit_status_is_handed_through(statement: str, status: int) -> None:
    assert hand_over(statement).returncode == status


def test_what_is_started_keeps_its_compiled_files_also_where_python_is_told_not_to() -> None:
    """The tests, the tour and the benchmarks start hundreds of processes, each of which would compile the app anew."""
    statement = "import sys; print(sys.dont_write_bytecode)"
    assert hand_over(statement, PYTHONDONTWRITEBYTECODE="1").stdout.startswith("False")


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--help"], 0), (["tset"], 2)])
def test_without_a_known_command_the_commands_are_listed(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dev.main(arguments) == status
    assert "usage: python3 dev.py" in capsys.readouterr().out


# -- the lock files


def locked(name: str) -> dict[str, str]:
    """Each requirement of a lock file with its hashes."""
    text = (Path(dev.__file__).parent / name).read_text("utf-8").replace("\\\n", " ")
    return dict(line.split(" ", 1) for line in text.splitlines() if line)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_exact_versions_with_hashes_and_no_registry(name: str) -> None:
    for requirement, rest in locked(name).items():
        assert "==" in requirement
        assert "--hash=sha256:" in rest
        assert "://" not in requirement + rest


def test_each_python_gets_its_line_of_azure_functions() -> None:
    versions = [requirement for requirement in locked("requirements.lock") if requirement.startswith("azure-functions")]
    assert [version.partition("==")[2].partition(".")[0] for version in versions] == ["1", "2"]


def test_the_app_is_tested_with_the_versions_it_is_locked_to() -> None:
    assert locked("requirements.lock").keys() <= locked("requirements-dev.lock").keys()


def test_azurites_lock_names_no_registry() -> None:
    packages = json.loads((Path(dev.__file__).parent / "package-lock.json").read_text("utf-8"))["packages"]
    assert packages["node_modules/azurite"]["version"] == packages[""]["devDependencies"]["azurite"]
    assert not [name for name, package in packages.items() if "resolved" in package]
