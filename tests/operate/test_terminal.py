"""What reaches stdout and stderr, with and without a person in front of it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from sync.operate.terminal import Terminal
from tests.world.environment import Environment

NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    name: str
    next_try: datetime | None = None
    left: timedelta | None = None


@dataclass(frozen=True)
class Pair:
    id: str
    reason: str


class Screen(io.StringIO):
    """Somebody looks."""

    def isatty(self) -> bool:
        return True


def test_a_table_has_a_row_on_a_line_whatever_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("n" * 400, NOW, timedelta(days=6, hours=22, minutes=40)), Row("[red]x", None, timedelta(minutes=61))]
    Terminal().show({}, ["2 rows"], rows, ("name", "next_try", "left"))
    heading, _, first, second, end = (line.split() for line in capsys.readouterr().out.splitlines() if line)
    assert heading == ["name", "next", "try", "(UTC)", "left"]
    assert first == ["n" * 400, "2026-03-02", "06:00", "6", "d", "22", "h"]
    assert second == ["[red]x", "1", "h", "1", "min"]
    assert end == ["2", "rows"]


def test_a_column_without_a_value_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().show({}, [], [Row("a", None, timedelta(0))], ("name", "next_try", "left"))
    assert capsys.readouterr().out.split()[:2] == ["name", "left"]


def test_an_id_stays_in_one_piece_on_a_narrow_screen() -> None:
    screen = Screen()
    rows = [Pair("0d5c8f5e-0000-4000-8000-00000000000a", "word " * 40)]
    with Environment() as environment, redirect_stdout(screen):
        environment.set(COLUMNS="40")
        Terminal().show({}, [], rows, ("id", "reason"))
    assert "0d5c8f5e-0000-4000-8000-00000000000a" in screen.getvalue()
    assert screen.getvalue().count("word") == 40


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(as_json=True)
    with terminal.progress("rows") as progress:
        progress(1, 2)
    terminal.show({"rows": [Row("ä", NOW, timedelta(hours=1))]}, ["1 row"])
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"rows": [{"name": "ä", "next_try": "2026-03-02T06:00:00Z", "left": 3600}]}
    assert captured.err == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_line(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(as_json).fail("graph 503\nand more\x1b[31m")
    captured = capsys.readouterr()
    assert captured.err == "error: graph 503 and more?[31m\n"
    assert captured.out == ("" if not as_json else '{\n  "error": "graph 503 and more\\u001b[31m"\n}\n')


def test_nothing_stored_steers_the_terminal() -> None:
    screen = Screen()
    with redirect_stdout(screen):
        Terminal().show({}, ["end\x1b[2J"], [Row("\x1b]0;title\x07 [bold]x")], ("name",))
    assert "\x1b]" not in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert "[bold]x" in screen.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_bar_is_shown_to_a_person_on_stderr(as_json: bool) -> None:
    screen, errors = Screen(), Screen()
    with Environment() as environment, redirect_stdout(screen), redirect_stderr(errors):
        environment.set(TERM="xterm")
        with Terminal(as_json).progress("mailboxes") as progress:
            progress(1, 2)
    assert "mailboxes" in errors.getvalue()
    assert "1/2" in errors.getvalue()
    assert screen.getvalue() == ""
