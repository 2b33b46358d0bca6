"""Small tables of a user, and what a build makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kgrec.data.build.building import build
from kgrec.data.build.plan_file import read_plan

ORDERS = "customer,sku,when\nC1,001,2024-01-01\nC2,002,2024-01-02\nC2,001,2024-02-01\n"
PRODUCTS = "sku,title,color,mood\n001,Bowl,red,red\n002,Cup,red,calm\n003,Jug,,calm\n"
PLAN = """
interactions: {table: orders.csv, user: customer, item: sku, timestamp: when}
items:
  table: products.csv
  id: sku
  name: title
  attributes: {color: {}, mood: {}}
"""


@dataclass
class Built:
    """The tables of a folder, as strings, by file name without ending."""

    folder: Path
    warnings: dict[str, int]
    counts: dict[str, int]

    def __getitem__(self, name: str) -> pl.DataFrame:
        return pl.read_csv(self.folder / f"{name}.csv", infer_schema=False)

    def rows(self, name: str, *columns: str) -> set[tuple[Any, ...]]:
        frame = self[name]
        return set(frame.select(columns or frame.columns).iter_rows())

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "build.json").read_text(encoding="utf-8"))


def write(folder: Path, plan: str = PLAN, **tables: str) -> Path:
    """Writes tables (orders="…" is orders.csv) and build.yaml; returns the latter."""
    for name, text in ({"orders": ORDERS, "products": PRODUCTS} | tables).items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    (folder / "build.yaml").write_text(plan, encoding="utf-8")
    return folder / "build.yaml"


def built(folder: Path, plan: str = PLAN, out: str = "out", **tables: str) -> Built:
    """Writes the tables and builds the folder."""
    report = build(read_plan(write(folder, plan, **tables)), folder / out)
    return Built(folder / out, dict(report.warnings), dict(report.counts))
