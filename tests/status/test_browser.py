"""The status page in a real browser, at desktop and phone width: readable, reachable by keyboard, nothing personal.

Screenshots are left in .sandbox/screenshots.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from axe_playwright_python.async_playwright import Axe
from azure.storage.queue.aio import QueueClient
from playwright.async_api import Browser, Page, async_playwright

from sandbox.graph import errors as graph_errors
from sync.pairs.entry import Entry, Held
from sync.pairs.reasons import HoldKind
from sync.storage.counters import CounterTable
from sync.storage.ledger import LedgerTable
from sync.storage.tables import StorageTable
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import HOUR, Figures, Swept, hour_of
from tests.world.running import TOMORROW, Running, in_step, running, until

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / ".sandbox" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium), nor CHROMIUM"),
]

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "is_mobile": True}
NARROW: dict[str, Any] = {"viewport": {"width": 641, "height": 900}, "color_scheme": "light"}
"""The narrowest on which tables are laid out as tables."""
LARGE_PRINT: dict[str, Any] = {"viewport": {"width": 320, "height": 640}, "color_scheme": "light"}
"""What 1280 pixels are at a zoom of 400 %. Source: WCAG 2.2, 1.4.10 "Reflow"."""

TORN = """() => {
  const lines = (node, from, to) => {
    const range = document.createRange();
    range.setStart(node, from);
    range.setEnd(node, to);
    return new Set([...range.getClientRects()].map(each => each.top)).size;
  };
  const torn = [];
  for (const cell of document.querySelectorAll("thead th, td.short")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data;
      for (const piece of text.matchAll(cell.tagName === "TH" ? /\\S+/g : /\\S.*\\S|\\S/g))
        if (lines(walker.currentNode, piece.index, piece.index + piece[0].length) > 1) torn.push(piece[0]);
    }
  }
  return torn;
}"""
"""The words of headings, and the short values, that stand on more than one line."""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if is_root else [])
        yield browser
        await browser.close()


@pytest.fixture
async def app(storage: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    async with running(storage, monkeypatch) as app:
        yield app


@dataclass
class Seen:
    """A page as one width shows it."""

    page: Page
    text: str
    markup: str


async def look(browser: Browser, app: Running, name: str, device: dict[str, Any]) -> Seen:
    """Load the page, check what holds for all of them, keep a screenshot."""
    context = await browser.new_context(**device)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    response = await page.goto(f"{app.host.url}/api/status/page?code=x")
    assert response is not None
    assert response.status == 200
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    width = device["viewport"]["width"]
    await page.screenshot(path=SCREENSHOTS / f"status-{name}-{width}.png", full_page=True)
    await page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    assert [url for url in asked if not url.startswith("data:")] == [response.url], "nothing else is loaded"
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is scrolled sideways"
    if device in (DESKTOP, NARROW):
        assert await page.evaluate(TORN) == [], "headings and times are in one piece"
    if device in (DESKTOP, PHONE):
        axe = await Axe().run(page)
        assert axe.violations_count == 0, axe.generate_report()
    assert complaints == [], "nothing was forbidden, and nothing missing"
    return Seen(page, await page.inner_text("body"), await page.content())


async def look_at_all(browser: Browser, app: Running, name: str) -> str:
    """The text on a desktop's screen."""
    for device in (PHONE, LARGE_PRINT, NARROW):
        await look(browser, app, name, device)
    desktop = await look(browser, app, name, DESKTOP)
    await reach_everything_by_keyboard(desktop.page)
    return desktop.text


