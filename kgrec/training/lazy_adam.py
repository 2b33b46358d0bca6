"""Adam that updates only the rows that a step reads.

Adam updates every row of every table in every step, also rows without a gradient: their moments
decay, and weight decay is applied. With many entities and small batches this is most of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from kgrec.data.draws import widest_float


class LazyAdam(torch.optim.Adam):
    """Adam with weight decay λ on the rows of tables that a step reads; fused Adam elsewhere.

    Tables are the parameters with sparse gradients. A row with a gradient is updated as by
    :class:`torch.optim.Adam` with coupled weight decay, ``g + λ·w``. Its bias correction uses the
    number of steps so far. A row without a gradient keeps its value and its moments.

    Attributes:
        sparse_gradients: whether embeddings need sparse gradients; the training module reads it.

    Args:
        params: parameters or groups of parameters.
        lr: learning rate η.
        betas: decay rates of the two moments.
        eps: ε, added to the denominator.
        weight_decay: λ.
    """

    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; see :class:`torch.optim.Optimizer`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        tables: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.is_sparse:
                    self._step_rows(p, p.grad.coalesce(), group)
                    tables.append((p, p.grad))
                    p.grad = None  # Adam refuses sparse gradients
        super().step()
        for p, grad in tables:
            p.grad = grad
        return loss

    def _step_rows(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        rows = grad.indices()[0]  # (n,)
        w = p.index_select(0, rows)  # (n, d)
        g = grad.values().add(w, alpha=group["weight_decay"])
        m = state["exp_avg"].index_select(0, rows).lerp_(g, 1 - beta1)
        v = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(g, g, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, m)
        state["exp_avg_sq"].index_copy_(0, rows, v)
        # Tensors of one number, so that the CPU does not wait for a GPU; 1 - 0.999 wants float64.
        step = state["step"].to(widest_float(p.device))
        rate, root = group["lr"] / (1 - beta1**step), (1 - beta2**step).sqrt()
        w -= m.div_(v.sqrt_().div_(root).add_(group["eps"])).mul_(rate)
        p.index_copy_(0, rows, w)
