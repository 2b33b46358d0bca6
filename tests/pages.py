"""Visits of the served page in headless Chromium, and a shop whose titles are hostile."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from browser import CHROMIUM
from http_server import Server

playwright = pytest.importorskip("playwright.sync_api")
if CHROMIUM is None:
    pytest.skip("no Chromium", allow_module_level=True)

Page = playwright.Page
expect = playwright.expect

TITLES = [
    "<img src=x onerror=\"document.title='broken'\">",
    "</script><script>document.title='broken'",
    "كتاب الأغاني (1999)",
    "ספר השירים & עוד",
    "\u202eesrever",
    "日本の映画 🎬",
    "“Ends” & 'quotes'",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4,
    "Many words " * 30,
    "{{7*7}} ${7*7} %3Cb%3E",
]
USERS, ITEMS = 40, 60


def items() -> pl.DataFrame:
    """Items with titles that a careless page would break on."""
    draw = random.Random(1)
    return pl.DataFrame(
        {
            "item": [f"a/{n}?" if n % 9 == 0 else f"i{n}" for n in range(ITEMS)],
            "title": [f"{TITLES[n % 10]} {n}" if n < 30 else f"Title {n}" for n in range(ITEMS)],
            "director": [f"Director <b>{draw.randrange(6)}</b>" for _ in range(ITEMS)],
            "genre": [f"genre {draw.randrange(5)}" for _ in range(ITEMS)],
            "country": [f"country {draw.randrange(4)}" for _ in range(ITEMS)],
        }
    )


def interactions() -> pl.DataFrame:
    draw = random.Random(2)
    names = items()["item"].to_list()
    pairs = [(f"u{n}", item) for n in range(USERS) for item in draw.sample(names, 9)]
    return pl.DataFrame(pairs, schema=["user", "item"], orient="row")


class Visit:
    """A tab on the server, which notes what a page must not do."""

    def __init__(self, browser: Any, server: Server, **context: Any) -> None:
        context.setdefault("viewport", {"width": 1280, "height": 900})
        self.address = server.address
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, state: str = "") -> Page:
        self.page.goto(f"{self.address}/#{state}")
        expect(self.page.locator("#subject")).to_be_visible()
        return self.page

    def close(self, refused: int = 0) -> None:
        """Closes the tab; the console may hold as many messages as requests were refused."""
        refusals = [text for text in self.messages if text.startswith("Failed to load resource")]
        assert [text for text in self.messages if text not in refusals] == []
        assert len(refusals) == refused
        assert [url for url in self.requests if not url.startswith(f"{self.address}/")] == []
        self.context.close()


def matches(page: Page) -> Any:
    return page.locator("li[role=option]:visible")


def cards(page: Page, column: int = 0) -> Any:
    return page.locator(".column").nth(column).locator(".card")


def ids(page: Page, column: int = 0) -> list[str]:
    return [card.get_attribute("data-item") for card in cards(page, column).all()]


def scores(page: Page, column: int = 0) -> list[str]:
    return cards(page, column).locator(".number").all_inner_texts()
