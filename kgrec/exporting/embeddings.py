"""Vectors of a model as Parquet files with ids and names.

Shapes: d numbers of a vector; it may differ between the kinds.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from kgrec.data.dataset import IdMaps
from kgrec.errors import DataError
from kgrec.exporting.formulations import factors
from kgrec.models.cke import CKE
from kgrec.models.folding import WithUserTables
from kgrec.models.kgat.model import KGAT
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgcn.two_ends import KGCNTwoEnds
from kgrec.models.kgin.model import KGIN
from kgrec.models.lightckg import LightCKG
from kgrec.models.lightgcn import LightGCN
from kgrec.models.recommender import Recommender
from kgrec.models.ripplenet import RippleNet

VECTORS, FACTORS = "vectors.parquet", "factors.parquet"


def vectors(model: Recommender) -> dict[str, Tensor]:
    """(n, d) vectors of the kinds that the model has: user, item, entity, relation.

    Models of the user's own have those of items (``item_vectors``) and, with trained tables, of
    users (``user_tables``).

    Raises:
        DataError: the model has no vectors.
    """
    with torch.no_grad():
        items = model.item_vectors()
        if items is None:
            raise DataError(
                f"--to embeddings: found the model {type(model).__name__}, which has no vectors, "
                "expected another model, or --to onnx or torch"
            )
        found = {"item": items}
        if isinstance(model, WithUserTables):
            state = model.state_dict()
            tables = [state[name] for name in model.user_tables if name in state]
            found["user"] = torch.cat(tables, dim=1)
        if isinstance(model, LightGCN | KGAT):
            found["user"] = model.encode()[: model.num_users]
        if isinstance(model, LightCKG):
            found["user"] = model.encode()[: model.num_users, :-1]
        if isinstance(model, KGIN):
            found["user"], found["entity"] = model.encode()
        if isinstance(model, KGCN):
            found |= {"entity": model.entity_vectors(), "relation": model.relation_embedding}
            found["user"] = model.all_user_vectors()
        if isinstance(model, KGCNTwoEnds):  # the table has the other entities of the user graph too
            found["user"] = found["user"][: model.arguments["num_users"]]
        if isinstance(model, RippleNet):
            found["entity"] = model.entity_embedding.weight
            found["relation"] = model.relation_matrices.flatten(1)  # R_r, row by row
        if isinstance(model, CKE):
            found["entity"] = model.kge.entity_embedding.weight
            found["relation"] = model.kge.relation_embedding.weight
        if isinstance(model, KGAT):  # e⁽⁰⁾, and the relations of the graph in their own direction
            found["entity"] = model.kge.entity_embedding.weight[model.num_users :]
            found["relation"] = model.kge.relation_embedding.weight[: model.num_relations - 1]
        return {
            kind: found[kind] for kind in ("user", "item", "entity", "relation") if kind in found
        }


def write(model: Recommender, ids: IdMaps, folder: Path) -> list[str]:
    """Writes the vectors and, for inner products, the factors; returns the names of the files.

    Raises:
        DataError: the model has no vectors.
    """
    files = {VECTORS: vectors(model)}
    if (pair := factors(model)) is not None:
        files[FACTORS] = dict(zip(("user", "item"), pair, strict=True))
    for name, tables in files.items():
        frames = [_frame(kind, table.detach(), ids) for kind, table in tables.items()]
        pl.concat(frames).write_parquet(folder / name)
    return list(files)


def _frame(kind: str, table: Tensor, ids: IdMaps) -> pl.DataFrame:
    """``kind``, ``number``, ``id``, ``name``, ``vector``: one row for each vector."""
    rows: pl.DataFrame = getattr(ids, {"entity": "entities"}.get(kind, f"{kind}s"))
    name = rows["name"] if "name" in rows.columns else pl.Series([None] * rows.height)
    vector = pl.Series(table.float().contiguous().numpy()).cast(pl.List(pl.Float32))
    return pl.DataFrame(
        {
            "kind": pl.repeat(kind, rows.height, dtype=pl.String, eager=True),
            "number": pl.int_range(rows.height, dtype=pl.Int64, eager=True),
            "id": rows[kind].cast(pl.String),
            "name": name.cast(pl.String),
            "vector": vector,
        }
    )
