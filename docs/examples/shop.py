"""Writes the tables of a small shop: customers.csv, products.csv, orders.csv, related.csv.

300 customers, 200 products and 3,005 order lines, drawn from a seed. As in real tables, ids have
leading zeros, products have several tags in one cell, values are missing, names have accents and
other scripts, some orders are repeated. Customers buy what has their favourite brand and tags more
often, so that a model can learn something from the attributes.

    python docs/examples/shop.py my/tables
    kgrec data build --guess my/tables --out my/build.yaml
    kgrec data build my/build.yaml --out my/shop

Repeats and quantities are drawn at random, whatever a customer likes. So weights of positives
(``weight: quantity`` in build.yaml) cannot help here.
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

CUSTOMERS, PRODUCTS, ORDERS, PAIRS = 300, 200, 3_005, 2_261
BRANDS = ["Alder", "Björk & Søn", "Casa Ibérica", "Dumont", "Élan", "Fjäll", "Граніт", "花屋",
          "Hygge", "Ipê", "Jørn", "König"]  # fmt: skip
TAGS = ["vegan", "organic", "hand-made", "gift", "outdoor", "kids", "recycled", "crème", "limited",
        "classic", "travel", "winter", "summer", "café", "office", "garden"]  # fmt: skip
CATEGORIES = ["Bags", "Candles", "Ceramics", "Clothing", "Coffee", "Plants", "Stationery", "Toys"]
NOUNS = dict(zip(CATEGORIES, ["Tote", "Candle", "Bowl", "Scarf", "Roast", "Fern", "Notebook",
                              "Puzzle"], strict=True))  # fmt: skip
COLORS = ["red", "blue", "green", "black", "white", "ochre"]
MOODS = ["calm", "bright", "red", "wild"]  # "red" is a mood here, not the color
CITIES = ["København", "Lisboa", "München", "Kraków", "Genève", "Málaga"]
START = datetime(2023, 1, 1)


def main(folder: Path, seed: int = 2019) -> None:
    """Writes the four tables into a folder.

    Args:
        folder: the folder; made if it is not there.
        seed: seed of every draw.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    products = [product(draw, number) for number in range(PRODUCTS)]
    write(folder / "products.csv", products)
    customers = [
        {
            "customer_id": f"C{number:04d}",
            "email": f"customer{number}@example.org",
            "city": draw.choice(CITIES) if draw.random() < 0.9 else "",
            "birth_year": draw.randint(1950, 2005),
        }
        for number in range(1, CUSTOMERS + 1)
    ]
    write(folder / "customers.csv", customers)
    write(folder / "orders.csv", orders(draw, customers, products))
    related = []
    for product_ in products:
        alike = [p for p in products if p["category"] == product_["category"] and p != product_]
        related += [
            {"product_id": product_["product_id"], "goes_with": other["product_id"]}
            for other in draw.sample(alike, k=min(2, len(alike)))
        ]
    write(folder / "related.csv", related)


def product(draw: random.Random, number: int) -> dict[str, object]:
    """One row of products.csv."""
    category, brand = draw.choice(CATEGORIES), draw.choice(BRANDS)
    color = draw.choice(COLORS)
    tags = draw.sample(TAGS, k=draw.randint(1, 4))
    released = START - timedelta(days=draw.randint(0, 9_000))
    return {
        "product_id": f"{number * 37 + 123:05d}",
        "title": f"{brand} {NOUNS[category]} “{color}” No. {number + 1}",
        "category": category,
        "brand": brand if draw.random() < 0.96 else "",
        "color": color if draw.random() < 0.85 else "",
        "mood": draw.choice(MOODS) if draw.random() < 0.7 else "",
        "tags": "|".join(tags) if draw.random() < 0.93 else "",
        "price": f"{draw.lognormvariate(3, 0.8):.2f}" if draw.random() < 0.95 else "n/a",
        "released": released.date().isoformat() if draw.random() < 0.9 else "",
        "ean": 4_006_381_000_000 + number * 7_919,
        "in_stock": "no" if number == 17 else "yes",
        "description": f"A {color} {NOUNS[category].lower()} by {brand}, made for {tags[0]} days "
        f"and for everyone who likes {category.lower()}; number {number + 1} of our collection.",
    }


def orders(
    draw: random.Random, customers: list[dict[str, object]], products: list[dict[str, object]]
) -> list[dict[str, object]]:
    """The rows of orders.csv: 2,261 customer-product pairs, 744 of the rows being repeats."""
    popularity = [draw.paretovariate(6) for _ in products]
    weights = {}
    for customer in customers:
        brand, tag = draw.choice(BRANDS), draw.choice(TAGS)
        weights[customer["customer_id"]] = [
            appeal * (40 if p["brand"] == brand else 1) * (15 if tag in str(p["tags"]) else 1)
            for appeal, p in zip(popularity, products, strict=True)
        ]
    activity = [draw.paretovariate(1.5) for _ in customers]
    pairs = {(customer["customer_id"], draw.choice(products)["product_id"]): 0
             for customer in customers}  # fmt: skip
    while len(pairs) < PAIRS:
        customer = draw.choices(customers, activity)[0]["customer_id"]
        pairs[customer, draw.choices(products, weights[customer])[0]["product_id"]] = 0
    bought = [*pairs, *draw.choices(list(pairs), k=ORDERS - PAIRS)]
    draw.shuffle(bought)
    rows = []
    for number, (customer, sku) in enumerate(bought):
        time = START + timedelta(minutes=draw.randint(0, 2 * 365 * 24 * 60))
        rows.append(
            {
                "order_no": 900_000 + number,
                "customer_id": customer,
                "product_id": sku,
                "quantity": draw.choices([1, 2, 3, 6], [80, 12, 5, 3])[0],
                "ordered_at": time.isoformat(sep=" ", timespec="minutes"),
            }
        )
    return rows


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Writes rows as CSV with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "shop"))
