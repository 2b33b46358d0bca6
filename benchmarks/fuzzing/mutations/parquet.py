"""Mutations of Parquet files: other types, blanks and extreme values, and bytes of the footer."""

from __future__ import annotations

import io
import math
from random import Random
from typing import Any

import polars as pl

from fuzzing.mutations import octets
from fuzzing.mutations.values import text

_KINDS: tuple[Any, ...] = (
    pl.Int8, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date,
    pl.Time, pl.Datetime("ms"), pl.Datetime("ns", "UTC"), pl.Duration, pl.Decimal(20, 3),
    pl.Categorical, pl.List(pl.String), pl.List(pl.Int64), pl.Null, pl.Enum(["a", "b"]),
    pl.Struct({"a": pl.Int64}), pl.Array(pl.Float64, 2), pl.List(pl.List(pl.String)),
)  # fmt: skip
_EXTREMES: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (pl.Int64, (2**63 - 1, -(2**63), 0, 1 << 40)),
    (pl.UInt64, (2**64 - 1, 2**63)),
    (pl.Float64, (math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0, 2.0**53)),
    (pl.Datetime("ms"), (2**62, -(2**62), 2**63 - 1)),
    (pl.Datetime("ns"), (2**63 - 1, -(2**63) + 1)),
    (pl.Date, (2**31 - 1, -(2**31), 3_000_000)),
    (pl.Time, (0, 86_399_999_999_999)),
    (pl.Duration("us"), (2**62, -(2**62))),
)
_COMPRESSIONS: tuple[Any, ...] = ("zstd", "snappy", "uncompressed", "gzip", "lz4")


def _column(frame: pl.DataFrame, luck: Random) -> pl.DataFrame:
    """A column of another type, with extreme values, blanks or odd texts."""
    name = luck.choice(frame.columns)
    action = luck.randrange(5)
    if action == 0:
        new = frame[name].cast(luck.choice(_KINDS), strict=False)
    elif action == 1:
        kind, values = luck.choice(_EXTREMES)
        whole = pl.Int64 if kind not in (pl.Float64, pl.UInt64) else kind
        chosen = [luck.choice(values) for _ in range(frame.height)]
        new = pl.Series(name, chosen, dtype=whole, strict=False)
        new = new.cast(pl.Int32).cast(kind) if kind == pl.Date else new.cast(kind)
    elif action == 2:
        blank = [None if luck.random() < 0.5 else value for value in frame[name]]
        new = pl.Series(name, blank, dtype=frame.schema[name], strict=False)
    elif action == 3:
        new = pl.Series(name, [text(luck) for _ in range(frame.height)])
    else:
        new = frame[name].shuffle(luck.randrange(99)).implode().new_from_index(0, frame.height)
    return frame.with_columns(new.alias(name))


def _shape(frame: pl.DataFrame, luck: Random) -> pl.DataFrame:
    """Columns renamed, left out, moved or added; rows left out or repeated."""
    name = luck.choice(frame.columns)
    action = luck.randrange(6)
    if action == 0:
        return frame.rename({name: text(luck)})
    if action == 1:
        return frame.drop(name)
    if action == 2:
        return frame.select(luck.sample(frame.columns, frame.width))
    if action == 3:
        return frame.with_columns(frame[luck.choice(frame.columns)].alias(text(luck)))
    if action == 4:
        return frame.head(luck.choice((0, 1)))
    return pl.concat([frame] * luck.choice((2, 300)))


def rewrite(data: bytes, luck: Random) -> bytes:
    """Writes the table anew, with other content."""
    frame = pl.read_parquet(io.BytesIO(data))
    for _ in range(luck.choice((1, 1, 2))):
        if frame.width:
            frame = luck.choice((_column, _column, _shape))(frame, luck)
    frame.write_parquet(buffer := io.BytesIO(), compression=luck.choice(_COMPRESSIONS))
    return buffer.getvalue()


def footer(data: bytes, luck: Random) -> bytes:
    """Changes bytes of the footer, where sizes and counts are."""
    size = int.from_bytes(data[-8:-4], "little") + 8
    if not 8 < size <= len(data):
        return octets.flip(data, luck)
    if luck.random() < 0.1:
        return data[:-8] + luck.randbytes(4) + data[-4:]
    change = luck.choice((octets.flip, octets.overwrite, octets.integer, octets.repeat))
    return data[:-size] + change(data[-size:-8], luck) + data[-8:]


ALL = (rewrite, rewrite, footer, footer)
