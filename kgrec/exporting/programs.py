"""Programs that are exported: the scores of pairs, and the best items of users.

A program is a torch module without gradients whose operations torch.export and ONNX know, and whose
shapes depend on the number of rows alone. Models train with operations that cannot be exported
(custom gradients, shapes that depend on values), so the package has a plain formulation of each
(:mod:`kgrec.exporting.formulations`).

Shapes: B rows or users, I items, k items of a list.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.export import Dim, ExportedProgram, export
from torch.fx import GraphModule

from kgrec.exporting.quiet import quiet

USERS, ITEMS, EXCLUDED, SCORES = "users", "items", "excluded", "scores"  # inputs and outputs


class Buffers(nn.Module):
    """A module of fixed tensors."""

    def keep(self, **tables: Tensor) -> None:
        """Registers tensors as buffers."""
        for name, table in tables.items():
            self.register_buffer(name, table.detach())


class Formulation(Buffers):
    """The scores of a model in operations that can be exported.

    Attributes:
        note: how the scores are computed, a sentence for the README of an export.
    """

    note: str

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores, from users (B,) and items (B,)."""
        raise NotImplementedError

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores of all items, from users (B,)."""
        raise NotImplementedError


class Score(nn.Module):
    """Scores of pairs.

    Args:
        formulation: scores of the model.
    """

    def __init__(self, formulation: Formulation) -> None:
        super().__init__()
        self.formulation = formulation

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores, from users (B,) and items (B,)."""
        return self.formulation.pairs(users, items)


class TopK(nn.Module):
    """The best k items of each user, in the order of :func:`kgrec.evaluation.topk.top_k`.

    Args:
        formulation: scores of the model.
        order: (I,) items in the order in which equal scores are ranked.
        k: number of items.
        lower_first: whether ``topk`` puts the lower index first where values are equal, as ONNX
            specifies; torch does not, so a stable sort replaces it.
    """

    def __init__(self, formulation: Formulation, order: Tensor, k: int, lower_first: bool) -> None:
        super().__init__()
        self.formulation, self.k, self.lower_first = formulation, k, lower_first
        self.order: Tensor
        self.register_buffer("order", order)

    def forward(self, users: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks all items.

        Args:
            users: (B,) int64.
            excluded: (B, I) bool, items that are not ranked.

        Returns:
            (B, k) items and (B, k) scores, best first. Where fewer than k items are left the rest
            is item -1 and score -inf.
        """
        scores = self.formulation.catalogue(users).masked_fill(excluded, -torch.inf)
        scores = scores.index_select(1, self.order)
        if self.lower_first:
            values, places = scores.topk(self.k)
        else:
            values, places = scores.sort(dim=1, descending=True, stable=True)
            values, places = values[:, : self.k], places[:, : self.k]
        items = self.order[places]
        return items.masked_fill(values == -torch.inf, -1), values


def user_by_user(score: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """(B, I) scores, computed for one user after the other: memory does not grow with B.

    Args:
        score: function from a row of each tensor to scores (I,).
        rows: tensors with a row for each user.
    """
    if not torch.compiler.is_exporting():
        return torch.stack([score(*row) for row in zip(*rows, strict=True)])

    def step(count: Tensor, row: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return count + 1, score(*row)

    _, scores = scan(step, torch.zeros(1), rows)  # scan wants a state, which nothing reads
    result: Tensor = scores
    return result


def exported_score(formulation: Formulation) -> ExportedProgram:
    """The program ``score`` for any number of pairs."""
    users, items = torch.zeros(2, 3, dtype=torch.int64)  # one tensor twice would be one input
    return _exported(Score(formulation), {USERS: users, ITEMS: items})


def exported_top_k(
    formulation: Formulation, order: Tensor, k: int, lower_first: bool
) -> ExportedProgram:
    """The program ``top_k`` for any number of users; arguments as in :class:`TopK`."""
    users = torch.zeros(3, dtype=torch.int64)
    excluded = torch.zeros(3, len(order), dtype=torch.bool)
    module = TopK(formulation, order, k, lower_first)
    return _exported(module, {USERS: users, EXCLUDED: excluded})


def _exported(module: nn.Module, example: dict[str, Tensor]) -> ExportedProgram:
    """A program for any number of rows, without the paths of source files."""
    rows = {0: Dim("rows", min=1)}
    with quiet(), torch.no_grad():
        program = export(
            module.eval(), tuple(example.values()), dynamic_shapes=dict.fromkeys(example, rows)
        )
    for part in program.graph_module.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program
