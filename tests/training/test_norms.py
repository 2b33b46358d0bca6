import math

import pytest
import torch
from torch import nn

from kgrec.models.bprmf import BPRMF
from kgrec.training.norms import norms


class Small(nn.Module):
    def __init__(self, sparse: bool):
        super().__init__()
        self.table = nn.Embedding.from_pretrained(
            torch.arange(8.0).view(4, 2), freeze=False, sparse=sparse
        )
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


@pytest.mark.parametrize("sparse", [True, False])
def test_norms_of_a_table_and_of_its_gradient(sparse):
    model = Small(sparse)
    model.table(torch.tensor([1, 1, 3])).sum().backward()
    values = {name: float(value) for name, value in norms(model).items()}
    assert values == {
        "norms/weight/table/weight": pytest.approx(math.sqrt(sum(x * x for x in range(8)) / 4)),
        "norms/grad/table/weight": pytest.approx(math.sqrt(2**2 * 2 + 2)),  # row 1 twice, row 3
    }


def test_before_the_first_step_there_is_no_gradient(dataset):
    model = BPRMF(dataset.num_users, dataset.num_items, 4)
    assert all(name.startswith("norms/weight/") for name in norms(model))
