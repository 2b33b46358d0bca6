"""Raw files of a data set: finds or fetches them, and checks their content.

Places in order: the folder that the user names (``dataset.root``), ``$KGREC_DATA_DIR/<name>``, the
data folder of the project, download. A download goes to a temporary folder, is checked against its
hash and then renamed, so that a broken download leaves no file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kgrec.data.formats import FORMATS, Format, recognise
from kgrec.data.sources.fetching import download
from kgrec.data.sources.public_files import Source, file_sha256
from kgrec.data.sources.transfer import DownloadError
from kgrec.errors import DataError
from kgrec.files import inside

log = logging.getLogger(__name__)

PIP_ONLY_DATASET = "movie-100k"


@dataclass(frozen=True)
class Located:
    """Raw files on this machine.

    Attributes:
        folder: folder of the files.
        format: file format.
        files: SHA-256 of each file, by name.
        notes: warnings about the files.
    """

    folder: Path
    format: Format
    files: dict[str, str]
    notes: tuple[str, ...] = ()


def locate(name: str, sources: Sequence[Source], root: Path | None, data_dir: Path) -> Located:
    """Finds the raw files of a data set, and downloads them if necessary.

    Args:
        name: name of the data set, and of its folder in ``$KGREC_DATA_DIR`` and ``data_dir``.
        sources: forms in which the data set is published; empty for the user's own data.
        root: folder that the user names; its files may differ from the published files.
        data_dir: data folder of the project; downloads go to ``data_dir/name``.

    Raises:
        DataError: the files were not found and could not be fetched. The message lists the
            missing files, their addresses and the folder to put them into.
    """
    if root is not None:
        return _from_named_folder(root, sources)
    if not sources:
        raise DataError(
            f"dataset.root: found nothing, expected the folder that holds {name} (set it with "
            "dataset.root=FOLDER)"
        )
    own = inside(data_dir, name, "dataset.name")
    places = [own]
    if os.environ.get("KGREC_DATA_DIR"):
        places.insert(0, Path(os.environ["KGREC_DATA_DIR"]) / name)
    for place in places:
        for source in sources:
            if source.complete_in(place):
                return _verified(place, source)
    reasons = []
    for source in filter(lambda s: s.downloadable, sources):
        try:
            download(source, own, places)
            return _verified(own, source)
        except DownloadError as error:
            reasons.append(str(error))
    raise DataError(*_nothing_found(name, sources, places, reasons))


def _from_named_folder(root: Path, sources: Sequence[Source]) -> Located:
    fmt = recognise(root)
    published = {f.name: f for s in sources if s.format == fmt.name for f in s.files}
    if sources and not published:
        expected = ", ".join(sorted({s.format for s in sources}))
        raise DataError(f"{root}: found files in format {fmt.name}, expected {expected}")
    files = fmt.files(root)
    notes = []
    for path in files:
        problem = published[path.name].problem(path) if path.name in published else None
        if problem:
            notes.append(f"{path} is not the published file: {problem}")
            log.warning(notes[-1])
    return Located(root, fmt, {p.name: file_sha256(p) for p in files}, tuple(notes))


def _verified(folder: Path, source: Source) -> Located:
    hashes = {}
    for file in source.files:
        path = folder / file.name
        if file.optional and not path.is_file():
            continue
        problem = file.problem(path)
        if problem:
            raise DataError(
                f"{path}: {problem}; remove the file to fetch it again, or name its "
                f"folder with dataset.root to use the file as it is"
            )
        hashes[file.name] = file.sha256 or file_sha256(path)
    return Located(folder, FORMATS[source.format], hashes)


def _nothing_found(
    name: str, sources: Sequence[Source], places: Sequence[Path], reasons: Sequence[str]
) -> list[str]:
    """The lines of the message."""
    lines = [f"dataset {name}: its files were not found and could not be fetched."]
    lines += [f"  tried: {reason}" for reason in reasons]
    for place in places:
        lines.append(f"  looked in {place}")
    for number, source in enumerate(sources):
        names = [f.name for f in source.files if not f.optional]
        if source.archive is not None and source.pip is None:
            packed = " and ".join(f.name for f in source.files if f.member and not f.optional)
            names.append(f"({source.archive.name} is enough for {packed})")
        lines.append(f"  {'or: ' if number else ''}{', '.join(names)}")
        lines.append(f"    from {source.address}")
    lines.append(f"  put them in {places[-1]}, or name their folder with dataset.root=FOLDER.")
    if name != PIP_ONLY_DATASET:
        lines.append(f"  dataset={PIP_ONLY_DATASET} can be fetched with pip.")
    return lines
