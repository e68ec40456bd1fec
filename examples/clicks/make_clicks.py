"""Writes ``clicks.parquet``: 20,000 made-up impressions of a shop, one row each, for trying out ``schema.yaml``.

$ python examples/clicks/make_clicks.py clicks.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, USERS, ITEMS = 20_000, 400, 200
COUNTRIES = np.array(["de", "fr", "nl", "pl"])
TAGS = np.array(["new", "sale", "eco", "local", "premium"])


def make_clicks(path: Path, seed: int = 0) -> None:
    """Write the table to ``path``; whether a row was clicked depends on user, item, hour and price."""
    random = np.random.default_rng(seed)
    user, item = random.integers(USERS, size=ROWS), random.integers(ITEMS, size=ROWS)
    hour = random.integers(24, size=ROWS)
    price = np.round(random.lognormal(3, 0.6, ITEMS), 2)
    tags = [list(TAGS[random.random(len(TAGS)) < 0.3]) for _ in range(ITEMS)]
    taste, appeal = random.normal(size=(USERS, 2)), random.normal(size=(ITEMS, 2))
    logit = (taste[user] * appeal[item]).sum(axis=1) - 0.5 * np.log(price[item]) + 0.5 * (hour > 17)
    table = pa.table(
        {
            "user_id": [f"u{number}" for number in user],
            "country": COUNTRIES[user % len(COUNTRIES)],
            "hour": hour,
            "item_id": item + 1,
            "brand": [f"brand-{number % 17}" for number in item],
            "price": price[item],
            "tags": [tags[number] for number in item],
            "position": random.integers(10, size=ROWS),
            "clicked": (random.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.int64),
            "time": 1_700_000_000 + np.sort(random.integers(30 * 86_400, size=ROWS)),
        }
    )
    pq.write_table(table, path)


if __name__ == "__main__":
    make_clicks(Path(sys.argv[1] if len(sys.argv) > 1 else "clicks.parquet"))
