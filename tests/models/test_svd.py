import torch
from torch.nn.functional import binary_cross_entropy

from kgrec.data.batches import PointwiseBatch
from kgrec.models.svd import SVD


def test_scores_and_loss_are_those_of_a_loop():
    torch.manual_seed(0)
    model = SVD(num_users=5, num_items=4, d=3).double()
    p, q = model.user_embedding.weight.tolist(), model.item_embedding.weight.tolist()
    users, items = torch.tensor([4, 0, 4]), torch.tensor([1, 1, 3])
    scores = [
        sum(p[u][k] * q[v][k] for k in range(3))
        for u, v in zip(users.tolist(), items.tolist(), strict=True)
    ]
    literal = torch.tensor(scores, dtype=torch.float64)
    torch.testing.assert_close(model.score(users, items), literal, rtol=1e-9, atol=0)
    labels = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    expected = binary_cross_entropy(torch.sigmoid(literal), labels)
    torch.testing.assert_close(model.loss(PointwiseBatch(users, items, labels)), expected)
