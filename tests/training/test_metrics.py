import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_f1_score

from kgrec.errors import DivergedError, KgrecError
from kgrec.training.metrics import CTRMetrics


def test_batches_add_up_and_agree_with_torchmetrics():
    torch.manual_seed(0)
    scores, labels = torch.randn(1000), torch.randint(0, 2, (1000,)).float()
    metric = CTRMetrics(logits=True)
    for part in range(0, 1000, 300):
        metric.update(scores[part : part + 300], labels[part : part + 300])
    values = metric.compute()
    # torchmetrics does not change scores within [0, 1].
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    assert values["auc"] == pytest.approx(float(binary_auroc(scaled, labels.int())), abs=1e-6)
    expected = float(binary_f1_score(scores.sigmoid(), labels.int()))
    assert values["f1"] == pytest.approx(expected, abs=1e-6)
    assert metric.f1_at(values["threshold"]) >= values["f1"]


def test_scores_that_are_not_logits_have_no_f1_at_one_half():
    metric = CTRMetrics(logits=False)
    metric.update(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]))
    assert "f1" not in metric.compute()


def test_scores_that_are_not_finite_are_an_error():
    metric = CTRMetrics(logits=True)
    metric.update(torch.tensor([1.0, float("nan")]), torch.tensor([0.0, 1.0]))
    with pytest.raises(DivergedError, match="found 1 of 2 scores that are not finite"):
        metric.compute()
    metric = CTRMetrics(logits=True, trained=False)
    metric.update(torch.tensor([1.0, float("inf")]), torch.tensor([0.0, 1.0]))
    with pytest.raises(KgrecError, match=r"^model: found 1 of 2 scores") as error:
        metric.compute()
    assert not isinstance(error.value, DivergedError)
