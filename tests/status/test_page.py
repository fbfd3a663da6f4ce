"""The page as HTML: everything has its place, nothing is taken for markup, and the browser may load nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

from sync.model import Tripped
from sync.pairs.entry import Entry, Held
from sync.pairs.reasons import HoldKind
from sync.status.figures import Gathered
from sync.status.findings import build_status
from sync.status.page import CHART_HEIGHT, SHOWN, bars, build_json, build_page
from sync.subscriptions.standing import Standing
from sync.telemetry.counters import HOUR
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.gathered import ANNAS, AT, BEHIND, GUID, HELD, LEFT, WELL, with_standings
from tests.world.keeper import people

EVERYTHING = replace(
    with_standings(ANNAS, Standing(BEN, None, "graph 403 <b>ErrorAccessDenied</b>")),
    failure=(AT, "graph 503"),
    hours={NOW: Counter({"outcome.moved": 3, "notifications.queued": 4, "notifications.known": 2, "spent.graph": 5})},
    backlogs=(BEHIND,),
    held=((HELD, LEFT), 12),
    tripped=(Tripped("all", NOW, 201),),
    unread=["The moon could not be read"],
)
NOTHING = Gathered()


class Outline(HTMLParser):
    """Tags that are open, ids, headings; a tag that is closed in the wrong place fails."""

    VOID = frozenset({"meta", "link", "line", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.ids: list[str] = []
        self.labelled_by: list[str] = []
        self.headings: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        named = dict(attributes)
        self.ids += [named["id"]] if named.get("id") else []
        self.labelled_by += [named["aria-labelledby"]] if named.get("aria-labelledby") else []
        assert "style" not in named, "the policy forbids it"
        assert not [name for name in named if name.startswith("on")]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page_of(gathered: Gathered) -> str:
    page, _ = build_page(build_status(gathered, AT))
    return page


def test_it_is_well_formed_with_landmarks_and_headings_in_order():
    for gathered in (NOTHING, WELL, EVERYTHING):
        outline = Outline(page_of(gathered))
        assert outline.open == []
        assert len(outline.ids) == len(set(outline.ids))
        assert set(outline.labelled_by) <= set(outline.ids)
        assert [outline.seen[tag] for tag in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
        assert outline.headings[0] == 1
        assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
        assert not outline.seen["script"] + outline.seen["img"] + outline.seen["form"]


def test_everything_has_its_place():
    page = page_of(EVERYTHING)
    for text in (ANNA, BEN, GUID, "graph 503", "outlook-changes", "moved", "the event lasts all day", "all</code>"):
        assert text in page
    assert "The moon could not be read" in page


def test_each_trouble_says_what_to_do():
    page = page_of(EVERYTHING)
    findings = build_status(EVERYTHING, AT).findings
    assert len(findings) > 5
    for finding in findings:
        assert escape(finding.then) in page


def test_the_hours_of_a_chart_are_in_the_table_below_it():
    hours = {NOW: Counter({"outcome.moved": 31, "outcome.ignored": 52, "notifications.queued": 43})}
    hours[NOW] += Counter({"notifications.known": 27, "spent.graph": 65, "avoided.graph": 19})
    page = page_of(replace(WELL, hours=hours))
    _, charts, table = re.split("<h2 id=.changes.>|The numbers, hour by hour", page)
    for number in (31, 43, 27, 65, 19):
        assert f"{number} " in charts
        assert f">{number}</td>" in table


def test_what_comes_from_outside_is_text_and_never_markup():
    page = page_of(EVERYTHING)
    assert "<b>" not in page
    assert "&lt;b&gt;ErrorAccessDenied" in page


def test_the_browser_may_load_and_run_nothing_but_the_style_in_the_page():
    page, headers = build_page(build_status(WELL, AT))
    policy = headers["Content-Security-Policy"]
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.findall(r"""(?:src|href)="(?!#|data:,)""", page)
    assert not re.search(r"url\(|@import|https?:", page)


def test_neither_the_page_nor_the_key_in_its_url_is_kept_or_passed_on():
    _, headers = build_page(build_status(WELL, AT))
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "noindex" in headers["X-Robots-Tag"]


def test_of_thousands_of_mailboxes_the_page_shows_some_and_the_json_all():
    standings = tuple(replace(ANNAS, mailbox=each) for each in people(5_000))
    status = build_status(with_standings(*standings), AT)
    page, _ = build_page(status)
    assert page.count("0000-4000-8000") == SHOWN
    assert f"{SHOWN} of 5,000" in page
    assert len(json.loads(build_json(status))["mailboxes"]["rows"]) == 5_000
    assert len(page) < 100_000


def test_the_json_says_the_same_in_the_words_of_the_page():
    document = json.loads(build_json(build_status(EVERYTHING, AT)))
    assert document["is_well"] is False
    assert document["at"] == "2026-03-02T06:25:00Z"
    assert document["mailboxes"]["rows"][0]["mailbox"] == BEN
    assert document["mailboxes"]["rows"][0]["reason"] == "graph 403 <b>ErrorAccessDenied</b>"
    assert document["outcomes"] == {"moved": 3}
    assert document["breaker"] == [{"scope": "all", "at": "2026-03-02T06:00:00Z", "count": 201}]
    assert json.loads(build_json(build_status(NOTHING, AT)))["mailboxes"] is None


def test_the_highest_bar_fills_the_chart_and_two_parts_stand_on_each_other():
    hours = build_status(
        replace(WELL, hours={NOW: Counter({"spent.graph": 30, "avoided.graph": 10}), NOW - HOUR: Counter()}), AT
    ).hours
    drawn = bars(hours, "spent", "avoided")
    assert (drawn[-1].lower, drawn[-1].upper) == (CHART_HEIGHT * 0.75, CHART_HEIGHT * 0.25)
    assert {(bar.lower, bar.upper) for bar in drawn[:-1]} == {(0, 0)}
    assert drawn[-1].title == "06:00: 30 spent, 10 avoided"
    assert {bar.lower for bar in bars(hours, "written", "others")} == {0}, "of nothing there is nothing to draw"


def test_many_holds_are_folded_away():
    held = tuple(
        Entry(ANNA, f"E{number}", booking_id=GUID, held=Held(HoldKind.TOO_MANY, NOW, "1"))
        for number in range(SHOWN + 1)
    )
    page = page_of(replace(WELL, held=(held, 7)))
    assert f"Booking by booking: {SHOWN} of {SHOWN + 8}" in page
    assert page.count(GUID) == SHOWN
    assert "Booking by booking: 2 of 9" in page_of(replace(WELL, held=(held[:2], 7)))
