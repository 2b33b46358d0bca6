"""The page in headless Chromium: what a person does, and what a page must not do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browser import CHROMIUM

import kgrec

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
if CHROMIUM is None:
    pytest.skip("no Chromium", allow_module_level=True)

from http_server import Server, running  # noqa: E402

Page = playwright.Page
expect = playwright.expect

TITLES = [
    "<img src=x onerror=\"document.title='broken'\">", "</script><script>document.title='broken'",
    "كتاب الأغاني (1999)", "ספר השירים & עוד", "\u202eesrever", "日本の映画 🎬", "“Ends” & 'quotes'",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 4, "Many words " * 30, "{{7*7}} ${7*7} %3Cb%3E",
]  # fmt: skip
USERS, ITEMS = 40, 60
WIDTHS = (360, 768, 1600)


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
