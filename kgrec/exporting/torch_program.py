"""Writes programs of torch.export. Their parameters lie in one file that the programs share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, load, save

from kgrec.exporting.quiet import quiet

SCORE, TOP_K, PARAMETERS = "score.pt2", "top_k.pt2", "parameters.pt"


def write(programs: Sequence[tuple[str, ExportedProgram]], folder: Path) -> None:
    """Writes the programs and the file of their parameters, each parameter once.

    A program itself keeps a placeholder of one number for each parameter, NaN where it is no
    integer: a program without its parameters cannot be mistaken for a whole one.

    Args:
        programs: pairs of a file name, :data:`SCORE` or :data:`TOP_K`, and a program.
        folder: folder to write into.
    """
    parameters = {}
    for name, program in programs:
        state = dict(program.state_dict)
        parameters[Path(name).stem] = state
        for key, tensor in state.items():
            empty = torch.nan if tensor.is_floating_point() else 0
            placeholder = torch.full((1,), empty, dtype=tensor.dtype).expand(tensor.shape)
            if isinstance(tensor, nn.Parameter):
                placeholder = nn.Parameter(placeholder, requires_grad=False)
            program.state_dict[key] = placeholder
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No complete tensor found in the group")
            save(program, folder / name)
    torch.save(parameters, folder / PARAMETERS)


class Runtime:
    """The programs of a folder, loaded by torch alone.

    Args:
        folder: folder of an export.
    """

    def __init__(self, folder: Path) -> None:
        parameters = torch.load(folder / PARAMETERS)
        with quiet():
            self._score, self._top_k = (load(folder / name).module() for name in (SCORE, TOP_K))
        self._score.load_state_dict(parameters["score"], assign=True)
        self._top_k.load_state_dict(parameters["top_k"], assign=True)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores, from users (B,) and items (B,)."""
        scores: Tensor = self._score(users, items)
        return scores

    def top_k(self, users: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """(B, k) items and scores, from users (B,) and excluded items (B, I)."""
        items, scores = self._top_k(users, excluded)
        return items, scores
