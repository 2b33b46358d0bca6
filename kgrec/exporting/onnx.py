"""Writes programs as ONNX. Their parameters lie in one file that the programs share."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from kgrec.errors import ConfigError
from kgrec.exporting.programs import EXCLUDED, ITEMS, SCORES, USERS
from kgrec.exporting.quiet import quiet

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SCORE, TOP_K, PARAMETERS = "score.onnx", "top_k.onnx", "parameters.bin"
INPUTS = {SCORE: [USERS, ITEMS], TOP_K: [USERS, EXCLUDED]}
OUTPUTS = {SCORE: [SCORES], TOP_K: [ITEMS, SCORES]}
SMALL = 1024  # parameters of up to this many bytes stay in the program itself
ALIGNMENT = 64  # bytes; a parameter begins at a multiple of it


def check_packages() -> None:
    """Checks that the extra is installed.

    Raises:
        ConfigError: it is not.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"--to onnx: found no {package}, expected pip install -e '.[onnx]'")


def write(programs: Sequence[tuple[str, ExportedProgram]], folder: Path) -> None:
    """Writes the programs and the file of their parameters, each parameter once.

    Args:
        programs: pairs of a file name, :data:`SCORE` or :data:`TOP_K`, and a program.
        folder: folder to write into.
    """
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    written: dict[Any, Any] = {}
    with (folder / PARAMETERS).open("wb") as file:
        for name, program in programs:
            with quiet():
                converted = torch.onnx.export(
                    program, dynamo=True, input_names=INPUTS[name], output_names=OUTPUTS[name],
                    verbose=False,
                )  # fmt: skip
            assert converted is not None
            model = converted.model
            RemoveUnusedNodesPass()(model)
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if tensor is None or tensor.nbytes <= SMALL:
                    continue
                content = tensor.tobytes()
                key = hashlib.sha256(content).digest(), tensor.dtype, tensor.shape.numpy()
                if key not in written:
                    offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
                    file.seek(offset)
                    file.write(content)
                    written[key] = offset
                value.const_value = onnx_ir.ExternalTensor(
                    PARAMETERS, written[key], len(content), tensor.dtype,
                    shape=onnx_ir.Shape(key[-1]), name=value.name or "", base_dir=folder,
                )  # fmt: skip
            onnx_ir.save(model, folder / name)


class Runtime:
    """The programs of a folder in ONNX Runtime.

    Args:
        folder: folder of an export.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self._sessions = {
            name: onnxruntime.InferenceSession(
                str(folder / name), providers=["CPUExecutionProvider"]
            )
            for name in (SCORE, TOP_K)
        }

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores, from users (B,) and items (B,)."""
        return self._run(SCORE, users, items)[0]

    def top_k(self, users: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """(B, k) items and scores, from users (B,) and excluded items (B, I)."""
        items, scores = self._run(TOP_K, users, excluded)
        return items, scores

    def _run(self, name: str, *inputs: Tensor) -> list[Tensor]:
        feed = {key: x.numpy() for key, x in zip(INPUTS[name], inputs, strict=True)}
        outputs: list[np.ndarray[Any, Any]] = self._sessions[name].run(OUTPUTS[name], feed)
        return [torch.from_numpy(output) for output in outputs]
