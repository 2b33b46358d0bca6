"""File formats: one module per format, which reads raw tables from a folder and writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl

from kgrec.data.formats import kgat, recbole, released_final, released_raw, tables, user_tables
from kgrec.data.polars_errors import polars_errors
from kgrec.data.raw_tables import Counts, RawTables
from kgrec.data.rows import Rows
from kgrec.data.text_files import require_file
from kgrec.errors import ConfigError, DataError, printable, several

# Files that kgrec adds to a folder and that are not raw data: of ``kgrec data build`` and a twin.
OWN = ("build.json", "title_links.csv", "twin.json", "planted_users.parquet",
       "planted_preferences.parquet")  # fmt: skip

Write = Callable[[Path, RawTables, Iterable[pl.DataFrame]], None]


@dataclass(frozen=True)
class Format:
    """A file format, recognised by the names of its files.

    Attributes:
        name: name of the format.
        required: alternative sets of files, one of which a folder must have; each file is a list
            of alternative names or patterns.
        optional: names or patterns of further files that the format reads.
        reader: function from a folder to raw tables.
        write: function that writes into an empty folder; takes the interactions in pieces.
        cannot_hold: function that lists the content of raw tables that the format cannot hold.
        has_ratings: whether the files can hold ratings.
        in_pieces: whether the reader takes a place for the interactions, into which it puts them
            piece by piece.
    """

    name: str
    required: tuple[tuple[tuple[str, ...], ...], ...]
    optional: tuple[str, ...]
    reader: Callable[..., RawTables]
    write: Write
    cannot_hold: Callable[[RawTables], list[str]]
    has_ratings: bool = True
    in_pieces: bool = False

    def read(
        self,
        folder: Path,
        columns: Mapping[str, str] | None = None,
        rows: Rows | None = None,
    ) -> RawTables:
        """Reads a folder.

        Args:
            folder: the folder with the files.
            columns: names of columns in the files, for formats with named columns.
            rows: place for the interactions, for formats that are read in pieces; the others read
                them into a table.

        Raises:
            ConfigError: ``columns`` is given for a format without named columns.
            DataError: a file is malformed; the message has file and line.
        """
        named = {key: value for key, value in (columns or {}).items() if value is not None}
        for path in self._named(folder):
            require_file(path, "a file")
            if printable(path.name, line_ends=False) != path.name:
                raise DataError(f"{folder}: found the file {path.name!r}, expected a plain name")
        if named and self.reader is not tables.read:
            raise ConfigError(
                f"dataset.columns: found {', '.join(sorted(named))}, expected none for files in "
                f"format {self.name}, whose columns are fixed"
            )
        with polars_errors(folder, "files that polars can read"):
            if self.reader is tables.read:
                raw = tables.read(folder, named)
            else:
                raw = self.reader(folder, rows) if self.in_pieces else self.reader(folder)
        return replace(raw, counts=raw.counts + self._other_files(folder))

    def _other_files(self, folder: Path) -> Counts:
        """An account line for the files of a folder that this format does not read."""
        read = set(self._named(folder))
        others = sorted(
            path.name
            for path in folder.iterdir()
            if path not in read
            and path.is_file()
            and not path.name.startswith(".")
            and path.name not in OWN
        )
        if not others:
            return []
        shown = several(others[:5]) + (", …" if len(others) > 5 else "")
        return [(f"files not read: format {self.name} has no such file ({shown})", len(others))]

    def fits(self, folder: Path) -> bool:
        """Whether a folder has the required files."""
        paths = list(folder.iterdir())  # a dead link too: its reader explains it
        return any(
            all(any(path.match(name) for name in names for path in paths) for names in files)
            for files in self.required
        )

    def files(self, folder: Path) -> list[Path]:
        """The files of a folder that this format reads."""
        return [path for path in self._named(folder) if path.is_file()]

    def _named(self, folder: Path) -> list[Path]:
        patterns = [name for files in self.required for names in files for name in names]
        patterns += self.optional
        return sorted(
            path for path in folder.iterdir() if any(path.match(pattern) for pattern in patterns)
        )

    @property
    def description(self) -> str:
        """The required files, for messages."""
        return "; or ".join(
            ", ".join(" or ".join(_together(names)) for names in files) for files in self.required
        )

    @property
    def extras(self) -> str:
        """The optional files, for messages."""
        return ", ".join(_together(self.optional))


def _together(names: Iterable[str]) -> list[str]:
    """Merges names that differ only in their suffix: ``a.csv``, ``a.tsv`` become ``a.csv|tsv``."""
    endings: dict[str, list[str]] = {}
    for name in names:
        stem, _, ending = name.rpartition(".")
        endings.setdefault(stem, []).append(ending)
    return [f"{stem}.{'|'.join(alternatives)}" for stem, alternatives in endings.items()]


def _tables(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}{suffix}" for stem in stems for suffix in tables.SUFFIXES)


_TABLES = Format(
    "csv",
    (
        (_tables("interactions"), _tables("triples", "kg")),
        (_tables("train"), _tables("test"), _tables("triples", "kg")),
    ),
    (
        *_tables("links", "items", "entities", "relations", *user_tables.USER_FILES),
        *_tables(*tables.PART_FILES[1]),
    ),
    tables.read,
    tables.write,
    tables.cannot_hold,
)

FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            "released_final",
            (((released_final.RATINGS,), (released_final.GRAPH,)),),
            released_raw.INDEX,
            released_final.read,
            released_final.write,
            released_final.cannot_hold,
            has_ratings=False,
        ),
        Format(
            "released_raw",
            ((tuple(released_raw.RATINGS), released_raw.INDEX, released_raw.GRAPH),),
            released_raw.NAMES,
            released_raw.read,
            released_raw.write,
            released_raw.cannot_hold,
            in_pieces=True,
        ),
        Format(
            "recbole",
            ((("*.inter",), ("*.kg",), ("*.link",)),),
            ("*.item", "*.user"),
            recbole.read,
            recbole.write,
            recbole.cannot_hold,
        ),
        Format(
            "kgat",
            ((("train.txt",), ("test.txt",), ("kg_final.txt",)),),
            kgat.LISTS,
            kgat.read,
            kgat.write,
            kgat.cannot_hold,
            has_ratings=False,
        ),
        _TABLES,
        Format(
            "parquet",
            _TABLES.required,
            _TABLES.optional,
            tables.read,
            partial(tables.write, suffix=".parquet"),
            partial(tables.cannot_hold, lists=True),
        ),
    )
}


def recognise(folder: Path) -> Format:
    """Recognises the format of a folder.

    Raises:
        DataError: the folder does not have the files of any format; the message lists its files
            and those of each format.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: found no such folder (looked for {folder.absolute()}), expected a folder "
            "with data files"
        )
    for candidate in FORMATS.values():
        if candidate.fits(folder):
            return candidate
    names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir())
    content = several(names) or "nothing"
    expected = [
        f"  {f.name}: {f.description} (optional: {f.extras})"
        for f in FORMATS.values()
        if f.name != "parquet"
    ]
    if any(name.endswith((*tables.SUFFIXES, ".txt")) for name in names):
        expected += [
            f"from tables of your own: kgrec data build --guess {folder} --out build.yaml",
            "writes a plan, and kgrec data build build.yaml --out FOLDER such a folder",
        ]
    found = f"{folder}: found {content}; expected the files of one format:"
    raise DataError(found, *expected)
