import math

import torch

from kgrec.data.batches import PairwiseBatch
from kgrec.models.bprmf import BPRMF


def test_the_loss_is_that_of_a_loop():
    torch.manual_seed(0)
    model = BPRMF(num_users=5, num_items=4, d=3).double()
    p, q = model.user_embedding.weight.tolist(), model.item_embedding.weight.tolist()
    rows = [(4, 1, 0), (0, 1, 3), (4, 3, 2)]

    def x(u: int, i: int) -> float:
        return sum(p[u][k] * q[i][k] for k in range(3))

    literal = [-math.log(1 / (1 + math.exp(-(x(u, i) - x(u, j))))) for u, i, j in rows]
    batch = PairwiseBatch(*torch.tensor(rows).T)
    expected = torch.tensor(sum(literal) / 3, dtype=torch.float64)
    torch.testing.assert_close(model.loss(batch), expected, rtol=1e-9, atol=0)
