"""Readers of lines and tables, and of the files that kgrec itself keeps: cache, sweep, settings."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from fuzzing.mutations import Files
from fuzzing.target import Target, folder_files
from fuzzing.targets.small_files import CSV, encoded
from kgrec.data.cache import entries, kept
from kgrec.data.csv_files import read_csv
from kgrec.data.dataset import PreparedData
from kgrec.data.field_files import read_fields
from kgrec.data.formats import FORMATS
from kgrec.data.formats.headers import all_fields, headless
from kgrec.data.prepare import prepare
from kgrec.data.prepared_files import load, save
from kgrec.data.raw_tables import Counts
from kgrec.data.sources.locate import locate
from kgrec.data.sources.public_files import Source
from kgrec.data.yaml_files import read_yaml
from kgrec.inference.wording import readable_relation, readable_title
from kgrec.sweeps.folder import SweepFolder

LINES = {"x.txt": "a\t1\tb\n c \t2.5\td\n\ne\t-3e2\tf\n", "y.csv": 'a,b,c\n1,"x,\ny",2\n3,,"4"""\n'}
SWEEP: dict[str, Any] = {
    "words": ["dataset=music", "model.K=2,8"], "commands": [["dataset=music", "model.K=2,8"]],
    "keys": ["model.K"], "shared": {"dataset": "music"}, "monitor": "val/auc",
    "started": "2026-01-01T10:00:00+00:00", "finished": None, "planned": 2,
    "jobs": [
        {"name": f"model.K={k}", "overrides": ["dataset=music", f"model.K={k}"],
         "varied": {"model.K": str(k)}}
        for k in (2, 8)
    ],
}  # fmt: skip
STATUS = {"state": "failed", "monitor": "val/auc", "best": 0.7, "seconds": 9.5, "epoch": 2,
          "epochs": 3, "updated": "2026-01-01T10:01:00+00:00", "error": "no"}  # fmt: skip
WORDS = "film.film.directed_by\nhttp://x.org/a#hasGenre\nGodfather, The (1972)\nbornIn\n12\n"


def read_lines(folder: Path) -> Any:
    """Reads fields of plain text and of a quoted table."""
    text, table = folder / "x.txt", folder / "y.csv"
    columns: Mapping[str, type[pl.DataType]] = {"a": pl.String, "b": pl.Float64, "c": pl.String}
    rows: list[Any] = []
    if text.is_file():
        counts: Counts = []
        frame = read_fields(text, columns, counts)
        assert frame["b"].is_finite().all(), "numbers that are not finite"
        assert not frame["a"].is_in(["", " "]).any(), "blank ids"
        rows += [frame.rows(), counts]
    if table.is_file():
        headless(table, ("head", "relation", "tail"))
        assert all_fields(table), "no field"
        frame = read_csv(table, ",")
        assert frame.height, "no row"
        rows.append(frame.rows())
    return rows


# ------------------------------------------------------------------ the cache of prepared data

INPUTS = {"modules": [prepare.__module__], "name": "x"}


def _make(folder: Path) -> PreparedData:
    for name, text in CSV.items():
        (folder / name).write_text(text, encoding="utf-8")
    raw = FORMATS["csv"].read(folder)
    return prepare(raw, "x", user_graph="use", weights="use")


@cache
def _cached(materials: Path) -> list[Files]:
    """The files of a cache with one entry."""
    folder, place = materials / "raw", materials / "cache"
    folder.mkdir(exist_ok=True)
    kept(place, "x", INPUTS, lambda: _make(folder), save, load)
    return [folder_files(place)]


_expected: list[int] = []


def _digest(data: PreparedData) -> int:
    """A number that changes with every content of prepared data."""
    tensors = [data.positives.users, data.positives.items, data.graph.heads, data.graph.tails,
               data.graph.relations, data.rated.users, data.rated.items]  # fmt: skip
    tensors += [t for t in (data.times, data.given_parts, data.weights) if t is not None]
    frames = [data.ids.users, data.ids.items, data.ids.entities, data.ids.relations]
    text = repr(([t.tolist() for t in tensors], [f.rows() for f in frames], data.account.entries))
    return zlib.crc32(text.encode(errors="surrogatepass"))


