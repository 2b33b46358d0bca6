"""Texts as features of a table of vectors: E + T·P.

E (N, d) is a table, T (n, size) the fixed vectors of the texts of some rows, and P (size, d) a
projection that the model learns. A row without a training example, such as that of a new item,
then has a vector that comes from its text.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from kgrec.data.dataset import RecDataset
from kgrec.data.text import ENCODERS, check_encoder, entity_texts, text_vectors
from kgrec.errors import SettingError


def entities_with_text(dataset: RecDataset, text: str | None) -> Tensor | None:
    """(n,) int64 entities that have a text; None where the setting ``text`` is None.

    Raises:
        SettingError: the encoder is unknown or not installed, or no entity has a text.
    """
    if text is None:
        return None
    check_encoder(text)
    entities = entity_texts(dataset.ids)["entity"]
    if entities.is_empty():
        raise SettingError(
            f"text: found {text} for dataset {dataset.name}, whose items and entities have no "
            "names and no texts, expected null"
        )
    return torch.from_numpy(entities.to_numpy().copy())


class TextFeatures(nn.Module):
    """T and P; T is zero until :meth:`fill`, and is part of the state dict.

    Args:
        rows: (n,) int64, rows of the table that have a text.
        d: embedding size.
        encoder: a key of :data:`kgrec.data.text.ENCODERS`.
    """

    def __init__(self, rows: Tensor, d: int, encoder: str) -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise SettingError(f"text: found {encoder!r}, expected one of {', '.join(ENCODERS)}")
        self.encoder = encoder
        size = ENCODERS[encoder].size
        self.projection = nn.Parameter(torch.empty(size, d))
        nn.init.xavier_uniform_(self.projection)
        self.rows: Tensor
        self.vectors: Tensor
        self.register_buffer("rows", rows)
        self.register_buffer("vectors", torch.zeros(len(rows), size))

    def fill(self, dataset: RecDataset, cache: Path | None) -> None:
        """Encodes the texts of a data set's entities, or reads their vectors from the cache."""
        texts = entity_texts(dataset.ids)["text"].to_list()
        self.vectors.copy_(text_vectors(texts, self.encoder, cache, dataset.name))

    def forward(self, table: Tensor) -> Tensor:
        """(N, d) E + T·P, from E (N, d)."""
        return table.index_add(0, self.rows, self.vectors @ self.projection)

    def fixed_bytes(self, table: Tensor) -> float:
        """Bytes of the sum and of T·P, and of their gradients."""
        return 4.0 * 2 * (table.numel() + len(self.rows) * table.shape[1])