async def reach_everything_by_keyboard(page: Page) -> None:
    """The first stop is the way past the top; each stop is outlined."""
    await page.evaluate("document.activeElement.blur()")
    stops = await page.locator("a, summary").count()
    for number in range(stops):
        await page.keyboard.press("Tab")
        tag, outline = await page.evaluate(
            "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert (tag, outline) == ("A" if number == 0 else "SUMMARY", "solid")
    was_open = await page.evaluate("document.activeElement.parentElement.open")
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.parentElement.open") is not was_open


async def run_roster(app: Running) -> None:
    async with aiohttp.ClientSession() as session:

        async def has_run() -> bool:
            async with session.get(f"{app.host.url}/api/status") as answer:
                return (await answer.json())["mailboxes"] is not None

        assert await app.post("/admin/functions/renew_subscriptions", {"input": ""}) == 202
        async with asyncio.timeout(20):
            while not await has_run():  # noqa: ASYNC110  the world is watched, it has no event to wait for
                await asyncio.sleep(0.1)


async def test_before_anybody_is_wanted_the_page_says_so(browser: Browser, app: Running) -> None:
    text = await look_at_all(browser, app, "new")
    assert "Nothing is known of them yet" in text
    await run_roster(app)
    text = await look_at_all(browser, app, "0")
    assert "No trouble" in text
    assert "Nobody is to be synchronized" in text
    assert "Mailbox by mailbox" not in text


async def test_three_people_at_work_are_seen_without_anything_personal(browser: Browser, app: Running) -> None:
    ana, ben, cleo = (app.sandbox.people.hire(name) for name in ("Ana", "Ben", "Cleo"))
    await run_roster(app)
    dispatcher = app.sandbox.people.dispatcher
    booking, event = dispatcher.book(ana, TOMORROW, TOMORROW + HOUR, name="Planted booking")
    app.sandbox.mailboxes.change(
        event, subject="Planted subject", body="Planted body", attendees=["planted.guest@contoso.example"]
    )
    await until(lambda: in_step(app, booking))
    ana.move(event, HOUR)
    await until(lambda: booking["starttime"] == TOMORROW + HOUR)
    ben.meet(TOMORROW, TOMORROW + HOUR, subject="Planted meeting")
    await app.quiet()

    text = await look_at_all(browser, app, "3")
    assert "No trouble" in text
    for each in (ana, ben, cleo):
        assert each.mailbox.id in text
    assert "moved" in text
    markup = (await look(browser, app, "3", DESKTOP)).markup
    for personal in ("planted", "contoso.example", "@", "Ana", "Ben", "Cleo"):
        assert personal not in markup.replace("@media", "")

    async with aiohttp.ClientSession() as session, session.get(f"{app.host.url}/api/status") as answer:
        document = await answer.json()
    asked = Counter(call.service for call in app.sandbox.calls)
    assert document["calls"]["spent"] == {service: asked[service] for service in document["calls"]["spent"]}
    assert document["outcomes"]["moved"] == 1
    assert document["outcomes"]["linked"] == 1


async def test_trouble_of_three_people_is_seen_at_the_top(browser: Browser, app: Running) -> None:
    ana, *_ = (app.sandbox.people.hire(name) for name in ("Ana", "Ben", "Cleo"))
    app.sandbox.faults.order(graph_errors.ACCESS_DENIED.fault(service="graph", method="POST", path="subscriptions"))
    async with QueueClient.from_connection_string(app.storage, "outlook-changes-poison") as queue:
        await queue.create_queue()
        await queue.send_message(base64.b64encode(b"{}").decode())
    await run_roster(app)
    text = await look_at_all(browser, app, "3-trouble")
    assert "Mailboxes that are not subscribed: 1" in text
    assert "ErrorAccessDenied" in text
    assert "Parked in outlook-changes-poison: 1" in text
    assert "python -m sync poison" in text
    assert ana.mailbox.address not in text


@pytest.mark.parametrize(
    "is_well", [pytest.param(True, id="well"), pytest.param(False, id="in trouble", marks=pytest.mark.slow)]
)
async def test_five_thousand_people_are_seen_at_a_glance(browser: Browser, app: Running, is_well: bool) -> None:
    await fill(app.storage, 5_000, is_well)
    text = await look_at_all(browser, app, "5000" if is_well else "5000-trouble")
    assert "50 of 5,000" in text
    assert ("No trouble" in text) == is_well
    assert len(text) < 30_000
    assert min([await load_seconds(browser, app) for _ in range(3)]) < 1, "seconds of a machine that is ours alone"


async def load_seconds(browser: Browser, app: Running) -> float:
    """From the request to the load event, in a browser that has kept nothing; less where more want each core."""
    context = await browser.new_context(**DESKTOP)
    page = await context.new_page()
    await page.goto(f"{app.host.url}/api/status/page?code=x")
    took: float = await page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    await context.close()
    wanted = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 1.0
    assert took > 0
    return took / 1000 / max(1.0, wanted)


async def fill(storage: str, count: int, is_well: bool) -> None:
    """As a deployment of so many people leaves it after a day: 8 processes that count, a roster, and what is held."""
    chance, now = random.Random(count), datetime.now(UTC)
    mailboxes = [f"{chance.randrange(2**32):08x}-0000-4000-8000-{number:012x}" for number in range(count)]
    counters = CounterTable(StorageTable.of_connection_string(storage, "status"))
    ledger = LedgerTable(StorageTable.of_connection_string(storage, "ledger"))
    for hour in range(24):
        for process in range(8):
            counts = Counter({"outcome.ignored": chance.randrange(2_000), "outcome.moved": chance.randrange(90)})
            counts += Counter({"notifications.queued": 500, "notifications.known": chance.randrange(900)})
            counts += Counter({"spent.graph": chance.randrange(900), "avoided.graph": chance.randrange(900)})
            seen = dict.fromkeys(chance.sample(mailboxes, 700), now) if hour < 2 else {}
            await counters.put(f"process{process}", hour_of(now) - HOUR * hour, Figures(counts, seen))

    def standing(mailbox: str) -> Standing:
        if not is_well and chance.random() < 0.05:
            return Standing(mailbox, None, "subscriptions 403 ErrorAccessDenied (is the mailbox in the access policy?)")
        expires = now + timedelta(days=3.5 + 3.4 * chance.random())
        notified = now - timedelta(hours=60 * chance.random() ** 3)
        return Standing(mailbox, expires, "", notified, Swept(now - timedelta(hours=5), int(not is_well)))

    await counters.put_roster(Roster(now, now - timedelta(days=20), tuple(map(standing, mailboxes))))
    for number in range(0 if is_well else 120):
        held = Held(HoldKind.ALL_DAY if number % 3 else HoldKind.WAITS_FOR_OUTLOOK, now - number * HOUR, "1")
        booking = f"c5d7e9fa-6b1c-4f11-9f89-{number:012x}"
        await ledger.write(Entry(mailboxes[number], f"E{number}", booking_id=booking, held=held, expires=now))
    await counters.close()
    await ledger.close()