def _expect(materials: Path) -> None:
    _cached(materials)
    made: list[PreparedData] = []
    data = kept(materials / "cache", "x", INPUTS, lambda: made[0], save, load)
    _expected[:] = [_digest(data)]


def read_cache(folder: Path) -> Any:
    """Reads the cache; a damaged entry gives the data as they were, made anew."""
    entries(folder)
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    data = kept(folder, "x", INPUTS, lambda: _make(raw), save, load)
    assert _digest(data) == _expected[0], "a damaged entry gives other data"
    return data.counts()


# ------------------------------------------------------------------ sweeps, sources, words


@cache
def _sweeps(_: Path) -> list[Files]:
    texts = {"sweep.json": json.dumps(SWEEP), "model.K=2/status.json": json.dumps(STATUS)}
    running = STATUS | {"state": "running", "process": {"pid": 1, "host": "x"}}
    samples = [{"user": "u", "liked": ["a"], "recommended": [{"item": "b", "hit": True}]}]
    more = {
        "model.K=8/status.json": json.dumps(running),
        "model.K=8/train.log": "epoch 1\n\x1b[31mred\x1b[0m\n",
        "model.K=8/evaluation/samples.json": json.dumps(samples),
        "model.K=8/curves/version_0/metrics.csv": "epoch,step,train/loss,val/auc\n0,1,,0.6\n",
    }
    return encoded(texts, texts | more)


def read_sweep(folder: Path) -> Any:
    """Reads a sweep and its jobs as the sweeper and the live page do."""
    from kgrec.reports.live.page import render
    from kgrec.reports.live.snapshot import Snapshot

    sweep = SweepFolder.read(folder)
    states = [(state.state, state.validation) for state in sweep.states()]
    page = render(Snapshot.take(folder), None)
    assert "<script>alert" not in page, "a script of the data"
    return repr((states, sweep.planned, sweep.command, sweep.finished))


@cache
def _sources(_: Path) -> list[Files]:
    from kgrec.config.location import conf_dir

    files = []
    for name in ("music", "book", "movie", "movie-100k"):
        content = yaml.safe_load((conf_dir() / "dataset" / f"{name}.yaml").read_text("utf-8"))
        files.append({"dataset.yaml": yaml.safe_dump({"sources": content["sources"]}).encode()})
    return files


def read_sources(folder: Path) -> Any:
    """Reads the sources of a dataset's YAML file, and looks for them in an empty folder."""
    try:
        content = read_yaml(folder / "dataset.yaml")
    except (OSError, ValueError):  # Hydra reads the file and explains its errors
        return None
    if not isinstance(content, dict) or not isinstance(content.get("sources"), list):
        return None
    sources = [Source.from_config(source) for source in content["sources"]]
    for source in sources:
        assert not [f.name for f in source.files if not _stays(f.name)], "a file outside its folder"
    plain = [s for s in sources if not s.downloadable]
    return locate("x", plain, None, folder) if plain else None


def _stays(name: str) -> bool:
    return Path(name).parts == (name,) and name not in ("..", ".")


def read_words(folder: Path) -> Any:
    """Puts relations and titles into words."""
    texts = (folder / "names.words").read_text(encoding="utf-8", errors="replace").splitlines()
    return [
        [f(text) for f in (readable_relation, readable_title)]
        + [readable_relation(text, backwards=True)]
        for text in texts
    ]


TARGETS = [
    Target("lines", lambda _: encoded(LINES, *({k: v} for k, v in LINES.items())), read_lines,
           share=10),
    Target("cache", _cached, read_cache, begin=_expect),
    Target("sweep", _sweeps, read_sweep, share=0.5),
    Target("sources", _sources, read_sources, names_folder=False, share=2),
    Target("wording", lambda _: encoded({"names.words": WORDS}), read_words, share=5),
]  # fmt: skip
